"""How a batch goes through a network, and where its output holds the logits."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn

from .precision import autocast, exact_cuda
from .small_maps import SmallMaps


def forward(model: nn.Module, x: Tensor) -> Tensor:
    """The model's logits, float32 [n, K], by the project's one rule for speed: `precision` and `SmallMaps`."""
    with autocast(model, x.device), SmallMaps(), exact_cuda():
        return logits_of(model(x)).float()


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
