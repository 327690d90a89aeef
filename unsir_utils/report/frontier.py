"""What the conditions of a grid of rates reach: their frontiers, and tables at their own best rates and at equal ones.

Records are those of `study.grid`: method, impair_lr, repair_lr, trained, seed, n_forget, A_Dr and A_Df on the test set, and
both on validation data, which choose the pairs.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pandas as pd
from matplotlib.axes import Axes

from . import plots
from .claims import FORGOTTEN, PAIR, at_pair, one_image_of, telling_pair, values
from .judge import interval
from .tables import mean_std

Pair = tuple[float, float] | None
Select = Callable[[pd.DataFrame], pd.DataFrame]


def named(pair: Pair) -> str:
    """ "0.02 and 0.01", the impair rate first; "none" where there is no pair."""
    return "{:g} and {:g}".format(*pair) if pair else "none"


def at_telling_pair(records: pd.DataFrame) -> pd.DataFrame:
    """The records at the one pair of rates where validation data show most of the noise."""
    return at_pair(records, telling_pair(records))


def beside(
    records: pd.DataFrame,
    select: Select,
    methods: Sequence[str],
    reference: tuple[str, str],
    images: int,
    classes: int,
) -> pd.DataFrame:
    """A line a request and method: its pair of rates, A_Dr and A_Df there, and how far the reference is above it.

    select: takes a request's records, leaves those at one pair of rates a method (`claims.at_best`, `at_telling_pair`).
    reference: a method and a metric; the last column is its metric minus the line's, in points, paired by replicate, with
        its 95 % interval. images: test images a class, of `classes`.
    Other cells are mean ± standard deviation over the replicates.
    """
    (other, metric), lines = reference, []
    for n, request in records.groupby("n_forget", sort=False):
        selected, step = select(request), getattr(one_image_of(images, classes, n), metric)
        for method in methods:
            own = selected[selected.method == method]
            above = values(selected, metric, method=other) - values(own, metric)
            told = interval(above, step=step).text(sign="+") if len(own) and method != other else ""
            pair = next(own[PAIR].itertuples(index=False, name=None), None)
            lines.append([str(n), method, named(pair), mean_std(own.A_Dr), mean_std(own.A_Df), told])
    last = f"{metric}: {other} minus this (points)"
    return pd.DataFrame(lines, columns=["#forget", "images", "impair and repair rate", "A_Dr (%)", "A_Df (%)", last])


def means(records: pd.DataFrame) -> pd.DataFrame:
    """A_Dr and A_Df of each method at each pair, the mean over the replicates; one that diverged leaves its pair out."""
    by_pair = records.groupby(["n_forget", "method", *PAIR], sort=False)[["A_Dr", "A_Df"]]
    return by_pair.agg(lambda v: v.mean(skipna=False)).dropna().reset_index()


def frontier(points: pd.DataFrame) -> tuple[list[float], list[float]]:
    """Points of A_Df and A_Dr, in %, as steps to draw: at each A_Df the highest A_Dr at so low an A_Df or lower."""
    ordered = points.sort_values("A_Df")
    highest = ordered.A_Dr.cummax()
    return [*ordered.A_Df, 100.0], [*highest, highest.max()]


def frontiers(axes: Sequence[Axes], points: pd.DataFrame, methods: Sequence[str]) -> None:
    """A panel a method: a dot a pair of rates and, through the best of them, its frontier; UNSIR's in each panel, dashed.

    points: from `means`, of one request. A_Df is linear up to the grey line, an A_Df of 1 %, and logarithmic beyond.
    """
    for axis, method in zip(axes, methods, strict=True):
        own, (colour, marker) = points[points.method == method], plots.METHOD_STYLE[method]
        axis.plot(own.A_Df, own.A_Dr, marker, color=colour, markersize=4, markeredgecolor="0.3", markeredgewidth=0.4)
        axis.step(*frontier(own), where="post", color=colour, linewidth=1.4)
        unsir = frontier(points[points.method == "UNSIR"])
        axis.step(*unsir, where="post", color="0.3", linestyle="--", linewidth=0.9, zorder=0)
        axis.axvline(FORGOTTEN, color="0.5", linewidth=0.8, zorder=0)
        axis.set_xscale("symlog", linthresh=FORGOTTEN)
        axis.set_xticks([0, 1, 10, 100], ["0", "1", "10", "100"])
        axis.minorticks_off()
        axis.set_title(method, fontsize=8)
