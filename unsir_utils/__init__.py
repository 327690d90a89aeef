"""UNSIR ("Fast Yet Effective Machine Unlearning"), and what a reproduction of it needs.

The paper is in this folder: `noise`, `impair` and `repair`, chained in `unsir`, measured by `metrics`; every default in
`settings`. The rest, each folder importing from those above it alone:

engine/     how a batch runs through a network: samples, training, precision, states, checks
methods/    what UNSIR is held against
audit/      what a network still knows of a class, and where it looks
data/       the data sets, the project's YAML files, and where things lie
own/        one call for anyone's own network and data
workshop/   what runs an experiment: trained networks, kept cases, the study's methods by name, the notebook runner
report/     what becomes of its records: verdicts, tables, figures, the comparison with what is published
"""

import sys
from importlib import import_module
from types import ModuleType

_HOME = {
    "learn_noise": "noise", "Noise": "noise", "impair": "impair", "repair": "repair", "unsir": "unsir", "released": "unsir",
    "fast": "unsir", "best": "unsir", "Unlearned": "unsir", "retain_forget_accuracy": "metrics", "Settings": "settings",
    "PAPER": "settings", "FAST": "settings", "BEST": "settings", "Samples": "engine.samples",
    "forget": "own.forgetting",
}  # fmt: skip
__all__ = list(_HOME)


def __getattr__(name: str) -> object:
    """Imported when it is asked for, so that make's small helpers do not wait for torch."""
    if name in _HOME:
        return getattr(import_module(f".{_HOME[name]}", __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


class _Package(ModuleType):
    def __setattr__(self, name: str, value: object) -> None:
        """`unsir_utils.impair` stays the function when Python imports the module of that name."""
        if not (name in _HOME and isinstance(value, ModuleType)):
            super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package
