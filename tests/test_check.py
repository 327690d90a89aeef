import pandas as pd
import pytest
import yaml
from tiny import committed_results

from unsir_utils import check
from unsir_utils.paths import REPOSITORY

README = "<!-- from results/p/tables/01_a.md -->\n<!-- end -->\n<!-- from results/other/tables/01_a_b.md -->\n<!-- end -->"
TABLE = "model,#forget,method,A_Dr (%),paper\nnet,1,Original,71.6,77.86\nnet,1,UNSIR,68.6 ± 0.8,\nnet,2,UNSIR,>20,\n"
FINDINGS = "claim,tested,verdict\n1,at most 1 %,holds\n"


@pytest.fixture
def folder(tmp_path):
    for part in ("p/tables", "p/seconds", "checkpoints/cases"):
        (tmp_path / part).mkdir(parents=True)
    (tmp_path / "p/01_a.ipynb").touch()
    (tmp_path / "p/tables/01_a.csv").write_text(TABLE)
    (tmp_path / "p/tables/01_a_findings.csv").write_text(FINDINGS)
    (tmp_path / "p/tables/01_a_unquoted.csv").write_text(TABLE)
    (tmp_path / "p/seconds/01_a_models.csv").write_text("model,seconds\nnet-40ep,61.4\n")
    return tmp_path / "p"


def test_what_is_quoted_is_expected_with_a_tolerance(folder):
    expected = check.expectation(folder, README)
    assert expected == {
        "01_a": {
            "models": {"net-40ep": 61},
            "verdicts": {"at most 1 %": "holds"},
            "01_a": {
                "net | 1 | Original": {"A_Dr (%)": {"value": 71.6, "tolerance": 2.0}},
                "net | 1 | UNSIR": {"A_Dr (%)": {"value": 68.6, "spread": 0.8, "tolerance": 2.0}},
                "net | 2 | UNSIR": {"A_Dr (%)": {"value": 20.0, "tolerance": 2.0, "capped": True}},
            },
        }
    }


@pytest.mark.parametrize(
    "old, new, line",
    [
        ("68.6 ±", "70.5 ±", None),
        ("68.6 ±", "71.1 ±", "01_a, net | 1 | UNSIR, A_Dr (%): expected 68.6 ± 2, found 71.1"),
        ("68.6 ± 0.8", "", "01_a, net | 1 | UNSIR, A_Dr (%): expected 68.6 ± 2, found nothing"),
        (">20", "20", "01_a, net | 2 | UNSIR, A_Dr (%): expected >20 ± 2, found 20"),
        ("net,2,UNSIR", "net,2,Unsir", "01_a, net | 2 | UNSIR, the row is absent"),
        ("holds", "does not hold", "at most 1 %: expected 'holds', found 'does not hold'"),
    ],
)
def test_what_moved_is_named(folder, old, new, line):
    expected = check.expectation(folder, README)["01_a"]
    for path in folder.glob("tables/*.csv"):
        path.write_text(path.read_text().replace(old, new))
    assert check.moved(expected, check.expectation(folder, README)["01_a"]) == ([line] if line else [])


def test_a_table_or_verdict_that_is_gone_has_moved(folder):
    expected = check.expectation(folder, README)["01_a"]
    assert len(check.moved(expected, {})) == 4


@pytest.fixture
def checked(folder, monkeypatch):
    """Two notebooks' committed results, which a check has come to again."""
    (folder / "02_b.ipynb").touch()
    (folder / "README.md").write_text(README)
    expected = check.expectation(folder, README)
    assert expected["02_b"] == {}
    monkeypatch.setattr(check, "REPOSITORY", folder)
    monkeypatch.setattr(check, "FRESH", folder.parent)
    (folder / ".done").mkdir()
    for name in expected:
        (folder / ".done" / name).touch()
    return expected


def test_a_check_that_ends_leaves_no_cases(checked, folder, capsys):
    assert check.compare("p", checked, ["01_a", "02_b"]) == 0
    assert capsys.readouterr().out.count("as expected") == 2
    assert not (folder.parent / "checkpoints" / "cases").exists() and not list((folder / ".done").iterdir())


def test_a_check_fails_where_something_moved_or_did_not_run(checked, folder, capsys):
    (folder / "tables/01_a_findings.csv").unlink()
    (folder / ".done/02_b").unlink()
    assert check.compare("p", checked, ["01_a", "02_b"]) == 1
    out = capsys.readouterr().out
    assert "at most 1 %: expected 'holds', found None" in out and "it did not run to its end" in out
    assert (folder.parent / "checkpoints" / "cases").exists(), "it can go on"


def test_some_notebooks_can_be_checked_alone(checked, folder):
    (folder / "02_b.ipynb").unlink()
    assert check.compare("p", checked, ["01_a"]) == 0
    assert [path.name for path in (folder / ".done").iterdir()] == ["02_b"]


def test_training_is_announced_where_models_are_absent(folder, monkeypatch):
    monkeypatch.setenv("UNSIR_MODELS", str(folder))
    expected = check.expectation(folder, README)
    needed = check.to_train(expected, ["01_a"])
    assert needed == {"net-40ep": 61}
    assert "to be trained first, 1 of the models (on one core it took 1 min)" in check.training_needed(needed)
    (folder / "net-40ep.safetensors").touch()
    assert check.to_train(expected, ["01_a"]) == {}
    assert check.training_needed({}) == "every trained model is there"


@pytest.mark.parametrize(
    "arguments, message",
    [(["--profile", "none"], "nothing is expected of profile 'none'"), (["no_such"], "nothing is expected of no_such")],
)
def test_the_unknown_is_named(arguments, message, tmp_path, monkeypatch):
    (tmp_path / "expected.yaml").write_text("quick: {01_a: {}}")
    monkeypatch.setattr(check, "EXPECTED", tmp_path / "expected.yaml")
    monkeypatch.setattr("sys.argv", ["check", *arguments])
    with pytest.raises(SystemExit, match=message):
        check.main()


@committed_results
def test_expected_yaml_is_what_the_committed_results_say():
    text = (REPOSITORY / "README.md").read_text()
    expected = yaml.safe_load(check.EXPECTED.read_text())
    assert set(expected) == set(check.PROFILES)
    for profile, wanted in expected.items():
        assert check.expectation(REPOSITORY / "results" / profile, text) == wanted


def test_rows_of_numbers_alone_are_named_by_the_first():
    assert check.cells(pd.DataFrame({"rate": ["0.1"], "A_Df": ["3.0"]})) == {
        "0.1": {"A_Df": {"value": 3.0, "tolerance": 2.0}}
    }
