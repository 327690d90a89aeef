"""Learned noise, kept on disk: many notebooks ask for the same noise of the same network, to use it at other rates."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from ..noise import Noise
from .identity import identity
from .provenance import kept_at, machine
from .store import Trained, write


def noise_against(
    learn: Callable[..., Noise], network: Trained, forget: Sequence[int], shape: Sequence[int], **options: Any
) -> Noise:
    """`learn(network.model, forget, shape, **options)`, learned now if it never was; it keeps the seconds that it took.

    learn: `noise.learn_noise`, which leaves the network as it was: not with batchnorm="train" in place. Its code and
    arguments, the network's checksum and the machine name the file. Two processes that want the same learn it once.
    """
    place = _place(learn, network, forget, shape, options)
    place.parent.mkdir(parents=True, exist_ok=True)
    device = next(network.model.parameters()).device
    with FileLock(place.with_suffix(".lock")):
        kept = _kept(place, device)
        if kept is None:
            kept = learn(network.model, forget, shape, **options)
            _keep(kept, place)
    return kept


def _place(learn: Callable, network: Trained, forget: Sequence[int], shape: Sequence[int], options: dict) -> Path:
    asked = inspect.signature(learn).bind(None, [*forget], [*shape], **options)
    asked.apply_defaults()
    return kept_at("noise", ".safetensors", _code(learn), machine(), network.sha256, asked.arguments)


_code = cache(identity)


def _kept(place: Path, device: torch.device) -> Noise | None:
    """What is kept there; None where nothing is, or what no one can read."""
    try:
        with safe_open(place, "pt", device=str(device)) as file:
            images, labels, losses = map(file.get_tensor, ("images", "labels", "losses"))
            about = file.metadata()
        return Noise(images, labels, losses.tolist(), float(about["seconds"]), int(about["samples"]))
    except (FileNotFoundError, SafetensorError, KeyError, TypeError):
        return None


def _keep(noise: Noise, place: Path) -> None:
    losses = torch.tensor(noise.losses, dtype=torch.float64)
    tensors = {"images": noise.images.contiguous(), "labels": noise.labels.contiguous(), "losses": losses}
    about = {"seconds": repr(noise.seconds), "samples": str(noise.samples)}
    write(place, lambda to: save_file(tensors, to, metadata=about))
