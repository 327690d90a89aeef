import matplotlib.pyplot as plt
import pandas as pd
import pytest
from tiny import claim_test

from unsir_utils.report import gather
from unsir_utils.report.judge import VERDICTS, judge
from unsir_utils.report.paper import claims
from unsir_utils.report.tables import Results

HOLDS, FAILS = (0.0, 0.1, 0.2), (9.0, 9.1, 9.2)


@pytest.fixture
def profile(tmp_path, monkeypatch) -> str:
    """Two notebooks' findings: claim 1 tested twice and claim E once, claim 6 by seconds."""
    monkeypatch.setenv("UNSIR_RESULTS", str(tmp_path))
    Results("09_later", "smoke").findings(judge([claim_test("E", "the pair", *FAILS)]), "One.")
    again = judge([claim_test(1, "at other rates", *HOLDS), claim_test(1, "at rates", *HOLDS, without=HOLDS)])
    Results("01_first", "smoke").findings(again, "Two.")
    Results("06_fast", "smoke").findings(judge([claim_test(6, "faster", *FAILS)]), "Three.", timed=True)
    return "smoke"


def test_findings_of_all_notebooks_stand_in_the_claims_order(profile):
    found = gather.findings(profile)
    tested = found[found.verdict != gather.UNTESTED]
    assert tested[["claim", "notebook", "seconds"]].values.tolist() == [
        ["1", "01_first", False],
        ["1", "01_first", False],
        ["6", "06_fast", True],
        ["E", "09_later", False],
    ]
    assert list(dict.fromkeys(found.claim)) == [str(claim) for claim in claims()]
    assert set(found[found.verdict == gather.UNTESTED].claim) == {str(c) for c in claims()} - {"1", "6", "E"}


def test_a_notebook_whose_last_run_failed_is_named_but_for_the_report_that_runs(profile, tmp_path):
    copies = tmp_path / profile / "failed"
    copies.mkdir()
    for name in ("01_first", "99_report"):
        (copies / f"{name}.ipynb").touch()
    assert gather.failed(profile) == {"01_first": copies / "01_first.ipynb"}


def test_verdicts_are_counted_by_claim_from_best_to_worst(profile):
    table = gather.verdicts(gather.findings(profile)).set_index("claim")
    assert table.verdicts["1"] == "holds (1), holds, but not because of the noise (1)"
    assert table.verdicts["E"] == "does not hold (1)" and table.verdicts["2"] == "not tested in this profile"
    assert table["as stated"]["1"] == claims()[1]["claim"]


def test_a_profile_without_results_tested_nothing(tmp_path, monkeypatch):
    monkeypatch.setenv("UNSIR_RESULTS", str(tmp_path))
    found = gather.findings("paper")
    assert set(found.verdict) == {gather.UNTESTED} and len(found) == len(claims())
    assert set(gather.cost("paper").seconds) == {""}


def test_every_verdict_has_its_square(profile):
    figure, axis = plt.subplots()
    gather.verdict_squares(axis, gather.findings(profile))
    assert sorted(t.get_text() for t in axis.texts if t.get_text()) == ["1"] * 4
    assert [t.get_text() for t in axis.get_yticklabels()] == [str(claim) for claim in claims()]
    plt.close(figure)


def test_the_report_knows_every_verdict():
    assert set(gather.VERDICTS) == {*VERDICTS, gather.UNTESTED}


def test_findings_of_an_older_form_are_read_all_the_same(profile, tmp_path):
    old = pd.DataFrame([{"claim": "3", "tested": "relearning", "rows met": "1 of 1", "verdict": "holds"}])
    old.to_csv(tmp_path / profile / "tables" / "02_old_findings.csv", index=False)
    (line,) = gather.findings(profile).query("claim == '3'").to_dict("records")
    assert (line["verdict"], line["replicates"]) == ("holds", "")


def test_the_overview_shows_what_each_profile_found(profile, tmp_path):
    Results("01_cifar10", profile).findings(judge([claim_test(1, "at rates", *HOLDS)]), "One.")
    Results("01_cifar10", "quick").findings(judge([claim_test(1, "at rates", *FAILS)]), "One.")
    for p in (profile, "quick"):
        (tmp_path / p / "01_cifar10.ipynb").write_text(
            '{"cells": [], "metadata": {"unsir": {"seconds": 7.6}}, "nbformat": 4}'
        )
    lines = gather.overview([profile, "quick"]).splitlines()
    assert lines[0] == "| notebook | picture | smoke: found | quick: found | quick: seconds |"
    (line,) = (line for line in lines if "[01_cifar10]" in line)
    assert line.endswith("| 1: holds (1) | 1: does not hold (1) | 8 |")
    assert "(../notebooks/01_cifar10.ipynb)" in line and "executed: [smoke](smoke/01_cifar10.ipynb), [quick]" in line
    assert gather.cost(profile).set_index("notebook").seconds["01_cifar10"] == "8"


def test_what_did_not_run_here_is_taken_from_what_is_published_and_named(profile, tmp_path, monkeypatch):
    published = tmp_path / "published"
    monkeypatch.setattr("unsir_utils.data.paths.published_root", lambda: published)
    monkeypatch.setattr(gather, "published_root", lambda: published)
    monkeypatch.setenv("UNSIR_RESULTS", str(published))
    for name in ("01_cifar10", "02_cifar100"):
        Results(name, profile).findings(judge([claim_test(1, "published", *FAILS)]), "One.")
        (published / profile / f"{name}.ipynb").write_text('{"cells": [], "metadata": {}, "nbformat": 4}')
    monkeypatch.setenv("UNSIR_RESULTS", str(tmp_path))
    for name in ("01_cifar10", "02_cifar100"):  # the second wrote its table, and then failed
        Results(name, profile).findings(judge([claim_test(1, "here", *HOLDS)]), "One.")
    (tmp_path / profile / "01_cifar10.ipynb").write_text('{"cells": [], "metadata": {}, "nbformat": 4}')
    found = gather.findings(profile).set_index("notebook").tested
    assert found["01_cifar10"] == "here" and found["02_cifar100"] == "published"
    assert gather.taken_over(profile) == ["02_cifar100"]
