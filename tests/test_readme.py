import json

import pandas as pd
import pytest

from unsir_utils.data.paths import REPOSITORY, published_root
from unsir_utils.report import readme


@pytest.mark.parametrize("page", readme.PAGES, ids=str)
def test_a_page_shows_what_is_in_results(page):
    text = (REPOSITORY / page).read_text()
    assert readme.PART.search(text) and readme.renewed(text, (REPOSITORY / page).parent) == text


def test_what_is_gathered_from_several_results_is_up_to_date(monkeypatch):
    monkeypatch.setenv("UNSIR_RESULTS", str(published_root()))
    for name, text in readme.generated().items():
        assert (REPOSITORY / "results" / name).read_text() == text + "\n", f"{name}: make readme"


SENTENCE = dict(claim="1", tested="the test", where="", verdict="holds", says="It is {number}, the noise adds {adds}.")
FOUND = pd.DataFrame([{
    "claim": "1", "tested": "the test", "measured": "A_Df: one: 1.0 [0.5, 1.5] %", "replicates": "3 networks",
    "the noise adds": "+2.0 points", "verdict": "holds", "notebook": "01_x",
}])  # fmt: skip


def test_a_sentence_gets_its_number_and_replicates():
    assert readme.sentence(FOUND, **SENTENCE) == (
        "It is **1.0 [0.5, 1.5] %**, the noise adds +2.0 points. (3 networks; [01_x](../notebooks/01_x.ipynb))"
    )


def test_a_sentence_may_tell_another_findings_number():
    other = {"claim": "1", "tested": "the test", "where": "", "verdict": "holds"}
    told = readme.sentence(FOUND, **SENTENCE | {"says": "{number}, {beside}.", "beside": other})
    assert told.startswith("**1.0 [0.5, 1.5] %**, **1.0 [0.5, 1.5] %**. (")
    with pytest.raises(ValueError, match="rewrite"):
        readme.sentence(FOUND, **SENTENCE | {"beside": other | {"verdict": "undecided"}})


def test_a_sentence_on_records_gets_its_numbers_with_their_intervals(tmp_path, monkeypatch):
    monkeypatch.setattr(readme, "published_root", lambda: tmp_path)
    (tmp_path / "laptop" / "tables").mkdir(parents=True)
    rows = [("A (x)", "probe", n, n, v) for n, v in enumerate((10.0, 12.0, 14.0))] + [("A (x)", "other", 0, 0, 90.0)]
    records = pd.DataFrame(rows, columns=["method", "test", "trained", "seed", "value"])
    records.to_csv(tmp_path / "laptop/tables/01_x_records.csv", index=False)
    told = readme.measured("laptop", "01_x", {"test": "probe"}, "{A (x); value} %.")  # 12 and 4.30 * 2 / 3 ** 0.5
    assert told == "**12.0 [7.0, 17.0]** %. (3 networks, 1 seed each; [01_x](../notebooks/01_x.ipynb))"
    wide = readme.measured("laptop", "01_x", {}, "{A (x); probe} %.", wide="test")
    assert wide == told


@pytest.mark.parametrize(
    "change, message",
    [
        ({"verdict": "does not hold"}, "is 'holds' now, not 'does not hold': rewrite"),
        ({"where": "two"}, "0 findings are claim 1"),
    ],
)
def test_a_sentence_that_no_longer_fits_is_refused(change, message):
    with pytest.raises(ValueError, match=message):
        readme.sentence(FOUND, **SENTENCE | change)


def test_a_part_of_the_paper_counts_its_rows_networks_and_seeds(tmp_path, monkeypatch):
    monkeypatch.setattr(readme, "published_root", lambda: tmp_path)
    (tmp_path / "laptop" / "tables").mkdir(parents=True)
    records = pd.DataFrame({"network": [*"AAAB"], "n_forget": [1, 1, 4, 2], "seed": [0, 1, 0, 0]})
    records.to_csv(tmp_path / "laptop" / "tables" / "01_x_records.csv", index=False)
    part = {"notebook": "01_x", "network": "A", "rows": [1, 2, 4]}
    told = readme._measured("laptop", part)
    assert told == "2 of 3 rows (forgetting 1, 4): 1 network, 2 seeds; 1 network, 1 seed below the first row"
    assert readme._measured("laptop", part | {"rows": [1]}) == "1 of 1 rows (forgetting 1): 1 network, 2 seeds"
    other = part | {"rows": [1], "instead": "on other data"}
    assert readme._measured("laptop", other) == "no; on other data, forgetting 1: 1 network, 2 seeds"
    assert readme._measured("laptop", {"notebook": "01_x", "timed": "on one core"}) == "run: on one core"
    assert readme._measured("laptop", part | {"network": "C"}) == readme._measured("laptop", {"notebook": "02_y"}) == "no"


def test_what_ran_on_what_is_read_from_the_runs(tmp_path, monkeypatch):
    monkeypatch.setattr(readme, "published_root", lambda: tmp_path)
    for name, chip, bfloat16, precision, shown in [
        ("01_x", "CPU", "true", {}, "A_Df: 1.0 %"),
        ("02_y", "CPU", "true", {"precision": "auto"}, "A_Df: 9.0 %"),
        ("03_z", "CPU", "true", {"precision": "float32"}, "A_Df: 1.0 %"),
        ("04_w", "GPU", "false", {}, "A_Df: 1.0 %"),
    ]:
        about = {"environment": {"device": chip, "bfloat16": bfloat16, **precision}}
        made = {f"numbers/{name}.json": json.dumps(about), f"tables/{name}_findings.csv": f"{JUDGED}A_Df: 1.0 %,,holds\n"}
        for file, text in {**made, f"{name}.ipynb": json.dumps({"shown": f"| {shown} | holds |"})}.items():
            (tmp_path / "laptop" / file).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / "laptop" / file).write_text(text)
    lines = readme.ran_on("laptop").splitlines()[2:]
    assert lines == ["| CPU | bfloat16 | 01, 02 | 02 |", "| CPU | float32 | 03 |  |", "| GPU | float32 | 04 |  |"]


def test_a_part_is_replaced_and_the_rest_stays(tmp_path, monkeypatch):
    monkeypatch.setattr(readme, "REPOSITORY", tmp_path)
    (tmp_path / "table.md").write_text("new\n")
    before = "a\n<!-- from table.md -->\nold\n<!-- end -->\nb"
    assert readme.renewed(before) == "a\n<!-- from table.md -->\nnew\n<!-- end -->\nb"


def test_a_part_whose_file_is_missing_is_an_error():
    with pytest.raises(FileNotFoundError, match="nowhere.md"):
        readme.renewed("<!-- from nowhere.md -->\n<!-- end -->")


JUDGED, SHOWN = "measured,the noise adds,verdict\n", "| A_Df: 1.0 % | +3.0 points | holds |"


@pytest.fixture
def executed(tmp_path, monkeypatch):
    """Writes 01_x as notebook and as executed copy, each with one code cell; returns the copy and what it is marked as."""
    monkeypatch.setattr(readme, "REPOSITORY", tmp_path)
    (tmp_path / "notebooks").mkdir()
    (tmp_path / "laptop" / "tables").mkdir(parents=True)
    copy = tmp_path / "laptop" / "01_x.ipynb"

    def book(*sources):
        cells = [{"cell_type": "code", "metadata": {}, "source": [s], "outputs": [SHOWN]} for s in sources]
        return {"cells": cells}

    def mark(notebook, copied):
        (tmp_path / "notebooks" / "01_x.ipynb").write_text(json.dumps(book(notebook)))
        given = book(copied, "profile = 'laptop'")
        given["cells"][1]["metadata"] = {"tags": ["injected-parameters"]}
        copy.write_text(json.dumps(given))
        once = readme.marked(copy.read_text(), copy)
        assert readme.marked(once, copy) == once
        return json.loads(once)["cells"]

    return tmp_path / "laptop" / "tables" / "01_x_findings.csv", mark


def test_a_copy_says_that_its_code_is_older_than_the_notebook(executed):
    _, mark = executed
    _, told, *rest = mark(notebook="new", copied="old")
    assert "older code" in told["source"][0] and "verdicts" not in told["source"][0] and len(rest) == 1


def test_a_copy_of_todays_code_says_so_only_where_it_was_judged_anew(executed):
    findings, mark = executed
    assert len(mark(notebook="same  # commented", copied="same")) == 2
    findings.write_text(f"{JUDGED}A_Df: 1.0 %,+3.0 points,holds\n")
    assert len(mark(notebook="same", copied="same")) == 2
    for other in ("A_Df: 2.0 %,+3.0 points,holds", "A_Df: 1.0 %,+4.0 points,holds", "A_Df: 1.0 %,+3.0 points,undecided"):
        findings.write_text(f"{JUDGED}{other}\n")
        _, told, *_ = mark(notebook="same", copied="same")
        assert "judged anew" in told["source"][0] and "tables/01_x_findings.md" in told["source"][0]


@pytest.mark.parametrize("copy", sorted(published_root().glob("*/*.ipynb")), ids=lambda p: f"{p.parent.name}-{p.stem}")
def test_published_copies_are_marked_and_none_of_quick_is_older(copy):
    text = copy.read_text()
    assert readme.marked(text, copy) == text, "make readme"
    assert copy.parent.name != "quick" or readme.OLDER not in text, f"run {copy.stem} again, and publish it"
