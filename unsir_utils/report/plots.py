"""One look for every figure: print size, colour-blind safe, readable in greyscale, one colour and marker a method."""

from __future__ import annotations

import inspect
import math
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from IPython.display import Markdown
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke
from matplotlib.ticker import LogLocator
from torch import Tensor

from ..audit.maps import enlarged
from .judge import interval
from .tables import three_digits


class _Styles(dict[str, tuple[str, str]]):
    """A method that has no style yet is grey."""

    def __missing__(self, method: str) -> tuple[str, str]:
        return "#555555", "d"


# Okabe and Ito's palette, with a grey and a brown, the light blue darkened: each has a contrast of at least 3:1 to white.
# The marker tells methods apart without colour.
METHOD_STYLE = _Styles(
    {
        "Original": ("#000000", "o"),
        "Second original": ("#000000", "+"),
        "Retrain": ("#0072B2", "s"),
        "Retrain, other start": ("#0072B2", "x"),
        "FineTune": ("#2B93CF", "v"),
        "NegGrad": ("#888888", "^"),
        "Fisher": ("#CC79A7", "P"),
        "Fisher, shuffled": ("#5254A3", "x"),
        "Fisher, no information": ("#637939", "d"),
        "Fisher, larger weights": ("#D55E00", "o"),
        "Fisher, louder": ("#2B93CF", ">"),
        "Fisher, louder, shuffled": ("#2B93CF", "<"),
        "Masked logits": ("#8C6D31", "X"),
        "Released": ("#7F3C8D", "p"),
        # Today's methods, a colour for each access.
        "Bias shift": ("#8C6D31", "o"),
        "Head projection": ("#8C6D31", "s"),
        "NoT": ("#2B93CF", "D"),
        "l1-sparse": ("#2B93CF", "P"),
        "NoT (subset)": ("#117733", "D"),
        "l1-sparse (subset)": ("#117733", "P"),
        "Boundary Shrink": ("#888888", "v"),
        "DELETE": ("#888888", "s"),
        "NegGrad+": ("#CC79A7", "^"),
        "Random labels": ("#CC79A7", "o"),
        "SalUn": ("#CC79A7", "s"),
        "SCRUB": ("#CC79A7", "D"),
        "Bad Teacher": ("#CC79A7", "v"),
        "SSD": ("#CC79A7", "X"),
        "SVD projection": ("#CC79A7", "p"),
        "Unlearned noise": ("#5254A3", "<"),
        "Blank images": ("#AD494A", ">"),
        "More retain": ("#637939", "H"),
        "No noise": ("#009E73", "D"),
        "No noise (paper's rates)": ("#009E73", "D"),
        "No noise (chosen rates)": ("#009E73", "d"),
        "UNSIR": ("#D55E00", "*"),
        "UNSIR (paper's rates)": ("#D55E00", "*"),
        "UNSIR (chosen rates)": ("#D55E00", "h"),
    }
)
APART = 0.12  # of a method's two markers from its line, lest their ranges hide each other
RETAIN, FORGET = "#0072B2", "#D55E00"


def set_style() -> None:
    """Call once at the top of a notebook."""
    sns.set_theme(style="ticks", context="paper", font="DejaVu Sans")
    plt.rcParams.update({
        "figure.dpi": 110, "axes.spines.top": False, "axes.spines.right": False, "axes.titlesize": 9,
        "axes.labelsize": 9, "legend.frameon": False, "legend.fontsize": 8, "pdf.fonttype": 42,
        "svg.hashsalt": "unsir", "figure.constrained_layout.use": True,
    })  # fmt: skip


def source(function: Callable) -> Markdown:
    """A kernel's source, to be read in place; the module keeps the only copy."""
    return Markdown(f"```python\n{inspect.getsource(function)}```")


def image_grid(rows: dict[str, Tensor]) -> Figure:
    """A labelled row of pictures for each entry: float or uint8 [n, 3, H, W]; floats are scaled to each picture's range."""
    n = max(1, *(len(images) for images in rows.values()))
    figure, axes = plt.subplots(len(rows), n, figsize=(0.75 * n + 1, 0.85 * len(rows)), squeeze=False)
    for line, (label, images) in zip(axes, rows.items(), strict=True):
        for axis in line:
            axis.set(xticks=[], yticks=[])
            sns.despine(ax=axis, left=True, bottom=True)
        for axis, image in zip(line, images, strict=False):
            axis.imshow(_displayable(image), interpolation="nearest")
        line[0].set_ylabel(label, rotation=0, ha="right", va="center")
    return figure


def _displayable(image: Tensor) -> np.ndarray:
    image = image.detach().cpu()
    if image.is_floating_point():
        image = image.nan_to_num(0.0, 0.0, 0.0)  # noise that diverged
        image = (image - image.min()) / (image.max() - image.min()).clamp(min=1e-12)
    return image.permute(1, 2, 0).numpy()


def map_grid(images: Tensor, rows: Sequence[str], maps: dict[str, Tensor], below: dict[str, list[str]]) -> Figure:
    """Each image and, a column a network, the image in grey with the network's map over it.

    images: uint8 [n, 3, H, W]; rows: their n labels. maps: a network's name -> float [n, h, w], at least 0; one that holds
        a nan is not drawn. below: a network's name -> n texts, one under each picture.
    A column has a colour scale of its own, from 0 to the largest value of its n maps, so that a network whose logits are
    small is seen, too: colours compare within a column, not between columns.
    """
    figure, axes = plt.subplots(len(images), len(maps) + 1, figsize=(6.7, 1.5 * len(images) + 0.6), squeeze=False)
    for line, image, label in zip(axes, images.cpu(), rows, strict=True):
        line[0].imshow(image.permute(1, 2, 0).numpy(), interpolation="nearest")
        line[0].set_ylabel(label)
    for column, title in zip(axes.T, ["image", *maps], strict=True):
        column[0].set_title(title)
    for column, (name, of) in zip(axes.T[1:], maps.items(), strict=True):
        large = enlarged(of, *images.shape[2:])
        for axis, image, heat, text in zip(column, images.cpu(), large, below[name], strict=True):
            axis.imshow(image.float().mean(0).numpy(), cmap="gray", vmin=0, vmax=255, interpolation="nearest")
            axis.set_xlabel(text, fontsize=7)
            if not heat.isnan().any():
                most = of.nan_to_num().max().item() or 1.0
                axis.imshow(heat.numpy(), cmap="inferno", vmin=0, vmax=most, alpha=0.55, interpolation="nearest")
    for axis in axes.flat:
        axis.set(xticks=[], yticks=[], frame_on=False)
    scale = plt.cm.ScalarMappable(cmap="inferno")  # from 0 to 1, whatever there is to see
    bar = figure.colorbar(scale, ax=axes, location="bottom", shrink=0.4, aspect=30, ticks=[0, 1], alpha=0.55)
    bar.ax.set_xticklabels(["0", "column's largest value"])
    return figure


def class_bars(axis: Axes, values: Tensor, names: Sequence[str], forget: Sequence[int], label: str) -> None:
    """One bar a class, none where its value is undefined; forget classes are hatched, too, to stand out without colour."""
    styles = [(FORGET, "///") if c in forget else (RETAIN, None) for c in range(len(names))]
    colours, hatches = zip(*styles, strict=True)
    axis.bar(range(len(names)), values.tolist(), color=colours, hatch=hatches, edgecolor="white", linewidth=0.5)
    turned = max(map(len, names)) > 3
    axis.set_xticks(range(len(names)), names, rotation=60 if turned else 0, ha="right" if turned else "center")
    axis.set(ylabel=label)


def tries(axis: Axes, tried: Sequence[Mapping[str, Any]]) -> None:
    """A_Dr of each try of `forget` against its impair rate, with noise and without; filled where the class was forgotten,
    the chosen one ringed."""
    for noise, (colour, marker) in {False: METHOD_STYLE["No noise"], True: METHOD_STYLE["UNSIR"]}.items():
        for r in (r for r in tried if r["noise"] is noise):
            axis.plot(r["impair_lr"], r["A_Dr"], marker, color=colour, markerfacecolor=colour if r["forgotten"] else "white")
            if r["chosen"]:
                axis.plot(r["impair_lr"], r["A_Dr"], "o", markersize=13, markerfacecolor="none", color="0.3")
        axis.plot([], [], marker, color=colour, label="with noise" if noise else "without noise")
    rates = sorted({r["impair_lr"] for r in tried})
    axis.set(xscale="log", xlabel="impair rate", ylabel="A_Dr, held out (%)")
    axis.set_xticks(rates, [f"{rate:g}" for rate in rates])
    axis.minorticks_off()
    axis.margins(0.2)
    low, high = axis.get_ylim()
    axis.set_ylim(min(low, high - 20), high + 2)  # so that two points look like little, and no marker is cut
    axis.legend()


def reach(values: pd.DataFrame | pd.Series) -> np.ndarray:
    """How far error bars go below and above their means, [2, n]. values: mean, min and max, as columns or of one row.

    Rounding may put the mean of equal values a hair outside their range, and matplotlib refuses negative lengths.
    """
    mean, low, high = (np.atleast_1d(values[name]).astype(float) for name in ("mean", "min", "max"))
    return np.clip([mean - low, high - mean], 0, None)


def method_lines(axis: Axes, records: pd.DataFrame) -> None:
    """One line a method: A_Dr as a filled and, a little lower, A_Df as an open marker, each the mean and range of runs.

    records: columns method, A_Dr and A_Df, one row a run. The dashed line is the original's A_Dr.
    """
    records = records.astype({"A_Dr": float, "A_Df": float})
    methods = list(dict.fromkeys(records.method))
    for y, method in enumerate(methods):
        runs, (colour, marker) = records[records.method == method], METHOD_STYLE[method]
        axis.plot([runs.A_Df.mean(), runs.A_Dr.mean()], [y + APART, y - APART], color="0.85", linewidth=2, zorder=0)
        for metric, fill, at in (("A_Dr", colour, y - APART), ("A_Df", "white", y + APART)):
            values = runs[metric].agg(["mean", "min", "max"])
            axis.errorbar(
                values["mean"], at, xerr=reach(values), color=colour, marker=marker, markersize=_size(marker, 6), capsize=2,
                markerfacecolor=fill, markeredgecolor=colour if fill == "white" else "black", markeredgewidth=0.8,
            )  # fmt: skip
    axis.axvline(records[records.method == "Original"].A_Dr.mean(), color="0.5", linestyle="--", linewidth=0.8, zorder=0)
    axis.set(yticks=range(len(methods)), yticklabels=methods, ylim=(len(methods) - 0.5, -0.5), xlim=(-4, 104))


def _size(marker: str, of_others: float) -> float:
    """A star fills less of its square than other markers do."""
    return 1.6 * of_others if marker == "*" else of_others


def sweep_lines(
    axis: Axes, records: pd.DataFrame, x: str, xlabel: str, log: bool = False, metrics: Sequence[str] = ("A_Dr", "A_Df")
) -> None:
    """A_Dr (filled markers, solid) and A_Df (open, dashed) of each method against a setting: mean and range over the runs.

    records: columns method, A_Dr, A_Df and `x`, one row a run. log: the setting's axis, linear around 0 where 0 is tried.
    """
    plain = {method: re.sub(r" \(.+ rates\)$", "", method) for method in records.method.unique()}
    alone = len({*plain.values()}) == len(plain)  # at one pair of rates, so that the panel says which
    for method, runs in records.groupby("method", sort=False):
        colour, marker = METHOD_STYLE[plain[method] if alone else method]
        for metric in metrics:
            fill, line = (colour, "-") if metric == "A_Dr" else ("white", "--")
            values = runs.astype({metric: float}).groupby(x)[metric].agg(["mean", "min", "max"])
            axis.errorbar(
                values.index, values["mean"], yerr=reach(values), color=colour, marker=marker, markerfacecolor=fill,
                linestyle=line, markersize=_size(marker, 5), capsize=2, linewidth=1.2,
                label=f"{method}, {metric}" if len(metrics) > 1 else method,
            )  # fmt: skip
    if log:
        ticks = sorted(records[x].unique())
        smallest = min((t for t in ticks if t > 0), default=1)
        axis.set_xscale("symlog" if ticks[0] == 0 else "log", **({"linthresh": smallest} if ticks[0] == 0 else {}))
        axis.set_xticks(ticks, [f"{t:g}" for t in ticks], rotation=45 if len(ticks) > 5 else 0)
        axis.minorticks_off()
    axis.set(xlabel=xlabel, ylabel="test accuracy (%)", ylim=(-4, 104))


def frontier(
    axis: Axes, tried: pd.DataFrame, stayed: Sequence[int], n_single: int, named: Mapping[str, int], original: float
) -> None:
    """A_Dr of each candidate against its image passes: filled where it stayed, a circle where one thing was changed.

    tried: by candidate, image_passes and A_Dr; an undefined one is not drawn. The step line is the highest A_Dr that so many
    image passes, or fewer, gave among those that stayed. n_single: candidates 1 to this have one change, the rest several.
    named: "paper's", "fast" and "best" -> candidate, marked. original: its A_Dr, dashed.
    """
    front, colour = tried.loc[list(stayed)].sort_values("image_passes"), METHOD_STYLE["UNSIR"][0]
    heights = [*front.A_Dr.cummax()]
    passes = [*front.image_passes, tried.image_passes.max()]
    axis.step(passes, heights + heights[-1:], where="post", color="0.5", zorder=0, label="Pareto front")
    single = tried.index <= n_single
    for label, marker, of in (("one change", "o", single), ("several changes", "s", ~single)):
        part = tried[of & ~tried.index.isin(named.values())]
        fill = np.where(part.index.isin(stayed), "0.35", "white")
        axis.scatter(part.image_passes, part.A_Dr, s=32, marker=marker, facecolor=fill, edgecolor="0.35")
        axis.scatter([], [], s=32, marker=marker, color="0.35", label=label if len(part) else None)
    for i in dict.fromkeys(named.values()):
        names, (x, y) = [name for name, candidate in named.items() if candidate == i], tried.loc[i, ["image_passes", "A_Dr"]]
        marker, above = {"paper's": ("*", False), "fast": ("h", False), "best": ("P", True)}[names[-1]]
        style: dict[str, Any] = {"ha": "center", "va": "center", "color": colour, "weight": "bold"}
        axis.scatter(x, y, s=110, marker=marker, color=colour, zorder=4)
        axis.annotate(", ".join(names), (x, y), xytext=(0, 14 if above else -14), textcoords="offset points", **style)
    axis.axhline(original, color="black", linestyle="--", linewidth=0.9, label="Original")
    shown = np.nan_to_num([tried.A_Dr.min(), tried.A_Dr.max(), original])
    room = max(8, 0.2 * np.ptp(shown))  # for the words
    axis.set(xlabel="image passes", ylabel="A_Dr on the validation part (%)", ylim=(shown.min() - room, shown.max() + room))
    if tried.A_Dr.notna().any():
        axis.set_xscale("log")
        wide = tried.image_passes.max() > 10 * tried.image_passes.min()
        axis.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if wide else (1, 1.5, 2, 3, 5, 7)))
    axis.xaxis.set_major_formatter("{x:,.0f}")
    axis.minorticks_off()
    axis.margins(x=0.1)


def power_law(axis: Axes, x: pd.Series, y: pd.Series, method: str) -> None:
    """Points on logarithmic axes, in the method's style, and the straight line through them: its slope, 1 where y grows in
    proportion to x, is the title."""
    slope, height = np.polyfit(np.log(x), np.log(y), 1) + [1e-9, 0]  # no -0.00
    colour, marker = METHOD_STYLE[method]
    axis.loglog(x, y, marker, color=colour, markersize=7)
    axis.loglog(x, np.exp(height) * x**slope, ":", color="0.5")
    axis.set_title(f"slope {slope:.2f}")
    axis.set_xticks(x, [f"{t / 1000:.0f}k" if t > 9999 else f"{t:g}" for t in x])
    axis.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axis.yaxis.set_major_formatter("{x:g}")
    axis.minorticks_off()


def level_lines(axis: Axes, records: pd.DataFrame, method: str) -> None:
    """Mean A_Dr (solid) and A_Df (dashed) of a method that the setting of the axis does not change, as lines across.

    records: columns A_Dr and A_Df, one row a run of the method.
    """
    for metric, line in (("A_Dr", "-"), ("A_Df", "--")):
        style: dict[str, Any] = {"color": METHOD_STYLE[method][0], "linestyle": line, "linewidth": 1.2, "zorder": 0}
        axis.axhline(records[metric].mean(), label=f"{method}, {metric}", **style)


def change_lines(axis: Axes, changes: Mapping[tuple[str, str], pd.Series], bound: float, step: float) -> None:
    """A row a name, the first on top: how many points it moved what is measured, the mean with the 95 % t interval, a dot a
    seed.

    changes: by name and what is measured (A_Dr, A_Df; at most two, the first filled), points by seed as `claims.values`
    gives them; a name whose changes are empty is told to be not run, an undefined change is not drawn. bound: the band from
    -bound to bound is grey; step: see `judge.interval`.
    """
    names, (first, *_) = (list(dict.fromkeys(key)) for key in zip(*changes, strict=True))
    axis.axvspan(-bound, bound, color="0.92", zorder=0)
    for (name, measured), values in changes.items():
        found, filled = interval(values, step=step), measured == first
        if np.isnan(found.mean):
            continue
        y, colour = names.index(name) + (-0.15 if filled else 0.15), RETAIN if filled else FORGET
        axis.plot(values, [y] * len(values), ".", color="0.35", markersize=4, zorder=3)
        axis.errorbar(
            found.mean, y, xerr=found.mean - found.low if found.n > 1 else None, color=colour, capsize=2, markersize=5,
            marker="o" if filled else "s", markerfacecolor=colour if filled else "white", label=measured,
        )  # fmt: skip
    for name in set(names) - {name for (name, _), values in changes.items() if len(values)}:
        axis.text(0, names.index(name), "not run", ha="center", va="center", fontsize=7, color="0.4")
    axis.set(yticks=range(len(names)), yticklabels=names, ylim=(len(names) - 0.4, -0.6))


def part_boxes(axis: Axes, values: pd.DataFrame, methods: Sequence[str]) -> None:
    """Two boxes a method: its values on retain images and, hatched, on forget images; "undefined" where it has none.

    values: columns method, part ("retain" or "forget") and value; nan is left out. A box spans the middle half with the
    median in it, whiskers reach 1.5 times as far at most, dots are what lies beyond.
    """
    for shift, part, colour, hatch in ((-0.2, "retain", RETAIN, None), (0.2, "forget", FORGET, "///")):
        style: dict[str, Any] = {"facecolor": colour, "hatch": hatch, "edgecolor": "0.2", "alpha": 0.8}
        place: dict[str, Any] = {"xycoords": ("axes fraction", "data"), "va": "center", "fontsize": 7, "color": colour}
        for y, method in enumerate(methods):
            of = values[(values.method == method) & (values.part == part)].value.dropna()
            if of.empty:
                axis.annotate("undefined", (0.01, y + shift), **place)
                continue
            axis.boxplot(
                [of], positions=[y + shift], widths=0.32, orientation="horizontal", patch_artist=True, manage_ticks=False,
                boxprops=style, medianprops={"color": "black"}, flierprops={"marker": ".", "markersize": 3},
            )  # fmt: skip
        axis.fill([], [], **style, label=f"{part} images")
    axis.set(yticks=range(len(methods)), yticklabels=methods, ylim=(len(methods) - 0.5, -0.5))


def layer_lines(axis: Axes, ratios: pd.DataFrame, methods: Sequence[str], factor: float) -> None:
    """One line a method: by layer, how many times Retrain's distance its own is, mean over the replicates, on a log scale.

    ratios: columns method, layer, ratio. Retrain is the line at 1, in a band that reaches a `factor` up and down; dotted:
    networks that no unlearning made. A layer without a ratio leaves a gap.
    """
    axis.axhspan(1 / factor, factor, color="0.92", zorder=0)
    axis.axhline(1, color=METHOD_STYLE["Retrain"][0], linewidth=1, label="Retrain")
    for method in methods:
        colour, marker = METHOD_STYLE[method]
        values = ratios[ratios.method == method].groupby("layer", sort=False).ratio.mean()
        line = ":" if method in ("Retrain, other start", "Second original") else "-"
        axis.plot(values.index, values, line, color=colour, marker=marker, markersize=4, linewidth=1, label=method)
    axis.set_yscale("log", subs=[])
    axis.yaxis.set_major_locator(LogLocator(subs=(1, 3)))
    axis.yaxis.set_major_formatter("{x:g}")
    axis.tick_params(axis="x", rotation=90, labelsize=6)


def ratio_lines(axis: Axes, ratios: pd.DataFrame) -> None:
    """A row a race, the first on top: its ratio, a dot, with the range over the rounds; a stroke at the ratio wanted.

    ratios: columns what, against, ratio, lowest, highest, wanted and reached ("yes": filled, else open). Log scale.
    """
    for y, line in enumerate(ratios.itertuples()):
        fill = RETAIN if line.reached == "yes" else "white"
        axis.plot([line.lowest, line.highest], [y, y], color=RETAIN, linewidth=2, zorder=1)
        axis.scatter(line.ratio, y, s=42, facecolor=fill, edgecolor=RETAIN, zorder=3)
        axis.scatter(line.wanted, y, s=170, marker="|", color="black", linewidth=1.6, zorder=2)
        axis.text(1.01, y, three_digits(line.ratio), transform=axis.get_yaxis_transform(), va="center", fontsize=8)
    axis.axvline(1, color="0.5", linestyle="--", linewidth=0.8, zorder=0)
    axis.set_yticks(range(len(ratios)), ratios.what + "\nagainst " + ratios.against, fontsize=7)
    axis.set(xscale="log", xlabel="times as fast", ylim=(len(ratios) - 0.5, -0.5))
    axis.xaxis.set_major_formatter("{x:g}")


def side_lines(axis: Axes, records: pd.DataFrame) -> None:
    """A row a side of a race: A_Dr (filled) and A_Df (open), means with their ranges. records: what, side, A_Dr and A_Df."""
    runs = records.groupby(["what", "side"], sort=False)
    for metric, colour, marker in (("A_Dr", RETAIN, "o"), ("A_Df", FORGET, "s")):
        found, fill = runs[metric].agg(["mean", "min", "max"]), colour if metric == "A_Dr" else "white"
        axis.errorbar(
            found["mean"], range(len(found)), xerr=reach(found), color=colour, marker=marker, markerfacecolor=fill,
            linestyle="none", capsize=2, label=metric,
        )  # fmt: skip
    axis.set_yticks(range(len(runs)), [f"{what}: {side}" for what, side in runs.groups], fontsize=8)
    axis.set(xlabel="test accuracy (%)", xlim=(-4, 104), ylim=(len(runs) - 0.5, -0.5))


def what_is_left(axis: Axes, records: pd.DataFrame) -> None:
    """A row a test of the audit, the first on top: where each method lies between retrained networks, at 0, and the
    original, at 1. What lies further beyond either than half that way is drawn at the edge, with a stroke to it.

    records: columns method, test, position, floor, ceiling and bound, one row a run; the mean over the runs counts. The
    bound is dotted. A test without any position, as it does not tell the original from retrained networks, says so.
    """
    tests, methods = (list(dict.fromkeys(records[column])) for column in ("test", "method"))
    position = records.astype({"position": float}).groupby(["method", "test"]).position.mean().unstack("test")[tests]
    for shift, method in zip(np.linspace(-0.4, 0.4, len(methods)), methods, strict=True):
        (colour, marker), found, y = METHOD_STYLE[method], position.loc[method], np.arange(len(tests)) + shift
        drawn = found.clip(-0.5, 1.5)
        axis.plot(drawn, y, marker, color=colour, markersize=5, label=method, zorder=3)
        off = (found != drawn) & found.notna()
        axis.hlines(y[off], drawn[off], np.where(found[off] < 0, -0.6, 1.6), color=colour, linewidth=1.2)
    telling = records[records.position.notna()]
    bounds = ((telling.bound - telling.floor) / (telling.ceiling - telling.floor)).groupby(telling.test).mean()
    for y, test in enumerate(tests):
        if position[test].isna().all():
            axis.text(0.5, y, "cannot tell", ha="center", va="center", fontsize=7, color="0.4")
        else:
            axis.vlines(bounds[test], y - 0.5, y + 0.5, color="0.3", linestyle=":", linewidth=1)
        axis.axhspan(y - 0.5, y + 0.5, color="0.95" if y % 2 else "white", zorder=0)
    axis.plot([], [], ":", color="0.3", linewidth=1, label="bound")
    for x in (0, 1):
        axis.axvline(x, color="0.5", linewidth=0.8, zorder=1)
    axis.set_xticks([0, 0.5, 1], ["retrained", "half-way", "original"])
    axis.set(yticks=range(len(tests)), yticklabels=tests, xlim=(-0.6, 1.6), ylim=(len(tests) - 0.5, -0.5))


def heat_map(
    axis: Axes,
    records: pd.DataFrame,
    x: str,
    y: str,
    value: str,
    label: str,
    around_zero: bool = False,
    reach: float = math.nan,
) -> None:
    """The mean of `value` over the runs at each pair of settings, written into its cell; a scale of 0 to 100.

    around_zero: for differences, white at 0, with signs; the scale goes to `reach`, or as far as they do (nan), but to 10
    points at least.
    """
    runs = records.astype({value: float}).groupby([y, x])[value]
    table = runs.mean().unstack(x).sort_index(ascending=False)  # a pivot would drop what is undefined throughout
    table = table.round() + 0.0 if around_zero else table  # + 0.0: no "-0" in a cell
    reach = max(10.0, table.abs().max().max() if math.isnan(reach) else reach)
    scale = {"vmin": -reach, "vmax": reach, "cmap": "PuOr"} if around_zero else {"vmin": 0, "vmax": 100, "cmap": "cividis"}
    cells = axis.pcolormesh(table.to_numpy(), edgecolors="white", linewidth=0.5, **scale)
    for (row, column), number in np.ndenumerate(table.to_numpy()):
        if np.isfinite(number):
            dark = sum(cells.cmap(cells.norm(number))[:3]) < 1.2
            shown = f"{number:+.0f}" if around_zero else f"{number:.0f}"
            centre: dict[str, Any] = {"ha": "center", "va": "center", "color": "white" if dark else "0.15"}
            axis.text(column + 0.5, row + 0.5, shown, fontsize=7, **centre)
    axis.set_xticks(
        np.arange(table.shape[1]) + 0.5, [f"{t:g}" for t in table.columns], rotation=60 if table.shape[1] > 4 else 0
    )
    axis.set_yticks(np.arange(table.shape[0]) + 0.5, [f"{t:g}" for t in table.index])
    axis.set_title(label)
    axis.tick_params(length=0)
    axis.set_ylim(max(1, len(table)), 0)
    sns.despine(ax=axis, left=True, bottom=True)


def mark_cell(axis: Axes, records: pd.DataFrame, x: str, y: str, pair: Sequence[float], **style: Any) -> None:
    """A frame in the cell of `heat_map` at `pair`, a value of `x` and one of `y`; style: of matplotlib's Rectangle.

    A thin outline sets a black frame off from dark cells, and a frame of another colour from bright ones.
    """
    column = sorted(records[x].unique()).index(pair[0])
    row = sorted(records[y].unique(), reverse=True).index(pair[1])
    outline = withStroke(linewidth=3.5, foreground="white" if style.get("edgecolor") == "black" else "black")
    axis.add_patch(plt.Rectangle((column + 0.06, row + 0.06), 0.88, 0.88, fill=False, path_effects=[outline], **style))


def legend_below(figure: Figure, axes: Sequence[Axes], columns: int = 4) -> None:
    """One legend for all panels, under them; what several share stands once, a panel's suffix "(...)" left out."""
    entries: dict[str, Artist] = {}
    for axis in axes:
        for handle, label in zip(*axis.get_legend_handles_labels(), strict=True):
            entries.setdefault(re.sub(r" \([^)]*\)", "", label), handle)
    figure.legend([*entries.values()], [*entries], loc="outside lower center", ncols=columns)
