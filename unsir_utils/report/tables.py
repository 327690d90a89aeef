"""Where a notebook puts its tables, figures, numbers and seconds, and how: runs/<profile>/<kind>/<notebook>."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
from IPython.display import Markdown
from matplotlib.figure import Figure

from ..data.paths import REPOSITORY, published_root, results_root
from ..workshop.parameters import checked
from ..workshop.profiles import DEFAULT, MINE, changed, folder_of
from ..workshop.provenance import ASKED_FOR, environment
from . import compare
from .judge import Finding, Test, judge
from .latex import latex
from .paper import AT_PAPERS_RATES, paper_cells, paper_speed

BESIDE = ["table", "network", "#forget", "method", "metric", "paper", "ours", "difference", "source"]
# Of a finding, in a notebook; how many of a test's criteria came to what only where it has several.
SHOWN = ["claim", "tested", "measured", "holds if", "criteria", "replicates", "the noise adds", "verdict"]


class Results:
    """Writes what one notebook finds. profile: its folder under runs/."""

    def __init__(self, notebook: str, profile: str) -> None:
        self.notebook, self.profile = notebook, profile
        self.folder = results_root() / profile
        self.parameters: dict[str, Any] = {}
        self.changes: dict[str, Any] = {}  # of them, from the profile's

    @classmethod
    def of(cls, notebook: str, variables: Mapping[str, Any]) -> Results:
        """Those of a notebook with these variables. Raises ParameterError for a parameter that cannot be meant.

        What is changed from the profile gets a folder of its own, runs/<profile>/<changes>.
        """
        values = checked(notebook, variables)
        results = cls(notebook, values["profile"])
        results.parameters, results.changes = values, changed(notebook, values)
        results.folder = folder_of(notebook, values)
        return results

    def _path(self, kind: str, suffix: str, name: str = "") -> Path:
        path = self.folder / kind / f"{self.notebook}{'_' + name if name else ''}.{suffix}"
        path.parent.mkdir(parents=True, exist_ok=True)
        return path

    def table(self, frame: pd.DataFrame, caption: str, name: str = "", timed: bool = False) -> None:
        """Saves a table of text cells as csv, Markdown and LaTeX (booktabs); the caption gets the profile.

        timed: it holds seconds, which no two runs share: it goes where the seconds go, apart from what stays the same.
        """
        kind = "seconds" if timed else "tables"
        caption = f"{caption} Profile: {self.profile}."
        frame.to_csv(self._path(kind, "csv", name), index=False, lineterminator="\n")
        self._path(kind, "md", name).write_text(f"{markdown(frame)}\n\n{caption}\n", encoding="utf-8")
        label = f"tab:{self.notebook}{'_' + name if name else ''}"
        self._path(kind, "tex", name).write_text(latex(frame, caption, label), encoding="utf-8")

    def shown(self, frame: pd.DataFrame, caption: str, name: str = "", timed: bool = False) -> Markdown:
        """`table`, shown in the notebook, too."""
        self.table(frame, caption, name, timed)
        return Markdown(f"{markdown(frame)}\n\n*{caption}*")

    def judged(self, tests: Sequence[Test], caption: str) -> Markdown:
        """Saves the verdicts on `tests`, for 99_report to gather; shows what decides. Without tests it says so."""
        if not tests:
            self._drop("findings")  # of an earlier run
            return Markdown("No verdict: nothing that the claim compares was measured.")
        return Markdown(self.findings(judge([self._on_its_grid(test) for test in tests]), caption))

    def _drop(self, name: str) -> None:
        for kind in ("tables", "seconds"):
            for suffix in ("csv", "md", "tex"):
                self._path(kind, suffix, name).unlink(missing_ok=True)

    def _on_its_grid(self, test: Test) -> Test:
        """A claim is about the grid that was stated beforehand: on another there is no verdict."""
        replaced = [name for name, tested_on in GRIDS.items() if name in self.changes and tested_on(test)]
        return replace(test, why_not=f"no verdict: {' and '.join(replaced)} replaced") if replaced else test

    def findings(self, lines: Sequence[Finding], caption: str, timed: bool = False) -> str:
        """Saves what `judge` returned, for 99_report to gather; returns what decides as a Markdown table."""
        frame = pd.DataFrame(lines)
        self.table(frame, caption, "findings", timed)
        shown = frame[SHOWN] if frame.criteria.any() else frame[SHOWN].drop(columns="criteria")
        return f"{markdown(shown)}\n\n*{caption}*"

    def beside_paper(self, table: str, found: pd.DataFrame) -> None:
        """Saves the known cells of one of the paper's tables beside ours, for 99_report to gather.

        found: model, row, method, metric, value; one line a seed. What was not measured stays blank.
        """
        keys, lines = ["model", "row", "method", "metric"], []
        for cell in paper_cells(table).itertuples():
            ours = found[(found[keys] == [cell.model, cell.row, cell.method, cell.metric]).all(axis=1)].value
            difference = f"{ours.mean() - cell.value:+.1f}" if len(ours) else ""
            known = table, cell.model, str(cell.row), cell.method, f"{cell.metric} (%)", f"{cell.value:.2f}"
            lines.append([*known, mean_std(ours), difference, cell.source])
        self.table(pd.DataFrame(lines, columns=BESIDE), f"The paper's known cells ({table}) beside ours.", "paper")

    def speed_beside_paper(self, network: str, seconds: pd.Series) -> None:
        """Saves what the paper reports of speed beside ours, for 99_report to gather.

        seconds: of UNSIR as a whole, and of each row of `paper.SPEED`.
        """
        lines = []
        for row, paper in paper_speed().iterrows():
            ours = seconds[row] / (seconds["UNSIR"] if paper.unit == "times" else 1)
            known = "efficiency", network, "1", paper.what, paper.unit, f"{paper.value:g}"
            lines.append([*known, three_digits(ours), f"{ours / paper.value:.2g} times", paper.source])
        self.table(pd.DataFrame(lines, columns=BESIDE), "The paper's efficiency beside ours.", "paper", timed=True)

    def with_paper(self, table: str, records: pd.DataFrame, summary: pd.DataFrame) -> pd.DataFrame:
        """`summary` and, as columns, the paper's known cells of one of its tables, which `beside_paper` saves beside ours.

        records: network, number of forget classes, method, A_Dr, A_Df (in that order), one line a seed; summary: the same
        three keys first. What the paper calls UNSIR is UNSIR at the paper's rates here.
        """
        long = records.set_axis(["model", "row", "method", "A_Dr", "A_Df"], axis=1)
        long = long.melt(["model", "row", "method"], var_name="metric")
        self.beside_paper(table, long.replace({"method": {AT_PAPERS_RATES: "UNSIR"}}))
        known = paper_cells(table).replace({"method": {"UNSIR": AT_PAPERS_RATES}})
        known = known.set_index(["metric", "model", "row", "method"]).value.map("{:.2f}".format).to_dict()
        keys = list(summary.iloc[:, :3].itertuples(index=False, name=None))
        return summary.assign(**{f"paper {m} (%)": [known.get((m, *key), "") for key in keys] for m in ("A_Dr", "A_Df")})

    def records(self, frame: pd.DataFrame, name: str = "records") -> None:
        """Saves the long-format csv, one row a case and seed, seconds in a file of their own."""
        timed = [c for c in frame.columns if c.startswith("seconds")]
        frame.drop(columns=timed).to_csv(self._path("tables", "csv", name), index=False, lineterminator="\n")
        if timed:
            frame.to_csv(self._path("seconds", "csv", name), index=False, lineterminator="\n")

    def figure(self, figure: Figure, name: str = "", *, alt: str, timed: bool = False) -> None:
        """Saves a figure as png and pdf, the profile in its corner; timed as in `table`.

        alt: what is drawn, for those who cannot see it; it stands in both files and beside the picture in README.
        """
        kind = "seconds" if timed else "figures"
        figure.text(0.995, -0.01, f"profile: {self.profile}", ha="right", va="top", fontsize=6, color="0.45")
        png, pdf = {"Description": alt}, {"CreationDate": None, "Subject": alt}
        figure.savefig(self._path(kind, "png", name), dpi=160, bbox_inches="tight", metadata=png)
        figure.savefig(self._path(kind, "pdf", name), bbox_inches="tight", metadata=pdf)

    def numbers(self, **numbers: float | int | str | list | None) -> None:
        """Saves every number that the notebook's prose or the README quotes, and which trained models it needed.

        A number that is not finite is saved as null: it is undefined.
        """
        about = {**{k: _finite(v) for k, v in numbers.items()}, "parameters": self.parameters, "environment": environment()}
        text = json.dumps(about, indent=1, allow_nan=False, default=lambda scalar: scalar.item())
        self._path("numbers", "json").write_text(text + "\n")
        models = pd.DataFrame(sorted(ASKED_FOR.items()), columns=["model", "seconds"]).round(1)
        models.to_csv(self._path("seconds", "csv", "models"), index=False, lineterminator="\n")

    def closed(self, **numbers: float | int | str | list | None) -> Markdown:
        """The end of a notebook: saves `numbers`; says what they depend on and where all of it went."""
        self.numbers(**numbers)
        made = "Made with " + ", ".join(f"{k} {v}" for k, v in environment().items()) + "."
        return Markdown(f"{made}\n\n{self._whereabouts()}")

    def _whereabouts(self) -> str:
        """Where the results lie, how they were asked for, and what is published beside them."""
        told = ", ".join(f"{k} = {v!r}" for k, v in self.changes.items())
        lines = [f"Tables, figures, numbers and parameters: `{_shown(self.folder)}`."]
        lines += [f"Changed from profile {DEFAULT if self.profile == MINE else self.profile}: `{told}`."] if told else []
        published = self._published / f"{self.notebook}.ipynb"
        beside = f"Published: `{_shown(published)}`; `results.compare()` shows both, with the differences marked."
        return " ".join([*lines, beside if published.exists() else "Nothing is published of this profile."])

    @property
    def _published(self) -> Path:
        return published_root() / (DEFAULT if self.profile == MINE else self.profile)

    def compare(self) -> Markdown:
        """This run's tables, what is published in brackets where it differs; bold is what moved beyond its tolerance."""
        return Markdown(compare.beside(self._published, self.folder, self.notebook))


def _of(*claims: int | str) -> Callable[[Test], bool]:
    return lambda test: test.claim in claims


GRIDS: dict[str, Callable[[Test], bool]] = {  # lists whose best, most or every entry these verdicts speak of
    "rates": lambda test: "(chosen rates" in test.tested or test.claim == "K",
    "neggrad_rates": _of(3),
    "fisher_alphas": _of(3),
    "impair_rates": _of(9, "E", "K"),
    "repair_rates": _of(9, "E", "K"),
    "numbers": _of(7),
    "shares": _of("G"),
    "passes": _of("I", "K"),
    "changes": _of("K"),
    "n_candidates": _of("K"),
    "dearest": _of("K"),
    "candidates": _of("M"),
}


def _shown(path: Path) -> str:
    """From the repository; elsewhere by the name of the variable that says where."""
    if path.is_relative_to(REPOSITORY):
        return path.relative_to(REPOSITORY).as_posix()
    return (Path("$UNSIR_RESULTS") / os.path.relpath(path, results_root())).as_posix()


def _finite(number: object) -> object:
    """A number that JSON can hold, also within a list; None for one that is not finite."""
    if isinstance(number, list):
        return [_finite(n) for n in number]
    return None if isinstance(number, float) and not math.isfinite(number) else number


def mean_std(values: pd.Series, digits: int = 1) -> str:
    """ "mean ± std" (sample standard deviation); the mean alone of one; empty of none. Undefined ones: left out, told."""
    defined = values.dropna()
    if defined.empty:
        return "undefined" if len(values) else ""
    mean, missing = f"{defined.mean():.{digits}f}", len(values) - len(defined)
    told = f" ({missing} undefined)" if missing else ""
    return (mean if len(defined) < 2 else f"{mean} ± {defined.std():.{digits}f}") + told


def mean_capped(values: pd.Series, cap: int) -> str:
    """Mean relearn time, in epochs or steps; a missing one is past the cap, counts as it and marks the mean with ">".

    Of no value, as where every network diverged, it is undefined.
    """
    if values.empty:
        return "undefined"
    return (">" if values.isna().any() else "") + f"{values.fillna(cap).mean():.1f}".removesuffix(".0")


def three_digits(x: float | str) -> str:
    """A number's first three digits, from 100 on all before the point, "0.000" below a thousandth, "undefined" for what is
    not finite; text as it is."""
    if isinstance(x, str):
        return x
    if not math.isfinite(x):
        return "undefined"
    return "0.000" if abs(x) < 1e-3 else f"{x:,.0f}" if abs(x) >= 100 else f"{x:#.3g}".rstrip(".")


def bullets(*lines: str) -> Markdown:
    """A list, one line an entry."""
    return Markdown("\n".join(f"- {line}" for line in lines))


def markdown(frame: pd.DataFrame) -> str:
    """A Markdown table of text cells, as they are; what is missing among them is undefined."""
    cells = frame.astype(object).where(frame.notna(), "undefined").replace("nan", "undefined")
    return cells.to_markdown(index=False, disable_numparse=True)
