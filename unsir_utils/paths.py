"""Where things lie."""

from __future__ import annotations

import os
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent


def results_root() -> Path:
    """The results folder; the environment variable UNSIR_RESULTS names another."""
    return Path(os.environ.get("UNSIR_RESULTS") or REPOSITORY / "results").resolve()


def models_root() -> Path:
    """Where trained models are kept; the environment variable UNSIR_MODELS names another folder."""
    return Path(os.environ.get("UNSIR_MODELS") or results_root() / "checkpoints").resolve()


def data_root() -> Path:
    """Where the CIFAR files are looked for; the environment variable UNSIR_DATA names another folder."""
    return Path(os.environ.get("UNSIR_DATA") or REPOSITORY / "data").expanduser()
