import json
import re
from pathlib import Path

import pytest

from unsir_utils.data.paths import published_root
from unsir_utils.report import compare

TABLE = """model,#forget,method,A_Dr (%),A_Df (%),impair rate,relearn (epochs),largest share,steps,norm,paper A_Dr (%)
net,1,Original,71.6,98.0,0.001,0,0.78,14,120.0,77.86
net,1,UNSIR,68.6 ± 2.5,0.0 ± 0.0,0.001,>20,0.50,14,98.5 ± 1.0,
net,2,UNSIR,29.0 ± 39.6,,0.001,3,0.50,14,0.00,
"""
FINDINGS = "claim,tested,measured,verdict\n1,at most 1 %,0.3,holds\n1,at 0.02,0.4,undecided\n"
RECORDS = """seed,method,A_Df,impair_lr,relearn_epochs
0,UNSIR,1.0,0.001,
1,UNSIR,3.0,0.001,2
0,Retrain,0.0,0.001,1
1,Retrain,0.0,0.001,1
"""


def profile(folder: Path) -> Path:
    for part in ("tables", "numbers", "seconds"):
        (folder / part).mkdir(parents=True)
    for name in ("01_a", "99_report"):
        (folder / f"{name}.ipynb").touch()
    for name, text in {"01_a": TABLE, "01_a_findings": FINDINGS}.items():
        (folder / f"tables/{name}.csv").write_text(text)
        (folder / f"tables/{name}.md").touch()
    (folder / "tables/01_a_records.csv").write_text(RECORDS)
    (folder / "tables/01_ab.csv").write_text("another,notebook\n1,2\n")
    (folder / "seconds/01_a.csv").write_text(f"seconds\n{len(str(folder))}\n")
    (folder / "numbers/01_a.json").write_text(
        json.dumps(
            {"best_pair": [0.001, 0.0003], "A_Dr, %": 71.6, "claim 1": "holds", "none": None, "environment": {"x": 1}}
        )
    )
    return folder


@pytest.fixture
def both(tmp_path, monkeypatch) -> tuple[Path, Path]:
    monkeypatch.setattr(compare, "published_root", lambda: tmp_path / "results")
    monkeypatch.setattr(compare, "results_root", lambda: tmp_path / "runs")
    return profile(tmp_path / "results/quick"), profile(tmp_path / "runs/quick")


def moved(both: tuple[Path, Path], **options) -> list[str]:
    different = compare.compare(*both, ["01_a"], **options)[1]
    return [str(d) for d in sorted(different, key=lambda d: d.rank) if d.moved]


def change(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))


def test_a_run_that_came_out_the_same_moves_nothing(both):
    counts, different = compare.compare(*both, ["01_a"])
    assert different == [] and counts == {"verdict": 2, "cell": 21, "figure": 4, "number": 4}


@pytest.mark.parametrize(
    "file, old, new, line",
    [
        ("01_a", "71.6", "73.5", None),  # two points, the least of a percentage
        ("01_a", "71.6", "73.7", "Original, A_Dr (%): published '71.6', here '73.7' (moved by 2.1, may by 2)"),
        ("01_a", "68.6", "73.5", None),  # twice its ±
        ("01_a", "68.6", "73.7", "UNSIR, A_Dr (%): published '68.6 ± 2.5', here '73.7 ± 2.5' (moved by 5.1, may by 5)"),
        ("01_a", "98.0,0.001", "98.0,0.003", "impair rate: published '0.001', here '0.003' (moved by 0.477, may by 0)"),
        ("01_a", ">20", ">21", None),
        ("01_a", ">20", "20", "UNSIR, relearn (epochs): published '>20', here '20'"),
        ("01_a", "0.001,3,", "0.001,>3,", "relearn (epochs): published '3', here '>3'"),
        ("01_a", "0.78", "0.80", None),
        ("01_a", "0.78", "0.82", "largest share: published '0.78', here '0.82' (moved by 0.04, may by 0.03)"),
        ("01_a", ",14,120.0", ",15,120.0", "steps: published '14', here '15' (moved by 1, may by 0)"),
        ("01_a", "120.0", "131.0", None),
        ("01_a", "120.0", "133.0", "norm: published '120.0', here '133.0' (moved by 13, may by 12)"),
        ("01_a", ",0.00,", ",0.01,", None),  # the last digit it shows
        ("01_a", "77.86", "1.0", None),  # the paper's, not ours
        ("01_a", "71.6", "undefined", "published '71.6', here 'undefined'"),
        ("01_a", "71.6", "nan", "published '71.6', here 'nan'"),
        ("01_a", "71.6", "", "published '71.6', here ''"),
        ("01_a", "39.6,,", "39.6,0.0,", "A_Df (%): published '', here '0.0'"),
        ("01_a", "0.0 ± 0.0", "0.0 ± 0.0 (1 undefined)", "here '0.0 ± 0.0 (1 undefined)'"),
        ("01_a", "net,2,", "net,3,", "01_a, net | 2 | UNSIR: published 'a row', here 'none'"),
        ("01_a", "steps", "Steps", "01_a, steps: published 'a column', here 'none'"),
        (
            "01_a_findings",
            "holds",
            "does not hold",
            "TURNED ROUND: 01_a_findings, 1 | at most 1 %, verdict: published 'holds'",
        ),
        ("01_a_findings", "undecided", "holds", "1 | at 0.02, verdict: published 'undecided', here 'holds'"),
        ("01_a_findings", "0.3", "0.9", None),  # only the verdict is judged
        ("01_a_records", "1.0", "12.0", "01_a_records, UNSIR | 0.001, A_Df: published '2 ± 1.41', here '7.5 ± 6.36'"),
        ("01_a_records", "0.001,\n", "0.001,1\n", "relearn_epochs: published '2 (1 undefined)', here '1.5 ± 0.707'"),
    ],
)
def test_what_moved_beyond_its_tolerance_is_named(both, file, old, new, line):
    change(both[1] / f"tables/{file}.csv", old, new)
    found = moved(both)
    assert line in found[0] if line else found == []


def test_quoted_numbers_are_compared_by_their_unit(both):
    change(both[1] / "numbers/01_a.json", "[0.001", "[0.003")
    change(both[1] / "numbers/01_a.json", "71.6", "72.6")
    (line,) = moved(both)
    assert "best_pair, 0: published '0.001', here '0.003'" in line


@pytest.mark.parametrize("text", ["", "\n", "model\n", "1,2,3\n4,5,6\n", None])
def test_an_empty_broken_or_absent_table_is_named_and_compares(both, text):
    path = both[1] / "tables/01_a.csv"
    path.unlink() if text is None else path.write_text(text)
    assert any("01_a" in line for line in moved(both))
    assert compare.compare(both[1], both[0], ["01_a"])[1]


def test_a_noisy_cell_is_neither_reproduced_nor_moved(both):
    change(both[1] / "tables/01_a.csv", "29.0", "60.0")
    (found,) = compare.compare(*both, ["01_a"])[1]
    assert found.noisy and not found.moved, "± 39.6 points allow anything"
    change(both[1] / "tables/01_a.csv", "60.0", "30.0")
    (found,) = compare.compare(*both, ["01_a"])[1]
    assert not found.noisy and not found.moved, "a point is within the unit's step"


@pytest.mark.parametrize("here, outcome", [("75.6", "noisy"), ("91.6", "noisy"), ("91.7", "moved"), ("75.6 ± 0.5", "moved")])
def test_on_another_machine_a_number_of_one_run_has_no_spread_to_go_by(both, here, outcome):
    change(both[1] / "tables/01_a.csv", "71.6", here)
    (there,) = compare.compare(*both, ["01_a"])[1]
    change(both[1] / "numbers/01_a.json", '{"x": 1}', '{"x": 2}')
    (elsewhere,) = compare.compare(*both, ["01_a"])[1]
    assert there.outcome == "moved" and elsewhere.outcome == outcome


@pytest.mark.parametrize("here, line", [("73.7 ± 2.7", ""), ("73.7 ± 2.3", "(moved by 5.1, may by 4.8)")])
def test_on_another_machine_both_sides_spread_counts(both, here, line):
    """Twice the root mean square of 2.5 and its own."""
    change(both[1] / "numbers/01_a.json", '{"x": 1}', '{"x": 2}')
    change(both[1] / "tables/01_a.csv", "68.6 ± 2.5", here)
    assert [line in text for text in moved(both)] == ([True] if line else [])


def test_on_another_machine_neither_a_chosen_rate_nor_a_count_may_move(both):
    change(both[1] / "numbers/01_a.json", '{"x": 1}', '{"x": 2}')
    change(both[1] / "tables/01_a.csv", "98.0,0.001", "98.0,0.003")
    change(both[1] / "tables/01_a.csv", ",14,120.0", ",15,120.0")
    assert len(moved(both)) == 2


@pytest.mark.parametrize("here, outcome", [("+7.9 [+1.0, +14.8]", "within tolerance"), ("+8.1 [+2.1, +14.1]", "moved")])
def test_an_interval_is_a_spread(both, here, outcome):
    """Half its length: 6 points."""
    for folder in both:
        change(folder / "tables/01_a.csv", "71.6", '"+2.0 [-4.0, +8.0]"')
    change(both[1] / "numbers/01_a.json", '{"x": 1}', '{"x": 2}')
    change(both[1] / "tables/01_a.csv", "+2.0 [-4.0, +8.0]", here)
    (found,) = compare.compare(*both, ["01_a"])[1]
    assert found.outcome == outcome


TESTS = """seed,test,unit,value,floor,ceiling,bound,position,verdict
0,linear probe,%,0,30,80,50,-0.6,passes
0,cosine,-1..1,0,0,1,0.5,0,passes
"""


def test_what_an_audit_s_test_measured_is_compared_in_the_test_s_own_unit(both):
    """A recall of 0 % may move by two points, not by a tenth of itself; position and verdict follow from the others."""
    for folder in both:
        (folder / "tables/01_a_records.csv").write_text(TESTS)
    changed = both[1] / "tables/01_a_records.csv"
    change(changed, "%,0,30,80,50,-0.6,passes", "%,2,30,80,50,,cannot tell")
    change(changed, "1..1,0,0,1,0.5", "1..1,0.02,0,1,0.9")
    found = {(d.row, d.column): d for d in compare.compare(*both, ["01_a"])[1]}
    outcomes = {("linear probe | %", "value"): "within tolerance", ("cosine | -1..1", "value"): "within tolerance"}
    assert {cell: d.outcome for cell, d in found.items()} == outcomes | {("cosine | -1..1", "bound"): "moved"}


def test_of_cells_beside_the_published_ones_those_that_moved_are_bold(both):
    change(both[1] / "tables/01_a.csv", "71.6", "73.5")  # within two points
    change(both[1] / "tables/01_a.csv", "98.0", "10.0")
    said = compare.beside(*both, "01_a")
    assert "| 73.5 (71.6) " in said and "| **10.0 (98.0)** " in said


def test_verdicts_that_turned_round_come_first(both):
    change(both[1] / "tables/01_a_findings.csv", "undecided", "holds")
    change(both[1] / "tables/01_a_findings.csv", "0.3,holds", "0.3,does not hold")
    change(both[1] / "tables/01_a.csv", "71.6", "10.0")
    assert [("TURNED" in line, "_findings" in line) for line in moved(both)] == [(True, True), (False, True), (False, False)]


def test_the_spread_between_machines_widens_a_tolerance(both, tmp_path):
    other = profile(tmp_path / "other")
    for run, value in ((other, "75.6"), (both[1], "77.5")):
        change(run / "tables/01_a.csv", "71.6", value)
    assert len(moved(both)) == 1
    path = compare.record_spreads("quick", [other])
    assert path.read_text() == "table,row,column,spread,runs\n01_a,net | 1 | Original,A_Dr (%),4,1\n"
    spreads, runs = compare.read_spreads(both[0])
    assert runs == 1 and moved(both, spreads=spreads) == []
    change(both[1] / "tables/01_a.csv", "77.5", "77.7")
    assert len(moved(both, spreads=spreads)) == 1


def test_a_spread_as_wide_as_the_number_s_meaning_checks_nothing_and_says_so(both, tmp_path):
    other = profile(tmp_path / "other")
    change(other / "tables/01_a.csv", ">20", "3")
    change(both[1] / "tables/01_a.csv", ">20", "4")
    compare.record_spreads("quick", [other, both[1]])
    text, n = compare.report("quick")
    assert n == 0 and "1 too noisy to say" in text and "runs that the spread between machines is from: 2;" in text


def test_the_report_counts_and_names(both):
    change(both[1] / "tables/01_a.csv", "71.6", "10.0")
    text, n = compare.report("quick")
    assert n == 1 and "01_a                        1 of 31 moved" in text
    assert "2 of 2 verdicts as published" in text and "20 of 21 table cells" in text
    assert "Original" in (both[1] / "comparison.csv").read_text()
    (both[1] / "01_a.ipynb").unlink()
    with pytest.raises(ValueError, match="make reproduce PROFILE=quick"):
        compare.report("quick")
    assert compare.report("smoke") == ("nothing is published of profile smoke: nothing to compare with", 0)


@pytest.mark.parametrize("value, status", [("71.6", 0), ("10.0", 1)])
def test_the_command_fails_where_something_moved(both, monkeypatch, capsys, value, status):
    change(both[1] / "tables/01_a.csv", "71.6", value)
    monkeypatch.setattr("sys.argv", ["compare", "--profile", "quick", "01_a"])
    with pytest.raises(SystemExit) as end:
        compare.main()
    assert end.value.code == status and "compared with results/quick" in capsys.readouterr().out


@pytest.mark.parametrize("folder", [p for p in sorted(published_root().iterdir()) if p.is_dir()], ids=lambda p: p.name)
def test_what_is_published_compares_with_itself(folder):
    """Undefined cells, too."""
    counts, different = compare.compare(folder, folder, compare._notebooks(folder))
    assert different == [] and counts["cell"] > 5


def test_no_unit_allows_more_than_its_numbers_mean():
    assert compare.unit("p (Holm)") is compare.unit("to Retrain's first choice") is compare.PROBABILITY
    assert compare.unit("largest share, 95 %") is compare.PROBABILITY and compare.unit("impair_lr") is compare.RATE
    assert compare.unit("A_Dr (%), paper's rates") is compare.POINTS and compare.unit("relearn (steps)") is compare.PASSES


BY_SHARE = {"norm", "norm of its row", "bias of its row", "error (nats)", "sum", "mean", "weights"}
BY_SHARE |= {"off Retrain", "off Retrain, other start", "to Retrain", "most noise over median size"}


def test_published_columns_without_a_unit_of_their_own_are_sizes():
    named = re.compile("|".join(f"(?:{pattern})" for pattern, _ in compare.UNITS[:-1]))
    found = set()
    for folder in (p for p in published_root().iterdir() if p.is_dir()):
        for name in compare._notebooks(folder):
            for kind, _, table, _ in compare._pairs(folder, folder, name):
                shared, keys = compare._columns(kind, table, table)
                found |= {c for c in shared if kind == "cell" and c not in keys and not named.search(c)}
    assert found == BY_SHARE


FIGURES = [f for f in published_root().glob("*/tables/*.csv") if not f.with_suffix(".md").exists()]


@pytest.mark.parametrize("file", sorted(FIGURES), ids=lambda f: f"{f.parts[-3]}-{f.stem}")
def test_no_two_published_records_are_averaged_but_over_seeds_networks_and_images(file):
    records = compare._read(file)
    keys = [c for c in records if c in compare.OVER or compare._is_key(records[c], "figure")]
    assert not records.duplicated(keys).any(), "a swept column is no key: see UNITS"
