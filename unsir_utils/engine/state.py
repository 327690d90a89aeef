"""States of torch and of a model that hold for a while: gradients, train or eval mode, random numbers."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn

with_gradients = torch.inference_mode(False)  # decorates what trains, as the caller may be under no_grad or inference_mode


class Checking:
    """`with Checking():` passes through a network are part of a check, not of the work, and `Checking.depth` is not 0."""

    depth = 0

    def __enter__(self) -> None:
        Checking.depth += 1

    def __exit__(self, *_: object) -> None:
        Checking.depth -= 1


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
