"""The diagonal of the Fisher information, one sample and one class at a time or layer by layer for a whole batch."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..engine import checks
from ..engine.forward import called
from ..engine.precision import exact_cuda
from ..engine.samples import Samples
from ..engine.small_maps import SmallMaps
from ..engine.state import with_gradients

BATCH = 32  # bounds the memory
FEW = 4  # positions, up to which the products of all pairs of them cost less than each sample's own gradient


@exact_cuda()
@with_gradients
def fisher_information(model: nn.Module, samples: Samples, *, method: str = "auto") -> dict[str, Tensor]:
    """Mean over samples of sum over classes y of p(y|x) * (d CE(f(x), y) / d w)^2, by parameter name, each of its shape.

    method: "loop" takes one sample and one class at a time, for any model; "layerwise" gives the same to rounding, much
        faster, for models whose parameters sit in Conv2d (no groups), Linear and BatchNorm2d layers, each called once;
        "auto" takes the faster one that serves. Raises ValueError for another, and where "layerwise" has no rule.
    The model is in eval mode, float32. What does not act on the logits has none: zero.
    Source of the definition: Golatkar et al. (2020), as in their public code.
    """
    if method not in ("auto", "layerwise", "loop"):
        raise ValueError(f"method is {method!r}: expected 'auto', 'layerwise' or 'loop'")
    checks.samples_for(model, samples)
    try:
        total = {"loop": _loop}.get(method, _layerwise)(_prepared(model), samples)
    except _NoRule:
        if method == "layerwise":
            raise
        total = _loop(_prepared(model), samples)
    return {name: square / len(samples) for name, square in total.items()}


def _prepared(model: nn.Module) -> nn.Module:
    return copy.deepcopy(model).requires_grad_(True).eval()


class _NoRule(ValueError):
    """Why a network cannot go layer by layer."""

    def __init__(self, why: str) -> None:
        super().__init__(f"{why}: use method='loop'")


def _loop(model: nn.Module, samples: Samples) -> dict[str, Tensor]:
    names, parameters = zip(*model.named_parameters(), strict=True)
    total = {name: torch.zeros_like(p) for name, p in zip(names, parameters, strict=True)}
    for x, _ in samples.batches(1):
        log_p = F.log_softmax(called(model, x), dim=1)[0]
        for log_py in log_p:
            gradients = torch.autograd.grad(log_py, parameters, retain_graph=True, allow_unused=True)
            for name, g in zip(names, gradients, strict=True):
                if g is not None:
                    total[name] += log_py.detach().exp() * g.square()
    return total


def _layerwise(model: nn.Module, samples: Samples) -> dict[str, Tensor]:
    """One backward pass a class for a whole batch; each layer turns its inputs and output gradients into squared sums.

    As every sample's loss stands alone, the gradient at a layer's output row n is that of sample n; scaling the logits'
    gradient by sqrt(p) puts the weight p into the square.
    """
    used = _used(model, samples.inputs(slice(0, 1)))
    layers = {name: m for name, m in model.named_modules() if any(id(p) in used for p in m.parameters(recurse=False))}
    for name, layer in layers.items():
        if type(layer) not in RULES or not has_rule(layer):
            raise _NoRule(f"no Fisher rule for layer {name} ({layer})")
    if len(list(model.named_parameters(remove_duplicate=False))) > len(list(model.parameters())):
        raise _NoRule("layers share weights")
    total = {name: torch.zeros_like(p, memory_format=torch.contiguous_format) for name, p in model.named_parameters()}
    seen: dict[str, tuple[Tensor, Tensor]] = {}

    def remember(name: str) -> Callable:
        def hook(_, inputs, output):
            if name in seen or (output.dim() != 2 and isinstance(layers[name], nn.Linear)):
                raise _NoRule(f"layer {name} is used twice or on sequences")
            seen[name] = (inputs[0].detach(), output)
            return output.clone()  # an in-place ReLU after the layer must not overwrite what is remembered

        return hook

    for name, layer in layers.items():
        layer.register_forward_hook(remember(name))
    for x, _ in samples.batches(BATCH):
        seen.clear()
        with SmallMaps():
            log_p = F.log_softmax(called(model, x), dim=1)
        if aside := layers.keys() - seen.keys():
            raise _NoRule(f"layers {sorted(aside)} are used without being called")
        with torch.no_grad():
            add = {name: RULES[type(layers[name])](layers[name], inputs) for name, (inputs, _) in seen.items()}
        outputs = [output for _, output in seen.values()]
        for c in range(log_p.shape[1]):
            scale = (log_p[:, c].detach() / 2).exp()
            gradients = torch.autograd.grad(log_p[:, c], outputs, scale, retain_graph=True)
            for name, g in zip(seen, gradients, strict=True):
                add[name](g, *(total[f"{name}.{kind}" if name else kind] for kind, _ in layers[name].named_parameters()))
    return total


def _used(model: nn.Module, x: Tensor) -> set[int]:
    """The ids of the parameters that act on the logits for inputs x."""
    parameters = list(model.parameters())
    gradients = torch.autograd.grad(called(model, x).sum(), parameters, allow_unused=True)
    return {id(p) for p, g in zip(parameters, gradients, strict=True) if g is not None}


def has_rule(layer: nn.Module) -> bool:
    plain_conv = getattr(layer, "groups", 1) == 1 and getattr(layer, "padding_mode", "zeros") == "zeros"
    return plain_conv and not isinstance(getattr(layer, "padding", 0), str) and getattr(layer, "track_running_stats", True)


# A rule looks once at a layer's inputs and returns what adds, for an output gradient g, the squares to the layer's totals.
Rule = Callable[..., None]


def _linear(layer: nn.Linear, a: Tensor) -> Rule:
    a = a.square()

    def add(g: Tensor, weight: Tensor, bias: Tensor | None = None) -> None:
        g = g.square()
        weight.addmm_(g.T, a)
        if bias is not None:
            bias += g.sum(0)

    return add


def _conv(layer: nn.Conv2d, a: Tensor) -> Rule:
    padding = cast(tuple[int, ...], layer.padding)
    patches = F.unfold(a, layer.kernel_size, layer.dilation, padding, layer.stride).mT  # [n, positions, C*k*k]
    few = patches.shape[1] <= FEW
    if few:
        p, q = torch.triu_indices(patches.shape[1], patches.shape[1], device=a.device)
        products = (patches[:, p] * patches[:, q]).flatten(0, 1)
        twice = torch.where(p == q, 1, 2).to(a)
    else:
        patches = patches.contiguous()

    def add(g: Tensor, weight: Tensor, bias: Tensor | None = None) -> None:
        g = g.flatten(2)  # [n, out, positions]
        weight = weight.view(g.shape[1], -1)
        if few:  # the square of a sum over positions, as a sum over pairs of them: one matrix product for all samples
            pairs = (g[:, :, p] * g[:, :, q] * twice).transpose(0, 1).flatten(1)
            weight.addmm_(pairs, products)
        else:  # sample by sample, so that a sample's gradient stays in the processor's cache
            for g_n, patches_n in zip(g, patches, strict=True):
                gradient = g_n @ patches_n
                weight.addcmul_(gradient, gradient)
        if bias is not None:
            bias += g.sum(2).square().sum(0)

    return add


def _batchnorm(layer: nn.BatchNorm2d, a: Tensor) -> Rule:
    shape = (1, -1, 1, 1)
    mean, variance = cast(Tensor, layer.running_mean), cast(Tensor, layer.running_var)
    normal = (a - mean.view(shape)) * (variance + layer.eps).rsqrt().view(shape)

    def add(g: Tensor, weight: Tensor, bias: Tensor) -> None:
        weight += (g * normal).sum((2, 3)).square().sum(0)
        bias += g.sum((2, 3)).square().sum(0)

    return add


RULES: dict[type[nn.Module], Callable[..., Rule]] = {nn.Linear: _linear, nn.Conv2d: _conv, nn.BatchNorm2d: _batchnorm}
