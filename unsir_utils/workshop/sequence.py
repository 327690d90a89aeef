"""Forget requests that come one after another, each unlearned from the network that the one before left behind."""

from __future__ import annotations

import math

import pandas as pd
from torch import Tensor, nn

from .. import metrics
from ..engine.samples import Samples
from ..unsir import two_passes, unsir
from . import study


def chain(
    data: dict,
    recipe: dict,
    requests: list[list[int]],
    retain_per_class: int,
    seed: int,
    with_noise: bool,
    options: dict,
    setting: dict | None = None,
) -> list[dict]:
    """A case: one record a request, each unlearned from the network before it.

    requests: the forget classes of each; a single request of all classes is all of them at once.
    with_noise: UNSIR, else its two passes without noise; options: of the one or the other; setting: stands in every record.
    A record holds step (from 1), asked (how many classes so far) and what `accuracies` finds. Each step draws a retain
    subset of its own, without any class asked for so far. Nothing can be unlearned from a network that has diverged: from
    there on all accuracies are nan.
    """
    s = study.scenario(data, recipe, [c for request in requests for c in request])
    model, gone = s.original, list[int]()
    records: list[dict] = []
    for step, request in enumerate(requests, start=1):
        gone = gone + request
        if not records or not math.isnan(records[-1]["A_Df"]):
            subset = s.loaded.train.without(gone).draw(retain_per_class, seed=seed + 100 * step)
            if with_noise:
                model = unsir(model, request, subset, forgotten=gone, seed=seed, **options).model
            else:
                model = two_passes(model, subset, None, seed=seed, **options).model
        found = accuracies(model, s.loaded.test, gone)
        records.append({**(setting or {}), "step": step, "asked": len(gone), **found})
    return records


def accuracies(model: nn.Module, test: Samples, gone: list[int]) -> dict[str, float]:
    """A_Dr and A_Df, the accuracy on all classes but `gone` and on these, and that of "class 0" and so on, in %.

    All nan for a diverged network, and nan for a class that has no sample.
    """
    predicted = metrics.predictions(model, test)
    by_class = {f"class {c}": study.accuracies(predicted, test, [c])["A_Df"] for c in range(test.n_classes)}
    found = study.accuracies(predicted, test, gone)
    return {"A_Dr": found["A_Dr"], "A_Df": found["A_Df"], **by_class}


def course(records: pd.DataFrame, classes: list[int], before: Tensor) -> pd.DataFrame:
    """How the mean accuracy of some classes goes from request to request: mean, min and max over the replicates, in %.

    records: of `chain`, of one method, with a column `order`: "one after another" or "all at once".
    before: the originals' accuracies by class, [networks, K].
    The index is a place on an axis: 0 the originals, 1 to n after each request and, behind a row of nan that breaks the
    line, n + 1 all of them at once.
    """
    of = records.assign(of=records[[f"class {c}" for c in classes]].astype(float).mean(axis=1, skipna=False))
    found = of.groupby(["order", "step"]).of.agg(["mean", "min", "max"])
    chained, at_once = found.loc["one after another"], found.loc["all at once"]
    n = len(chained)
    start = pd.Series(before[:, classes].double().mean(1)).agg(["mean", "min", "max"]).to_frame(0).T
    gap = pd.DataFrame(math.nan, index=[n + 0.5], columns=found.columns)
    return pd.concat([start, chained, gap, at_once.set_axis([n + 1.0])])
