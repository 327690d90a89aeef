"""The audit of what is left of a class, as a case of the study: every method held against the same retrained networks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache

from torch import nn

from ..audit.what_is_left import Yardstick
from .provenance import state
from .study import Method, Scenario, apply, check_comparison, measure, scenario


def audits(
    methods: dict[str, Method],
    retrainings: list[int],
    settings: dict | None = None,
    setting: dict | None = None,
    **request,
) -> list[dict]:
    """A case: one record a method and test of the audit, with the method's A_Dr and A_Df.

    methods, setting and request: as in `study.outcomes`.
    retrainings: recipe seeds of the retrained networks, two or more. Retrain as a method has the original's recipe seed,
        which is not among them, so that it is audited as any other.
    settings: of `audit.what_is_left.Yardstick`. Its images are the same whatever the seed of the unlearning.
    Raises ValueError for an unknown option, or for retrainings that hold the recipe's own seed, before any work.
    """
    s, records = scenario(**request), []
    check_comparison(methods, None)
    if s.recipe.seed in retrainings:
        raise ValueError(f"retrainings hold {s.recipe.seed}, the recipe's own seed: leave it out, it is audited as Retrain")
    _networks(s, retrainings)  # so that a case knows of them where the yardstick stands already
    same = replace(s, seed=0, retain_per_class=1)
    yardstick = _yardstick(same, tuple(retrainings), tuple((settings or {}).items()), state(dict(s.data)["name"]))
    for label, (method, options) in methods.items():
        model, _ = apply(method, s, **options)
        found = measure(model, s)
        about = {**(setting or {}), "method": label, "A_Dr": found["A_Dr"], "A_Df": found["A_Df"]}
        records += [{**about, **record} for record in yardstick.audit(model).records]
    return records


def _networks(s: Scenario, retrainings: Sequence[int]) -> list[nn.Module]:
    """The original and the retrained networks."""
    retrained = [apply("Retrain", replace(s, recipe=replace(s.recipe, seed=seed)))[0] for seed in retrainings]
    return [s.original, *retrained]


@lru_cache(maxsize=1)
def _yardstick(s: Scenario, retrainings: tuple[int, ...], settings: tuple[tuple, ...], state: str) -> Yardstick:
    """Measured once for all seeds and settings of the unlearning."""
    original, *retrained = _networks(s, retrainings)
    return Yardstick(original, retrained, s.loaded.train, s.loaded.test, s.forget, **dict(settings))
