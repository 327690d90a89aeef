"""GradCAM maps side by side: how alike two are, which are empty, and which images are worth a picture.

Maps are float [n, h, w], at least 0, one an image, as `gradcam` returns them. Those of a diverged network are nan.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import cosine_similarity, interpolate

from ..engine.samples import Samples


def empty(maps: Tensor) -> Tensor:
    """bool [n]: whether no cell speaks for the class, all being 0. What is nan is not empty, it is undefined."""
    return ~maps.flatten(1).any(1)


def likeness(one: Tensor, other: Tensor) -> Tensor:
    """[n]: the cosine of each map of `one` with the same image's of `other`, 1 for maps that differ by a factor alone, 0 for
    maps that share no cell; nan where either is empty or undefined. Raises ValueError for maps of different shapes."""
    if one.shape != other.shape:
        raise ValueError(f"the maps are {list(one.shape)} and {list(other.shape)}: only those of one layer can be compared")
    return cosine_similarity(one.flatten(1), other.flatten(1)).masked_fill(empty(one) | empty(other), math.nan)


def compared(before: Tensor, after: Tensor) -> list[dict]:
    """A record an image: "cosine" (`likeness`), "empty before" and "empty after"."""
    columns = {"cosine": likeness(before, after), "empty before": empty(before), "empty after": empty(after)}
    return [dict(zip(columns, values, strict=True)) for values in zip(*(v.tolist() for v in columns.values()), strict=True)]


def first_of_each(samples: Samples, numbers: Sequence[int]) -> Samples:
    """The first `numbers[c]` samples of class c, or all where it has fewer, class after class, in the order in which they
    stand."""
    found = [torch.nonzero(samples.labels == c).flatten()[:n] for c, n in enumerate(numbers)]
    return samples[torch.cat(found)]


def pick(labels: Tensor, classes: Sequence[int], better: Tensor) -> list[int]:
    """For each entry of `classes` the next image of that class, as places in `labels` [n].

    better: bool [n]; such images come before the others. A class that stands twice gets two images. Raises ValueError for a
    class that has too few.
    """
    order = torch.argsort((~better).int(), stable=True)
    queues = {c: order[labels[order] == c].tolist() for c in classes}
    for c, queue in queues.items():
        if len(queue) < (wanted := list(classes).count(c)):
            raise ValueError(f"class {c} is to be pictured {wanted} times, but {len(queue)} of its images are looked at")
    return [queues[c].pop(0) for c in classes]


def enlarged(maps: Tensor, height: int, width: int) -> Tensor:
    """[n, height, width], bilinear between the cells."""
    return interpolate(maps[:, None], size=(height, width), mode="bilinear")[:, 0]
