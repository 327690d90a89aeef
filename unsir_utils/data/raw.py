"""What a data set is read as, before it is normalised and cut into parts."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor

Labelled = tuple[Tensor, Tensor]  # uint8 [n, 3, H, W] and int64 [n]


class Raw(NamedTuple):
    """test, validation: None where the data set brings none, and some of `train` is held out."""

    train: Labelled
    classes: list[str]
    test: Labelled | None = None
    validation: Labelled | None = None
