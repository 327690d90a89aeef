"""Which part of a network forgot a class: the row of its head, the whole head, or the features beneath."""

from __future__ import annotations

import math
from collections.abc import Sequence

from torch import Tensor

from .features import AtHead


def by_part(unlearned: AtHead, original: AtHead, forget: Sequence[int]) -> dict[str, float]:
    """A_Df in % of networks that are put together of two; nan where one of them diverged.

    unlearned, original: read on the same images of the forget classes.

    by row: the original with the forget classes' rows and biases as unlearning left them. by head: with all of its head so.
    by features: the original's head on the features as unlearning left them. A part that brings A_Df to 0 would have been
    enough. The exchange is this project's; the question is that of arXiv 2605.08730, where an absent class's logit is only
    ever pushed down.
    """
    names = ("A_Df by row", "A_Df by head", "A_Df by features")
    if not (unlearned.defined and original.defined):  # what is nan throughout has no head to be found
        return dict.fromkeys(names, math.nan)
    row = original.weight.clone(), original.bias.clone()
    for mine, its in zip(row, (unlearned.weight, unlearned.bias), strict=True):
        mine[list(forget)] = its[list(forget)]
    heads = (original, *row), (original, unlearned.weight, unlearned.bias), (unlearned, original.weight, original.bias)
    return {name: _right(*seen_by) for name, seen_by in zip(names, heads, strict=True)}


def _right(seen: AtHead, weight: Tensor, bias: Tensor) -> float:
    """Accuracy in % of this head on the features."""
    return 100 * ((seen.features @ weight.T + bias).argmax(1) == seen.labels).double().mean().item()
