"""Every notebook judges whatever may come: on records that no training gives it neither falls over nor claims."""

import csv
import itertools
import math
import re
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from replay import CellError, Kept, code, measured_anew, replay, smoke
from tiny import claim_test

from unsir_utils.data.paths import REPOSITORY
from unsir_utils.engine import training
from unsir_utils.methods import passes
from unsir_utils.report.judge import FAILS, HOLDS, UNDECIDED, VERDICTS, judge
from unsir_utils.report.judge import Test as ClaimTest
from unsir_utils.report.tables import Results

NOTEBOOKS = {
    path.stem: path
    for path in sorted((REPOSITORY / "notebooks").glob("*.ipynb"))
    if path.stem != "17_benchmark"  # it times loops of its own, and judges nothing
    and any(name in cell.source for _, cell in code(path) for name in ("run_cases(", "sweep("))
}


def arguments(case: dict) -> set[str]:
    """Every name that a case gives a value to, however deep."""
    inner = [v for v in case.values() if isinstance(v, dict)]
    inner += [v for values in case.values() if isinstance(values, list) for v in values if isinstance(v, dict)]
    return set(case).union(*map(arguments, inner))


def label(record: dict, case: dict) -> str:
    if "with_noise" in case:
        return "UNSIR" if case["with_noise"] else "No noise"
    return str(record.get("method") or case.get("label") or case.get("method"))


def measures(record: dict, case: dict) -> list[str]:
    """What was measured: the floats and the relearn times that are no argument."""
    given = arguments(case)
    given |= {"cosine"} if label(record, case) == "Original" else set()  # its maps are always like themselves
    asked = {k for k in record if k in given or k.endswith("_lr")}
    return [k for k, v in record.items() if k not in asked and (isinstance(v, float | list) or k.startswith("relearn"))]


def filled(value: object, new: float | None) -> object:
    if isinstance(value, list):
        return [filled(v, new) for v in value]
    return value if isinstance(value, int) else new


def all_at(percent: float | None, share: float | None, relearn: float | None) -> Callable:
    def change(record: dict, case: dict) -> dict:
        found = {}
        for k in measures(record, case):
            of = relearn if k.startswith("relearn") else percent if "A_D" in k or "accuracy" in k else share
            found[k] = of if k.startswith("relearn") else filled(record[k], of)
        return record | found

    return change


def lost(name: str) -> Callable:
    undefined = all_at(math.nan, math.nan, None)
    return lambda record, case: undefined(record, case) if label(record, case).startswith(name) else record


def capped(record: dict, case: dict) -> dict:
    return record | {k: None for k in record if k.startswith("relearn")}


def without_maps(record: dict, case: dict) -> dict:
    if "empty after" not in record or label(record, case) == "Original":
        return record
    return record | {"cosine": None, "empty after": True, "map": filled(record["map"], 0.0)}


def spread(record: dict, case: dict) -> dict:
    """Another value for each seed."""
    shift = case.get("seed", 0) / 10
    return record | {
        k: record[k] - shift if record[k] >= 1 else record[k] + shift
        for k in measures(record, case)
        if isinstance(record[k], float)
    }


CHANGES = {
    "one seed": None,
    "all undefined": all_at(math.nan, math.nan, None),
    "all equal": all_at(50.0, 0.5, 1),
    "all zero": all_at(0.0, 0.0, 0),
    "all full": all_at(100.0, 1.0, 1),
    "all at the cap": capped,
    "three seeds": spread,
    "no noise lost": lost("No noise"),
    "UNSIR lost": lost("UNSIR"),
    "Retrain lost": lost("Retrain"),
    "Original lost": lost("Original"),
    "a single row": None,
    "empty maps": without_maps,
}
NOTHING_TO_DECIDE = ("one seed", "all undefined", "a single row", "empty maps")
WITHOUT_AN_ORIGINAL = ("all undefined", "all zero", "Original lost")  # may be refused, as one that has learned nothing
SEVERAL_NETWORKS = ("05_weight_distance", "10_gold_standard")  # which they need
SINGLE_ROW = {
    "01_cifar10": {
        "requests": {"AllCNN-0.25": [[0]]},
        "recipes": {"AllCNN-0.25": {"epochs": 3, "lr": 0.1, "batch_size": 16}},
        "finetune": {"AllCNN-0.25": {"epochs": 1, "lr": 0.01, "batch_size": 32}},  # by network, as smoke's is not
    },
    "02_cifar100": {"n_forget": {"AllCNN-0.125": [1], "ViT": [1]}},
    "03_faces": {"n_forget": {"AllCNN-0.125": [1], "ViT": [1]}},
    "06_efficiency": {"numbers": [1]},
    "08_gradcam": {"pictured": [0]},
    "11_retain_share": {"shares": [0.1]},
    "12_noise_penalty": {"penalties": [0.0, 0.1]},
    "14_released_code": {"requests": [[0]]},
    "16_does_the_noise_matter": {"requests": [[0]]},
    "18_what_is_left": {"impair_rates": [0.001]},
}


def parameters(name: str, mode: str) -> dict:
    given = smoke(NOTEBOOKS[name])
    if mode in ("three seeds", "all equal", "all zero", "all full"):
        given |= {k: [10 * v[0] + i for i in range(3)] for k, v in given.items() if k.endswith("seeds")}
        three = [[seed, seed] for seed in range(3)]
        given |= {k: of_each(v, lambda _: three) for k, v in given.items() if k == "replicates"}
    else:
        several = name in SEVERAL_NETWORKS
        fewer = [k for k in given if k.endswith("seeds") or k == "replicates" and not several]
        given |= {k: of_each(given[k], lambda own: own[:1]) for k in fewer}
    return given | (SINGLE_ROW.get(name, {}) if mode == "a single row" else {})


def of_each(value: list | dict, change: Callable[[list], list]) -> list | dict:
    """The list, or the list of each network, changed."""
    return {network: change(own) for network, own in value.items()} if isinstance(value, dict) else change(value)


@pytest.fixture(scope="session")
def kept(request, tmp_path_factory):
    """name -> the records of a notebook, measured once; they outlive the session, until what they depend on changes."""
    folder, known = request.config.cache.mkdir("replay"), {}

    def of(name: str) -> Kept:
        if name not in known:
            known[name] = Kept(folder)
            replay(NOTEBOOKS[name], smoke(NOTEBOOKS[name]), known[name], tmp_path_factory.mktemp("measured"))
        return known[name]

    return of


def findings(folder: Path) -> list[dict]:
    paths = itertools.chain(folder.glob("smoke/*/*_findings.csv"))
    return [line for path in paths for line in csv.DictReader(path.read_text(encoding="utf-8").splitlines())]


def written(folder: Path) -> str:
    return "\n".join(path.read_text() for path in sorted(folder.glob("smoke/*/*.md")))


def applies(name: str, mode: str) -> bool:
    """Whether the notebook holds what the mode changes."""
    source = "\n".join(cell.source for _, cell in code(NOTEBOOKS[name]))
    return {
        "all at the cap": "relearning" in source,
        "Retrain lost": '"Retrain"' in source or "with_controls(" in source,
        "Original lost": '"Original"' in source or "with_controls(" in source,
        "a single row": name in SINGLE_ROW,
        "empty maps": "gradcam" in source,
    }.get(mode, True)


PAIRS = [pair for pair in itertools.product(NOTEBOOKS, CHANGES) if applies(*pair)]


def assert_it_stands(shown: list[str], folder: Path, undecidable: Callable[[dict], bool]) -> None:
    """Nothing undefined is shown as a number, and where nothing can be decided nothing is."""
    for text in ("\n".join(shown), written(folder)):
        prose = re.sub("```.*?```", "", text, flags=re.DOTALL)
        broken = [line for line in prose.splitlines() if re.search(r"\b(nan|inf|None|NaN|NaT)\b", line)]
        assert not broken, f"undefined numbers are shown: {broken[:3]}"
    lines = findings(folder)
    assert {line["verdict"] for line in lines} <= set(VERDICTS)
    decided = [line for line in lines if undecidable(line) and line["verdict"].startswith((HOLDS, FAILS))]
    assert not decided, f"decided on nothing: {[(line['claim'], line['tested'], line['verdict']) for line in decided]}"


@pytest.mark.parametrize("name, mode", PAIRS)
def test_a_notebook_stands_whatever_was_measured(name, mode, kept, tmp_path):
    def undecidable(line: dict) -> bool:
        return line["replicates"] != "exact" and (
            mode in NOTHING_TO_DECIDE or (mode == "all at the cap" and line["claim"] == "3")
        )

    try:
        shown = replay(NOTEBOOKS[name], parameters(name, mode), kept(name), tmp_path, CHANGES[mode])
    except CellError as error:
        assert mode in WITHOUT_AN_ORIGINAL and "learned" in str(error), error
    else:
        assert_it_stands(shown, tmp_path, undecidable)
        told = [line for text in shown for line in text.splitlines() if line.startswith("- ")]
        assert mode != "three seeds" or not [line for line in told if "undefined" in line], "what was measured is undefined"


def diverges(model, batches, optimiser, **options) -> list[float]:
    with torch.no_grad():
        for weight in model.parameters():
            weight.fill_(math.nan)
    return [math.nan]


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_a_network_that_diverged_is_undefined(name, kept, tmp_path, monkeypatch):
    folder = kept(name).folder  # the originals are trained
    for module in (passes, sys.modules["unsir_utils.impair"], training):
        monkeypatch.setattr(module, "one_epoch", diverges)
    shown = replay(NOTEBOOKS[name], parameters(name, "one seed"), Kept(folder, measured_anew), tmp_path)
    assert_it_stands(shown, tmp_path, lambda line: line["replicates"] != "exact")


REPORT = REPOSITORY / "notebooks" / "99_report.ipynb"


@pytest.mark.parametrize("profile", ["quick", "laptop"])
def test_the_report_stands_on_what_is_published(profile, tmp_path):
    shown = replay(REPORT, {"gathered": profile}, Kept(tmp_path / "kept"), tmp_path)
    assert any(UNDECIDED in text for text in shown)
    assert_it_stands(shown, tmp_path, lambda line: False)


def test_the_report_stands_on_findings_that_say_nothing(tmp_path, monkeypatch):
    monkeypatch.setenv("UNSIR_RESULTS", str(tmp_path))
    nothing = [
        ClaimTest(1, "nothing measured", []),
        claim_test(2, "undefined", math.nan, math.nan, math.nan),
        claim_test("E", "one", 0.0),
    ]
    Results("01_cifar10", "smoke").findings(judge(nothing), "Nothing.")
    shown = replay(REPORT, {"gathered": "smoke"}, Kept(tmp_path / "kept"), tmp_path)
    assert_it_stands(shown, tmp_path, lambda line: True)
    assert any("undefined (1)" in text for text in shown)
