"""Fisher forgetting taken apart: which weights its noise harms, and whether it matters what the Fisher information says."""

from __future__ import annotations

import copy
from collections.abc import Callable
from functools import lru_cache
from typing import Any, cast

import torch
from torch import Tensor, nn

from ..engine.state import seeded
from ..engine.training import head
from ..methods.baselines import MOST, fisher_forgetting
from ..methods.fisher import fisher_information
from ..metrics import retain_forget_accuracy
from ..settings import FISHER_ALPHA
from .provenance import machine
from .store import Trained
from .study import Scenario, scenario

AT_ZERO = 1e-6  # a weight smaller than this counts as zero
# A channel is quiet where BatchNorm's stored variance is below what the most noise on one weight brings at inputs of mean
# square 1.
QUIET = FISHER_ALPHA * MOST
PARTS = (  # inner weights: the kernels and weight matrices before the last layer
    "everything",
    "last layer",
    "BatchNorm and biases",
    "inner weights",
    "inner weights at zero",
    "inner weights without information",
    "kernels of quiet channels",
    "BatchNorm of quiet channels",
    "quiet channels",
)
Information = dict[str, Tensor]  # by parameter name, each of its shape


def shuffled(information: Information, seed: int) -> Information:
    """Each tensor's entries in another order: what is known of a weight belongs to another one of the same tensor."""
    with seeded(seed):
        return {k: f.flatten()[torch.randperm(f.numel()).to(f.device)].view_as(f) for k, f in information.items()}


ENLARGED = "Fisher, larger weights"
LOUDER = 100.0  # times the information: the most noise is the same, and fewer weights get it
METHODS: dict[str, Callable[[Information, int], Information]] = {  # what Fisher forgetting is told of the weights
    "Fisher": lambda information, _: information,
    "Fisher, shuffled": shuffled,
    "Fisher, no information": lambda information, _: {name: torch.zeros_like(f) for name, f in information.items()},
    ENLARGED: lambda information, _: information,
    "Fisher, louder": lambda information, _: {name: LOUDER * f for name, f in information.items()},
    "Fisher, louder, shuffled": lambda information, seed: shuffled({k: LOUDER * f for k, f in information.items()}, seed),
}


def noised(
    method: str, part: str, alone: bool, alpha: float, per_class: int, factor: float, setting: dict[str, Any], **request: Any
) -> list[dict]:
    """A case: A_Dr and A_Df in % on the test set after Fisher forgetting, with its noise on one of PARTS `alone`, or on
    everything but it.

    method: of METHODS; that with larger weights begins from the network `enlarged` by `factor`. alpha: see
    `fisher_forgetting`; per_class: retain images that the information is taken on; setting: stands in the record; request:
    arguments of `scenario`.
    """
    s = scenario(**request)
    model, information = _measured(s, s.network, per_class, factor if method == ENLARGED else 1.0, machine())
    sample, told = s.retain.draw(per_class, seed=s.seed), METHODS[method](information, s.seed)
    noisy = fisher_forgetting(model, sample, s.forget, alpha=alpha, information=told, seed=s.seed)
    reached = {name: mask == alone for name, mask in masks(part, model, information, sample.inputs(slice(0, 2))).items()}
    a_dr, a_df = retain_forget_accuracy(confined(noisy, model, reached), s.loaded.test, s.forget)
    return [{**setting, "A_Dr": a_dr, "A_Df": a_df}]


def anatomy(per_class: int, setting: dict[str, Any], **request: Any) -> list[dict]:
    """A case: what Fisher forgetting finds in a network. Arguments: as of `noised`.

    accuracy: in % on the test set. at zero, without information, at the cap: shares of the inner weights, in % (see PARTS;
    the cap: MOST). median size: of the inner weights that have information. quiet channels: of those that BatchNorm
    follows, in % (see QUIET).
    """
    s = scenario(**request)
    model, information = _measured(s, s.network, per_class, 1.0, machine())
    inner = inner_weights(model, s.retain.inputs(slice(0, 2)))
    weights, known = (torch.cat([of[name].flatten() for name in inner]) for of in (inner, information))
    shares = {"at zero": weights.abs() < AT_ZERO, "without information": known == 0, "at the cap": known <= 1 / MOST}
    shares["quiet channels"] = torch.cat([quiet(norm) for _, norm in normalised(model)])
    found = {name: 100 * share.double().mean().item() for name, share in shares.items()}
    return [{**setting, "accuracy": s.accuracy, **found, "median size": weights[known > 0].abs().median().item()}]


@lru_cache(maxsize=2)
def _measured(s: Scenario, network: Trained, per_class: int, factor: float, machine: str) -> tuple[nn.Module, Information]:
    """The original, enlarged, and its Fisher information: once for every alpha, part and kind of information."""
    model = enlarged(s.original, factor)
    return model, fisher_information(model, s.retain.draw(per_class, seed=s.seed))


def inner_weights(model: nn.Module, x: Tensor) -> dict[str, Tensor]:
    """The kernels and weight matrices before the last layer, by name. x: inputs [n, ...] by which that layer is found."""
    last = {id(p) for p in head(model, x).parameters()}
    return {name: p.detach() for name, p in model.named_parameters() if p.dim() > 1 and id(p) not in last}


def normalised(model: nn.Module) -> list[tuple[nn.Conv2d, nn.BatchNorm2d]]:
    """Each convolution that a BatchNorm follows, and that BatchNorm."""
    layers = [layer for layer in model.modules() if isinstance(layer, (nn.Conv2d, nn.BatchNorm2d))]
    return [
        (a, b)
        for a, b in zip(layers, layers[1:], strict=False)
        if isinstance(a, nn.Conv2d) and isinstance(b, nn.BatchNorm2d)
    ]


def quiet(norm: nn.BatchNorm2d) -> Tensor:
    """Which channels are quiet, bool [channels]; see QUIET."""
    return cast(Tensor, norm.running_var) < QUIET


def masks(part: str, model: nn.Module, information: Information, x: Tensor) -> dict[str, Tensor]:
    """By parameter name, which entries belong to one of PARTS. x: as for `inner_weights`."""
    inner, last = inner_weights(model, x), {id(p) for p in head(model, x).parameters()}
    of_kernels = {id(kernel.weight): quiet(norm).view(-1, 1, 1, 1) for kernel, norm in normalised(model)}
    of_norms = {id(p): quiet(norm) for _, norm in normalised(model) for p in norm.parameters()}

    def mask(name: str, weight: Tensor) -> Tensor | bool:
        match part:
            case "everything":
                return True
            case "last layer":
                return id(weight) in last
            case "BatchNorm and biases":
                return name not in inner and id(weight) not in last
            case "inner weights":
                return name in inner
            case "inner weights at zero":
                return name in inner and weight.abs() < AT_ZERO
            case "inner weights without information":
                return name in inner and information[name] == 0
            case "kernels of quiet channels":
                return of_kernels.get(id(weight), False)
            case "BatchNorm of quiet channels":
                return of_norms.get(id(weight), False)
            case "quiet channels":
                return (of_kernels | of_norms).get(id(weight), False)
        raise ValueError(f"unknown part {part!r}: choose one of {', '.join(PARTS)}")

    return {
        name: torch.as_tensor(mask(name, weight), device=weight.device).expand_as(weight)
        for name, weight in model.named_parameters()
    }


@torch.no_grad()
def confined(noisy: nn.Module, original: nn.Module, reached: dict[str, Tensor]) -> nn.Module:
    """A copy of `original` with the weights of `noisy` where a mask, by parameter name, is true."""
    mixed = copy.deepcopy(original)
    for (name, ours), theirs in zip(mixed.named_parameters(), noisy.parameters(), strict=True):
        ours.copy_(torch.where(reached[name], theirs, ours))
    return mixed


@torch.no_grad()
def enlarged(model: nn.Module, factor: float) -> nn.Module:
    """A copy that answers the same with the weights of each convolution before a BatchNorm `factor` times as large.

    BatchNorm divides by what it expects of its inputs, so its stored statistics are scaled along (its epsilon is not: an
    answer may move by as little). Raises ValueError for another factor than 1 where no BatchNorm follows a convolution.
    """
    model = copy.deepcopy(model)
    pairs = normalised(model)
    if factor != 1 and not pairs:
        raise ValueError(
            "no BatchNorm follows a convolution, so larger weights would answer otherwise: take another network"
        )
    for convolution, norm in pairs:
        for weight in convolution.parameters():
            weight.mul_(factor)
        cast(Tensor, norm.running_mean).mul_(factor)
        cast(Tensor, norm.running_var).mul_(factor**2)
    return model
