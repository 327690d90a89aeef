"""What a classifier's head is given and what it answers, read in one pass: all that the audit of a class looks at.

Whatever stands behind the head, such as a mask or a scale, is not seen. So a masked class is audited as if it had no mask.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import cast

import torch
from torch import Tensor, nn

from ..engine import checks
from ..engine.forward import forward
from ..engine.samples import Samples, at_once
from ..engine.state import mode
from ..engine.training import head
from ..metrics import EVALUATION_BATCH


@dataclass(frozen=True, eq=False)
class AtHead:
    """float64, on the CPU: features [n, d] that reach the head, logits [n, K] that it gives, weight [K, d], bias [K]; int64
    labels [n]. `logits` are features @ weight.T + bias where the head is a Linear or a convolution of 1x1."""

    features: Tensor
    logits: Tensor
    labels: Tensor
    weight: Tensor
    bias: Tensor

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: Tensor) -> AtHead:
        return replace(self, features=self.features[index], logits=self.logits[index], labels=self.labels[index])

    def only(self, classes: Sequence[int]) -> AtHead:
        return self[torch.isin(self.labels, torch.tensor(classes))]

    def without(self, classes: Sequence[int]) -> AtHead:
        return self[~torch.isin(self.labels, torch.tensor(classes))]

    def others(self, classes: Sequence[int]) -> list[int]:
        """The classes that are not among these."""
        return [k for k in range(self.logits.shape[1]) if k not in classes]

    @property
    def defined(self) -> bool:
        """Whether all is finite: a network that has diverged cannot be audited."""
        return bool(self.features.isfinite().all() and self.logits.isfinite().all())


@torch.no_grad()
def read(model: nn.Module, samples: Samples) -> AtHead:
    """One pass in eval mode, in the samples' order; the model is left as it was.

    Raises ValueError unless the samples fit the model and one Linear or convolution yields its logits (`training.head`).
    """
    checks.samples_for(model, samples, "data")
    last, parts = cast(nn.Linear, head(model, samples.inputs(slice(0, 2)))), []  # or a convolution
    with mode(model, False):
        for x, _ in samples.batches(at_once(samples.shape, EVALUATION_BATCH)):
            with _heard(last) as kept:
                forward(model, x)
            parts.append([_pooled(last, told).double().cpu() for told in kept[-1]])
    features, logits = map(torch.cat, zip(*parts, strict=True))
    weight = last.weight.double().flatten(2).sum(2) if last.weight.dim() > 2 else last.weight.double()  # of even maps
    bias = weight.new_zeros(len(weight)) if last.bias is None else last.bias.double()
    return AtHead(features, logits, samples.labels.cpu(), weight.cpu(), bias.cpu())


class Unmasked(nn.Module):
    """The network whose answer is its head's own, [n, K], plus `shifts` [K]. It shares the network's weights.

    x: some inputs, to find the head.
    """

    def __init__(self, network: nn.Module, x: Tensor, shifts: Tensor | float = 0.0) -> None:
        super().__init__()
        self.network, self.last, self.shifts = network, head(network, x), shifts

    def forward(self, x: Tensor) -> Tensor:
        with _heard(self.last) as kept:
            self.network(x)
        return _pooled(self.last, kept[-1][1]) + self.shifts


@contextmanager
def _heard(layer: nn.Module) -> Iterator[list[tuple[Tensor, Tensor]]]:
    """A list that gets what the layer is given and what it answers, each time that it runs."""
    kept: list[tuple[Tensor, Tensor]] = []
    with layer.register_forward_hook(lambda _, given, answer: kept.append((given[0], answer))):
        yield kept


def _pooled(layer: nn.Module, told: Tensor) -> Tensor:
    """[n, channels]: the mean over places, of maps [n, channels, ...] or, for a Linear, of tokens [n, ..., channels]."""
    if told.dim() == 2:
        return told
    return told.flatten(1, -2).mean(1) if isinstance(layer, nn.Linear) else told.flatten(2).mean(2)
