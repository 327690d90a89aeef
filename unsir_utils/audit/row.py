"""Suppression in one glance: how a class's row of the head stands beside the others'."""

from __future__ import annotations

from collections.abc import Sequence

from torch.nn.functional import cosine_similarity

from .features import AtHead


def row(train: AtHead, forget: Sequence[int]) -> dict[str, float]:
    """Of the forget classes' rows, mean over them: what tells a suppressed class from one that is there.

    norm: over the mean norm of the retain rows; 1 is as long as they are.
    bias: less the mean of the retain biases, in logits.
    cosine: with the class's mean training feature; 1 points at it, below 0 away from it.
    """
    retain, forget = train.others(forget), list(forget)
    own = [cosine_similarity(train.weight[c], train.only([c]).features.mean(0), dim=0).item() for c in forget]
    return {
        "norm": (train.weight[forget].norm(dim=1).mean() / train.weight[retain].norm(dim=1).mean()).item(),
        "bias": (train.bias[forget].mean() - train.bias[retain].mean()).item(),
        "cosine": sum(own) / len(own),
    }
