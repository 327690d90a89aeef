import inspect
import json
import math
import os
import subprocess
import sys
import threading
import time
from functools import partial
from itertools import count
from pathlib import Path
from types import FunctionType, ModuleType, SimpleNamespace

import pytest
import torch

from unsir_utils import metrics
from unsir_utils.data.paths import results_root
from unsir_utils.engine import samples, training
from unsir_utils.methods import baselines
from unsir_utils.workshop import cases, identity, models, provenance, study
from unsir_utils.workshop.cases import drop_cases, run_cases
from unsir_utils.workshop.provenance import ASKED_FOR, tell


def noted(x):
    noted.calls.append(x)


CALLS = noted.calls = []


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
    noted(x)
    return [{"square": x * x}]


def two_records(x):
    return [{"part": "a", "value": x}, {"part": "b", "value": -x}]


def interrupted(x):
    if x == 3 and len(noted.calls) == 2:
        raise KeyboardInterrupt
    return square(x)


def test_a_case_runs_once_and_is_then_read(store):
    first, second = (run_cases(square, [{"x": 2}, {"x": 3}]) for _ in range(2))
    assert CALLS == [2, 3]
    assert first.equals(second) and first.to_dict("records") == [{"x": 2, "square": 4}, {"x": 3, "square": 9}]
    (file,) = (f for f in store.glob("*.json") if json.loads(f.read_text())["records"] == [{"square": 9}])
    file.write_text(file.read_text().replace('{"square": 9}', '{"square": 10}'))
    assert run_cases(square, [{"x": 3}])["square"].tolist() == [10]


def test_a_dropped_case_runs_again_and_no_other(store):
    run_cases(square, [{"x": 2}, {"x": 3}])
    drop_cases(square, [{"x": 3}, {"x": 4}])
    run_cases(square, [{"x": 2}, {"x": 3}])
    assert CALLS == [2, 3, 3]


def trains(x):
    tell("networks", f"model {x}", {"sha256": f"sum {x}", "seconds": 10.0 * x})
    return square(x)


def test_the_models_that_a_case_needed_are_known_when_it_is_read(monkeypatch):
    monkeypatch.setattr(cases, "checksum", lambda name: name.replace("model", "sum"))
    run_cases(trains, [{"x": 2}, {"x": 3}])
    ASKED_FOR.clear()
    run_cases(trains, [{"x": 2}, {"x": 3}])
    assert CALLS == [2, 3] and ASKED_FOR == {"model 2": 20.0, "model 3": 30.0}
    ASKED_FOR.clear()


@pytest.mark.parametrize("now", ["another", None], ids=["trained anew", "gone"])
def test_another_network_under_the_same_name_runs_a_case_anew(monkeypatch, now):
    sums = {"model 2": "sum 2", "model 3": "sum 3"}
    monkeypatch.setattr(cases, "checksum", sums.get)
    run_cases(trains, [{"x": 2}, {"x": 3}])
    sums["model 3"] = now
    run_cases(trains, [{"x": 2}, {"x": 3}])
    assert CALLS == [2, 3, 3]
    ASKED_FOR.clear()


def images(name):
    noted(name)
    return [{"images": len(study.load_once(name, image_size=8).train)}]


def test_a_folder_that_grew_runs_its_cases_anew(tmp_path, monkeypatch):
    from PIL import Image

    def fill(part, n):
        for label in ("cat", "dog"):
            folder = tmp_path / part / label
            folder.mkdir(parents=True, exist_ok=True)
            for i in range(n):
                Image.new("RGB", (8, 8), (i, 9 * (label == "cat"), 0)).save(folder / f"{i}.png")

    monkeypatch.setenv("UNSIR_DEVICE", "cpu")
    fill("small", 10), fill("other", 10)
    some = [{"name": f"folder:{tmp_path / part}"} for part in ("small", "other")]
    before, again = (run_cases(images, some)["images"].tolist() for _ in range(2))
    assert before == again and len(CALLS) == 2
    fill("small", 20)
    grown = run_cases(images, some)["images"].tolist()
    assert grown[0] > before[0] and grown[1] == before[1] and len(CALLS) == 3


def test_a_case_looks_through_a_folder_once(tmp_path, monkeypatch):
    looked, files = [], provenance._files
    monkeypatch.setattr(provenance, "_files", lambda folder: looked.append(folder) or files(folder))
    with provenance.listening():
        first = [provenance.state(f"folder:{tmp_path}") for _ in range(3)]
        monkeypatch.setenv("UNSIR_PRECISION", "float32")
        exact = provenance.state(f"folder:{tmp_path}")
    assert len(set(first)) == 1 and len(looked) == 1
    assert exact != first[0], "the precision may change within a case"
    (tmp_path / "new.png").touch()
    assert provenance.state(f"folder:{tmp_path}") != exact and len(looked) == 2


def test_the_device_and_the_precision_name_a_case_and_the_threads_do_not(monkeypatch):
    def names():
        return cases._place("code", {"x": 1}).name

    plain = names()
    threads = torch.get_num_threads()
    torch.set_num_threads(threads + 1)
    assert names() == plain
    torch.set_num_threads(threads)
    monkeypatch.setenv("UNSIR_PRECISION", "float32")
    exact = names()
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda *_: "a GPU")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda *_: (8, 0))
    gpu = names()
    monkeypatch.setenv("UNSIR_DEVICE", "cpu")
    assert len({plain, exact, gpu}) == 3 and names() == exact
    monkeypatch.setattr(torch, "__version__", "99")
    assert names() != exact


def test_nan_and_none_survive():
    rows = [run_cases(undefined, [{"x": 1}]) for _ in range(2)]
    for row in rows:
        assert math.isnan(row.A_Df[0]) and row.relearn[0] is None


def undefined(x):
    return [{"A_Df": math.nan, "relearn": None}]


def slow(x):
    time.sleep(0.2)
    return square(x)


def test_two_that_want_the_same_case_compute_it_once():
    rows = []
    callers = [threading.Thread(target=lambda: rows.append(run_cases(slow, [{"x": 3}])["square"].item())) for _ in range(3)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    assert rows == [9, 9, 9] and CALLS == [3]


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
        "def helper(k1=0, k2=0): return k1 + 2 * k2\ndef case(x): return [{'value': x + helper(kONE=1)}]",
    ],
    ids=[
        "itself",
        "a function it calls",
        "a function that one calls",
        "a function it hands on",
        "a function called in a comprehension",
        "a default argument",
        "the name of an argument",
    ],
)
def test_a_change_of_the_source_runs_a_case_anew(notebook, text):
    values = [run_cases(notebook(text.replace("ONE", step))["case"], [{"x": 1}])["value"].item() for step in ("1", "2", "1")]
    assert values == [2, 3, 2]


def rewritten(function, old, new):
    """The function as if its module's file had said `new` when it was imported."""
    text = Path(inspect.getfile(inspect.unwrap(function))).read_text()
    assert old in text
    module = inspect.unwrap(function).__globals__
    names = {key: module[key] for key in ("__name__", "__package__", "__file__")}
    exec(compile(text.replace(old, new), "<elsewhere>", "exec"), names)
    found = names
    for part in function.__qualname__.split("."):
        found = found[part] if found is names else vars(found)[part]
    found = inspect.unwrap(found)
    bound = FunctionType(found.__code__, module, found.__name__, found.__defaults__, found.__closure__)
    bound.__kwdefaults__, bound.__qualname__ = found.__kwdefaults__, found.__qualname__
    return bound


@pytest.mark.parametrize(
    "place, name, old, new",
    [
        (study, "accuracies", "100 * hit[~gone]", "99 * hit[~gone]"),
        (metrics, "normalised_entropy", "min(1.0", "min(2.0"),
        (baselines, "_posterior", "MOST_OF_HEAD if head", "MOST if head"),
        (samples.Samples, "endless", "shuffled", "batches"),
        (training, "flush_tiny_weights", "TINY, 0", "TINY, 1"),
        (samples.Samples, "inputs", "div_(255)", "div_(256)"),
        (models, "_block", "inplace=True", "inplace=False"),
    ],
    ids=lambda v: v if isinstance(v, str) and v.isidentifier() else "",
)
def test_what_a_case_reaches_is_part_of_its_name(monkeypatch, place, name, old, new):
    before, function = identity.identity(study.trial), vars(place)[name]
    monkeypatch.setattr(place, name, rewritten(function, old, new))
    reached = name not in ("normalised_entropy", "flush_tiny_weights")  # of `measure`, and of the store, which has checksums
    assert (identity.identity(study.trial) != before) == reached
    monkeypatch.setattr(place, name, rewritten(function, old, old))
    assert identity.identity(study.trial) == before  # line and file are no part


def test_a_name_is_of_the_code_as_imported(tmp_path, monkeypatch):
    """An edit of a file that this process has imported already does not reach the code that it runs."""
    monkeypatch.syspath_prepend(tmp_path)
    file = tmp_path / "edited_meanwhile.py"
    file.write_text("def case(x): return [{'value': x + 1}]")
    import edited_meanwhile

    assert run_cases(edited_meanwhile.case, [{"x": 1}])["value"].item() == 2
    file.write_text("def case(x): return [{'value': x + 2 }]")
    assert run_cases(edited_meanwhile.case, [{"x": 1}])["value"].item() == 2
    assert len(list((results_root() / "checkpoints" / "cases").glob("*.json"))) == 1
    monkeypatch.delitem(sys.modules, "edited_meanwhile")


@pytest.mark.parametrize(
    "text",
    [
        "# a comment\ndef case(x):\n\n    # another\n    return [{'value': x + 1}]",
        "def case(x):\n    'What it is.'\n    return [{'value': x + 1}]",
        "def case(x: int) -> list: return [{'value': (x + 1)}]",
    ],
    ids=["comments", "a docstring", "types"],
)
def test_what_is_no_code_is_no_part_of_a_case(notebook, text):
    plain = notebook("def case(x): return [{'value': x + 1}]")["case"]
    assert identity.identity(notebook(text)["case"]) == identity.identity(plain)


def test_data_sets_and_what_only_shows_are_no_part_of_a_case():
    known = identity._Reached()
    known.function(study.outcomes)
    modules = {part.split(" ")[0].rpartition(".")[0] for part in known.parts if part.startswith("unsir_utils.")}
    assert {
        "unsir_utils.noise",
        "unsir_utils.metrics",
        "unsir_utils.workshop.study",
        "unsir_utils.engine.forward",
    } <= modules
    assert not [
        m
        for m in modules
        if m.startswith(
            ("unsir_utils.data.faces", "unsir_utils.data.shapes", "unsir_utils.report", "unsir_utils.workshop.run")
        )
    ]


def test_another_process_finds_the_same_name():
    text = "from unsir_utils.workshop import identity, study; print(identity.identity(study.outcomes))"
    environment = {**os.environ, "PYTHONHASHSEED": "7", "PYTHONPATH": os.pathsep.join(sys.path)}
    there = subprocess.run([sys.executable, "-c", text], capture_output=True, text=True, env=environment, check=True)
    assert there.stdout.strip() == identity.identity(study.outcomes)


def test_an_interruption_keeps_the_finished_cases(store):
    some = [{"x": x} for x in (1, 2, 3, 4)]
    with pytest.raises(KeyboardInterrupt):
        run_cases(interrupted, some)
    assert CALLS == [1, 2] and len(list(store.glob("*.json"))) == 2
    CALLS.append("again")
    assert run_cases(interrupted, some)["square"].tolist() == [1, 4, 9, 16]
    assert CALLS == [1, 2, "again", 3, 4]


@pytest.mark.parametrize("half", ["", "["])
def test_a_half_written_file_is_no_result(store, monkeypatch, half):
    """An interruption between writing and renaming; and a kept file that something else cut off."""
    with monkeypatch.context() as patch:
        write = Path.write_text
        patch.setattr(Path, "write_text", lambda path, _: write(path, half) and None or 1 / 0)
        with pytest.raises(ZeroDivisionError):
            run_cases(square, [{"x": 2}])
    assert not list(store.glob("*.tmp"))
    for _ in range(2):
        assert run_cases(square, [{"x": 2}])["square"].tolist() == [4]
        next(store.glob("*.json")).write_text(half)


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


@pytest.mark.parametrize(
    "text, message",
    [
        ("def make(n):\n def case(x): return [{'value': x + n}]\n return case\ncase = make(1)", "closes over variables"),
        ("from functools import partial\ndef f(a, x): return a * x\ng = partial(f, 2)\ndef case(x): return g(x)", "reads g"),
        ("class C:\n def f(self, x): return x\ng = C().f\ndef case(x): return g(x)", "reads g"),
        ("class C:\n def __call__(self, x): return x\ng = C()\ndef case(x): return g(x)", "reads g"),
        ("g = {'f': lambda x: x}\ndef case(x): return g['f'](x)", "reads g"),
        ("import helper\ndef case(x): return helper.FACTOR * x", "reads helper.FACTOR"),
        ("import helper\ndef case(x): return vars(helper)['FACTOR'] * x", "calls vars"),
        ("import helper\ndef case(x): return getattr(helper, 'FACTOR') * x", "is a module"),
        ("def case(x):\n import helper\n return helper.FACTOR * x", "imports helper inside itself"),
        ("def case(x):\n from helper import FACTOR\n return FACTOR * x", "reads helper.FACTOR"),
        ("import torch\nw = torch.ones(2)\ndef case(x): return x * w", "reads w"),
        ("push = [].append\ndef case(x): return push(x)", "reads push"),
        ("factor = 2\nclass C:\n def f(self, x): return factor * x\ndef case(x): return C().f(x)", "f reads factor"),
        ("factor = 2\ndef case(x): return eval('factor * x')", "calls eval"),
        ("def make(n):\n return lambda f: lambda x: n * f(x)\n@make(2)\ndef case(x): return x", "closes over variables"),
        ("from unsir_utils.data.sets import load\ndef case(x): return load('shapes')", "use study.load_once"),
    ],
)
def test_what_could_hide_a_variable_is_refused(notebook, monkeypatch, text, message):
    helper = ModuleType("helper")
    helper.FACTOR, helper.__file__ = 2, "helper.py"
    monkeypatch.setitem(sys.modules, "helper", helper)
    identity._is_installed.cache_clear()
    with pytest.raises(ValueError, match=message):
        run_cases(notebook(text)["case"], [{"x": 1}])


NO_FUNCTIONS = {"partial": partial(square, 2), "bound": SimpleNamespace(x=1).__eq__, "call": square.__call__, "class": type}


@pytest.mark.parametrize("case", NO_FUNCTIONS.values(), ids=NO_FUNCTIONS)
def test_a_case_is_a_function(case):
    with pytest.raises(ValueError, match="a case must be a function"):
        run_cases(case, [{"x": 1}])


@pytest.mark.parametrize(
    "text, value",
    [
        ("import math\nfrom math import floor\ndef case(x): return [{'value': floor(math.sqrt(x))}]", 3),
        ("from numpy import sqrt, mean\ndef case(x): return [{'value': float(mean(sqrt([x])))}]", 9.5**0.5),
        ("import torch\n@torch.no_grad()\ndef case(x): return [{'value': torch.tensor(x).floor().item()}]", 9),
        ("class C:\n half = 2\n def f(self, x): return x / self.half\ndef case(x): return [{'value': C().f(x)}]", 4.75),
        ("from functools import lru_cache\n@lru_cache\ndef f(x): return x\ndef case(x): return [{'value': f(x)}]", 9.5),
        ("from unsir_utils import metrics\ndef case(x): return [{'value': metrics.EVALUATION_BATCH}]", 1000),
    ],
    ids=["a library", "numpy", "a decorator", "a class", "a cache", "the package"],
)
def test_what_has_a_known_source_may_be_read(notebook, text, value):
    assert run_cases(notebook(text)["case"], [{"x": 9.5}])["value"].tolist() == [value]


def test_a_change_of_a_notebooks_class_runs_a_case_anew(notebook):
    text = "class C:\n half = 2\n def f(self, x): return x + self.half\ndef case(x): return [{'value': C().f(x)}]"
    changed = [text, text.replace("half = 2", "half = 3"), text.replace("x +", "x *")]
    assert [run_cases(notebook(t)["case"], [{"x": 5}])["value"].item() for t in changed] == [7, 8, 10]


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


def test_another_machine_version_or_precision_is_another_case():
    here = provenance.machine()
    changes = {
        "instructions": lambda p: p.setenv("ONEDNN_MAX_CPU_ISA", "SSE41"),
        "precision": lambda p: p.setenv("UNSIR_PRECISION", "float32"),
        "torch": lambda p: p.setattr(torch, "__version__", "0.1"),
        "torchvision": lambda p: p.setattr(provenance.torchvision, "__version__", "0.1"),
    }
    for what, change in changes.items():
        with pytest.MonkeyPatch.context() as patch:
            change(patch)
            assert provenance.machine() != here, what
    assert provenance.machine() == here


def test_a_librarys_version_stands_in_the_name_of_what_is_taken_from_it(monkeypatch):
    before = identity._library_name(pytest.raises)
    monkeypatch.setattr(pytest, "__version__", "0.1")
    monkeypatch.setattr(sys.modules["_pytest"], "__version__", "0.1")
    assert identity._library_name(pytest.raises) != before
