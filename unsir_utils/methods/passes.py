"""What the methods that train have in common: their loop, a teacher's answers, distillation, gradients of whole batches."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..engine import checks
from ..engine.forward import forward
from ..engine.precision import exact_cuda
from ..engine.samples import Samples
from ..engine.state import mode, seeded, with_gradients
from ..engine.training import Batches, one_epoch

Objective = Callable[[Tensor, Any], Tensor]  # of the logits and of what stands beside the inputs, labels as a rule
Pass = tuple[Batches, Objective]
Optimiser = Callable[[Iterable[nn.Parameter]], torch.optim.Optimizer]


@with_gradients
def run_passes(
    model: nn.Module,
    passes: Callable[[nn.Module, int], Iterable[Pass]],
    optimiser: Optimiser,
    *,
    epochs: int,
    seed: int,
    train_mode: bool = True,
) -> nn.Module:
    """A copy of `model` after `epochs` times the passes(copy, epoch), with one optimiser throughout."""
    model = copy.deepcopy(model)
    steps = optimiser(model.parameters())
    with seeded(seed, next(model.parameters()).device):
        for epoch in range(epochs):
            for batches, objective in passes(model, epoch):
                one_epoch(model, batches, steps, objective=objective, train_mode=train_mode)
    return model


def sgd(lr: float, weight_decay: float = 5e-4) -> Optimiser:
    """The optimiser of most of the methods' public code."""
    return partial(torch.optim.SGD, lr=lr, momentum=0.9, weight_decay=weight_decay)


def check_training(
    model: nn.Module, epochs: int, lr: float, batch_size: int, train_mode: bool = True, **given: Samples
) -> None:
    """Raises ValueError for what no loop can run on. given: the samples by what they are, "retain" or "forget"."""
    checks.counts(epochs=epochs, batch_size=batch_size)
    checks.positive(lr=lr)
    for what, samples in given.items():
        checks.trainable(model, samples, batch_size, f"{what} data", train_mode)
    if given.keys() >= {"retain", "forget"}:
        checks.retain_set(given["retain"], classes_of(given["forget"]))


def classes_of(samples: Samples) -> list[int]:
    return samples.labels.unique().tolist()


def joined(one: Samples, other: Samples) -> Samples:
    return replace(one, images=torch.cat([one.images, other.images]), labels=torch.cat([one.labels, other.labels]))


@torch.no_grad()
def answers(teacher: nn.Module, x: Tensor) -> Tensor:
    """The logits [n, K] of a frozen network, in eval mode."""
    with mode(teacher, False):
        return forward(teacher, x.clone())  # a network may work in place, and x goes through another one as well


def taught(batches: Batches, teach: Callable[[Tensor, Tensor], Any]) -> Iterator[tuple[Tensor, Any]]:
    """The batches' inputs, each beside teach(inputs, labels) for its target."""
    return ((x, teach(x, y)) for x, y in batches)


def distillation(z: Tensor, teacher: Tensor, temperature: float = 1.0) -> Tensor:
    """KL(teacher || student) of the logits over `temperature`, mean over the batch, times the temperature squared.

    Source: Hinton et al. (2015). A teacher's logit may be minus infinity.
    """
    student, teacher = F.log_softmax(z / temperature, dim=1), F.softmax(teacher / temperature, dim=1)
    return temperature**2 * F.kl_div(student, teacher, reduction="batchmean")


def trainable(parameters: Iterable[nn.Parameter]) -> list[nn.Parameter]:
    return [p for p in parameters if p.requires_grad]


@exact_cuda()
@with_gradients
def mean_gradients(
    model: nn.Module, samples: Samples, batch_size: int, of: Callable[[Tensor], Tensor] = torch.clone
) -> list[Tensor]:
    """Mean over batches of of(g), with g the gradient of a batch's mean cross-entropy: a tensor a trainable parameter.

    In eval mode; batches in the samples' order. Not the Fisher information, whose squares are each sample's own.
    """
    weights = trainable(model.parameters())
    total, n = [torch.zeros_like(w) for w in weights], 0
    with mode(model, False):
        for x, y in samples.batches(batch_size):
            loss = F.cross_entropy(forward(model, x), y)
            for sum_, g in zip(total, torch.autograd.grad(loss, weights, materialize_grads=True), strict=True):
                sum_ += of(g)
            n += 1
    return [sum_ / n for sum_ in total]
