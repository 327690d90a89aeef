"""Races: sides that do comparable work take turns in one process; the ratios of their seconds, and whether all forget alike.

Contests are cases for `Kept`: what is finished is kept until the benchmark is through.
"""

from __future__ import annotations

import copy
import resource
import sys
from collections.abc import Callable, Iterable, Mapping

import numpy as np
import pandas as pd
from torch import Tensor, nn
from torch.optim import Adam

from .. import metrics
from ..engine import training
from ..engine.samples import Samples
from ..methods.fisher import fisher_information
from ..unsir import fast as fast_unsir
from ..unsir import unsir
from . import models, plain
from .cases import drop_cases, run_cases
from .study import Scenario, scenario
from .timing import clock, trained_apart

PLAIN = "plain implementation"
METRICS = ["A_Dr", "A_Df"]
Job = Callable[[int], object]  # takes a seed


def peak_memory() -> float:
    """The most main memory that this process ever held, in GB."""
    unit = 1 if sys.platform == "darwin" else 1024
    return unit * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e9


def race(
    what: str,
    sides: Mapping[str, Job],
    rounds: list[int],
    judge: tuple[Samples, Iterable[int]] | None = None,
    warm_up: bool = True,
) -> list[dict]:
    """A record a round and side: seconds; A_Dr and A_Df of a model made; or, in a pd.Series, what the job itself measured.

    rounds: the seeds of the jobs. judge: test samples and forget classes. warm_up: the first round runs twice, and what it
    took at first does not count.
    """
    records = []
    for seed in rounds[:1] * warm_up + rounds:
        for side, job in sides.items():
            start = clock()
            made = job(seed)
            record = {"what": what, "side": side, "seed": seed, "seconds": clock() - start, "GB": peak_memory()}
            if isinstance(made, pd.Series):
                record |= made.to_dict()
            elif judge and isinstance(made, nn.Module):
                record |= zip(METRICS, metrics.retain_forget_accuracy(made, *judge), strict=True)
            records.append(record)
    return records[len(sides) * warm_up :]


class Kept:
    """Contests whose finished rounds are kept until `drop`. rounds: the seeds; request: arguments of every contest."""

    def __init__(self, rounds: Iterable[int], **request: object) -> None:
        self.rounds, self.request = list(rounds), request
        self.cases: list[tuple[Callable[..., list[dict]], list[dict]]] = []

    def run(self, contest: Callable[..., list[dict]], apart: bool = False, **case: object) -> pd.DataFrame:
        """One row a record of `contest`. apart: each round is kept by itself, so that an interrupted contest goes on."""
        parts = [[seed] for seed in self.rounds] if apart else [self.rounds]
        cases = [{**self.request, "rounds": part, **case} for part in parts]
        self.cases.append((contest, cases))
        return run_cases(contest, cases, contest.__name__)

    def drop(self) -> None:
        """The next run measures anew."""
        for contest, cases in self.cases:
            drop_cases(contest, cases)


# Ratios


def ratio(slow: pd.Series, quick: pd.Series) -> dict[str, float]:
    """How many times as fast `quick` is: the ratio of the medians, and the lowest and highest ratio of a round."""
    each = slow / quick
    return {"ratio": slow.median() / quick.median(), "lowest": each.min(), "highest": each.max()}


def compared(
    label: str, records: pd.DataFrame, what: str, against: str, wanted: float, times: float = 1, named: str = PLAIN
) -> dict:
    """A line of the table of ratios, from two sides of a race.

    times: how many times what was timed of `against` makes the whole; named: what the table calls it.
    """
    seconds = records.pivot(index="seed", columns="side", values="seconds")
    slow, quick = times * seconds[against], seconds[what]
    found = {"what (s)": quick.median(), "against (s)": slow.median(), **ratio(slow, quick)}
    reached = "yes" if found["ratio"] >= wanted else "no"
    return {"what": label, "against": named, **found, "wanted": wanted, "reached": reached}


# The same outcome? A side's runs have columns A_Dr and A_Df, one row a seed.


def alike(here: pd.DataFrame, there: pd.DataFrame, test: Samples, forget: Iterable[int]) -> dict[str, str]:
    """Whether two sides forget alike: their means differ by three standard errors of the difference at most, or one image.

    By metric, the difference in points and from where it would be seen; and the answer. One seed has no standard error.
    """
    errors = [side[METRICS].sem().fillna(0) for side in (here, there)]
    image = [100 / len(part) for part in (test.without(forget), test.only(forget))]
    gap = here[METRICS].mean() - there[METRICS].mean()
    seen = np.maximum(3 * np.hypot(*errors), image)
    told = {metric: f"{gap[metric]:+.1f}, to be seen from {seen[metric]:.1f}" for metric in METRICS}
    return {**told, "answer": "yes" if (gap.abs() <= seen).all() else "no"}


def as_good(side: pd.DataFrame, other: pd.DataFrame, ceiling: float = 1.0) -> dict[str, str]:
    """Whether a side's mean A_Df is at most `ceiling` %, its A_Dr at most a point below the other's; both are told."""
    kept, others, left = side.A_Dr.mean(), other.A_Dr.mean(), side.A_Df.mean()
    told = {"A_Dr": f"{kept - others:+.1f}, at least -1", "A_Df": f"{left:.1f} %, at most {ceiling:.1f}"}
    return {**told, "answer": "yes" if left <= ceiling and kept >= others - 1 else "no"}


class _InDouble(nn.Sequential):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.double())


def fisher_difference(model: nn.Module, samples: Samples) -> float:
    """The largest difference of Fisher information by layer from that by image and class, relative to its parameter's norm.

    In double precision: in single one ReLU that rounding switches changes them by more than 0.0001.
    """
    exact = _InDouble(copy.deepcopy(model).double())
    by_layer, loop = (fisher_information(exact, samples, method=method) for method in ("layerwise", "loop"))
    return max(((by_layer[name] - loop[name]).norm() / loop[name].norm()).item() for name in loop)


# Contests


def one_class(settings: dict, fast: dict, fisher_images: int, rounds: list[int], **request) -> list[dict]:
    """A case: UNSIR plain and here; fast(), which draws its subset on the clock; an epoch of Retrain; Fisher information.

    settings, fast: of `unsir` and `unsir_utils.fast`; request: arguments of `scenario`.
    """
    s = scenario(**request)
    original, retain, few = s.original, s.retain, s.retain_subset[:fisher_images]
    sides = {
        **_plain_and_here(s, settings),
        "fast()": lambda seed: fast_unsir(original, s.forget, retain, seed=seed, **fast).model,
        "an epoch": lambda seed: pd.Series({"seconds": trained_apart(s, s.loaded, seed).seconds}),  # but for its writing
        "by image and class": lambda _: fisher_information(original, few, method="loop"),
        "by layer": lambda _: fisher_information(original, few, method="layerwise"),
    }
    return race("UNSIR, 1 class", sides, rounds, (s.loaded.test, s.forget), warm_up=False)


def several_classes(settings: dict, rounds: list[int], **request) -> list[dict]:
    """A case: UNSIR plain and here. Arguments as in `one_class`."""
    s = scenario(**request)
    name = f"UNSIR, {len(s.forget)} classes"
    return race(name, _plain_and_here(s, settings), rounds, (s.loaded.test, s.forget), warm_up=False)


def _plain_and_here(s: Scenario, settings: dict) -> dict[str, Job]:
    original, subset = s.original, s.retain_subset
    network, images = plain.network(original), plain.as_list(subset)
    return {
        "plain": lambda seed: plain.unsir(network, s.forget, images, seed, **settings),
        "here": lambda seed: unsir(original, s.forget, subset, seed=seed, **settings).model,
    }


def many_classes(settings: dict, rounds: list[int], **request) -> list[dict]:
    """A case: one class and many, the retain images and the number of noise images the same."""
    s = scenario(**request)
    original, subset, many = s.original, s.retain_subset, len(s.forget)  # the subset has none of the many

    def forgetting(n: int) -> Job:
        rest = range(n, many)
        return lambda seed: unsir(original, range(n), subset, seed=seed, forgotten=rest, **settings).model

    return race("many classes", {str(n): forgetting(n) for n in (1, many)}, rounds, warm_up=False)


def training_epoch(epoch_images: int, batch_size: int, rounds: list[int], **request) -> list[dict]:
    """A case: an epoch of the released notebook's training over the first images of the training set."""
    s = scenario(**request)
    epoch = s.loaded.train[:epoch_images]
    pairs, ours, theirs = plain.as_list(epoch), copy.deepcopy(s.original), plain.network(s.original).train()
    adam, plain_adam = training.adam(ours, 0.01, weight_decay=1e-4), Adam(theirs.parameters(), 0.01, weight_decay=1e-4)
    sides: dict[str, Job] = {
        "plain": lambda _: plain.one_epoch(theirs, pairs, plain_adam, batch_size, clip=0.1),
        "here": lambda _: training.one_epoch(ours, epoch.shuffled(batch_size), adam, clip_value=0.1),
    }
    return race(f"training, an epoch of {len(epoch):,} images", sides, rounds)


def accuracy(rounds: list[int], **request) -> list[dict]:
    """A case: A_Dr and A_Df of the original."""
    s = scenario(**request)
    test, original, network = s.loaded.test, s.original, plain.network(s.original)
    parts = [plain.as_list(part) for part in (test.without(s.forget), test.only(s.forget))]
    sides: dict[str, Job] = {
        "plain": lambda _: [plain.evaluate(network, part) for part in parts],
        "here": lambda _: metrics.retain_forget_accuracy(original, test, s.forget),
    }
    return race(f"test accuracy, {len(test):,} images", sides, rounds)


def relearning_epochs(epoch_images: int, relearning: dict, rounds: list[int], **request) -> list[dict]:
    """A case: relearning of a new network at almost no rate, so that neither side stops early. epochs: None past the cap."""
    s, again = scenario(**request), {**relearning, "lr": 1e-6}
    train, seen = s.loaded.train[:epoch_images], s.forget_set.draw(again.pop("watched"))
    new = models.placed(models.build(s.recipe.architecture, train.n_classes), train.device)
    original, lists = s.original, [plain.as_list(part) for part in (train, seen)]
    plain_new, plain_original = plain.network(new), plain.network(original)
    sides: dict[str, Job] = {
        "plain": lambda _: pd.Series(plain.relearn_epochs(plain_new, plain_original, *lists, **again), ["epochs"]),
        "here": lambda _: pd.Series(metrics.relearn_epochs(new, original, train, seen, **again), ["epochs"]),
    }
    return race(f"relearning, {again['cap']} epoch(s) of {again['per_epoch']:,} images", sides, rounds)
