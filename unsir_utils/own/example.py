"""A small training of one's own, for whoever brings no checkpoint."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_model

from ..engine import checks
from ..engine.samples import Samples
from ..engine.state import seeded
from ..engine.training import one_epoch
from .networks import build


def train_checkpoint(
    network: str,
    arguments: dict[str, Any] | None,
    train: Samples,
    file: Path,
    *,
    epochs: int,
    lr: float,
    batch_size: int,
    seed: int = 0,
) -> Path:
    """Trains a network of `networks.build` by SGD with a one-cycle rate that peaks at `lr`; returns its safetensors file."""
    checks.counts(epochs=epochs, batch_size=batch_size)
    with seeded(seed):
        model = build(network, arguments, train.n_classes).to(train.device)
    checks.trainable(model, train, batch_size, "training data")
    sgd = torch.optim.SGD(model.parameters(), lr, momentum=0.9, nesterov=True, weight_decay=5e-4)
    steps = epochs * -(-len(train) // batch_size) + 1
    schedule = torch.optim.lr_scheduler.OneCycleLR(sgd, max_lr=lr, total_steps=steps)
    with seeded(seed, train.device):
        for _ in range(epochs):
            one_epoch(model, train.shuffled(batch_size), sgd, schedule=schedule)
    save_model(model, str(file))
    return file
