"""How a batch runs through a network: samples, training, precision, states of torch, checks. Imports nothing of the rest."""

import os

PRECISIONS = ("auto", "float32")  # of UNSIR_PRECISION


def precision_setting() -> str:
    """UNSIR_PRECISION: "auto" or "float32"; here, as what runs without torch reads it. Raises ValueError for another."""
    setting = os.environ.get("UNSIR_PRECISION") or "auto"
    if setting not in PRECISIONS:
        raise ValueError(f"UNSIR_PRECISION is {setting!r}: choose one of {', '.join(PRECISIONS)}, or unset it")
    return setting
