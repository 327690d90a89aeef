"""UNSIR: noise, impair, repair, chained; and the same as the authors' released notebook really runs it."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from torch import nn

from .engine import checks
from .engine.samples import Samples
from .engine.state import with_gradients
from .engine.training import head
from .impair import Phase, impair
from .noise import Noise, learn_noise
from .repair import repair
from .settings import BEST, FAST, PAPER, RELEASED, Settings


@dataclass(frozen=True, eq=False)
class Unlearned:
    """The unlearned copy and how it came about. impaired.model is the copy between the two passes."""

    model: nn.Module = field(repr=False)
    noise: Noise | None
    impaired: Phase
    repaired: Phase

    @property
    def seconds(self) -> dict[str, float]:
        return {
            "noise": self.noise.seconds if self.noise else 0.0,
            "impair": self.impaired.seconds,
            "repair": self.repaired.seconds,
        }

    @property
    def samples(self) -> dict[str, int]:
        """Images that went through the model in each phase, repetitions counted."""
        return {
            "noise": self.noise.samples if self.noise else 0,
            "impair": self.impaired.samples,
            "repair": self.repaired.samples,
        }


@with_gradients
def unsir(
    model: nn.Module,
    forget: Iterable[int],
    retain: Samples,
    *,
    noise: Noise | None = None,
    noise_per_class: int = PAPER.noise_per_class,
    noise_total: int | None = None,
    noise_steps: int = PAPER.noise_steps,
    noise_lr: float = PAPER.noise_lr,
    penalty: float = PAPER.penalty,
    batchnorm: str = PAPER.batchnorm,
    copies: int = PAPER.copies,
    impair_lr: float = PAPER.impair_lr,
    impair_epochs: int = PAPER.impair_epochs,
    repair_lr: float = PAPER.repair_lr,
    repair_epochs: int = PAPER.repair_epochs,
    batch_size: int = PAPER.batch_size,
    head_factor: float = PAPER.head_factor,
    forgotten: Iterable[int] = (),
    seed: int = 0,
) -> Unlearned:
    """Erases the forget classes from a copy of `model`, seeing only `retain`: samples of the other classes.

    The defaults are the paper's settings, as the released notebook states them (CIFAR-10, ResNet18; there `retain` holds
    1,000 samples a class). `learn_noise`, `impair` and `repair` say what each setting means. Noise that was learned
    before may be given as `noise`; the settings of its learning are then not used. The two passes shuffle differently,
    both by the seed.

    forgotten: classes that an earlier request took away, of which `retain` must have nothing either.

    Raises ValueError before any work for forget classes that are out of range, repeated, none or all; for retain data that
    is empty, not finite or contains a forget class; for a model that does not fit the data; for counts below one. Warns
    where the retain data lacks a class that nobody asked to forget.
    """
    passes: dict[str, Any] = dict(
        copies=copies, impair_lr=impair_lr, impair_epochs=impair_epochs, repair_lr=repair_lr, repair_epochs=repair_epochs,
        batch_size=batch_size, head_factor=head_factor,
    )  # fmt: skip
    _check_passes(model, retain, passes)
    forget = checks.forget_classes(forget, retain.n_classes)
    checks.retain_set(retain, forget, forgotten)
    if noise is not None:
        checks.noise_for(noise, retain)
        if set(noise.labels.tolist()) != set(forget):
            raise ValueError(f"the noise is for classes {sorted(set(noise.labels.tolist()))}, not for {sorted(forget)}")
    copied = copy.deepcopy(model)
    if noise is None:
        noise = learn_noise(
            copied, forget, retain.shape,
            per_class=noise_per_class, total=noise_total, steps=noise_steps, lr=noise_lr,
            penalty=penalty, batchnorm=batchnorm, seed=seed, in_place=True,
        )  # fmt: skip
    return two_passes(copied, retain, noise, **passes, seed=seed)


def two_passes(
    model: nn.Module,
    retain: Samples,
    images: Noise | None,
    *,
    copies: int = PAPER.copies,
    impair_lr: float = PAPER.impair_lr,
    impair_epochs: int = PAPER.impair_epochs,
    repair_lr: float = PAPER.repair_lr,
    repair_epochs: int = PAPER.repair_epochs,
    batch_size: int = PAPER.batch_size,
    head_factor: float = PAPER.head_factor,
    seed: int = 0,
) -> Unlearned:
    """Impair and repair alone, on a copy, with other `images` in the noise's place, or without any.

    The controls run through this: the same passes at the same rates with other images. Arguments as in `unsir`.
    """
    checks.counts(repair_epochs=repair_epochs)
    checks.positive(repair_lr=repair_lr)
    common: dict[str, Any] = dict(batch_size=batch_size, head_factor=head_factor, seed=seed)
    impaired = impair(model, retain, images, lr=impair_lr, epochs=impair_epochs, copies=copies, **common)
    repaired = repair(impaired.model, retain, lr=repair_lr, epochs=repair_epochs, **common)
    return Unlearned(repaired.model, images, impaired, repaired)


def noise_by_class(
    model: nn.Module, forget: Sequence[int], shape: Sequence[int], *, learned: int, batchnorm: str, seed: int = 0
) -> tuple[list[Noise], nn.Module]:
    """The noise phase of the released notebook: `learned` images [n, *shape] of each class, one class after another, all on
    one copy of `model`. Returns each class's noise and that copy, whose BatchNorm statistics train mode has moved.

    No class of a seed starts as one of another seed does.
    """
    copied = copy.deepcopy(model)
    common: dict[str, Any] = dict(per_class=learned, batchnorm=batchnorm, in_place=True)
    return [learn_noise(copied, [c], shape, seed=1000 * seed + i, **common) for i, c in enumerate(forget)], copied


@with_gradients
def released(
    model: nn.Module,
    forget: Iterable[int],
    retain: Samples,
    *,
    noise: Sequence[Noise] | None = None,
    per_class: int = PAPER.retain_per_class,
    used: int = RELEASED.used,
    label: int | None = RELEASED.label,
    batchnorm: str = RELEASED.batchnorm,
    learned: int = PAPER.noise_per_class,
    seed: int = 0,
    **passes: Any,
) -> Unlearned:
    """What the authors' released notebook runs, its three slips included; each is a switch.

    Classes one after another: 256 noise images learned (`learned`), with BatchNorm on the noise batch's statistics, which
    stay in the model (`batchnorm`); only the first 3 are used (`used`); all are labelled 0 (`label`; None gives each its
    own class). The retain subset is the first `per_class` samples of each class of `retain`. Arguments of `two_passes`
    (rates, copies, batch size) have their defaults there.

    noise: of each forget class, which `noise_by_class` learned before; `model` is then the copy that it returned.
    """
    checks.counts(per_class=per_class, used=used, learned=learned)
    subset = retain.first(per_class)
    _check_passes(model, subset, passes)
    forget = checks.forget_classes(forget, retain.n_classes)
    checks.retain_set(subset, forget)
    if label is not None:
        checks.classes([label], retain.n_classes, "label")
    if noise is not None and [set(part.labels.tolist()) for part in noise] != [{c} for c in forget]:
        raise ValueError(f"noise must have a part for each of {forget}, in this order: take it from noise_by_class")
    if noise is None:
        noise, model = noise_by_class(model, forget, retain.shape, learned=learned, batchnorm=batchnorm, seed=seed)
    images = Noise(
        torch.cat([part.images[:used] for part in noise]),
        torch.cat([part.labels[:used] for part in noise]),
        [loss for part in noise for loss in part.losses],
        sum(part.seconds for part in noise),
        sum(part.samples for part in noise),
    )
    if label is not None:
        images = images.labelled(label)
    return two_passes(model, subset, images, **passes, seed=seed)


COUNTS = ("copies", "impair_epochs", "repair_epochs", "batch_size")
RATES = ("impair_lr", "repair_lr", "head_factor")


def _check_passes(model: nn.Module, retain: Samples, given: dict) -> None:
    """Checks what `two_passes` is to be called with, before the noise is learned."""
    if unknown := given.keys() - {*COUNTS, *RATES}:
        raise TypeError(f"unknown settings {sorted(unknown)}: choose among {', '.join((*COUNTS, *RATES))}")
    checks.counts(**{name: given[name] for name in COUNTS if name in given})
    checks.positive(**{name: given[name] for name in RATES if name in given})
    checks.trainable(model, retain, given.get("batch_size", 2))
    if given.get("head_factor", 1) != 1:
        head(copy.deepcopy(model), retain.inputs(slice(0, 2)))  # of a copy: what a model keeps of this pass cannot be copied


def fast(model: nn.Module, forget: Iterable[int], retain: Samples, **settings) -> Unlearned:
    """UNSIR with the fewest image passes that forgot as well as the paper's settings, in 15_how_little's search.

    retain: samples of the other classes, of which `retain_per_class` of each are drawn. settings: fields of `Settings`,
    arguments of `unsir`, that override. Chosen on one recipe of ResNet18 on CIFAR-10: measure on held-out data of your own.
    """
    return _with(FAST, model, forget, retain, settings)


def best(model: nn.Module, forget: Iterable[int], retain: Samples, **settings) -> Unlearned:
    """UNSIR with the highest A_Dr at an A_Df of at most 1 % in that search. Arguments as in `fast`."""
    return _with(BEST, model, forget, retain, settings)


def _with(preset: Settings, model: nn.Module, forget: Iterable[int], retain: Samples, settings: dict) -> Unlearned:
    settings = {"seed": 0, **asdict(preset), **settings}
    return unsir(model, forget, retain.draw(settings.pop("retain_per_class"), seed=settings["seed"]), **settings)
