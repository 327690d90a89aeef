"""How soon a class comes back: relearning from a few images in a fixed number of steps, so that no cap hides anything."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from itertools import islice

import torch
from torch import nn

from ..engine import checks
from ..engine.samples import Samples
from ..engine.state import seeded, with_gradients
from ..engine.training import one_epoch
from .features import Unmasked, read
from .recovered import LOST, shifts


@with_gradients
def relearned(
    model: nn.Module,
    few: Samples,
    forget: Sequence[int],
    *,
    lost: float = LOST,
    steps: int = 30,
    lr: float = 0.01,
    batch_size: int = 100,
    seed: int = 0,
) -> nn.Module:
    """A copy of the model after `steps` of SGD with momentum 0.9 on the few images, BatchNorm on its running statistics.

    All its weights may move, frozen or not. The loss is taken at the head, so that no mask helps, with the forget classes'
    logits shifted first (`recovered.shifts`), so that no shifted bias does. Measure the copy by `recovered.logit_recovered`.

    few: images of all classes, ten of each as a rule. lost: share of their retain images that the shift may cost.
    Source: few-shot relearning, as in "From Dormant to Deleted" (2025); the steps are this project's.
    """
    checks.counts(steps=steps, batch_size=batch_size)
    checks.positive(lr=lr)
    shift = shifts(read(model, few), forget, lost).float().to(few.device)
    model = copy.deepcopy(model).requires_grad_(True)
    optimiser = torch.optim.SGD(model.parameters(), lr=lr, momentum=0.9)
    with seeded(seed, few.device):
        batches = islice(few.endless(batch_size), steps)
        one_epoch(Unmasked(model, few.inputs(slice(0, 2)), shift), batches, optimiser, train_mode=False)
    return model
