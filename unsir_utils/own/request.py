"""What `forget` is asked for, and whether it can be done: checked before any work."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import zip_longest

import torch
from torch import nn

from ..engine import checks
from ..engine.forward import forward
from ..engine.samples import Samples
from ..engine.state import mode
from ..engine.training import head
from .choose import HEAD_FACTOR, batch_size_for


@dataclass(frozen=True, eq=False)
class Request:
    """What was asked for, checked, on one device. subset: what the passes see; watched: what chooses among tries."""

    model: nn.Module
    forget: list[int]
    subset: Samples
    watched: Samples
    validation: Samples
    held_out_forget: Samples | None
    look: bool
    batch_size: int
    head_factor: float
    seed: int

    @property
    def names(self) -> tuple[str, ...]:
        return self.subset.names or tuple(str(c) for c in range(self.subset.n_classes))


def request_of(
    model: nn.Module,
    classes: Iterable[int | str],
    retain: Samples,
    validation: Samples,
    forgotten: Iterable[int | str],
    held_out_forget: Samples | None,
    look: bool,
    retain_per_class: int,
    batch_size: int | None,
    seed: int,
) -> Request:
    """What `forget` was asked for, by its arguments. Raises ValueError, and warns, as it promises."""
    device = next(model.parameters()).device
    for name, given in (("retain", retain), ("validation", validation), ("held_out_forget", held_out_forget)):
        if not isinstance(given, Samples) and not (given is None and name == "held_out_forget"):
            raise ValueError(f"{name} is a {type(given).__name__}: expected Samples, as by Samples.from_dataset")
    retain, validation = retain.to(device), validation.to(device)
    forget = checks.forget_classes(checks.numbered(classes, retain.names), retain.n_classes)
    if len(retain) and checks.output_width(model, retain.inputs(slice(0, 2))) == 1:
        raise ValueError(
            "the model has one output unit for two classes: give it two, the logits (0, z), as by a module that returns "
            "torch.cat([torch.zeros_like(z), z], 1)"
        )
    checks.counts(retain_per_class=retain_per_class, batch_size=2 if batch_size is None else batch_size)
    checks.counts(seed=seed, least=0)
    seed = int(seed)  # numpy's, too, which torch does not take
    subset = retain.draw(retain_per_class, seed)
    batch_size = batch_size_for(subset) if batch_size is None else int(batch_size)
    checks.trainable(model, subset, batch_size)
    _finite(model, subset)
    _differentiable(model, subset)
    checks.retain_set(retain, forget, checks.numbered(forgotten, retain.names))
    _like(retain, validation, "validation data")
    checks.samples_for(model, validation, "validation data")
    _only_of(validation, forget, False, "validation data")
    if unseen := sorted({*retain.labels.tolist()} - {*validation.labels.tolist()}):
        warnings.warn(f"the validation data has no image of the classes {unseen}: A_Dr says nothing of them", stacklevel=3)
    if held_out_forget is not None:
        held_out_forget = held_out_forget.to(device)
        _like(retain, held_out_forget, "held_out_forget")
        checks.samples_for(model, held_out_forget, "held_out_forget")
        _only_of(held_out_forget, forget, True, "held_out_forget")
        _all_of(held_out_forget, forget, look)
    elif look:
        raise ValueError("look is True, but there are no images to look at: pass held_out_forget, or leave it out")
    watched = validation.draw(max(1, math.ceil(len(subset) / 2 / len(validation.labels.unique()))), seed)
    head_factor = _head_factor(model, subset)
    return Request(model, forget, subset, watched, validation, held_out_forget, look, batch_size, head_factor, seed)


@torch.no_grad()
def _finite(model: nn.Module, samples: Samples) -> None:
    with mode(model, False):
        if not torch.isfinite(forward(model, samples.inputs(slice(0, 2)))).all():
            raise ValueError("the model gives nan or infinite logits: it has diverged, or its weights are damaged")


def _differentiable(model: nn.Module, samples: Samples) -> None:
    """Raises ValueError unless the logits have a gradient by the inputs, which all images that are made need."""
    x = samples.inputs(slice(0, 2)).float().requires_grad_()
    try:
        with mode(model, False):
            torch.autograd.grad(forward(model, x.clone()).sum(), x)
    except RuntimeError as error:
        raise ValueError(
            f"the model gives no gradient by its input ({str(error).splitlines()[0]}): let all of it run with gradients, "
            "without torch.no_grad, re-entrant checkpoints and quantised layers"
        ) from error


def _like(retain: Samples, samples: Samples, what: str) -> None:
    """Raises ValueError unless these are of the retain data's shape, of which a network may take any, and classes."""
    if len(samples) and samples.shape != retain.shape:
        raise ValueError(f"the {what} has images {[*samples.shape]}, the retain data {[*retain.shape]}: they must agree")
    if samples.names and retain.names and samples.names != retain.names:
        pairs = zip_longest(samples.names, retain.names, fillvalue="none")
        one, other = next((a, b) for a, b in pairs if a != b)
        raise ValueError(f"the {what} has the class {one} where the retain data has {other}: pass both the same names=[...]")


def _only_of(samples: Samples, forget: list[int], wanted: bool, what: str) -> None:
    """Raises ValueError where some sample is (wanted: is not) of a forget class."""
    found = set(samples.labels.unique().tolist())
    if wrong := sorted(found - set(forget) if wanted else found & set(forget)):
        advice = f"only({forget})" if wanted else f"without({forget}), and the rest, if it may be used, as held_out_forget"
        raise ValueError(f"the {what} has images of the classes {wrong}: pass samples.{advice}")


def _all_of(held_out_forget: Samples, forget: list[int], look: bool) -> None:
    """Warns where a forget class has no image. Raises ValueError where these are to decide."""
    if not (missing := sorted(set(forget) - set(held_out_forget.labels.tolist()))):
        return
    told = f"held_out_forget has no image of the classes {missing}"
    if look:
        raise ValueError(f"{told}, of which look=True is to decide, too: add some, or leave look out")
    warnings.warn(f"{told}: A_Df says nothing of them", stacklevel=3)


def _head_factor(model: nn.Module, retain: Samples) -> float:
    """1 where no single layer yields the logits, so that all learns at one rate."""
    try:
        head(model, retain.inputs(slice(0, 2)))
    except ValueError:
        return 1.0
    return HEAD_FACTOR
