"""How far the weights of unlearned networks lie from others, layer by layer, and what that is held against."""

from __future__ import annotations

import pandas as pd
from torch import nn

# Distances are long tables: columns method, trained (the recipe's seed of the original), seed, layer and distance (L2, to
# the original), one row a layer of a network.


def kinds(model: nn.Module) -> dict[str, str]:
    """ "normalisation" (scale and shift of a BatchNorm, say) or "weights", by the layer's name."""
    return {name: "normalisation" if "Norm" in type(m).__name__ else "weights" for name, m in model.named_modules()}


def beside(distances: pd.DataFrame, yardstick: str) -> pd.DataFrame:
    """The same table and, as column `ratio`, each distance over the yardstick's at the same layer.

    yardstick: a method; of several seeds of it their mean counts, on each original. nan where the yardstick's layer did not
    move, or has no distance, as it has diverged. Raises ValueError if there is none.
    """
    place = ["trained", "layer"]
    own = distances[distances.method == yardstick].groupby(place).distance
    if not len(own):
        raise ValueError(f"no distances of {yardstick!r}: choose a method of the table")
    per_layer = own.agg(lambda d: d.mean(skipna=False)).where(lambda d: d > 0).rename("own")
    return distances.assign(ratio=distances.distance / distances.join(per_layer, on=place).own)


def totals(distances: pd.DataFrame) -> pd.DataFrame:
    """One row a method, original and seed: A_Dr, A_Df, sum and mean of the distance over layers, sum of `to_retrain`
    (`further`).

    distances: also columns to_retrain (L2, to the retrained network) and A_Dr, A_Df (%, the same in every layer's row).
    A sum is nan where a layer's distance is.
    """
    runs = distances.groupby(["method", "trained", "seed"], sort=False)
    found = runs[["A_Dr", "A_Df"]].first()
    for name, column in {"total": "distance", "further": "to_retrain"}.items():
        found[name] = runs[column].agg(lambda d: d.sum(skipna=False))
    found["mean"] = found.total / runs.size()
    return found.reset_index()
