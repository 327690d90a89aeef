"""What a network answers to images of a class that it should not know, and whether two networks answer alike."""

from __future__ import annotations

import numpy as np
import pandas as pd
from torch import nn
from torch.nn import functional as F

from ..engine.samples import Samples
from ..metrics import logits
from ..noise import Noise

Classes = np.ndarray  # predicted classes, [..., n images]; -1 where the network has diverged


def shares(predicted: Classes, n_classes: int) -> np.ndarray:
    """[..., n] predicted classes -> [..., n_classes]: the share of the images that goes to each; nan where one is -1."""
    counted = np.stack([(predicted == k).mean(-1) for k in range(n_classes)], -1)
    return np.where((predicted < 0).any(-1, keepdims=True), np.nan, counted)


def largest_share(predicted: Classes, n_classes: int, drawn: np.ndarray) -> np.ndarray:
    """[replicates, n] -> [resamples]: the largest share of one class, mean over the replicates, on images drawn anew.

    drawn: [resamples, n], which images each resample holds; the same ones for methods that are to be compared.
    """
    return shares(predicted[:, drawn], n_classes).max(-1).mean(0)


def apart(predicted: Classes, other: Classes, n_classes: int) -> np.ndarray:
    """Total variation distance of the shares of two networks, mean over replicates: [replicates, ..., n] twice -> [...]."""
    return 0.5 * np.abs(shares(predicted, n_classes) - shares(other, n_classes)).sum(-1).mean(0)


def chance_of(predicted: Classes, other: Classes, n_classes: int, swapped: np.ndarray) -> float:
    """The chance of so large a distance if the two networks' answers were interchangeable, image by image.

    swapped: bool [resamples, n], whose answers change places; a permutation test counts the observed one, too.
    """
    distance = apart(predicted, other, n_classes)
    if np.isnan(distance):
        return np.nan
    one = np.where(swapped, predicted[:, None], other[:, None])
    two = np.where(swapped, other[:, None], predicted[:, None])
    return float((1 + (apart(one, two, n_classes) >= distance - 1e-9).sum()) / (1 + len(swapped)))


def holm(p: pd.Series) -> pd.Series:
    """p-values corrected by Holm's method for as many tests as are defined: the smallest counts as often, and so on."""
    ranked = p.dropna().sort_values()
    return (ranked * np.arange(len(ranked), 0, -1)).cummax().clip(upper=1.0).reindex(p.index)


def middle(values: np.ndarray, sign: str = "") -> str:
    """The middle 95 % of resampled values, "0.41 to 0.52"; undefined where one is. sign: "+" shows it always."""
    if np.isnan(values).any():
        return "undefined"
    low, high = np.quantile(values, [0.025, 0.975])
    return f"{low:{sign}.2f} to {high:{sign}.2f}"


def likeness(model: nn.Module, noise: Noise, n_classes: int) -> dict[str, float]:
    """What noise images are like, mean over them: their L2 norm, and what the network answers to them.

    error: cross-entropy against their labels, in nats; belief: the probability of these labels, in %. Both are nan for a
    network that has diverged.
    """
    told = logits(model, Samples(noise.images, noise.labels, n_classes))
    return {
        "norm": noise.images.flatten(1).norm(dim=1).mean().item(),
        "error": F.cross_entropy(told, noise.labels).item(),
        "belief": 100 * told.softmax(1).gather(1, noise.labels[:, None]).mean().item(),
    }


def gap(model: nn.Module, other: nn.Module, samples: Samples) -> tuple[float, float]:
    """How far two networks' answers to the same samples are apart: two means over these, of 0 to 1 each.

    The total variation distance of their probabilities, and the share of samples to which they answer different classes.
    nan where one of them has diverged.
    """
    p, q = (logits(network, samples).double().softmax(1) for network in (model, other))
    differ = (p.argmax(1) != q.argmax(1)).double().masked_fill((p + q).isnan().any(1), float("nan"))
    return 0.5 * (p - q).abs().sum(1).mean().item(), differ.mean().item()


def gaps(model: nn.Module, other: nn.Module, parts: dict[str, Samples]) -> dict[str, float]:
    """`gap` on each part of the samples: tv_<part> and differ_<part>."""
    found = {part: gap(model, other, samples) for part, samples in parts.items()}
    return {
        f"{name}_{part}": value for part, pair in found.items() for name, value in zip(("tv", "differ"), pair, strict=True)
    }
