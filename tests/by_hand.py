"""Plain loops that the methods' training is held against."""

import copy
from collections.abc import Callable, Iterable

import torch
from torch import Tensor, nn

from unsir_utils.engine.samples import Samples


def descended(
    model: nn.Module,
    losses: Iterable[Callable[[nn.Module], Tensor]],
    lr: float,
    weight_decay: float = 5e-4,
    may_move: list[Tensor] | None = None,
) -> nn.Module:
    """A copy after one step a loss, momentum 0.9; weights outside the masks `may_move` stand still."""
    model = copy.deepcopy(model)
    weights = list(model.parameters())
    velocity = [torch.zeros_like(w) for w in weights]
    for loss in losses:
        gradients = torch.autograd.grad(loss(model), weights)
        with torch.no_grad():
            for i, (w, g) in enumerate(zip(weights, gradients, strict=True)):
                velocity[i] = 0.9 * velocity[i] + g + weight_decay * w
                w -= lr * velocity[i] * (1 if may_move is None else may_move[i])
    return model


def cross_entropy(samples: Samples, labels: Tensor | None = None) -> Callable[[nn.Module], Tensor]:
    labels = samples.labels if labels is None else labels
    return lambda model: -torch.log_softmax(model(samples.images), 1)[torch.arange(len(labels)), labels].mean()


def kl(samples: Samples, teacher: Tensor, temperature: float = 1.0) -> Callable[[nn.Module], Tensor]:
    """teacher: probabilities [n, K]."""

    def loss(model: nn.Module) -> Tensor:
        log_q = torch.log_softmax(model(samples.images) / temperature, 1)
        return temperature**2 * (torch.special.entr(teacher).neg() - teacher * log_q).sum(1).mean()

    return loss


def close(one: nn.Module, other: nn.Module, rtol: float = 1e-4, atol: float = 1e-6) -> None:
    for a, b in zip(one.parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=rtol, atol=atol)


def moved(one: nn.Module, other: nn.Module) -> float:
    """The largest change of a weight."""
    return max((a - b).abs().max().item() for a, b in zip(one.parameters(), other.parameters(), strict=True))
