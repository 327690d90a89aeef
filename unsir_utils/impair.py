"""Step 2 of UNSIR: one pass over retain samples and noise together, at a high learning rate."""

from __future__ import annotations

import copy
import time
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from .engine import checks
from .engine.samples import Samples, channels_last, chunks, on
from .engine.state import seeded, with_gradients
from .engine.training import adam, one_epoch
from .noise import Noise
from .settings import PAPER


@dataclass(frozen=True, eq=False)
class Phase:
    """A model after some passes. losses: one a batch; samples: images seen, repetitions counted."""

    model: nn.Module
    losses: list[float]
    seconds: float
    samples: int

    def __repr__(self) -> str:
        return f"Phase({self.samples} images seen)"


@with_gradients
def impair(
    model: nn.Module,
    retain: Samples,
    noise: Noise | None,
    *,
    lr: float = PAPER.impair_lr,
    epochs: int = PAPER.impair_epochs,
    copies: int = PAPER.copies,
    batch_size: int = PAPER.batch_size,
    head_factor: float = PAPER.head_factor,
    seed: int = 0,
) -> Phase:
    """Trains a copy of `model` on the retain subset and `copies` repetitions of each noise image, shuffled together.

    Adam, fresh; no weight decay, no clipping; the head learns at head_factor * lr. Frozen parameters stay. With noise=None
    it is the control without noise, and `repair` too.
    Source: the paper's method (reported in a published summary); numbers from the authors' released notebook.
    """
    checks.counts(epochs=epochs, copies=copies, batch_size=batch_size)
    checks.positive(lr=lr, head_factor=head_factor)
    checks.trainable(model, retain, batch_size)
    if noise is not None:
        checks.noise_for(noise, retain)
    start, losses = time.perf_counter(), []
    model = copy.deepcopy(model)
    if noise is not None:
        images, labels = noise.images.to(retain.device, torch.float32), noise.labels.to(retain.device)
        noise = Noise(images, labels, [], 0.0, 0)
    n_noise = 0 if noise is None else copies * len(noise)
    optimiser = adam(model, lr, head_factor, retain.inputs(slice(0, 2)))
    with seeded(seed, retain.device):
        for _ in range(epochs):
            losses += one_epoch(model, mixed(retain, noise, n_noise, batch_size), optimiser)
    return Phase(model, losses, time.perf_counter() - start, epochs * (len(retain) + n_noise))


def mixed(retain: Samples, noise: Noise | None, n_noise: int, batch_size: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Batches of retain samples and repeated noise images, without ever holding the repetitions."""
    n = len(retain)
    for index in chunks(torch.randperm(n + n_noise), batch_size):
        kept = on(retain.device, index[index < n])
        x, y = retain.inputs(kept), retain.labels[kept]
        if noise is not None:
            repeated = on(retain.device, (index[index >= n] - n) % len(noise))
            x, y = channels_last(torch.cat([x, noise.images[repeated]])), torch.cat([y, noise.labels[repeated]])
        yield x, y
