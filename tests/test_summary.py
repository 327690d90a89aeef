"""What a run ends with, and what becomes of it when it is published."""

import json

import pytest

from unsir_utils.data.paths import experiments
from unsir_utils.report import compare, publish, readme, summary

ERROR = {"output_type": "error", "ename": "ValueError", "evalue": "no maps\nmore", "traceback": ["..."] * 40}


def notebook(path, *outputs):
    path.parent.mkdir(parents=True, exist_ok=True)
    cell = {"cell_type": "code", "id": "a", "execution_count": 1, "metadata": {}, "outputs": list(outputs), "source": ""}
    about = {"cells": [cell], "metadata": {"unsir": {"seconds": 2.0}}, "nbformat": 4, "nbformat_minor": 5}
    path.write_text(json.dumps(about))


def ended(profile, name):
    notebook(profile / f"{name}.ipynb")
    (profile / ".done").mkdir(exist_ok=True)
    (profile / ".done" / name).touch()


@pytest.fixture
def run(tmp_path, monkeypatch):
    """Of three notebooks one ended, one failed after an earlier success, and one was never started."""
    for module in (compare, publish, summary):
        for root, folder in (("results_root", "runs"), ("published_root", "results")):
            if hasattr(module, root):
                monkeypatch.setattr(module, root, lambda folder=folder: tmp_path / folder)
    monkeypatch.setattr(publish, "experiments", lambda: experiments(tmp_path / "notebooks"))
    monkeypatch.setattr(publish, "changed", lambda name, values: values)
    monkeypatch.setattr(readme, "main", lambda: None)
    for name in ("01_a", "02_b", "03_c"):
        notebook(tmp_path / "notebooks" / f"{name}.ipynb")
    profile = tmp_path / "runs" / "quick"
    ended(profile, "01_a")
    notebook(profile / "02_b.ipynb")
    notebook(profile / "failed" / "02_b.ipynb", ERROR)
    return profile


def call(module, monkeypatch, *arguments):
    monkeypatch.setattr("sys.argv", ["x", "--profile", "quick", *arguments])
    module.main()


def test_the_last_lines_name_what_is_missing_and_what_to_open(run, monkeypatch, capsys):
    with pytest.raises(SystemExit) as end:
        call(summary, monkeypatch, "--compare", "01_a", "02_b", "03_c")
    out, last = capsys.readouterr().out, str(end.value.code).splitlines()
    assert "01_a                            2.0 s" in out and "2 of 3 notebooks did not end" in out
    assert "FAILED" in last[0] and last[0].endswith("runs/quick/failed/02_b.ipynb")
    assert last[1].strip() == "ValueError: no maps" and "03_c" in last[2] and "MISSING" in last[2] and len(last) == 3


def test_a_whole_run_ends_without_complaint_and_names_the_page(run, monkeypatch, capsys):
    call(summary, monkeypatch, "--compare", "01_a")
    assert capsys.readouterr().out.splitlines()[-1].endswith("runs/quick/01_a.ipynb")


def test_where_only_the_report_ended_there_is_nothing_to_compare_and_the_missing_are_named(run, monkeypatch, capsys):
    ended(run, "99_report")
    with pytest.raises(SystemExit) as end:
        call(summary, monkeypatch, "--compare", "02_b", "99_report")
    assert "1 of 2 notebooks did not end" in capsys.readouterr().out and "runs/quick/failed/02_b.ipynb" in end.value.code


def test_where_nothing_published_is_of_what_ended_the_missing_are_named_all_the_same(run, tmp_path, monkeypatch, capsys):
    notebook(tmp_path / "results" / "quick" / "03_c.ipynb")
    ended(run, "00_new")
    with pytest.raises(SystemExit) as end:
        call(summary, monkeypatch, "--compare", "00_new", "02_b")
    assert "nothing is published of 00_new" in capsys.readouterr().out and "runs/quick/failed/02_b.ipynb" in end.value.code


def test_a_kernel_that_was_killed_leaves_no_error_in_the_copy(run):
    notebook(run / "failed" / "03_c.ipynb")
    assert "killed" in summary.line(run, "03_c")


def test_a_finished_run_is_published_and_what_is_gone_goes(run, tmp_path, monkeypatch):
    published = tmp_path / "results" / "quick"
    for file in ("tables/01_a_old.csv", "tables/02_b.csv", "figures/00_gone.png", "spread.csv", "00_gone.ipynb"):
        (published / file).parent.mkdir(parents=True, exist_ok=True)
        (published / file).write_text("old")
    for file in ("tables/01_a.csv", "figures/01_a_x.png", "tables/02_b.csv", "comparison.csv"):
        (run / file).parent.mkdir(parents=True, exist_ok=True)
        (run / file).write_text("new")
    ran_with(run)
    call(publish, monkeypatch, "01_a")
    found = {str(f.relative_to(published)): f.read_text() for f in published.rglob("*") if f.is_file()}
    assert found.pop("01_a.ipynb") == (run / "01_a.ipynb").read_text()
    del found["numbers/01_a.json"]
    assert found == {"tables/01_a.csv": "new", "figures/01_a_x.png": "new", "tables/02_b.csv": "old", "spread.csv": "old"}


def ran_with(run, **changes):
    """The changes from the profile that the run says it had."""
    (run / "numbers").mkdir(exist_ok=True)
    (run / "numbers/01_a.json").write_text(json.dumps({"parameters": changes}))


def test_a_run_with_other_values_than_the_profiles_is_not_published(run, tmp_path, monkeypatch):
    ran_with(run, copies=3)
    with pytest.raises(SystemExit, match=r"01_a \(copies\) ran with other values than the profile's"):
        call(publish, monkeypatch, "01_a")
    assert not (tmp_path / "results").exists()


@pytest.mark.parametrize("names", [[], ["02_b"], ["01_a", "03_c"]])
def test_what_did_not_end_is_not_published(run, tmp_path, monkeypatch, names):
    with pytest.raises(SystemExit, match="did not run to their end: 0"):
        call(publish, monkeypatch, *names)
    assert not (tmp_path / "results").exists()
