"""What unlearning is judged by. Every figure is over concatenated logits; every function leaves the model as it was."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .engine import checks
from .engine.forward import forward
from .engine.samples import Samples, at_once
from .engine.state import mode, seeded, with_gradients
from .engine.training import adam, one_epoch

EVALUATION_BATCH = 1000  # images, see `at_once`


@torch.no_grad()
def logits(model: nn.Module, samples: Samples) -> Tensor:
    """float32 [n, K], in eval mode, in the samples' order. Raises ValueError unless they and the labels are of n_classes."""
    checks.labels(samples)
    with mode(model, False):
        dtype = next((p.dtype for p in model.parameters() if p.is_floating_point()), torch.float32)
        parts = [forward(model, x.to(dtype)) for x, _ in samples.batches(at_once(samples.shape, EVALUATION_BATCH))]
    z = torch.cat(parts) if parts else torch.empty(0, samples.n_classes, device=samples.device)
    if z.shape[1] != samples.n_classes:
        raise ValueError(
            f"the model gives {z.shape[1]} logits but the data has {samples.n_classes} classes: they must agree"
        )
    return z


def predictions(model: nn.Module, samples: Samples) -> Tensor:
    """int64 [n]: the predicted class; -1 where a diverged model's logits are nan, so that it is right about nothing."""
    return _predicted(logits(model, samples))


def _predicted(z: Tensor) -> Tensor:
    return z.argmax(1).masked_fill(z.isnan().any(1), -1)


def evaluate(model: nn.Module, samples: Samples) -> tuple[float, float]:
    """(mean cross-entropy in nats, accuracy in %) over all samples; nan for none."""
    z = logits(model, samples)
    loss = F.cross_entropy(z, samples.labels).item()
    return loss, 100 * (_predicted(z) == samples.labels).double().mean().item()


def per_class_accuracy(model: nn.Module, samples: Samples) -> Tensor:
    """float64 [K], accuracy in % on each class; nan for a class without samples."""
    hit = (predictions(model, samples) == samples.labels).double()
    count = torch.bincount(samples.labels, minlength=samples.n_classes)
    return 100 * torch.bincount(samples.labels, weights=hit, minlength=samples.n_classes) / count


def retain_forget_accuracy(model: nn.Module, samples: Samples, forget: Iterable[int]) -> tuple[float, float]:
    """(A_Dr, A_Df): accuracy in % on the samples of the retain and of the forget classes (test samples in the paper)."""
    forget = torch.tensor(checks.classes(forget, samples.n_classes, "forget class"), device=samples.device)
    hit = (predictions(model, samples) == samples.labels).double()
    forgotten = torch.isin(samples.labels, forget)
    return 100 * hit[~forgotten].mean().item(), 100 * hit[forgotten].mean().item()


def prediction_distribution(model: nn.Module, samples: Samples) -> Tensor:
    """float64 [K]: the share of the samples that is predicted to be each class; sums to 1 unless logits are nan."""
    predicted = predictions(model, samples)
    return torch.bincount(predicted[predicted >= 0], minlength=samples.n_classes).double() / len(samples)


def normalised_entropy(distribution: Tensor) -> float:
    """Shannon entropy of [K] shares, K at least 2, divided by log K: 0 where one class takes all, 1 where all are even."""
    p = distribution[distribution > 0]
    return min(1.0, abs((p * p.log()).sum().item()) / math.log(len(distribution)))


def weight_distance(model: nn.Module, other: nn.Module) -> dict[str, float]:
    """L2 norm of the difference of the parameters of each layer that has any, by the layer's name, in order.

    Weight and bias of a layer count together; BatchNorm's running statistics do not. Figure 4 of the paper shows these
    on a log scale; their sum and mean over layers are sum(d.values()) and its quotient by len(d).
    """
    there = dict(other.named_parameters())
    here = dict(model.named_parameters())
    if {k: v.shape for k, v in here.items()} != {k: v.shape for k, v in there.items()}:
        raise ValueError("the two models have different parameters: compare models of one architecture")
    squares: dict[str, float] = {}
    for name, parameter in here.items():
        layer = name.rpartition(".")[0] or name
        difference = (parameter.detach().double() - there[name].detach().double()).square().sum().item()
        squares[layer] = squares.get(layer, 0.0) + difference
    return {layer: math.sqrt(square) for layer, square in squares.items()}


@with_gradients
def relearn_epochs(
    model: nn.Module,
    original: nn.Module,
    train: Samples,
    forget: Samples,
    *,
    per_epoch: int = 500,
    lr: float = 0.01,
    cap: int = 100,
    batch_size: int = 64,
    seed: int = 0,
) -> int | None:
    """Relearn time in epochs: how long until the forget set's loss is no more than the original model's.

    An epoch is `per_epoch` samples of the full training set, drawn with replacement; plain SGD; BatchNorm in eval mode.
    0 where nothing was lost; None where `cap` epochs do not suffice. A copy is trained.

    train: the full training set, forget classes included; forget: the forget samples whose loss is watched.
    Source: Golatkar et al.'s public code. Batch size: this project's, half of theirs, so an epoch takes twice the steps. Not
    taken over: their pull of the weights to where they began, 1e-5 more loss, and counting from 1.
    """
    checks.counts(per_epoch=per_epoch, batch_size=batch_size)
    checks.counts(least=0, cap=cap)
    checks.positive(lr=lr)
    checks.trainable(model, train, batch_size, "training data", train_mode=False)
    for network in (model, original):
        checks.samples_for(network, forget, "forget data")
    target = evaluate(original, forget)[0]
    model = copy.deepcopy(model)
    optimiser = torch.optim.SGD(model.parameters(), lr=lr)
    with seeded(seed, train.device):
        for epoch in range(cap + 1):
            if evaluate(model, forget)[0] <= target:
                return epoch
            if epoch < cap:
                drawn = train[torch.randint(len(train), (per_epoch,)).to(train.device)]
                one_epoch(model, drawn.shuffled(batch_size), optimiser, train_mode=False)
    return None


@with_gradients
def relearn_steps(
    model: nn.Module,
    original: nn.Module,
    train: Samples,
    forget: Samples,
    *,
    share: float = 0.95,
    lr: float = 1e-3,
    cap: int = 1000,
    batch_size: int = 256,
    seed: int = 0,
) -> int | None:
    """Relearn time in mini-batch steps: how many until the accuracy on `forget` is at least `share` of the original's.

    Adam on the full training set, epoch after epoch, in train mode. 0 where nothing was lost; None where `cap` steps do
    not suffice. A copy is trained.

    Source: UNSIR's authors' later zero-shot-unlearning code. It hands over held-out forget samples, the notebooks training
    ones, as for `relearn_epochs`.
    """
    checks.counts(batch_size=batch_size)
    checks.counts(least=0, cap=cap)
    checks.positive(share=share, lr=lr)
    checks.trainable(model, train, batch_size, "training data")
    for network in (model, original):
        checks.samples_for(network, forget, "forget data")
    target = share * evaluate(original, forget)[1]
    model = copy.deepcopy(model)
    optimiser, steps = adam(model, lr), 0
    if evaluate(model, forget)[1] >= target:
        return 0
    with seeded(seed, train.device):
        while True:
            for batch in train.shuffled(batch_size):
                if steps == cap:
                    return None
                one_epoch(model, [batch], optimiser)
                steps += 1
                if evaluate(model, forget)[1] >= target:
                    return steps
