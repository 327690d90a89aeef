"""The plain side of the benchmark: each function does the work of the kernel of the same name as such code usually does it.

A Python list of (image, label) that a DataLoader shuffles and stacks; noise learned class after class, while the model
gathers gradients that no one uses; Adam at its defaults; float32. Nothing is slowed on purpose.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.optim import SGD, Adam
from torch.utils.data import DataLoader, RandomSampler

from ..engine.samples import Samples

Pairs = Any  # a list of (image float32 [C, H, W], label), which a DataLoader takes for a data set


def network(model: nn.Module) -> nn.Module:
    """A copy with its weights laid out as PyTorch lays them out by itself."""
    return copy.deepcopy(model).to(memory_format=torch.contiguous_format)


def as_list(samples: Samples) -> Pairs:
    """The samples, normalised, as (image, label) in main memory."""
    return list(zip(samples.inputs().cpu().contiguous(), samples.labels.tolist(), strict=True))


def learn_noise(
    model: nn.Module, label: int, n: int, steps: int, shape: Sequence[int], lr: float = 0.1, penalty: float = 0.1
) -> Tensor:
    """n noise images [n, *shape] that the model gets as wrong as can be for this label."""
    device = next(model.parameters()).device
    images = torch.randn(n, *shape).to(device).requires_grad_()
    labels = torch.full((n,), label, device=device)
    optimiser = Adam([images], lr=lr)
    for _ in range(steps):
        size = images.square().sum((1, 2, 3)).mean()
        loss = penalty * size - cross_entropy(model(images), labels)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    return images.detach().cpu()


def one_epoch(
    model: nn.Module, samples: Pairs, optimiser: torch.optim.Optimizer, batch_size: int, clip: float | None = None
) -> None:
    """One pass of gradient steps over a list of (image, label)."""
    device = next(model.parameters()).device
    for x, y in DataLoader(samples, batch_size, shuffle=True):
        loss = cross_entropy(model(x.to(device)), y.to(device))
        optimiser.zero_grad()
        loss.backward()
        if clip is not None:
            nn.utils.clip_grad_value_(model.parameters(), clip)
        optimiser.step()


def unsir(
    model: nn.Module,
    forget: Sequence[int],
    retain: Pairs,
    seed: int,
    *,
    noise_per_class: int,
    noise_steps: int,
    copies: int,
    batch_size: int,
    impair_lr: float,
    repair_lr: float,
) -> nn.Module:
    """Noise class after class, then impair, then repair, on a copy."""
    torch.manual_seed(seed)
    model, shape = copy.deepcopy(model).eval(), retain[0][0].shape
    learned = [(learn_noise(model, c, noise_per_class, noise_steps, shape), c) for c in forget]
    noisy = [(image, c) for images, c in learned for image in images] * copies
    model.train()
    one_epoch(model, noisy + retain, Adam(model.parameters(), lr=impair_lr), batch_size)
    one_epoch(model, retain, Adam(model.parameters(), lr=repair_lr), batch_size)
    return model.eval()


def evaluate(model: nn.Module, samples: Pairs, batch_size: int = 250) -> tuple[float, float]:
    """(mean cross-entropy, accuracy in %) over a list of (image, label). Batches of 1,000 were slower."""
    loss, hits, device = 0.0, 0, next(model.parameters()).device
    with torch.no_grad():
        for x, y in DataLoader(samples, batch_size):
            logits, y = model(x.to(device)), y.to(device)
            loss += cross_entropy(logits, y, reduction="sum").item()
            hits += (logits.argmax(1) == y).sum().item()
    return loss / len(samples), 100 * hits / len(samples)


def relearn_epochs(
    model: nn.Module,
    original: nn.Module,
    train: Pairs,
    watched: Pairs,
    *,
    per_epoch: int,
    cap: int,
    lr: float,
    batch_size: int = 64,
) -> int | None:
    """Epochs until the loss on the watched images is the original's again; None past the cap."""
    target, model = evaluate(original, watched)[0], copy.deepcopy(model).eval()
    optimiser, device = SGD(model.parameters(), lr=lr), next(model.parameters()).device
    drawn = RandomSampler(train, replacement=True, num_samples=per_epoch)
    for epoch in range(cap + 1):
        if evaluate(model, watched)[0] <= target:
            return epoch
        for x, y in DataLoader(train, batch_size, sampler=drawn) if epoch < cap else ():
            optimiser.zero_grad()
            cross_entropy(model(x.to(device)), y.to(device)).backward()
            optimiser.step()
    return None
