import json
import math
from itertools import product

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
import tiny
import torch
from PIL import Image

from unsir_utils.data.paths import read_yaml
from unsir_utils.report import gather, paper
from unsir_utils.report.judge import judge
from unsir_utils.report.paper import paper_cells
from unsir_utils.report.tables import Results, markdown, mean_capped, mean_std, three_digits

PAPER = read_yaml(paper.PAPER)


@pytest.fixture
def book(tmp_path, monkeypatch) -> Results:
    monkeypatch.setenv("UNSIR_RESULTS", str(tmp_path))
    return Results("07_tiny", "smoke")


def text(book: Results, file: str) -> str:
    return (book.folder / file).read_text()


FRAME = pd.DataFrame(
    [["UNSIR", "0.0 ± 0.1", "50 %"], ["A & B", ">3", ""], ["a_b #1", "007", "NA"]], columns=["method", "A_Dr (%)", "λ"]
)


def test_a_table_is_csv_that_comes_back_as_it_was(book):
    book.table(FRAME, "Some numbers.")
    back = pd.read_csv(book.folder / "tables" / "07_tiny.csv", dtype=str, keep_default_na=False)
    pd.testing.assert_frame_equal(back, FRAME, check_dtype=False)


def test_a_table_is_markdown_with_the_profile_in_its_caption(book):
    book.table(FRAME, "Some numbers.")
    lines = text(book, "tables/07_tiny.md").splitlines()
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[:5]]
    assert [cells[0], *cells[2:]] == [FRAME.columns.tolist(), *FRAME.values.tolist()]
    assert lines[5:] == ["", "Some numbers. Profile: smoke."]


def test_a_table_is_latex_with_its_special_characters_escaped(book):
    book.table(FRAME, "A_Dr, 50 % & more.", "wide")
    latex = text(book, "tables/07_tiny_wide.tex")
    for row in (
        r"method & A\_Dr (\%) & $\lambda$ \\",
        r"UNSIR & 0.0 $\pm$ 0.1 & 50 \% \\",
        r"A \& B & $>$3 &  \\",
        r"a\_b \#1 & 007 & NA \\",
        r"\caption{A\_Dr, 50 \% \& more. Profile: smoke.}",
        r"\label{tab:07_tiny_wide}",
        r"\toprule",
    ):
        assert row in latex
    assert latex.isascii()


def test_named_tables_lie_side_by_side(book):
    for name in ("", "one", "two"):
        book.table(FRAME, "Caption.", name)
    files = {path.name for path in (book.folder / "tables").iterdir()}
    assert files == {f"07_tiny{name}.{kind}" for name, kind in product(["", "_one", "_two"], ["csv", "md", "tex"])}


def test_records_have_their_seconds_in_a_file_of_their_own(book):
    frame = pd.DataFrame({"seed": [0, 1], "A_Df": [1.5, math.nan], "seconds": [0.1, 0.2], "seconds_noise": [0.3, 0.4]})
    book.records(frame)
    kept, timed = (pd.read_csv(book.folder / kind / "07_tiny_records.csv") for kind in ("tables", "seconds"))
    pd.testing.assert_frame_equal(kept, frame[["seed", "A_Df"]])
    pd.testing.assert_frame_equal(timed, frame)


def test_records_without_seconds_are_one_file(book):
    book.records(pd.DataFrame({"seed": [0]}), "rates")
    assert [p.relative_to(book.folder).as_posix() for p in book.folder.rglob("*.csv")] == ["tables/07_tiny_rates.csv"]


def test_numbers_come_back_with_what_they_were_measured_on(book):
    numbers = dict(A_Df=0.25, n=3, label="ok", none=None, seeds=[0, 1], mean=np.float64(1.5))
    book.numbers(**numbers)
    back = json.loads(text(book, "numbers/07_tiny.json"))
    assert back.pop("parameters") == {}
    environment = back.pop("environment")
    assert back == numbers
    assert (environment["torch"], environment["threads"]) == (torch.__version__, torch.get_num_threads())
    assert {"python", "torchvision", "device", "precision", "bfloat16"} <= environment.keys()


@pytest.mark.parametrize("undefined", [math.nan, math.inf, -math.inf, np.float64("nan")])
def test_undefined_numbers_are_saved_as_null(book, undefined):
    book.numbers(good=1.0, one=undefined, several=[1.0, undefined])
    back = json.loads(text(book, "numbers/07_tiny.json"))
    assert (back["good"], back["one"], back["several"]) == (1.0, None, [1.0, None])


def test_a_figure_is_png_and_pdf_with_the_profile_and_what_is_drawn_in_it(book):
    figure, _ = plt.subplots(figsize=(1, 1))
    book.figure(figure, "curve", alt="a curve")
    with Image.open(book.folder / "figures" / "07_tiny_curve.png") as png:
        assert png.format == "PNG" and png.info["Description"] == "a curve"
    pdf = (book.folder / "figures" / "07_tiny_curve.pdf").read_bytes()
    assert pdf.startswith(b"%PDF") and b"/Subject (a curve)" in pdf
    assert [t.get_text() for t in figure.texts] == ["profile: smoke"]
    plt.close(figure)


def test_a_figure_has_the_same_bytes_every_time(book):
    def drawn(suffix: str) -> bytes:
        figure, axis = plt.subplots(figsize=(1, 1))
        axis.plot([0, 1])
        book.figure(figure, alt="a curve")
        plt.close(figure)
        return (book.folder / "figures" / f"07_tiny.{suffix}").read_bytes()

    assert drawn("pdf") == drawn("pdf") and drawn("png") == drawn("png")


@pytest.mark.parametrize(
    "values, digits, expected",
    [
        ([], 1, ""),
        ([math.nan], 1, "undefined"),
        ([2.25], 2, "2.25"),
        ([2.0, math.nan], 1, "2.0 (1 undefined)"),
        ([1.0, 3.0], 2, "2.00 ± 1.41"),
        ([1.0, 3.0, math.nan], 1, "2.0 ± 1.4 (1 undefined)"),
        ([5.0, 5.0], 1, "5.0 ± 0.0"),
    ],
    ids=str,
)
def test_mean_and_deviation_by_hand(values, digits, expected):
    assert mean_std(pd.Series(values, dtype=float), digits) == expected


@pytest.mark.parametrize(
    "values, expected", [([3, 4], "3.5"), ([3, 5], "4"), ([3, None], ">6.5"), ([None], ">10"), ([], "undefined")]
)
def test_a_relearn_time_past_the_cap_counts_as_the_cap_and_is_marked(values, expected):
    assert mean_capped(pd.Series(values, dtype=float), cap=10) == expected


def test_markdown_leaves_text_as_it_is():
    assert markdown(pd.DataFrame([["0.10", "1e5"]], columns=["a", "b"])).splitlines()[-1].split() == "| 0.10 | 1e5 |".split()


@pytest.mark.parametrize("table", PAPER["tables"])
def test_the_papers_cells_are_known_and_say_where_from(table):
    cells = paper_cells(table)
    assert list(cells.columns) == ["model", "row", "method", "metric", "value", "source"]
    assert len(cells) == len(PAPER["tables"][table]) > 0 and cells.notna().all().all()
    assert set(cells.source) <= PAPER["sources"].keys()
    assert cells.value.between(0, 100).all()
    assert not cells.duplicated(["model", "row", "method", "metric"]).any()


def test_every_source_that_is_named_is_explained():
    named = {cell[-1] for cells in PAPER["tables"].values() for cell in cells} | {e["source"] for e in PAPER["efficiency"]}
    assert named == PAPER["sources"].keys()


def test_every_table_says_why_ours_may_differ():
    assert set(PAPER["causes"]) == {*PAPER["tables"], "efficiency"}
    for table, causes in PAPER["causes"].items():
        methods = {cell[2] for cell in PAPER["tables"].get(table, [])} | {e["what"] for e in PAPER["efficiency"]}
        assert set(causes) - {"all"} <= methods and all(
            causes.get(m, causes["all"]) for m in {c[2] for c in PAPER["tables"].get(table, [])}
        )


def test_the_papers_cells_stand_beside_ours(tmp_path, monkeypatch):
    monkeypatch.setenv("UNSIR_RESULTS", str(tmp_path))
    found = [["ResNet18", 1, "Original", "A_Dr", v] for v in (70.0, 72.0)] + [["AllCNN", 1, "Original", "A_Df", 1.0]]
    found = pd.DataFrame(found, columns=["model", "row", "method", "metric", "value"])
    Results("01_first", "smoke").beside_paper("cifar10", found)
    table = pd.read_csv(tmp_path / "smoke/tables/01_first_paper.csv", dtype=str, keep_default_na=False)
    assert table[["method", "metric", "paper", "ours", "difference", "source"]].values.tolist() == [
        ["Original", "A_Dr (%)", "77.86", "71.0 ± 1.4", "-6.9", "S"],
        ["Original", "A_Df (%)", "81.01", "", "", "S"],
        ["UNSIR", "A_Dr (%)", "71.06", "", "", "S"],
        ["UNSIR", "A_Df (%)", "0.00", "", "", "S"],
    ]
    Results("99_report", "smoke").table(gather.beside_paper("smoke"), "Gathered.", "paper")
    beside = gather.beside_paper("smoke")
    assert beside[gather.WHY][0] == PAPER["causes"]["cifar10"]["Original"] and set(beside.notebook) == {"01_first"}
    assert gather.causes(beside).cells.tolist() == ["cifar10: Original"]
    assert gather.beside_paper("quick").empty


def test_the_papers_speed_stands_beside_ours(book):
    seconds = {"Retrain": 77.0, "Fisher (loop)": 3750.0, "UNSIR": 1.0, "UNSIR: noise": 2.2, "UNSIR: impair": 0.85}
    book.speed_beside_paper("ResNet18", pd.Series(seconds))
    (path,) = book.folder.glob("seconds/*_paper.csv")
    table = pd.read_csv(path, dtype=str)
    assert table[["method", "metric", "paper", "ours", "difference"]].values.tolist() == [
        ["speed-up over Retrain", "times", "154", "77.0", "0.5 times"],
        ["speed-up over Fisher forgetting", "times", "1875", "3,750", "2 times"],
        ["noise", "s", "1.1", "2.20", "2 times"],
        ["impair", "s", "1.7", "0.850", "0.5 times"],
    ]


def test_a_summary_gets_the_papers_known_cells_as_columns(tmp_path, monkeypatch):
    monkeypatch.setenv("UNSIR_RESULTS", str(tmp_path))
    ours = [["ResNet18", 1, "UNSIR (paper's rates)", 70.0, 1.0], ["ResNet18", 1, "No noise (paper's rates)", 60.0, 2.0]]
    records = pd.DataFrame(ours, columns=["network", "n_forget", "method", "A_Dr", "A_Df"])
    summary = records.rename(columns={"n_forget": "#forget"}).astype({"A_Dr": str, "A_Df": str})
    table = Results("01_first", "smoke").with_paper("cifar10", records, summary)
    assert table["paper A_Dr (%)"].tolist() == ["71.06", ""] and table["paper A_Df (%)"].tolist() == ["0.00", ""]
    assert table[summary.columns].equals(summary)
    beside = pd.read_csv(tmp_path / "smoke/tables/01_first_paper.csv", dtype=str, keep_default_na=False)
    assert beside[beside.method == "UNSIR"].ours.tolist() == ["70.0", "1.0"]


def test_an_unknown_table_of_the_paper_is_an_error():
    with pytest.raises(ValueError, match="has no table 'imagenet': choose one of cifar10"):
        paper_cells("imagenet")


def test_numbers_takes_numpy_scalars(book):
    book.numbers(a=np.int64(1))
    assert json.loads(text(book, "numbers/07_tiny.json"))["a"] == 1


def test_findings_are_kept_as_a_table(book):
    lines = judge([tiny.claim_test(1, "one thing", 0.0, 0.1, 0.2), tiny.claim_test("E", "another", 3.0, 3.1, 3.2)])
    shown = book.findings(lines, "What came out.")
    kept = pd.read_csv(book.folder / "tables" / "07_tiny_findings.csv", dtype=str, keep_default_na=False)
    assert kept.to_dict("records") == lines and "3.1 [2.9, 3.3] %" in shown
    assert "No verdict" in book.judged([], "Nothing was measured.").data
    assert not list(book.folder.rglob("07_tiny_findings.*"))  # an earlier run's verdict is not this one's


def test_what_holds_seconds_stands_apart(book):
    figure, axis = plt.subplots()
    book.table(FRAME, "Seconds.", "fast", timed=True)
    book.figure(figure, "fast", timed=True, alt="a curve")
    plt.close(figure)
    assert {p.parent.name for p in book.folder.rglob("07_tiny_fast.*")} == {"seconds"}


def test_numbers_keep_three_digits_and_text_stays():
    given = [0.76923, 2.0, 18.24, 154.0, 1440.6, "yes"]
    assert [*map(three_digits, given)] == ["0.769", "2.00", "18.2", "154", "1,441", "yes"]
    assert [*map(three_digits, [0.0001, 99.96, math.inf, math.nan])] == ["0.000", "100", "undefined", "undefined"]
