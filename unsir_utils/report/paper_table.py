"""How a table of the paper is shown: its networks, the choice of its rates, the table itself and its figure.

Records are those of `workshop.rows`: network, n_forget, trained (the fold or seed), method and seed name a line; A_Dr and
A_Df in %, nan where the network has diverged; relearn_epochs, nan past the cap. `intact` is network -> Scenario, from
`workshop.rows.originals_of`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.figure import Figure

from ..workshop.models import n_parameters
from ..workshop.store import Recipe
from ..workshop.study import Scenario
from . import plots
from .judge import how_many
from .tables import mean_capped, mean_std

ROW = ["network", "n_forget"]
CELLS = [*ROW, "method", "A_Dr", "A_Df"]  # what the paper's own table holds, for `Results.with_paper`
# Settings that a notebook tries, in the order they are shown.
VARIED = ["impair_lr", "repair_lr", "lr", "batchnorm", "alpha"]
HEADS = {
    "n_forget": "#forget",
    "trained": "fold or seed",
    "A_Dr": "A_Dr (%)",
    "A_Df": "A_Df (%)",
    "images": "images behind A_Df",
}


def networks(intact: Mapping[str, Scenario]) -> pd.DataFrame:
    """The intact networks and their data, as text cells."""
    lines = [
        {
            "network": _named(network, s),
            "parameters": f"{n_parameters(s.original):,}",
            "data": s.loaded.name,
            "training images": f"{len(s.loaded.train):,}",
            "shape of one": str(s.loaded.train.shape),
            "classes": str(s.loaded.n_classes),
            "test accuracy (%)": f"{s.accuracy:.1f}",
        }
        for network, s in intact.items()
    ]
    return pd.DataFrame(lines)


def sizes(intact: Mapping[str, Scenario]) -> tuple[dict[str, int], dict[str, int]]:
    """(test images a class, classes), each by network: what `claims` asks for."""
    classes = {network: s.loaded.n_classes for network, s in intact.items()}
    return {network: round(len(s.loaded.test) / classes[network]) for network, s in intact.items()}, classes


def choices(tried: pd.DataFrame) -> pd.DataFrame:
    """Every candidate with what it reached on validation data, as text cells; each row's chosen one is marked.

    tried: from `workshop.rows.tries_of`, of one method or of several. "images behind A_Df": how many validation
    images of the forget classes there are.
    """
    percent = tried[["A_Dr", "A_Df"]].astype(float).map("{:.1f}".format, na_action="ignore").fillna("undefined")
    table = tried.assign(**percent, chosen=tried.chosen.map({True: "chosen", False: ""}))
    varied = [name for name in VARIED if name in tried]
    table[varied] = table[varied].astype(object).where(tried[varied].notna(), "")
    several = [name for name in ("n_forget", "trained") if tried[name].nunique() > 1]
    shown = table[["network", *several, "method", *varied, "A_Dr", "A_Df", "images", "chosen"]].astype(str)
    return shown.rename(columns=HEADS)


def summary(records: pd.DataFrame, cap: int) -> pd.DataFrame:
    """The table: A_Dr, A_Df (mean ± std over seeds and trainings) and the mean relearn time of each row and method, as text;
    #forget: int.

    cap: where relearning was given up, in epochs; it stands for each longer time, and ">" marks the mean. A network that has
    diverged has no relearn time.
    """
    grouped, defined = records.groupby([*ROW, "method"], sort=False), records.A_Dr.notna()
    times = grouped.relearn_epochs.agg(lambda epochs: mean_capped(epochs[defined[epochs.index]], cap))
    table = grouped[["A_Dr", "A_Df"]].agg(mean_std).assign(times=times).reset_index()
    return table.set_axis(["network", "#forget", "method", "A_Dr (%)", "A_Df (%)", "relearn (epochs)"], axis=1)


def past_the_cap(records: pd.DataFrame) -> list[str]:
    """ "FineTune: 2 of 5 runs" for each method with relearn times past the cap; runs that diverged do not count."""
    relearned = records[records.A_Dr.notna()].groupby("method", sort=False).relearn_epochs
    runs = pd.DataFrame({"late": relearned.size() - relearned.count(), "all": relearned.size()})
    return [f"{method}: {n} of {of} runs" for method, n, of in runs[runs.late > 0].itertuples()]


def trained_on(intact: Mapping[str, Scenario]) -> str:
    """For captions: how each original was trained, and on what."""
    return "; ".join(
        f"{_named(network, s)} on {s.loaded.name} ({len(s.loaded.train):,} training images, "
        f"{s.recipe.epochs} epochs of {', '.join(_training(s.recipe))})"
        for network, s in intact.items()
    )


def _training(recipe: Recipe) -> Iterator[str]:
    yield recipe.training
    if recipe.augment:
        yield "augmented"
    if recipe.label_smoothing:
        yield f"label smoothing {recipe.label_smoothing}"
    yield _start(recipe.weights)


def _named(network: str, s: Scenario) -> str:
    """With its architecture, where that is another than the network's name in the table."""
    return network if network == s.recipe.architecture else f"{network} ({s.recipe.architecture})"


def _start(weights: str | None) -> str:
    kind, _, path = (weights or "").partition(":")
    return f"from the weights in {Path(path).name}" if path else "ImageNet weights" if kind else "from scratch"


def relearned(per_epoch: int, cap: int, watched: int, **_: object) -> str:
    """For captions: how relearn times were measured; the arguments of `study.relearn` that say so."""
    return f"relearn epochs of {per_epoch} images, at most {cap}, watching {watched} forgotten images"


def replicated(records: pd.DataFrame) -> str:
    """For captions: on how many trainings of each network the cells rest, and with how many seeds."""
    return "; ".join(f"{network}: {how_many(part)}" for network, part in records.groupby("network", sort=False))


def panels(records: pd.DataFrame, classes: Mapping[str, int]) -> Figure:
    """The table at a glance: one panel a row, one line a method (see `plots.method_lines`), four panels abreast at most.

    Of more than four, a network's stand in a line of their own. classes: network -> how many its data have.
    """
    rows = list(records.groupby(ROW, sort=False))
    longest = records.groupby("network").n_forget.nunique().max()
    columns, methods = len(rows) if len(rows) <= 4 else min(4, longest), records.method.nunique()
    lines = -(-len(rows) // columns)
    size = min(7.3, 1.9 + 1.7 * columns), lines * (1.2 + 0.2 * methods)
    figure, axes = plt.subplots(lines, columns, figsize=size, sharey=True, squeeze=False)
    for axis, ((network, n), part) in zip(axes.flat, rows, strict=False):
        plots.method_lines(axis, part)
        axis.set(title=f"{network}\n{n} of {classes[network]} classes", xticks=[0, 50, 100])
    for axis in axes.flat[len(rows) :]:
        axis.remove()
    figure.supxlabel("A_Df (open) and A_Dr (filled) on the test set, %", fontsize=9)
    return figure
