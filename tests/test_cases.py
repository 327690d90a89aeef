import json
from itertools import count

import pytest

from unsir_utils import cases
from unsir_utils.cases import drop_cases, run_cases

CALLS = []


@pytest.fixture(autouse=True)
def store(tmp_path, monkeypatch):
    """An empty folder of results, and no calls."""
    monkeypatch.setenv("UNSIR_RESULTS", str(tmp_path))
    CALLS.clear()
    return tmp_path / "checkpoints" / "cases"


@pytest.fixture
def notebook(tmp_path):
    """Runs a text as a notebook's cells; returns their names."""
    number = count()

    def run(text: str) -> dict:
        file = tmp_path / f"cell{next(number)}.py"
        file.write_text(text)
        names = {"__name__": "__main__"}
        exec(compile(text, str(file), "exec"), names)
        return names

    return run


def square(x, **_):
    CALLS.append(x)
    return [{"square": x * x}]


def two_records(x):
    return [{"part": "a", "value": x}, {"part": "b", "value": -x}]


def interrupted(x):
    if x == 3 and len(CALLS) == 2:
        raise KeyboardInterrupt
    return square(x)


def test_a_case_runs_once_and_is_then_read(store):
    first, second = (run_cases(square, [{"x": 2}, {"x": 3}]) for _ in range(2))
    assert CALLS == [2, 3]
    assert first.equals(second) and first.to_dict("records") == [{"x": 2, "square": 4}, {"x": 3, "square": 9}]
    (file,) = (f for f in store.glob("*.json") if json.loads(f.read_text())["records"] == [{"square": 9}])
    file.write_text('{"records": [{"square": 10}], "models": {}}')
    assert run_cases(square, [{"x": 3}])["square"].tolist() == [10]


def test_a_dropped_case_runs_again_and_no_other(store):
    run_cases(square, [{"x": 2}, {"x": 3}])
    drop_cases(square, [{"x": 3}, {"x": 4}])
    run_cases(square, [{"x": 2}, {"x": 3}])
    assert CALLS == [2, 3, 3]


def trains(x):
    cases.ASKED_FOR[f"model {x}"] = 10.0 * x
    return [{"x": x}]


def test_the_models_that_a_case_needed_are_known_when_it_is_read(monkeypatch):
    monkeypatch.setattr(cases, "ASKED_FOR", {})
    run_cases(trains, [{"x": 2}, {"x": 3}])
    cases.ASKED_FOR.clear()
    run_cases(trains, [{"x": 2}, {"x": 3}])
    assert cases.ASKED_FOR == {"model 2": 20.0, "model 3": 30.0}


@pytest.mark.parametrize("other", [{"x": 2.5}, {"x": 2, "y": None}, {"x": 2, "y": [1]}, {"x": 2, "y": {"z": 1}}], ids=str)
def test_other_arguments_are_another_case(other):
    run_cases(square, [{"x": 2}, other, {"x": 2}, other])
    assert CALLS == [2, other["x"]]


def test_the_order_in_which_arguments_are_given_does_not_matter():
    run_cases(square, [{"x": 2, "y": 1}, {"y": 1, "x": 2}])
    assert CALLS == [2]


@pytest.mark.parametrize(
    "text",
    [
        "def case(x): return [{'value': x + ONE}]",
        "def helper(x): return x + ONE\ndef case(x): return [{'value': helper(x)}]",
        "def far(x): return x + ONE\ndef near(x): return far(x)\ndef case(x): return [{'value': near(x)}]",
        "def helper(x): return x + ONE\ndef case(x): return [{'value': v} for v in map(helper, [x])]",
        "def helper(x): return x + ONE\ndef case(x): return [{'value': helper(x)} for _ in range(1)]",
        "N = ONE\ndef case(x, n=N): return [{'value': x + n}]",
    ],
    ids=[
        "itself",
        "a function it calls",
        "a function that one calls",
        "a function it hands on",
        "a function called in a comprehension",
        "a default argument",
    ],
)
def test_a_change_of_the_source_runs_a_case_anew(notebook, text):
    values = [run_cases(notebook(text.replace("ONE", step))["case"], [{"x": 1}])["value"].item() for step in ("1", "2", "1")]
    assert values == [2, 3, 2]


def test_a_change_of_the_package_runs_a_case_anew(tmp_path, monkeypatch):
    kernel = tmp_path / "kernel.py"
    monkeypatch.setattr(cases, "SOURCES", [kernel])
    for text in ("1", "2", "1"):
        kernel.write_text(text)
        run_cases(square, [{"x": 2}])
    assert CALLS == [2, 2]


def test_what_only_shows_results_is_no_part_of_a_case():
    names = {path.name for path in cases.SOURCES}
    assert {"noise.py", "impair.py", "repair.py", "study.py", "data.py", "store.py", "metrics.py"} <= names
    assert not names & {"plots.py", "results.py", "run.py", "progress.py"}


def test_an_interruption_keeps_the_finished_cases(store):
    some = [{"x": x} for x in (1, 2, 3, 4)]
    with pytest.raises(KeyboardInterrupt):
        run_cases(interrupted, some)
    assert CALLS == [1, 2] and len(list(store.iterdir())) == 2
    CALLS.append("again")
    assert run_cases(interrupted, some)["square"].tolist() == [1, 4, 9, 16]
    assert CALLS == [1, 2, "again", 3, 4]


@pytest.mark.parametrize("half", ["", "["])
def test_a_half_written_file_is_no_result(store, monkeypatch, half):
    """An interruption between writing and renaming."""
    write = cases.Path.write_text
    monkeypatch.setattr(cases.Path, "write_text", lambda path, _: write(path, half) and None or 1 / 0)
    with pytest.raises(ZeroDivisionError):
        run_cases(square, [{"x": 2}])
    monkeypatch.undo()
    monkeypatch.setenv("UNSIR_RESULTS", str(store.parent.parent))
    assert run_cases(square, [{"x": 2}])["square"].tolist() == [4]


@pytest.mark.parametrize(
    "text, reader",
    [
        ("def case(x): return [{'value': x * factor}]", "case"),
        ("def helper(x): return x * factor\ndef case(x): return [{'value': helper(x)}]", "helper"),
        ("def case(x): return [{'value': x * factor} for _ in range(1)]", "case"),
        ("def case(x): return [{'value': (lambda: x * factor)()}]", "case"),
    ],
    ids=["itself", "a function it calls", "a comprehension", "a lambda"],
)
def test_a_function_that_reads_a_notebooks_variable_is_refused(notebook, text, reader):
    case = notebook(f"factor = 2\n{text}")["case"]
    with pytest.raises(ValueError, match=f"{reader} reads factor, which the notebook defines: pass it as an argument"):
        run_cases(case, [{"x": 1}])


def test_a_closure_is_refused(notebook):
    case = notebook("def make(n):\n    def case(x): return [{'value': x + n}]\n    return case\ncase = make(1)")["case"]
    with pytest.raises(ValueError, match="case closes over variables"):
        run_cases(case, [{"x": 1}])


def test_modules_and_functions_of_a_notebook_may_be_read(notebook):
    case = notebook("import math\nfrom math import floor\ndef case(x): return [{'value': floor(math.sqrt(x))}]")["case"]
    assert run_cases(case, [{"x": 9.5}])["value"].tolist() == [3]


def test_rows_come_in_the_order_of_the_cases():
    run_cases(two_records, [{"x": 3}])
    rows = run_cases(two_records, ({"x": x} for x in (1, 3, 2)))
    assert rows.values.tolist() == [[1, "a", 1], [1, "b", -1], [3, "a", 3], [3, "b", -3], [2, "a", 2], [2, "b", -2]]
    assert list(rows.columns) == ["x", "part", "value"] and list(rows.index) == list(range(6))


def test_lists_and_dicts_become_no_columns():
    rows = run_cases(square, [{"x": 2, "forget": [1], "recipe": {"lr": 1}, "model": "tiny", "seed": 0}])
    assert list(rows.columns) == ["x", "model", "seed", "square"]


def test_no_cases_are_no_rows():
    assert run_cases(square, []).empty
