"""The methods beside UNSIR by name, the paper's and today's: what each sees, its kernel, what it is tuned over."""

from __future__ import annotations

import inspect
import itertools
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

from torch import nn

from ..methods.baselines import finetune, neggrad
from ..methods.forget_set import bad_teacher, boundary_shrink, delete, neggrad_plus, random_labels, salun, scrub
from ..methods.one_shot import ssd, svd_projection
from ..methods.zero_glance import bias_shift, head_projection, l1_sparse, weight_negation
from ..settings import PAPER_RATES
from ..unsir import Unlearned
from . import models

if TYPE_CHECKING:
    from .study import Scenario

UNTRAINED_SEED = 2**31  # added to the seed, lest the untrained teacher be what the original began as
NOTHING, SUBSET, ALL, FORGET, BOTH = "none", "retain subset", "all retain", "forget set", "forget set and all retain"

# What a method is given besides the model.
GIVEN: dict[str, Callable[[Scenario], tuple[Any, ...]]] = {
    NOTHING: lambda s: (s.forget, s.loaded.train.shape),
    SUBSET: lambda s: (s.retain_subset,),
    ALL: lambda s: (s.retain,),
    FORGET: lambda s: (s.forget_set,),
    BOTH: lambda s: (s.retain, s.forget_set),
}


# A kernel that still lacks its options, and the seconds that were spent on what it is given.
Ready = tuple[Callable[..., nn.Module | Unlearned], float]


class Entry(NamedTuple):
    """A method: how `study.apply` gets it ready, and what it may see of the training data after the original was trained.

    kernels: whose options it takes; besides: options that `ready` takes itself. seeded: whether the seed of the unlearning
        changes it.
    """

    ready: Callable[..., Ready]
    access: str
    kernels: tuple[Callable, ...] = ()
    besides: tuple[str, ...] = ()
    seeded: bool = True


def _rival(access: str, kernel: Callable, besides: Callable[[Scenario], tuple[Any, ...]] = lambda s: ()) -> Entry:
    """access: of GIVEN. besides: what the kernel is given after that."""
    seeded = "seed" in inspect.signature(kernel).parameters

    def ready(s: Scenario) -> Ready:
        given = s.original, *GIVEN[access](s), *besides(s)
        return partial(kernel, *given, **({"seed": s.seed} if seeded else {})), 0.0

    return Entry(ready, access, (kernel,), seeded=seeded)


def _untrained(s: Scenario) -> tuple[Any, ...]:
    untrained = models.build(s.recipe.architecture, s.loaded.n_classes, seed=s.seed + UNTRAINED_SEED)
    return (untrained.to(s.loaded.train.device),)


RIVALS: dict[str, Entry] = {
    "FineTune": _rival(ALL, finetune),
    "NegGrad": _rival(FORGET, neggrad),
    "Bias shift": _rival(NOTHING, bias_shift),
    "Head projection": _rival(NOTHING, head_projection),
    "NoT": _rival(ALL, weight_negation),
    "NoT (subset)": _rival(SUBSET, weight_negation),
    "l1-sparse": _rival(ALL, l1_sparse),
    "l1-sparse (subset)": _rival(SUBSET, l1_sparse),
    "NegGrad+": _rival(BOTH, neggrad_plus),
    "Random labels": _rival(BOTH, random_labels),
    "SalUn": _rival(BOTH, salun),
    "SSD": _rival(BOTH, ssd),
    "SCRUB": _rival(BOTH, scrub),
    "Bad Teacher": _rival(BOTH, bad_teacher, _untrained),
    "Boundary Shrink": _rival(FORGET, boundary_shrink),
    "SVD projection": _rival(BOTH, svd_projection),
    "DELETE": _rival(FORGET, delete),
}


def _grid(**values: list) -> list[dict]:
    return [dict(zip(values, chosen, strict=True)) for chosen in itertools.product(*values.values())]


# What each method is tuned over on validation data, by `study.tuned`: eight trials for each that has anything to set,
# UNSIR included, since two papers' tables differ by tens of points for one method by its rate alone. The authors' own
# setting, or ours where they give none, is always among them; around it lie the rate, mostly, and what else decides how
# much is forgotten.
GRIDS: dict[str, list[dict]] = {
    "FineTune": _grid(lr=[0.001, 0.01, 0.03, 0.1], epochs=[3, 10]),
    "NegGrad": _grid(lr=[1e-4, 3e-4, 0.001, 0.003], batchnorm=["train", "eval"]),
    "UNSIR": [
        *_grid(impair_lr=[3e-4, 0.001, 0.003], repair_lr=[3e-4, 0.001]),
        {"impair_lr": 0.003, "repair_lr": 0.003},
        PAPER_RATES,
    ],
    "Bias shift": _grid(shift=[1.0, 2.0, 3.0, 4.0, 6.0, 8.0, 10.0, 20.0]),
    "Head projection": [{}],  # nothing to tune
    "NoT": _grid(lr=[0.003, 0.01, 0.03, 0.1], epochs=[3, 10]),
    "l1-sparse": _grid(alpha=[5e-5, 2e-4, 5e-4, 0.002], lr=[0.01, 0.03]),
    "NegGrad+": _grid(alpha=[0.9, 0.95, 0.99, 0.999], lr=[0.003, 0.01]),
    "Random labels": _grid(lr=[0.001, 0.003, 0.01, 0.03], epochs=[3, 10]),
    "SalUn": _grid(lr=[0.001, 0.003, 0.01, 0.03], share=[0.3, 0.5]),
    "SSD": _grid(alpha=[1.5, 3.0, 5.0, 10.0], dampening=[0.1, 1.0]),
    "SCRUB": _grid(lr=[5e-4, 0.001, 0.003, 0.01], alpha=[0.001, 0.5]),  # few steps want more than its authors' 5e-4
    "Bad Teacher": _grid(lr=[1e-4, 3e-4, 0.001, 0.003], epochs=[1, 3]),
    "Boundary Shrink": _grid(lr=[1e-5, 1e-4, 3e-4, 0.001], batchnorm=["train", "eval"]),
    "SVD projection": _grid(alpha_retain=[30.0, 100.0, 300.0, 1000.0], alpha_forget=[3.0, 30.0]),
    "DELETE": _grid(lr=[1e-4, 3e-4, 0.001, 0.003], batchnorm=["train", "eval"]),
    # On a fifth of the data: up to as many steps as on all of it.
    "NoT (subset)": _grid(lr=[0.003, 0.01, 0.03, 0.1], epochs=[10, 40]),
    "l1-sparse (subset)": _grid(alpha=[5e-4, 0.002], lr=[0.01, 0.03], epochs=[10, 40]),
}
GRIDS |= {"No noise": GRIDS["UNSIR"]}
