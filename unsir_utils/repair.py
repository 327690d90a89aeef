"""Step 3 of UNSIR: one pass over the retain subset alone."""

from __future__ import annotations

from typing import Any

from torch import nn

from .engine.samples import Samples
from .impair import Phase, impair
from .settings import PAPER

REPAIR_SEED = 2**31  # added to the seed


def repair(
    model: nn.Module,
    retain: Samples,
    *,
    lr: float = PAPER.repair_lr,
    epochs: int = PAPER.repair_epochs,
    batch_size: int = PAPER.batch_size,
    head_factor: float = PAPER.head_factor,
    seed: int = 0,
) -> Phase:
    """Trains a copy of `model` on the retain subset: `impair` without noise, at a lower learning rate.

    The order of its batches comes from the seed, too, but is another one than impair's: in the control without noise the
    second pass would else repeat the first, batch by batch.
    Source: the paper's method (reported in a published summary); numbers from the authors' released notebook.
    """
    passes: dict[str, Any] = dict(lr=lr, epochs=epochs, batch_size=batch_size, head_factor=head_factor)
    return impair(model, retain, None, **passes, seed=seed + REPAIR_SEED)
