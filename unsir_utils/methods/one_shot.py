"""Methods that look at forget and retain data once and change the weights in one step, without training.

Each returns an unlearned copy and leaves the model that it is given as it was.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..engine import checks
from ..engine.forward import forward
from ..engine.precision import exact_cuda
from ..engine.samples import Samples
from ..engine.state import mode, seeded, with_gradients
from ..engine.training import Layer
from .fisher import BATCH, has_rule
from .passes import classes_of, joined, mean_gradients, trainable


@with_gradients
def ssd(
    model: nn.Module,
    retain: Samples,
    forget: Samples,
    *,
    alpha: float = 10.0,
    dampening: float = 1.0,
    batch_size: int = 64,
) -> nn.Module:
    """Selective Synaptic Dampening: weights that matter more to the forget data than to all data shrink.

    Importance I of a weight: mean over batches of the squared gradient of a batch's loss. Where I_f > alpha * I_all, the
    weight is multiplied by dampening * I_all / I_f, or by 1 where that is more. All data come class after class, the forget
    classes last, as the public code's loader has them. I_all then is, but for batches of two classes, at least I_f times
    the forget data's part of all batches: an alpha above the inverse of that part changes next to nothing. With one of ten
    classes 10 is such an alpha.

    Source: Foster et al. (2024) and their public code (alpha 10, dampening 1, ResNet18 on CIFAR-20 and CIFAR-100).
    """
    checks.counts(batch_size=batch_size)
    checks.positive(alpha=alpha, dampening=dampening)
    _check_data(model, retain, forget)
    every = joined(retain[retain.labels.argsort(stable=True)], forget)
    of_all, of_forget = (mean_gradients(model, s, batch_size, torch.square) for s in (every, forget))
    model = copy.deepcopy(model)
    with torch.no_grad():
        for weight, i_all, i_f in zip(trainable(model.parameters()), of_all, of_forget, strict=True):
            factor = (dampening * i_all / i_f).clamp(max=1)
            weight.copy_(torch.where(i_f > alpha * i_all, weight * factor, weight))
    return model


def _check_data(model: nn.Module, retain: Samples, forget: Samples) -> None:
    checks.unfrozen(model)
    checks.samples_for(model, retain)
    checks.samples_for(model, forget, "forget data")
    checks.retain_set(retain, classes_of(forget))


Basis = tuple[Tensor, Tensor]  # orthonormal columns [d, r], and each one's share of the squared length [r]


@exact_cuda()
@with_gradients
def svd_projection(
    model: nn.Module,
    retain: Samples,
    forget: Samples,
    *,
    alpha_retain: float = 1000.0,
    alpha_forget: float = 30.0,
    images: int = 900,
    patches: int = 10_000,
    seed: int = 0,
) -> nn.Module:
    """Takes out of every layer's inputs what the forget data use and the retain data do not, folded into its weights.

    A layer's inputs, as columns, on `images` images of retain and of forget data, classes in equal parts, at most about
    `patches` each, have left singular vectors U, whose squared singular values have shares s of their sum. With
    M = U diag(a s / ((a - 1) s + 1)) U^T, a = alpha_retain or alpha_forget, W becomes W (I - M_f (I - M_r))^T. A tiny
    alpha_forget leaves W as it was. Layers: Linear, and Conv2d (its patches) without groups and with zeros as padding, given
    in numbers, that are called and not frozen; biases and all else stay.

    Source: Kodge et al. (2024) and their public code, "class_forgetting" (ResNet18: 1000, 30; VGG11: 100, 3); there, too,
    s are shares of squares.
    """
    checks.counts(images=images, patches=patches)
    checks.positive(alpha_retain=alpha_retain, alpha_forget=alpha_forget)
    _check_data(model, retain, forget)
    model = copy.deepcopy(model)
    with seeded(seed):
        bases = [_bases(model, _some(samples, images, seed), patches) for samples in (retain, forget)]
    with torch.no_grad():
        for layer in bases[0]:
            weight = layer.weight.flatten(1)
            foreign = weight - _projected(weight, bases[0][layer], alpha_retain)
            layer.weight -= _projected(foreign, bases[1][layer], alpha_forget).view_as(layer.weight)
    return model


def _some(samples: Samples, n: int, seed: int) -> Samples:
    return samples.draw(math.ceil(n / len(classes_of(samples))), seed=seed)


def _projected(weight: Tensor, basis: Basis, alpha: float) -> Tensor:
    u, share = basis
    return weight @ u * (alpha * share / ((alpha - 1) * share + 1)) @ u.T


@torch.no_grad()
def _bases(model: nn.Module, samples: Samples, patches: int) -> dict[Layer, Basis]:
    """The basis of each layer's inputs on these samples, by layer."""
    found: dict[Layer, list[Tensor]] = {}
    quota = math.ceil(patches / math.ceil(len(samples) / BATCH))

    def remember(layer: Layer, inputs: tuple[Tensor, ...]) -> None:
        rows = ROWS[type(layer)](layer, inputs[0].float())
        drawn = torch.randperm(len(rows))[:quota].to(rows.device)
        found.setdefault(layer, []).append(rows[drawn])

    layers = [layer for layer in model.modules() if type(layer) in ROWS and has_rule(layer) and layer.weight.requires_grad]
    hooks = [layer.register_forward_pre_hook(remember) for layer in layers]
    with mode(model, False):
        for x, _ in samples.batches(BATCH):
            forward(model, x)
    for hook in hooks:
        hook.remove()
    return {layer: _basis(torch.cat(rows)) for layer, rows in found.items()}


def _basis(rows: Tensor) -> Basis:
    """Of rows [n, d], from the smaller of their two products with themselves."""
    if len(rows) >= rows.shape[1]:
        square, u = torch.linalg.eigh(rows.T @ rows)
    else:
        square, v = torch.linalg.eigh((rows @ rows.T).double())
        square = square.clamp(min=1e-12 * square.max())  # equal rows have a square of zero, by which none can divide
        square, u = square.float(), (rows.T.double() @ v / square.sqrt()).float()
    square = square.clamp(min=0)
    return u, square / square.sum()


def _linear_rows(layer: nn.Linear, x: Tensor) -> Tensor:
    return x.flatten(0, -2)


def _patches(layer: nn.Conv2d, x: Tensor) -> Tensor:
    patches = F.unfold(x, layer.kernel_size, layer.dilation, layer.padding, layer.stride)  # type: ignore[arg-type]
    return patches.mT.flatten(0, 1)


ROWS: dict[type[nn.Module], Callable[..., Tensor]] = {nn.Linear: _linear_rows, nn.Conv2d: _patches}
