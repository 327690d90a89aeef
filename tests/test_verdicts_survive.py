"""Another precision or number of threads changes numbers, and turns no verdict round."""

import itertools

import pandas as pd
import pytest
import torch
from tiny import convnet

from unsir_utils.engine import precision
from unsir_utils.report import claims
from unsir_utils.report.judge import FAILS, HOLDS, NOT_THE_NOISE, judge
from unsir_utils.workshop import models, provenance, store, study

DATA = {"name": "shapes", "n_classes": 3, "per_class": 60}
RECIPE = {"architecture": "tiny", "epochs": 6, "lr": 0.1, "batch_size": 16}
FORGET = 0
RATES = {"paper's rates": {"impair_lr": 0.02, "repair_lr": 0.01}, "chosen rates": {"impair_lr": 0.0001, "repair_lr": 0.0001}}
SEEDS = range(3)
SETTINGS = {"one thread": (True, 1), "two threads": (True, 2), "float32": (False, 1)}


def methods() -> dict[str, list]:
    found = {"Original": ["Original", {}], "Masked logits": ["Masked logits", {}]}
    for rate, pair in RATES.items():
        found[f"UNSIR ({rate})"] = ["UNSIR", {**pair, "noise_per_class": 4, "noise_steps": 5, "copies": 4, "batch_size": 16}]
        found[f"No noise ({rate})"] = ["No noise", {**pair, "batch_size": 16}]
    return found


def measured() -> pd.DataFrame:
    """The network is trained anew, too."""
    for part in vars(study).values():
        if hasattr(part, "cache_clear"):
            part.cache_clear()
    request = dict(data=DATA, recipe=RECIPE, forget=[FORGET], retain_per_class=16)
    rows = [{"seed": seed, **r} for seed in SEEDS for r in study.outcomes(methods(), seed=seed, **request)]
    return pd.DataFrame(rows).assign(network="AllCNN", n_forget=1)


def of_the_class() -> int:
    """How many test images the class to forget has."""
    return int((provenance.load_once(**DATA).test.labels == FORGET).sum())


@pytest.fixture(scope="module")
def verdicts(tmp_path_factory) -> dict[str, dict[str, str]]:
    found = {}
    for name, (bfloat16, threads) in SETTINGS.items():
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(precision, "cpu_has_bfloat16", lambda bfloat16=bfloat16: bfloat16)
            patch.setitem(models.ARCHITECTURES, "tiny", convnet)
            patch.setattr(store, "FOLDER", tmp_path_factory.mktemp("networks"))
            patch.setenv("UNSIR_RESULTS", str(tmp_path_factory.mktemp("results")))  # the noise is learned anew, too
            torch.set_num_threads(threads)
            try:
                lines = judge(claims.tables(measured(), cap=0, images=of_the_class(), classes=DATA["n_classes"]))
            finally:
                torch.set_num_threads(1)
        found[name] = {f"{line['claim']}: {line['tested']}": line["verdict"] for line in lines}
    return found


@pytest.mark.parametrize("one, other", list(itertools.combinations(SETTINGS, 2)))
def test_no_verdict_turns_round(verdicts, one, other):
    for test, verdict in verdicts[one].items():
        pair = {v.replace(NOT_THE_NOISE, HOLDS) for v in (verdict, verdicts[other][test])}
        assert pair != {HOLDS, FAILS}, f"{test}: {one} {verdict}, {other} {verdicts[other][test]}"


def test_there_are_verdicts_that_could_turn_round(verdicts):
    for found in verdicts.values():
        assert {FAILS, HOLDS} <= {v.replace(NOT_THE_NOISE, HOLDS) for v in found.values()}
