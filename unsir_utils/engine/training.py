"""The one loop that training, fine-tuning, impair, repair and relearning share."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .forward import called, forward
from .precision import exact_cuda
from .state import Checking, mode, with_gradients

Batches = Iterable[tuple[Tensor, Any]]  # inputs, and labels or whatever the objective compares the logits with
TINY = 1e-30  # zeroing weights below it left every logit of three trained networks as it was


@exact_cuda()
@with_gradients
def one_epoch(
    model: nn.Module,
    batches: Batches,
    optimiser: torch.optim.Optimizer,
    *,
    objective: Callable[[Tensor, Any], Tensor] = F.cross_entropy,
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


def adam(model: nn.Module, lr: float, head_factor: float = 1.0, x: Tensor | None = None, **options: Any) -> torch.optim.Adam:
    return in_memory_order(torch.optim.Adam(parameter_groups(model, lr, head_factor, x), fused=True, **options))


O_ = TypeVar("O_", bound=torch.optim.Optimizer)


def in_memory_order(optimiser: O_) -> O_:
    """The same optimiser, whose steps see a CPU's channels-last weights as they lie in memory.

    A fused step copies each of them, its gradient and its state, there and back. 17_benchmark measures what that costs.
    """
    weights = [
        p for group in optimiser.param_groups for p in group["params"] if p.device.type == "cpu" and _lies_otherwise(p)
    ]

    def turn(order: tuple[int, ...]) -> Callable[..., None]:
        def hook(*_: object) -> None:
            for weight in weights:
                gradient, weight.grad = weight.grad, None
                weight.data = weight.data.permute(order)
                weight.grad = None if gradient is None else gradient.permute(order)

        return hook

    optimiser.register_step_pre_hook(turn((0, 2, 3, 1)))
    optimiser.register_step_post_hook(turn((0, 3, 1, 2)))
    return optimiser


def _lies_otherwise(weight: Tensor) -> bool:
    return weight.dim() == 4 and not weight.is_contiguous() and weight.is_contiguous(memory_format=torch.channels_last)


def parameter_groups(model: nn.Module, lr: float, head_factor: float = 1.0, x: Tensor | None = None) -> list[dict]:
    """Parameter groups for an optimiser: the body learns at `lr`, the head at head_factor * lr.

    x: some inputs [n, ...], by which `head` finds the head; not needed where the factor is 1. Layer-wise rates with a higher
    one for the head: readers' notes on the paper's pretrained models, values unknown.
    """
    if head_factor == 1:
        return [{"params": list(model.parameters()), "lr": lr}]
    if x is None:
        raise ValueError(f"head_factor is {head_factor}: pass some inputs x, as samples.inputs(slice(0, 2)), too")
    last = list(head(model, x).parameters())
    body = [p for p in model.parameters() if all(p is not h for h in last)]
    return [{"params": body, "lr": lr}, {"params": last, "lr": head_factor * lr}]


Layer = nn.Linear | nn.Conv1d | nn.Conv2d | nn.Conv3d
HEADS = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)


@with_gradients
def head(model: nn.Module, x: Tensor) -> Layer:
    """The Linear or convolution that yields the logits for inputs x [n, ...], whatever pools or scales them behind it.

    The graph of a forward pass is walked back from the logits to the first such layer on every path. Raises ValueError
    unless that is one layer with an output for each logit, with no other weight matrix behind it.
    """
    made_by: dict[object, nn.Module] = {}

    def remember(layer: nn.Module, _, output: Tensor) -> None:
        made_by[output.grad_fn] = layer

    hooks = [layer.register_forward_hook(remember) for layer in model.modules() if isinstance(layer, HEADS)]
    try:
        with Checking(), mode(model, False):
            z = called(model, x.clone().requires_grad_().clone())
    finally:
        for hook in hooks:
            hook.remove()
    found, seen, ahead = set(), set(), [z.grad_fn]
    while ahead:
        node = ahead.pop()
        if node in made_by or _is_weight_matrix(node):
            found.add(made_by.get(node, node))
        elif node is not None and node not in seen:
            seen.add(node)
            ahead += [following for following, _ in node.next_functions]
    last = found.pop() if len(found) == 1 else None
    if not isinstance(last, HEADS) or len(last.weight) != z.shape[1]:
        raise ValueError(
            "no single Linear or convolution yields the model's logits, so that its head is not known: let one be its last "
            "layer with weights, or use head_factor=1"
        )
    return last


def _is_weight_matrix(node: object) -> bool:
    weight = getattr(node, "variable", None)  # of the graph's leaves alone
    return isinstance(weight, nn.Parameter) and weight.dim() > 1
