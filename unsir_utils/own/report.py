"""What one call of `forget` tells: before and after by class, what was tried, what it cost, where the goal was missed."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from tabulate import tabulate

MOST_CLASSES = 20  # lines of the table by class; of more, those that changed most


@dataclass(frozen=True)
class Report:
    """Accuracies in % on held-out images.

    forget: names of the classes that were to go. A_Dr: (before, after) on the retain classes. A_Df: the same on held-out
    images of the forget classes; None where none were given. left: how far the network is from the forget classes on images
    that stand in for them, (before, after): see `choose.stand_ins`. by_class: class, images, before, after.
    tried: a record a try, in order. settings: arguments of the chosen run. passes: images through the network, repetitions
    counted. seconds: the same steps. warnings: where the goal was missed. notes: what else to know.
    """

    forget: tuple[str, ...]
    A_Dr: tuple[float, float]
    A_Df: tuple[float, float] | None
    left: tuple[float, float]
    by_class: list[dict[str, Any]]
    tried: list[dict[str, Any]]
    settings: dict[str, Any]
    passes: dict[str, int]
    seconds: dict[str, float]
    warnings: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        return self._text(bold="")

    def _repr_markdown_(self) -> str:
        return self._text(bold="**")

    def as_dict(self) -> dict[str, Any]:
        """Plain values, as JSON takes them."""
        return _plain(asdict(self))

    def _text(self, bold: str) -> str:
        warned = [f"{bold}Warning: {text}{bold}" for text in self.warnings]
        parts = [f"{bold}{self.headline}{bold}", *warned, self._measures(), self._classes(), self._tries(), self._cost()]
        return "\n\n".join([*parts, *(f"Note: {text}" for text in self.notes)])

    @property
    def headline(self) -> str:
        kind = "UNSIR" if self.settings["noise"] else "the two passes without noise"
        return f"Forgetting {', '.join(self.forget)} by {kind}: A_Dr {_change(*self.A_Dr)}, A_Df {self._a_df()}"

    def _a_df(self) -> str:
        return _change(*self.A_Df) if self.A_Df else "not measured (no image of the forget classes was given)"

    def _measures(self) -> str:
        rows = [["A_Dr (%), retain classes", *map(_number, self.A_Dr)]]
        if self.A_Df:
            rows.append(["A_Df (%), forget classes", *map(_number, self.A_Df)])
        rows.append(["margin of the forget class on stand-ins", *map(_number, self.left)])
        return _table(rows, ["held-out images", "before", "after"])

    def _classes(self) -> str:
        rows = sorted(self.by_class, key=_changed, reverse=True)[:MOST_CLASSES]
        shown = [row for row in self.by_class if row in rows]
        hidden = len(self.by_class) - len(shown)
        table = _table(
            [[row["class"], row["images"], _number(row["before"]), _number(row["after"])] for row in shown],
            ["class", "images", "before (%)", "after (%)"],
        )
        return table + (f"\n\n{hidden} more classes changed less." if hidden else "")

    def _tries(self) -> str:
        rows = [[*(_cell(value) for value in record.values())] for record in self.tried]
        return _table(rows, list(self.tried[0])) if rows else "Nothing was tried."

    def _cost(self) -> str:
        passes = ", ".join(f"{name} {n:,}" for name, n in self.passes.items())
        seconds = ", ".join(f"{name} {s:.1f}" for name, s in self.seconds.items())
        chosen = ", ".join(f"{name}={_cell(value)}" for name, value in self.settings.items())
        return f"Chosen: {chosen}.\nImage passes: {passes}.\nSeconds: {seconds}."


def _changed(row: dict[str, Any]) -> float:
    """By how much; a class that was not measured, one to forget, comes first."""
    change = abs(row["after"] - row["before"])
    return math.inf if math.isnan(change) else change


def _change(before: float, after: float) -> str:
    return f"{_number(before)} to {_number(after)} %"


def _number(value: float) -> str:
    return "" if value is None or math.isnan(value) else f"{value:.1f}"


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return "undefined" if math.isnan(value) else f"{value:.3g}"
    return str(value)


def _table(rows: Sequence[Sequence[Any]], headers: list[str]) -> str:
    return tabulate(rows, headers, tablefmt="pipe", disable_numparse=True)


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _plain(v) for name, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(v) for v in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
