"""The one loop that training, fine-tuning, impair, repair and relearning share."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .forward import exact_cuda, forward

Batches = Iterable[tuple[Tensor, Tensor]]
TINY = 1e-30  # zeroing weights below it left every logit of three trained networks as it was


@exact_cuda()
def one_epoch(
    model: nn.Module,
    batches: Batches,
    optimiser: torch.optim.Optimizer,
    *,
    objective: Callable[[Tensor, Tensor], Tensor] = F.cross_entropy,
    clip_value: float | None = None,
    schedule: torch.optim.lr_scheduler.LRScheduler | None = None,
    train_mode: bool = True,
) -> list[float]:
    """One pass of gradient steps over `batches`; returns the loss of each batch.

    clip_value: gradients are clipped to [-clip_value, clip_value], element by element.
    schedule: stepped after every batch.
    train_mode: False keeps BatchNorm on its running statistics and dropout off.
    """
    parameters = [p for p in model.parameters() if p.requires_grad]
    losses = []
    with mode(model, train_mode):
        for x, y in batches:
            loss = objective(forward(model, x), y)
            optimiser.zero_grad(set_to_none=True)
            loss.backward()
            if clip_value is not None:
                nn.utils.clip_grad_value_(parameters, clip_value)
            optimiser.step()
            if schedule is not None:
                schedule.step()
            losses.append(loss.detach())
    optimiser.zero_grad(set_to_none=True)  # no one needs the last gradients, and they are as large as the model
    return torch.stack(losses).tolist() if losses else []


@torch.no_grad()
def flush_tiny_weights(model: nn.Module) -> None:
    """Sets the weights below TINY to zero, in place.

    Weight decay can leave most of a network there, and a CPU takes many times as long over the subnormal numbers that they
    and their products are (17_benchmark measures it). torch.set_flush_denormal reaches only the thread that calls it.
    """
    for weight in model.parameters():
        weight.masked_fill_(weight.abs() < TINY, 0)


def adam(model: nn.Module, lr: float, head_factor: float = 1.0, **options: float) -> torch.optim.Adam:
    return torch.optim.Adam(parameter_groups(model, lr, head_factor), fused=True, **options)


def parameter_groups(model: nn.Module, lr: float, head_factor: float = 1.0) -> list[dict]:
    """Parameter groups for an optimiser: the body learns at `lr`, the head at head_factor * lr.

    The head is the last Linear layer or, where there is none, the last Conv2d. Raises ValueError for a model without
    either where the factor is not 1. Layer-wise rates with a higher one for the head: readers' notes on the paper's
    pretrained models, values unknown.
    """
    if head_factor == 1:
        return [{"params": list(model.parameters()), "lr": lr}]
    layers = [[m for m in model.modules() if isinstance(m, kind)] for kind in (nn.Linear, nn.Conv2d)]
    heads = layers[0] or layers[1]
    if not heads:
        raise ValueError(f"head_factor is {head_factor}, but the model has no Linear or Conv2d layer as its head: use 1")
    head = list(heads[-1].parameters())
    body = [p for p in model.parameters() if all(p is not h for h in head)]
    return [{"params": body, "lr": lr}, {"params": head, "lr": head_factor * lr}]


@contextmanager
def mode(model: nn.Module, training: bool) -> Iterator[None]:
    """Train or eval mode for a while; every submodule gets its own mode back."""
    before = [(module, module.training) for module in model.modules()]
    model.train(training)
    try:
        yield
    finally:
        for module, was in before:
            module.training = was


@contextmanager
def seeded(seed: int, device: torch.device | str = "cpu") -> Iterator[None]:
    """All draws inside, on the CPU and on `device`, come from `seed`; the caller's random state is as it was afterwards.

    No other device is touched: torch.manual_seed seeds every one there is.
    """
    device = torch.device(device)
    gpu = device.type == "cuda"
    with torch.random.fork_rng([device] if gpu else []):
        torch.default_generator.manual_seed(seed)
        if gpu:
            with torch.cuda.device(device):
                torch.cuda.manual_seed(seed)
        yield
