"""Where a convolutional classifier looks: GradCAM (Selvaraju et al. 2017, equations 1 and 2)."""

from __future__ import annotations

import difflib

import torch
from torch import Tensor, nn

from ..engine import checks
from ..engine.forward import called
from ..engine.precision import exact_cuda
from ..engine.samples import Samples
from ..engine.state import mode, with_gradients


@exact_cuda()
@with_gradients
def gradcam(model: nn.Module, inputs: Samples | Tensor, classes: int | Tensor, layer: str | nn.Module) -> Tensor:
    """float32 [n, h, w], at least 0: relu(sum_k mean_ij(d z_c / d A_k,ij) A_k), A [n, k, h, w] the output of `layer`.

    In eval mode and float32, all inputs at once; the model is left as it was. Where the layer runs more than once in a
    forward pass, its last run counts.

    inputs: samples, or a tensor as the model takes it, [n, C, H, W].
    classes: c, the class whose logit z_c is explained: one for all inputs, or int64 [n].
    layer: a name from model.named_modules(), such as "layer2", or the module itself, such as model.layer2.

    Raises ValueError for an unknown layer, one whose output is no map of at least 4x4 cells or lies channels last, or a
    class out of range.
    """
    modules = dict(model.named_modules())
    if isinstance(layer, nn.Module):
        layer = next((name for name, module in modules.items() if module is layer), type(layer).__name__)
    if layer not in modules:
        near = ", ".join(difflib.get_close_matches(str(layer), modules)) or "none is spelt alike"
        raise ValueError(f"unknown layer {layer!r} (near: {near}); [n for n, _ in model.named_modules()] lists all")
    x = inputs.inputs() if isinstance(inputs, Samples) else inputs.to(torch.float32, copy=True)
    chosen, width = torch.as_tensor(classes, device=x.device), checks.output_width(model, x[:1].clone())
    if chosen.dtype != torch.int64 or chosen.shape not in ((), (len(x),)):
        raise ValueError(f"classes is {chosen.dtype} {list(chosen.shape)}: expected a whole number or int64 [{len(x)}]")
    if ((chosen < 0) | (chosen >= width)).any():
        raise ValueError(f"class {chosen.tolist()} is out of range: expected 0..{width - 1}")
    maps: list[Tensor] = []

    def keep(module: nn.Module, args: tuple, output: Tensor) -> Tensor:
        found = list(output.shape) if isinstance(output, Tensor) else [type(output).__name__]
        if len(found) != 4 or min(found[2:]) < 4:
            raise ValueError(
                f"layer {layer!r} gives {found}, not [n, K, h, w] with at least 4x4 cells: choose a convolution or a block, "
                "an earlier one where h or w is too small, or larger images"
            )
        if _alike(found[1:3], x.shape[2:]) and not _alike(found[2:], x.shape[2:]):
            raise ValueError(
                f"layer {layer!r} gives {found}, which looks like [n, h, w, K], as in a Swin transformer: choose one "
                "behind the permutation to [n, K, h, w]"
            )
        maps.append(output.detach().requires_grad_())  # a leaf: gradients need no parameter that requires them
        return maps[-1].clone()  # what follows may overwrite it, as an in-place ReLU does

    with mode(model, False), torch.enable_grad(), torch.autocast(x.device.type, enabled=False):
        with modules[layer].register_forward_hook(keep):
            z = called(model, x).gather(1, chosen.expand(len(x))[:, None])
        if not maps:
            raise ValueError(f"layer {layer!r} does not run in the model's forward pass: choose another")
        (gradient,) = torch.autograd.grad(z.sum(), maps[-1])
    return (gradient.mean(dim=(2, 3), keepdim=True) * maps[-1].detach()).sum(1).relu()


def _alike(size: list[int], image: tuple[int, ...]) -> bool:
    """Whether a map of this height and width may stem from such an image: its sides are in proportion, to one cell."""
    (h, w), (height, width) = size, image
    return abs(h * width - w * height) <= max(height, width)
