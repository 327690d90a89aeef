"""UNSIR with settings that 15_how_little chose: the cheapest that forgets as the paper's do, and the most accurate.

data/presets.yaml holds them and names the profile that chose them: measure A_Df and A_Dr on held-out data of your own.
"""

from __future__ import annotations

from collections.abc import Iterable

from torch import nn

from .paths import REPOSITORY, read_yaml
from .samples import Samples
from .unsir import Unlearned, unsir

PRESETS = REPOSITORY / "data" / "presets.yaml"


def fast(model: nn.Module, forget: Iterable[int], retain: Samples, **settings) -> Unlearned:
    """UNSIR with the fewest image passes that forgot as well as the paper's settings, on validation data of the search.

    retain: samples of the other classes, of which `retain_per_class` of each are drawn. settings: arguments of `unsir`, or
    retain_per_class, that override the preset's.
    """
    return _with("fast", model, forget, retain, settings)


def best(model: nn.Module, forget: Iterable[int], retain: Samples, **settings) -> Unlearned:
    """UNSIR with the highest A_Dr at an A_Df of at most 1 %, on validation data of the search. Arguments as in `fast`."""
    return _with("best", model, forget, retain, settings)


def preset(name: str) -> dict:
    """The settings of a preset: arguments of `unsir`, and retain_per_class."""
    presets = read_yaml(PRESETS)
    if name not in presets:
        raise ValueError(f"unknown preset {name!r}: choose one of {', '.join(presets)}")
    return presets[name]["settings"]


def _with(name: str, model: nn.Module, forget: Iterable[int], retain: Samples, settings: dict) -> Unlearned:
    settings = {"seed": 0, **preset(name), **settings}
    return unsir(model, forget, retain.draw(settings.pop("retain_per_class"), seed=settings["seed"]), **settings)
