"""Bad input is named before any work starts."""

from __future__ import annotations

import math
import operator
import warnings
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from .forward import called, forward
from .precision import precision
from .state import Checking, mode, seeded

if TYPE_CHECKING:
    from ..noise import Noise
    from .samples import Samples


def classes(given: Iterable[int], n_classes: int | None = None, what: str = "class") -> list[int]:
    """`given` as a list of ints. Raises ValueError unless it lists whole numbers in 0..n_classes-1 (None: of any size)."""
    if not _is_list(given):
        raise ValueError(f"{what} is given as {given!r}: expected a list of class numbers, such as [3]")
    found = list(given)
    for c in found:
        if not (_is_whole(c) and 0 <= c < (math.inf if n_classes is None else n_classes)):
            last = "" if n_classes is None else n_classes - 1
            raise ValueError(f"{what} {c!r} is out of range: expected whole numbers in 0..{last}")
    return [int(c) for c in found]


def numbered(given: Iterable[int | str], names: Sequence[str]) -> list[Any]:
    """`given` as a list, with numbers for the names in it. Raises ValueError for an unknown one, and for what is no list."""
    if not _is_list(given):
        raise ValueError(f"class is given as {given!r}: expected a list, such as [3] or ['cat']")
    return [number_of(c, names) if isinstance(c, str) else c for c in given]


def number_of(name: str, names: Sequence[str]) -> int:
    """Raises ValueError for a name that is not among them."""
    if name not in names:
        raise ValueError(f"unknown class {name!r}: {choices(names)}")
    return list(names).index(name)


def choices(names: Sequence[str], most: int = 20) -> str:
    if not names:
        return "the data names no classes; pass names=[...], in the order of the network's outputs"
    more = ", ..." if len(names) > most else ""
    return f"choose among {', '.join(names[:most])}{more}"


def forget_classes(forget: Iterable[int], n_classes: int | None = None) -> list[int]:
    """`forget` as a list of ints. Raises ValueError unless it names at least one class, each once, and not all (None: of
    any number)."""
    named = classes(forget, n_classes, "forget class")
    if not named:
        raise ValueError("no forget class given: name at least one")
    if len(set(named)) < len(named):
        raise ValueError(f"forget classes {named} name a class twice: name each once")
    if len(named) == n_classes:
        raise ValueError(f"all {n_classes} classes are to be forgotten: leave at least one to retain")
    return named


def samples_for(model: nn.Module, samples: Samples, what: str = "retain data") -> None:
    """Raises ValueError unless `samples` is non-empty and finite and the model maps it to n_classes logits."""
    if len(samples) == 0:
        raise ValueError(f"the {what} is empty: at least one sample is needed")
    labels(samples, what)
    if samples.images.is_floating_point() and not torch.isfinite(samples.images).all():
        raise ValueError(f"the {what} has images with nan or infinite values: clean them first")
    width = output_width(model, samples.inputs(slice(0, 2)))
    if width != samples.n_classes:
        raise ValueError(f"the model gives {width} logits but the {what} has {samples.n_classes} classes: they must agree")


def labels(samples: Samples, what: str = "data") -> None:
    """Raises ValueError unless every label is in 0..n_classes-1."""
    if len(samples) and not 0 <= samples.labels.min() <= samples.labels.max() < samples.n_classes:
        raise ValueError(f"the {what} has labels outside 0..{samples.n_classes - 1}")


def trainable(
    model: nn.Module,
    samples: Samples,
    batch_size: int,
    what: str = "retain data",
    train_mode: bool = True,
) -> None:
    """As `samples_for`; raises ValueError, too, unless the model trains on batches of these samples."""
    samples_for(model, samples, what)
    unfrozen(model)
    if train_mode:
        output_width(model, samples.inputs(slice(0, min(2, batch_size))), training=True)


def unfrozen(model: nn.Module) -> None:
    """Raises ValueError unless some parameter may be trained."""
    if not any(p.requires_grad for p in model.parameters()):
        raise ValueError(
            "no parameter of the model requires a gradient: unfreeze some, as by model.requires_grad_(True); a quantised "
            "network has none, so take it as it was before"
        )


def retain_set(retain: Samples, forget: list[int], forgotten: Iterable[int] = ()) -> None:
    """Raises ValueError if a sample is of a forget class or of one forgotten before; warns of any other class without one.

    The passes on the retain data unlearn whatever class it lacks, whether or not anyone asked for that.
    """
    gone = set(forget) | set(classes(forgotten, retain.n_classes, "forgotten class"))
    present = set(retain.labels.unique().tolist())
    if present & gone:
        raise ValueError(
            f"the retain data contains forget classes {sorted(present & gone)}: pass samples.without({[*gone]})"
        )
    if absent := sorted(set(range(retain.n_classes)) - present - gone):
        warnings.warn(
            f"the retain data has no sample of the classes {absent}, so that they are unlearned, too: add some, or say "
            "forgotten=[...] where they were forgotten before",
            stacklevel=3,
        )


def noise_for(noise: Noise, retain: Samples) -> None:
    """Raises ValueError unless `noise` holds finite float images of the retain data's shape, each with a class."""
    n = len(noise.images)
    if n == 0 or noise.labels.shape != (n,):
        raise ValueError(f"the noise has {n} images and labels {list(noise.labels.shape)}: expected a label for each")
    if tuple(noise.images.shape[1:]) != retain.shape:
        raise ValueError(f"the noise has images {list(noise.images.shape[1:])}, the retain data {list(retain.shape)}")
    if not noise.images.is_floating_point():
        raise ValueError(f"the noise is {noise.images.dtype}: expected normalised floats, as samples.inputs() gives")
    if not torch.isfinite(noise.images).all():
        raise ValueError("the noise has nan or infinite values: learn it at a lower rate")
    classes(noise.labels.unique(), retain.n_classes, "noise label")


def output_width(model: nn.Module, x: Tensor, training: bool = False) -> int:
    """The number of logits that the model gives for inputs x [n, ...]; the model is left as it was.

    Raises ValueError if it does not take them or is on another device. Warns where it gives probabilities.
    """
    for name, p in model.named_parameters():
        if p.device != x.device:
            raise ValueError(f"the model's {name} is on {p.device}, the data on {x.device}: move one with .to(...)")
    try:
        with torch.no_grad(), Checking(), _as_it_was(model, training), seeded(0, x.device):
            z = called(model, x.clone())
            dtype = precision(model, x.device)
            if dtype != x.dtype:
                _runs_in(dtype, model, x)
    except (RuntimeError, ValueError, TypeError, IndexError, AssertionError) as error:
        for name, p in model.named_parameters():
            if p.is_floating_point() and p.dtype != x.dtype:
                raise ValueError(f"the model's {name} is {p.dtype}: expected {x.dtype}, as by model.float()") from error
        few = "more than 1 value per channel" in str(error)
        advice = "; its BatchNorm needs more than one image in a batch" if few else ""
        raise ValueError(
            f"the model does not {'train on' if training else 'take'} images of shape {list(x.shape[1:])} (channels first), "
            f"{len(x)} at once{advice}; it says: {error}"
        ) from error
    if not training and len(z) and z.shape[1] > 1 and (z >= 0).all() and (z.sum(1) - 1).abs().max() < 1e-3:
        warnings.warn("the model gives probabilities: take the softmax off its end, the loss applies it", stacklevel=3)
    return z.shape[1]


def _runs_in(dtype: torch.dtype, model: nn.Module, x: Tensor) -> None:
    """Raises ValueError where the model, which takes x as it is, does not in the precision that it would run in."""
    try:
        forward(model, x.clone())
    except RuntimeError as error:
        raise ValueError(
            f"it fails in {dtype}, in which it would run here: set UNSIR_PRECISION=float32 ({error})"
        ) from error


@contextmanager
def _as_it_was(model: nn.Module, training: bool) -> Iterator[None]:
    """Train or eval mode for a while; buffers, such as BatchNorm's running statistics, are afterwards as they were."""
    before = [buffer.clone() for buffer in model.buffers()] if training else []
    try:
        with mode(model, training):
            yield
    finally:
        for buffer, was in zip(model.buffers(), before, strict=False):
            buffer.copy_(was)


def positive(**numbers: float) -> None:
    """Raises ValueError naming the first number that is not finite and greater than zero."""
    for name, number in numbers.items():
        if not 0 < number < math.inf:
            raise ValueError(f"{name} is {number}: expected a finite number greater than 0")


def not_negative(**numbers: float) -> None:
    """Raises ValueError naming the first number that is not finite and 0 or more."""
    for name, number in numbers.items():
        if not 0 <= number < math.inf:
            raise ValueError(f"{name} is {number}: expected a finite number, 0 or more")


def shares(**numbers: float) -> None:
    """Raises ValueError naming the first number that is not in 0..1."""
    for name, number in numbers.items():
        if not 0 <= number <= 1:
            raise ValueError(f"{name} is {number}: expected a share, from 0 to 1")


def counts(*, least: int = 1, **numbers: int) -> None:
    """Raises ValueError naming the first number that is not a whole number of at least `least`."""
    for name, number in numbers.items():
        if not (_is_whole(number) and number >= least):
            raise ValueError(f"{name} is {number}: expected a whole number of at least {least}")


def known(what: str, given: Iterable[str], known: Collection[str]) -> None:
    """Raises ValueError for what is given and not known."""
    if unknown := sorted(set(given) - set(known)):
        choices = f"choose among {', '.join(sorted(known))}" if known else "there are none"
        raise ValueError(f"unknown {what}: {', '.join(unknown)}; {choices}")


def batchnorm(mode: str) -> None:
    """Raises ValueError unless it names whose statistics BatchNorm uses: those of the batch or the running ones."""
    if mode not in ("train", "eval"):
        raise ValueError(f"batchnorm is {mode!r}: expected 'train' or 'eval'")


def _is_list(value: Any) -> bool:
    return isinstance(value, Iterable) and not isinstance(value, str) and getattr(value, "ndim", 1) == 1


def _is_whole(value: Any) -> bool:
    try:
        operator.index(value)
    except TypeError:
        return False
    return not isinstance(value, bool) and getattr(value, "dtype", None) != torch.bool
