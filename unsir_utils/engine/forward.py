"""How a batch goes through a network, and where its output holds the logits."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from .precision import autocast, exact_cuda
from .small_maps import SmallMaps


def forward(model: nn.Module, x: Tensor) -> Tensor:
    """The model's logits, float32 [n, K], by the project's one rule for speed: `precision` and `SmallMaps`."""
    with autocast(model, x.device), SmallMaps(), exact_cuda():
        return called(model, x).float()


def called(model: nn.Module, x: Tensor) -> Tensor:
    """The model's logits as it gives them, in whatever precision holds."""
    with AnyOrder():
        return logits_of(model(x))


class AnyOrder(TorchFunctionMode):
    """`view` copies, as `reshape` does, where it cannot be had of maps that lie channels last: that order is ours, not the
    network's."""

    def __torch_function__(self, function, types, args=(), kwargs=None):
        if function is not torch.Tensor.view:
            return function(*args, **(kwargs or {}))
        try:
            return function(*args, **(kwargs or {}))
        except RuntimeError as error:
            if "view size is not compatible" not in str(error):
                raise
            return torch.Tensor.reshape(*args, **(kwargs or {}))


def logits_of(output: object) -> Tensor:
    """The logits [n, K] in what a model returns: the tensor itself, or its field or key `logits`.

    GoogLeNet and Inception return such a named tuple in train mode. Their other outputs are left out, so that no auxiliary
    head is trained.
    """
    logits = output.get("logits") if isinstance(output, Mapping) else getattr(output, "logits", output)
    if not isinstance(logits, Tensor) or logits.dim() != 2:
        found = f"a tensor {list(logits.shape)}" if isinstance(logits, Tensor) else f"a {type(output).__name__}"
        raise ValueError(
            f"the model returns {found}: expected logits [n, K], or an object that holds them as `logits`; wrap the model "
            "so that it returns them, in train mode too"
        )
    return logits
