"""The authors' released notebook as it runs, and with its departures from the method as described turned off one by one."""

from __future__ import annotations

from collections.abc import Collection
from functools import lru_cache
from typing import Any

import torch
from torch import nn

from ..engine import checks, precision_setting
from ..engine.precision import computed_in
from ..metrics import evaluate, predictions
from ..noise import Noise
from ..settings import RELEASED
from ..unsir import Unlearned, noise_by_class, released, two_passes
from .provenance import machine
from .study import Scenario, scenario

AS_RELEASED, NO_NOISE = "as released", "No noise"


def switches(learned: int) -> dict[str, dict[str, Any]]:
    """By name, what a run changes of the code as released: arguments of `unlearned`. learned: noise images a class."""
    return {
        AS_RELEASED: {},
        "all noise images": {"used": learned},
        "own labels": {"label": None},
        "eval-mode BatchNorm": {"batchnorm": "eval"},
        "all together": {"used": learned, "label": None, "batchnorm": "eval"},
        "random draw": {"drawn": True},
        NO_NOISE: {"noise": False},
    }


def unlearned(
    model: nn.Module,
    s: Scenario,
    *,
    per_class: int,
    used: int,
    learned: int,
    label: int | None = RELEASED.label,
    batchnorm: str = RELEASED.batchnorm,
    drawn: bool = False,
    noise: bool = True,
    **passes: Any,
) -> Unlearned:
    """The model after the released code. passes: of `two_passes`; the others of `unsir.released`, but for two:

    drawn: retain images at random, not the first of each class. noise: False trains on these first ones alone.
    """
    if not noise:
        return two_passes(model, s.retain.first(per_class), None, seed=s.seed, **passes)
    retain = s.retain.draw(per_class, seed=s.seed) if drawn else s.retain
    parts, left = _learned(model, s, learned, batchnorm, machine())
    return released(left, s.forget, retain, noise=parts, per_class=per_class, used=used, label=label, seed=s.seed, **passes)


@lru_cache(maxsize=4)
def _learned(model: nn.Module, s: Scenario, learned: int, batchnorm: str, machine: str) -> tuple[list[Noise], nn.Module]:
    """Learned once for all the switches and rates that share it."""
    return noise_by_class(model, s.forget, s.loaded.train.shape, learned=learned, batchnorm=batchnorm, seed=s.seed)


def both_ways(model: nn.Module, s: Scenario, batch_size: int) -> dict[str, float]:
    """A_Dr and A_Df in % on the test set: over all samples and, as "... by batches", as the mean of the batches' own.

    The second is what the released notebook reports: a short last batch counts as much as a full one. Each is nan where the
    network's outputs on one of its samples are no numbers.
    """
    test = s.loaded.test
    found: dict[str, float] = {}
    answers = predictions(model, test)
    right = (answers == test.labels).double().where(answers >= 0, torch.nan)
    gone = torch.isin(test.labels, torch.tensor(s.forget, device=test.device))
    for metric, part in {"A_Dr": right[~gone], "A_Df": right[gone]}.items():
        batches = torch.stack([batch.mean() for batch in part.split(batch_size)])
        found |= {metric: 100 * part.mean().item(), f"{metric} by batches": 100 * batches.mean().item()}
    return found


def rates_text(rates: dict[str, float]) -> str:
    """A pair as the tables name it: "0.02, 0.01", impair before repair."""
    return f"{rates['impair_lr']:g}, {rates['repair_lr']:g}"


def run_switch(
    switch: str,
    turned: dict,
    rates: dict[str, float],
    sizes: dict[str, int],
    reported: int,
    precision: str | None = None,
    **request: Any,
) -> list[dict]:
    """A case: `both_ways` after each pass. switch: the name of what is `turned` (see `switches`).

    rates: impair_lr and repair_lr; sizes: the other arguments of `unlearned`; reported: the batch of `both_ways`; precision:
    another UNSIR_PRECISION, for all but the training of the network; request: arguments of `scenario`.
    """
    s = scenario(**request)
    model = s.original  # by its name in the other precision it would be another training
    about = {**rates, "forget": str([*s.forget])}
    with computed_in(precision or precision_setting()):
        found = unlearned(model, s, **{**sizes, **rates, **turned})
        stages = {"after impair": found.impaired.model, "after repair": found.model}
        return [
            {**about, "stage": stage, **both_ways(model, s, reported), "rates": rates_text(rates)}
            for stage, model in stages.items()
        ]


def switch_cases(
    requests: list[list[int]],
    rates: list[dict[str, float]],
    seeds: list[int],
    sizes: dict[str, int],
    only: Collection[str] = (),
    **common: Any,
) -> list[dict]:
    """Cases of `run_switch`: each request, pair of rates and seed with every switch of `switches`, or with `only` these.

    Where class 0 alone is forgotten, label 0 is right: own labels would change nothing and are left out. sizes, common: the
    other arguments of a case. Raises ValueError for an unknown switch.
    """
    known = switches(sizes["learned"])
    checks.known("switch", only, known)
    return [
        dict(switch=name, turned=turned, rates=pair, sizes=sizes, forget=forget, seed=seed, **common)
        for forget in requests
        for seed in seeds
        for pair in rates
        for name, turned in known.items()
        if name in (only or known) and not (name == "own labels" and forget == [RELEASED.label])
    ]


def after_noise(learned: int, batchnorm: str, **request: Any) -> list[dict]:
    """A case: the test accuracy over all classes, in %, of the copy that the noise was learned on, class after class.

    "weights unchanged": whether every weight is as it was; the statistics of BatchNorm may have moved.
    """
    s = scenario(**request)
    _, model = _learned(s.original, s, learned, batchnorm, machine())
    pairs = zip(model.parameters(), s.original.parameters(), strict=True)
    same = all(torch.equal(ours, original) for ours, original in pairs)
    return [{"accuracy": evaluate(model, s.loaded.test)[1], "weights unchanged": same}]
