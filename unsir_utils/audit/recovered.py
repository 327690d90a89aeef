"""Was only the head pushed down, and how many images bring a class back? Recall at a fixed price in retain images.

Every score is held against the largest retain logit. It is shifted until a share `lost` of the retain images would go to the
class, 2 % by default: the inverse of shifting a bias. So no shift of the class's logit changes what is measured. It is the
true positive rate at that false positive rate.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from .features import AtHead

LOST = 0.02


def threshold(retain: Tensor, lost: float = LOST) -> float:
    """The lowest that at most a share `lost` of the retain images' scores [m] exceeds."""
    allowed = math.floor(lost * len(retain) + 1e-9)
    return retain.sort(descending=True).values[allowed].item()


def recall_at(forget: Tensor, retain: Tensor, lost: float = LOST) -> float:
    """% of the forget images' scores [n] above the `threshold` of the retain images' [m]; nan where a score is."""
    if forget.isnan().any() or retain.isnan().any():
        return math.nan
    return 100 * (forget > threshold(retain, lost)).double().mean().item()


def shifts(images: AtHead, forget: Sequence[int], lost: float = LOST) -> Tensor:
    """float64 [K]: what to add to a forget class's logit so that a share `lost` of the retain images goes to it; else 0."""
    found, retain = torch.zeros(images.logits.shape[1], dtype=torch.float64), images.without(forget)
    for c in forget:
        found[c] = -threshold(retain.logits[:, c] - retain.logits[:, images.others(forget)].amax(1), lost)
    return found


def logit_recovered(test: AtHead, forget: Sequence[int], lost: float = LOST) -> float:
    """Recall in %, mean over the forget classes, once the class's own logit is shifted; nan for a network that diverged."""
    return _mean_recall(test, forget, lambda c: test.logits[:, c], lost)


def prototype_recovered(
    train: AtHead, test: AtHead, forget: Sequence[int], images: int, lost: float = LOST, draws: int = 10
) -> float:
    """Recall in %, mean over draws and forget classes, once the class's row is rebuilt from a few training images.

    The row is the images' mean feature less that of the retain images, as long as the retain rows are on average; it is the
    new logit. images: of the class in a draw, or all where it has fewer. Source: prototype relearning (Spotter, 2025), there
    mixed with the old row and without a price in retain images.
    """
    remaining = train.without(forget).features.mean(0)
    length = test.weight[test.others(forget)].norm(dim=1).mean()
    generator = torch.Generator().manual_seed(0)

    def rebuilt(c: int) -> Tensor:
        own = train.only([c]).features
        row = own[torch.randperm(len(own), generator=generator)[:images]].mean(0) - remaining
        return test.features @ (length * row / row.norm().clamp(min=1e-12))

    return sum(_mean_recall(test, forget, rebuilt, lost) for _ in range(draws)) / draws


def _mean_recall(test: AtHead, forget: Sequence[int], score: Callable[[int], Tensor], lost: float) -> float:
    """score: of a forget class, [n]."""
    highest, found = test.logits[:, test.others(forget)].amax(1), []
    retained = ~torch.isin(test.labels, torch.tensor(forget))
    for c in forget:
        margin = score(c) - highest
        found.append(recall_at(margin[test.labels == c], margin[retained], lost))
    return sum(found) / len(found)
