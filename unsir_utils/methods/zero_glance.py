"""Methods that see no image of the forget classes, as UNSIR does not: two see nothing at all, two the retain data.

Each returns an unlearned copy and leaves the model that it is given as it was. Facts of each are from its paper and its
public code; what these leave open is said to be ours.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..engine import checks
from ..engine.forward import forward
from ..engine.samples import Samples
from ..engine.state import Checking, mode, with_gradients
from ..engine.training import HEADS, Layer, head
from .passes import check_training, run_passes, sgd, trainable


@with_gradients
def bias_shift(model: nn.Module, forget: Iterable[int], shape: Sequence[int], *, shift: float = 10.0) -> nn.Module:
    """Lowers the forget classes' biases in the output layer by `shift`, in nats of a logit. Sees nothing.

    shape: of one image, by which the output layer is found. shift: ours; 0 leaves the model as it was.
    Source: "Beyond the Shadow of Bias" (arXiv 2605.08730) and its public code, whose own default is -0.01, subtracted as
    well: it raises the bias.
    Raises ValueError where the output layer has no bias.
    """
    checks.not_negative(shift=shift)
    model, forget, last = _with_head(model, forget, shape)
    if last.bias is None:
        raise ValueError("the output layer has no bias to shift: use MaskedLogits")
    with torch.no_grad():
        last.bias[forget] -= shift
    return model


@with_gradients
def head_projection(model: nn.Module, forget: Iterable[int], shape: Sequence[int]) -> nn.Module:
    """Projects the features off the forget classes' directions, folded into the output layer's weights. Sees nothing.

    A class's direction is its row less the mean row, as one vector added to all rows changes no softmax. A forget class's
    logit then is the mean logit, but for the biases, which stay. shape: as in `bias_shift`.
    Source: the projection of POUR (arXiv 2511.19339), off the class's direction in the frame that features and rows collapse
    to; no code of it was found. That the row, less the mean row, stands for this direction is ours.
    """
    model, forget, last = _with_head(model, forget, shape)
    with torch.no_grad():
        rows = last.weight.flatten(1)
        directions = rows[forget] - rows.mean(0)
        last.weight -= (rows @ torch.linalg.pinv(directions) @ directions).view_as(last.weight)
    return model


def _with_head(model: nn.Module, forget: Iterable[int], shape: Sequence[int]) -> tuple[nn.Module, list[int], Layer]:
    """A copy, the forget classes, and the copy's output layer."""
    device = next((p.device for p in model.parameters()), torch.device("cpu"))
    probe = torch.zeros(2, *shape, device=device)
    forget = checks.forget_classes(forget, checks.output_width(model, probe))
    model = copy.deepcopy(model)
    return model, forget, head(model, probe)


def l1_sparse(
    model: nn.Module,
    retain: Samples,
    *,
    alpha: float = 5e-4,
    epochs: int = 10,
    lr: float = 0.01,
    batch_size: int = 256,
    seed: int = 0,
) -> nn.Module:
    """Further training on the retain data with alpha * (sum of all weights' sizes) added to the loss. Sees retain images.

    alpha falls in even steps from epoch to epoch: alpha * (1 - epoch / epochs). SGD, momentum 0.9, weight decay 5e-4.
    Source: Jia et al. (2023) and their public code (10 epochs, lr 0.01); alpha as reported, not verified.
    """
    check_training(model, epochs, lr, batch_size, retain=retain)
    checks.not_negative(alpha=alpha)

    def passes(student, epoch):
        weights, penalty = trainable(student.parameters()), alpha * (1 - epoch / epochs)

        def objective(z: Tensor, y: Tensor) -> Tensor:
            return F.cross_entropy(z, y) + penalty * sum(w.abs().sum() for w in weights)

        return [(retain.shuffled(batch_size), objective if alpha else F.cross_entropy)]

    return run_passes(model, passes, sgd(lr), epochs=epochs, seed=seed)


@with_gradients
def weight_negation(
    model: nn.Module, retain: Samples, *, epochs: int = 10, lr: float = 0.01, batch_size: int = 256, seed: int = 0
) -> nn.Module:
    """NoT: the first layer's weights change sign, and the retain data repair what that breaks. Sees retain images.

    Source: Khalil et al. (2025), who negate the first convolution on every data set. No code of theirs was found: epochs,
    rate and optimiser are those of `l1_sparse`. A port elsewhere stops by the forget accuracy, which this never looks at.
    """
    check_training(model, epochs, lr, batch_size, retain=retain)
    model = copy.deepcopy(model)
    with torch.no_grad():
        first_layer(model, retain.inputs(slice(0, 2))).weight.neg_()
    return l1_sparse(model, retain, alpha=0.0, epochs=epochs, lr=lr, batch_size=batch_size, seed=seed)


@torch.no_grad()
def first_layer(model: nn.Module, x: Tensor) -> Layer:
    """The Linear or convolution that inputs x [n, ...] meet first. Raises ValueError where there is none."""
    called: list[Layer] = []
    layers = [layer for layer in model.modules() if isinstance(layer, HEADS)]
    hooks = [layer.register_forward_pre_hook(lambda layer, _: called.append(layer)) for layer in layers]
    try:
        with Checking(), mode(model, False):
            forward(model, x)
    finally:
        for hook in hooks:
            hook.remove()
    if not called:
        raise ValueError("the model calls no Linear or convolution, so that no first layer is known")
    return called[0]
