"""Bad input is named before any work starts."""

from __future__ import annotations

import math
import operator
from collections.abc import Iterable

import torch
from torch import nn

from .samples import Samples
from .training import mode


def forget_classes(forget: Iterable[int], n_classes: int) -> list[int]:
    """`forget` as a list of ints. Raises ValueError unless it names at least one class, each once, and not all."""
    classes = list(forget)
    if not classes:
        raise ValueError("no forget class given: name at least one")
    for c in classes:
        if not (_is_whole(c) and 0 <= c < n_classes):
            raise ValueError(f"forget class {c!r} is out of range: expected whole numbers in 0..{n_classes - 1}")
    classes = [int(c) for c in classes]
    if len(set(classes)) < len(classes):
        raise ValueError(f"forget classes {classes} name a class twice: name each once")
    if len(classes) == n_classes:
        raise ValueError(f"all {n_classes} classes are to be forgotten: leave at least one to retain")
    return classes


def samples_for(model: nn.Module, samples: Samples, what: str = "retain data") -> None:
    """Raises ValueError unless `samples` is non-empty and finite and the model maps it to n_classes logits."""
    if len(samples) == 0:
        raise ValueError(f"the {what} is empty: at least one sample is needed")
    if len(samples.images) != len(samples.labels):
        raise ValueError(f"the {what} has {len(samples.images)} images but {len(samples.labels)} labels")
    if samples.labels.min() < 0 or samples.labels.max() >= samples.n_classes:
        raise ValueError(f"the {what} has labels outside 0..{samples.n_classes - 1}")
    if samples.images.is_floating_point() and not torch.isfinite(samples.images).all():
        raise ValueError(f"the {what} has images with nan or infinite values: clean them first")
    if samples.mean and len(samples.mean) != samples.shape[0]:
        raise ValueError(f"the {what} has {samples.shape[0]} channels but mean and std for {len(samples.mean)}")
    width = output_width(model, samples.inputs(slice(0, 1)))
    if width != samples.n_classes:
        raise ValueError(f"the model gives {width} logits but the {what} has {samples.n_classes} classes: they must agree")


def retain_set(model: nn.Module, retain: Samples, forget: list[int]) -> None:
    """As `samples_for`; raises ValueError, too, if a sample of a forget class is among them."""
    samples_for(model, retain)
    found = sorted(set(retain.labels.unique().tolist()) & set(forget))
    if found:
        raise ValueError(f"the retain data contains forget classes {found}: pass samples.without({forget})")


@torch.no_grad()
def output_width(model: nn.Module, x: torch.Tensor) -> int:
    """The number of logits that the model gives for inputs x [n, ...]. Raises ValueError if it does not take them."""
    try:
        with mode(model, False):
            y = model(x)
    except (RuntimeError, ValueError, TypeError) as error:
        raise ValueError(
            f"the model does not take images of shape {list(x.shape[1:])} (channels first); it says: {error}"
        ) from error
    if not isinstance(y, torch.Tensor) or y.dim() != 2:
        raise ValueError("the model must map a batch to logits [n, K]; unpack or wrap it")
    return y.shape[1]


def positive(**numbers: float) -> None:
    """Raises ValueError naming the first number that is not finite and greater than zero."""
    for name, number in numbers.items():
        if not 0 < number < math.inf:
            raise ValueError(f"{name} is {number}: expected a finite number greater than 0")


def counts(**numbers: int) -> None:
    """Raises ValueError naming the first number that is not a whole number of at least one."""
    for name, number in numbers.items():
        if not (_is_whole(number) and number >= 1):
            raise ValueError(f"{name} is {number}: expected a whole number of at least 1")


def batchnorm(mode: str) -> None:
    """Raises ValueError unless it names whose statistics BatchNorm uses: those of the batch or the running ones."""
    if mode not in ("train", "eval"):
        raise ValueError(f"batchnorm is {mode!r}: expected 'train' or 'eval'")


def _is_whole(value: object) -> bool:
    try:
        operator.index(value)
    except TypeError:
        return False
    return not isinstance(value, bool)
