"""What a data set is read as, before it is normalised and cut into parts."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

Labelled = tuple[Tensor, Tensor]  # uint8 [n, 3, H, W] and int64 [n]


class Raw(NamedTuple):
    """test, validation: None where the data set brings none, and some of `train` is held out. name: for captions."""

    train: Labelled
    classes: list[str]
    test: Labelled | None = None
    validation: Labelled | None = None
    name: str | None = None


def resized(images: Tensor, size: int) -> Tensor:
    """Square uint8 images [n, C, H, H] as [n, C, size, size]."""
    if size == images.shape[-1]:
        return images
    parts = (F.interpolate(part.float(), size=size, mode="bilinear", antialias=True) for part in images.split(1000))
    return torch.cat([part.round().clamp(0, 255).to(torch.uint8) for part in parts])
