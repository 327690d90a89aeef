"""Today's methods by name: what each sees, its kernel, and the settings that it is tuned over."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

from ..methods.baselines import finetune, neggrad
from ..methods.forget_set import bad_teacher, boundary_shrink, delete, neggrad_plus, random_labels, salun, scrub
from ..methods.one_shot import ssd, svd_projection
from ..methods.zero_glance import bias_shift, head_projection, l1_sparse, weight_negation
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


class Rival(NamedTuple):
    """access: of GIVEN. besides: what its kernel is given after that."""

    access: str
    kernel: Callable
    besides: Callable[[Scenario], tuple[Any, ...]] = lambda s: ()


def _untrained(s: Scenario) -> tuple[Any, ...]:
    return (models.build(s.recipe.architecture, s.loaded.n_classes, seed=s.seed + UNTRAINED_SEED),)


RIVALS = {
    "FineTune": Rival(ALL, finetune),
    "NegGrad": Rival(FORGET, neggrad),
    "Bias shift": Rival(NOTHING, bias_shift),
    "Head projection": Rival(NOTHING, head_projection),
    "NoT": Rival(ALL, weight_negation),
    "NoT (subset)": Rival(SUBSET, weight_negation),
    "l1-sparse": Rival(ALL, l1_sparse),
    "l1-sparse (subset)": Rival(SUBSET, l1_sparse),
    "NegGrad+": Rival(BOTH, neggrad_plus),
    "Random labels": Rival(BOTH, random_labels),
    "SalUn": Rival(BOTH, salun),
    "SSD": Rival(BOTH, ssd),
    "SCRUB": Rival(BOTH, scrub),
    "Bad Teacher": Rival(BOTH, bad_teacher, _untrained),
    "Boundary Shrink": Rival(FORGET, boundary_shrink),
    "SVD projection": Rival(BOTH, svd_projection),
    "DELETE": Rival(FORGET, delete),
}


def _grid(**values: list) -> list[dict]:
    return [dict(zip(values, chosen, strict=True)) for chosen in itertools.product(*values.values())]
