"""What the notebooks compare: one trained model, one forget request, the methods and the measures.

Every argument is plain (it may stand in a parameters cell and in a csv), every result is a plain record.
"""

from __future__ import annotations

import inspect
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from functools import lru_cache

import pandas as pd
from torch import nn

from . import metrics
from .baselines import MaskedLogits, finetune, fisher_forgetting, neggrad
from .cases import run_cases
from .data import Data, load
from .noise import Noise, blank_images, learn_noise, more_retain, unlearned_noise
from .samples import Samples
from .store import Recipe, Trained, trained
from .unsir import released, two_passes, unsir

load_once = lru_cache(maxsize=2)(load)


@dataclass(frozen=True)
class Scenario:
    """A model, trained by `recipe` on a data set, that is to forget some classes.

    data: keyword arguments of `data.load`, as sorted pairs (see `scenario`).
    retain_per_class: size of the retain subset D_r_sub; seed: of the subset and of the unlearning.
    """

    data: tuple[tuple, ...]
    recipe: Recipe
    forget: tuple[int, ...]
    retain_per_class: int = 1000
    seed: int = 0

    @property
    def loaded(self) -> Data:
        return load_once(**dict(self.data))

    @property
    def original(self) -> nn.Module:
        return _trained(self.recipe, self.data).model

    @property
    def accuracy(self) -> float:
        """Of the original, over the whole test set, in %."""
        return metrics.evaluate(self.original, self.loaded.test)[1]

    @property
    def retain(self) -> Samples:
        """D_r: all training samples of the retain classes."""
        return self.loaded.train.without(self.forget)

    @property
    def retain_subset(self) -> Samples:
        """D_r_sub, all that UNSIR sees."""
        return self.retain.draw(self.retain_per_class, seed=self.seed)

    @property
    def forget_set(self) -> Samples:
        """D_f: all training samples of the forget classes."""
        return self.loaded.train.only(self.forget)


def scenario(data: dict, recipe: dict, forget: Iterable[int], **settings: int) -> Scenario:
    """A Scenario from what a parameters cell holds: two dicts and a list."""
    return Scenario(tuple(sorted(data.items())), Recipe(**recipe), tuple(forget), **settings)


@lru_cache(maxsize=4)
def _trained(recipe: Recipe, data: tuple[tuple, ...]) -> Trained:
    return trained(recipe, load_once(**dict(data)))


# Each method takes the scenario and its own options and returns (model, seconds).
# None of the seconds holds the loading of data or of the original model.
Method = Callable[..., tuple[nn.Module, float]]


def _timed(make: Callable[[], nn.Module]) -> tuple[nn.Module, float]:
    start = time.perf_counter()
    model = make()
    return model, time.perf_counter() - start


def _original(s: Scenario) -> tuple[nn.Module, float]:
    found = _trained(s.recipe, s.data)
    return found.model, found.seconds


def _retrain(s: Scenario) -> tuple[nn.Module, float]:
    found = _trained(replace(s.recipe, left_out=s.forget), s.data)
    return found.model, found.seconds


def _finetune(s: Scenario, **options) -> tuple[nn.Module, float]:
    model, retain = s.original, s.retain
    return _timed(lambda: finetune(model, retain, seed=s.seed, **options))


def _neggrad(s: Scenario, **options) -> tuple[nn.Module, float]:
    model, forget = s.original, s.forget_set
    return _timed(lambda: neggrad(model, forget, seed=s.seed, **options))


def _fisher(s: Scenario, per_class: int, **options) -> tuple[nn.Module, float]:
    model, sample = s.original, s.retain.draw(per_class, seed=s.seed)
    return _timed(lambda: fisher_forgetting(model, sample, s.forget, seed=s.seed, **options))


def _masked(s: Scenario) -> tuple[nn.Module, float]:
    model = s.original
    return _timed(lambda: MaskedLogits(model, s.forget))


def _with_images(images: Callable[[Scenario, int], Noise | None]) -> Method:
    """UNSIR's two passes with other images in the noise's place, as many as the noise has."""

    def method(s: Scenario, noise_per_class: int = 256, **options) -> tuple[nn.Module, float]:
        model, subset, given = s.original, s.retain_subset, images(s, noise_per_class)
        return _timed(lambda: two_passes(model, subset, given, seed=s.seed, **options).model)

    return method


CONTROLS: dict[str, Callable[[Scenario, int], Noise | None]] = {
    "No noise": lambda s, n: None,
    "Unlearned noise": lambda s, n: unlearned_noise(s.forget, s.retain.shape, per_class=n, seed=s.seed),
    "Blank images": lambda s, n: blank_images(s.forget, s.retain.shape, per_class=n),
    "More retain": lambda s, n: more_retain(s.retain_subset, n * len(s.forget), seed=s.seed),
}


def _unsir(s: Scenario, **options) -> tuple[nn.Module, float]:
    learning = {short: options.pop(long) for long, short in NOISE_OPTIONS.items() if long in options}
    noise = _noise(replace(s, retain_per_class=1), tuple(learning.items()))  # in which D_r_sub plays no part
    found = unsir(s.original, s.forget, s.retain_subset, noise=noise, seed=s.seed, **options)
    return found.model, sum(found.seconds.values())


NOISE_OPTIONS = {
    "noise_per_class": "per_class",
    "noise_total": "total",
    "noise_steps": "steps",
    "noise_lr": "lr",
    "penalty": "penalty",
    "batchnorm": "batchnorm",
}


@lru_cache(maxsize=1)
def _noise(s: Scenario, options: tuple[tuple, ...]) -> Noise:
    """Learned once for all the rates that are tried with it; it keeps the seconds that it took."""
    return learn_noise(s.original, s.forget, s.loaded.train.shape, seed=s.seed, **dict(options))


def _released(s: Scenario, **options) -> tuple[nn.Module, float]:
    model, retain = s.original, s.retain
    return _timed(lambda: released(model, s.forget, retain, seed=s.seed, **options).model)


METHODS: dict[str, Method] = {
    "Original": _original,
    "Retrain": _retrain,
    "FineTune": _finetune,
    "NegGrad": _neggrad,
    "Fisher": _fisher,
    "Masked logits": _masked,
    **{label: _with_images(images) for label, images in CONTROLS.items()},
    "UNSIR": _unsir,
    "Released": _released,
}
UNSEEDED = ("Original", "Retrain", "Masked logits")  # the unlearning seed changes nothing about these


def apply(method: str, s: Scenario, **options) -> tuple[nn.Module, float]:
    """(unlearned model, seconds) of a method of METHODS. Raises ValueError for another."""
    if method not in METHODS:
        raise ValueError(f"unknown method {method!r}: choose one of {', '.join(METHODS)}")
    return METHODS[method](s, **options)


def measure(model: nn.Module, s: Scenario) -> dict:
    """A_Dr and A_Df in % on the test set, and how the predictions on its forget samples are spread."""
    a_dr, a_df = metrics.retain_forget_accuracy(model, s.loaded.test, s.forget)
    spread = metrics.prediction_distribution(model, s.loaded.test.only(s.forget))
    return {
        "A_Dr": a_dr,
        "A_Df": a_df,
        "entropy": metrics.normalised_entropy(spread),
        "largest_share": spread.max().item(),
    }


def relearn(model: nn.Module, s: Scenario, *, watched: int, steps_cap: int, **options) -> dict:
    """Relearn time by both definitions; None past the cap. watched: forget training samples that are looked at.

    Whoever holds a masked model holds its network: the mask is taken off first.
    """
    model = model.network if isinstance(model, MaskedLogits) else model
    original, train, forget = s.original, s.loaded.train, s.forget_set.draw(-(-watched // len(s.forget)))
    return {
        "relearn_epochs": metrics.relearn_epochs(model, original, train, forget, seed=s.seed, **options),
        "relearn_steps": metrics.relearn_steps(model, original, train, forget, seed=s.seed, cap=steps_cap),
    }


def validate(model: nn.Module, s: Scenario) -> dict:
    """A_Dr and A_Df in % on the validation part: what settings are chosen by."""
    a_dr, a_df = metrics.retain_forget_accuracy(model, s.loaded.validation, s.forget)
    return {"A_Dr": a_dr, "A_Df": a_df}


def best(records: list[dict], tolerance: float = 1.0) -> dict:
    """The record that every choice in this project takes: of those with A_Df at most `tolerance` % on the validation part
    the one with the highest A_Dr; where none gets there, the one with the lowest A_Df."""
    return min(records, key=lambda r: (max(r["A_Df"] - tolerance, 0.0), -r["A_Dr"]))


def compare(methods: dict[str, list], relearning: dict | None = None, setting: dict | None = None, **request) -> list[dict]:
    """A case: one record a method. methods: label -> [name in METHODS, options]; request: arguments of `scenario`;
    setting: stands in every record."""
    s, records = scenario(**request), []
    for label, (method, options) in methods.items():
        model, seconds = apply(method, s, **options)
        again = relearn(model, s, **relearning) if relearning else {}
        records.append({**(setting or {}), "method": label, **measure(model, s), **again, "seconds": seconds})
    return records


def sweep(
    settings: list[dict], methods: dict[str, list], seeds: list[int], relearning: dict | None = None, **request
) -> pd.DataFrame:
    """`compare` at every setting and seed: one row a setting, method and seed.

    settings: each overrides arguments of `scenario` (retain_per_class, forget) and options of the methods; a method gets
        those that it takes.
    """
    cases = []
    for seed in seeds:
        for setting in settings:
            own = {name: [m, {**options, **_taken(m, setting)}] for name, (m, options) in methods.items()}
            asked = {k: v for k, v in setting.items() if k in ASKED}
            shown = {k: v for k, v in setting.items() if not isinstance(v, (list, dict))}
            cases.append({**request, **asked, "seed": seed, "methods": own, "relearning": relearning, "setting": shown})
    return run_cases(compare, cases, "settings")


ASKED = ("data", "recipe", "forget", "retain_per_class")  # what a setting may change of the scenario
KERNELS = {"UNSIR": unsir, "Released": released, **dict.fromkeys(CONTROLS, two_passes)}


def _taken(method: str, setting: dict) -> dict:
    names = set(inspect.signature(KERNELS[method]).parameters) if method in KERNELS else set()
    names |= {"noise_per_class"} if method in CONTROLS else set()
    return {k: v for k, v in setting.items() if k in names and k not in ASKED}


def choose(method: str, candidates: list[dict], options: dict, **request) -> list[dict]:
    """A case: every candidate (options that vary) with its A_Dr and A_Df on the validation part; `chosen` marks the best."""
    s = scenario(**request)
    tried = [{**c, **validate(apply(method, s, **options, **c)[0], s)} for c in candidates]
    return [{**record, "chosen": record is best(tried)} for record in tried]
