"""UNSIR as some code runs it: no gradient is ever set to zero."""

from __future__ import annotations

import copy

import torch
from torch import nn

from ..engine import checks
from ..engine.samples import Samples
from ..engine.state import seeded, with_gradients
from ..engine.training import one_epoch
from ..impair import mixed
from ..noise import Noise
from ..repair import REPAIR_SEED
from ..settings import PAPER


class _Piling(torch.optim.Adam):
    def zero_grad(self, set_to_none: bool = True) -> None:
        """Leaves every gradient as it is."""


@with_gradients
def piled_up(
    model: nn.Module,
    retain: Samples,
    noise: Noise,
    *,
    impair_lr: float = PAPER.impair_lr,
    repair_lr: float = PAPER.repair_lr,
    copies: int = PAPER.copies,
    batch_size: int = PAPER.batch_size,
    seed: int = 0,
) -> nn.Module:
    """A copy of `model` after UNSIR's two passes, where each step goes along the sum of the gradients of all steps so far.

    That is what a loop without `zero_grad` does, in repair with impair's gradients, too. Arguments and batches as in
    `unsir.two_passes`. Source: reported of ports of UNSIR; no line of one was at hand.
    """
    checks.counts(copies=copies, batch_size=batch_size)
    checks.positive(impair_lr=impair_lr, repair_lr=repair_lr)
    checks.trainable(model, retain, batch_size)
    checks.noise_for(noise, retain)
    model = copy.deepcopy(model)
    for lr, images, shown, at in ((impair_lr, noise, copies * len(noise), seed), (repair_lr, None, 0, seed + REPAIR_SEED)):
        with seeded(at, retain.device):
            one_epoch(model, mixed(retain, images, shown, batch_size), _Piling(model.parameters(), lr=lr))
    model.zero_grad()
    return model
