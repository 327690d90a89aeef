"""A notebook's cells, run in this process: by papermill as they are, or on records that a transformation made up.

Every measured number reaches a notebook through `cases.run_cases`. A replay puts its own in that one's place: it takes the
smoke profile's records (measured once, and kept) and hands them on as a hostile world might give them.
"""

from __future__ import annotations

import ast
import json
import linecache
import math
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from copy import deepcopy
from dataclasses import dataclass, field
from io import StringIO
from pathlib import Path
from traceback import format_exception
from types import FunctionType

import IPython.display
import matplotlib
import matplotlib.pyplot as plt
import nbformat
import pandas as pd
import pytest
from matplotlib.figure import Figure
from nbformat.v4 import new_output
from papermill.engines import Engine
from torch import nn

from unsir_utils.own import choose, forgetting
from unsir_utils.report import plots
from unsir_utils.workshop import audits, cases, models, profiles, run, store, study, timing

Records = list[dict]
Transformation = Callable[[dict, dict], dict | None]  # (a record, its case) -> another record, or none


class CellError(AssertionError):
    """A cell that fell over: which notebook, which cell, on what."""


@dataclass
class Kept:
    """The records of a notebook's cases, as `measure` found them: function name -> [(case, records)]."""

    folder: Path
    measure: Callable = cases.run_cases
    time: Callable = timing.in_turns
    of: dict[str, list[tuple[dict, Records]]] = field(default_factory=dict)
    timed: dict[str, pd.DataFrame] = field(default_factory=dict)  # what `in_turns` found: no change is one of seconds
    complete: bool = False

    def in_turns(self, jobs: dict[str, timing.Job], repeats: int) -> pd.DataFrame:
        asked = str([repeats, *((name, job.part, job.whole) for name, job in jobs.items())])
        if asked not in self.timed:
            self.timed[asked] = self.time(jobs, repeats)
        return self.timed[asked].copy()

    def records(self, function: Callable, case: dict) -> Records:
        known = self.of.setdefault(function.__name__, [])
        for other, records in known:
            if other == case:
                return records
        if self.complete:
            return self._made_up(known, case)
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("UNSIR_RESULTS", str(self.folder))
            records = _rows(self.measure(function, [case], "measured once"))
        known.append((deepcopy(case), records))
        return records

    def _made_up(self, known: list[tuple[dict, Records]], case: dict) -> Records:
        """The most similar case's records under this one's arguments; of each of its methods, where it names several."""
        if not known:
            raise CellError("no case of this function was ever measured")
        ranked = sorted(known, key=lambda pair: -sum(pair[0].get(k) == v for k, v in case.items()))
        records = ranked[0][1]
        if isinstance(case.get("methods"), dict | list):
            labels = [m if isinstance(m, str) else m[0] for m in case["methods"]]
            of = {
                label: next(filter(None, ([r for r in rows if r["method"] == label] for _, rows in ranked)), [])
                for label in labels
            }
            records = [r for label in labels for r in of[label]]
        if "against" in case:  # a record for each network that a model is held against
            first = {r["method"]: r for r in reversed(records)}
            records = [r | {"against": other} for r in first.values() for other in case["against"]]
        plain = {k: v for k, v in {**case, **(case.get("setting") or {})}.items() if not isinstance(v, list | tuple | dict)}
        plain["trained"] = case.get("recipe", {}).get("seed", 0)
        return [r | {k: v for k, v in plain.items() if k in r} for r in records]


def _rows(frame: pd.DataFrame) -> Records:
    """As json gives them back: past the cap is None."""
    return [
        {k: None if k.startswith("relearn") and isinstance(v, float) and math.isnan(v) else v for k, v in row.items()}
        for row in frame.to_dict("records")
    ]


def measured_anew(function: Callable, given: list[dict], label: str) -> pd.DataFrame:
    """As `run_cases`, but nothing is kept."""
    return pd.DataFrame(json.loads(json.dumps([r for case in given for r in function(**case)])))


def code(path: Path) -> list[tuple[int, nbformat.NotebookNode]]:
    cells = nbformat.read(path, as_version=4).cells
    return [(number, cell) for number, cell in enumerate(cells) if cell.cell_type == "code"]


def defaults(path: Path) -> dict:
    """The parameters that the notebook itself sets."""
    (source,) = (cell.source for _, cell in code(path) if "parameters" in cell.metadata.get("tags", []))
    return {line.target.id: ast.literal_eval(line.value) for line in ast.parse(source).body}


def replay(path: Path, parameters: dict, kept: Kept, folder: Path, change: Transformation | None = None) -> list[str]:
    """Runs all code cells; returns what they showed, as text. The results go to `folder`/<profile>.

    Raises CellError for a cell that raises or warns.
    """
    shown: list[str] = []
    folder.mkdir(parents=True, exist_ok=True)
    namespace = {"__name__": "__main__"}

    def run_cases(function: Callable, given: list[dict], label: str = "cases") -> pd.DataFrame:
        rows = []
        for case in given:
            plain = {k: v for k, v in case.items() if not isinstance(v, list | tuple | dict)}
            records = [plain | r for r in kept.records(function, case)]
            changed = [change(r, case) for r in records] if change else records
            rows += [r for r in changed if r is not None]
        return pd.DataFrame(rows)

    with _stubbed(run_cases, kept, shown, folder):
        for number, cell in code(path):
            try:
                _execute(cell.source, f"{path.stem}, cell {number}", namespace, shown)
            except Exception as error:
                raise CellError(f"{path.stem}, cell [{number}]: {type(error).__name__}: {error}") from error
            if "parameters" in cell.metadata.get("tags", []):
                namespace |= {**parameters, "profile": "smoke"}
    kept.complete = True
    return shown


def small_network(n_classes: int, channels: int = 8) -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, channels, 3, stride=4, padding=1),
        nn.BatchNorm2d(channels),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(2),
        nn.Flatten(),
        nn.Linear(4 * channels, n_classes),
    )


def _small(channels: int) -> Callable[[int], nn.Module]:
    return FunctionType(small_network.__code__, small_network.__globals__, argdefs=(channels,))


class InThisProcess(Engine):
    """Of papermill: everything that `run` does, but for the kernel."""

    @classmethod
    def execute_managed_notebook(cls, nb_man, kernel_name: str, **options) -> None:
        namespace = {"__name__": "__main__"}
        cells = [(number, cell) for number, cell in enumerate(nb_man.nb.cells) if cell.cell_type == "code"]
        for count, (number, cell) in enumerate(cells, 1):
            nb_man.cell_start(cell, number)
            cell.execution_count, cell.outputs = count, list(_outputs(cell.source, f"cell {number}", namespace))
            if cell.outputs and cell.outputs[-1].output_type == "error":
                nb_man.cell_exception(cell, number)
                return
            nb_man.cell_complete(cell, number)


def _outputs(source: str, name: str, namespace: dict) -> Iterator[nbformat.NotebookNode]:
    """What a kernel would report of a cell, its pictures as words."""
    shown, error = [], None
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(StringIO()) as out, redirect_stderr(StringIO()) as err:
        patch.setattr(IPython.display, "display", lambda *things, **_: shown.extend(map(_text, things)))
        try:
            _execute(source, name, namespace, shown)
        except Exception as raised:
            error = raised
    yield from (
        new_output("stream", name=n, text=s.getvalue()) for n, s in (("stdout", out), ("stderr", err)) if s.getvalue()
    )
    yield from (new_output("display_data", {"text/plain": text}) for text in shown)
    if error:
        yield new_output("error", ename=type(error).__name__, evalue=str(error), traceback=format_exception(error))


def _forget_networks() -> None:
    for kept in (study._trained_once, study._learned, audits._yardstick):
        kept.cache_clear()


@contextmanager
def _stubbed(run_cases: Callable, kept: Kept, shown: list[str], folder: Path) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch, warnings.catch_warnings():
        patch.setattr(cases, "run_cases", run_cases)
        patch.setattr(study, "run_cases", run_cases)
        patch.setattr(timing, "in_turns", kept.in_turns)
        patch.setattr(study.Scenario, "accuracy", 90.0)  # the networks are small and have hardly learned
        _forget_networks()  # those that another test built as they are
        for architecture in models.ARCHITECTURES:
            # by its name, not its place: what is kept from another day must still fit
            patch.setitem(models.ARCHITECTURES, architecture, _small(4 + sum(map(ord, architecture)) % 16))
        patch.setattr(store, "FOLDER", kept.folder / "networks")
        patch.setattr(choose, "STAND_INS", 2)
        for steps in (choose.LEARNED, choose.CARRIED, forgetting.NOISE):
            patch.setitem(steps, "steps", 1)
        patch.setattr(forgetting, "margins", lambda *_: {0: 0.0})  # one step makes nothing that stands in for a class
        patch.setattr(IPython.display, "display", lambda *things, **_: shown.extend(map(_text, things)))
        patch.setattr(Figure, "savefig", _draw)
        patch.setattr(plots, "image_grid", lambda *rows, **options: plt.figure())  # many axes, and no number among them
        patch.setenv("UNSIR_RESULTS", str(folder))
        patch.chdir(run.REPOSITORY)
        matplotlib.use("agg")
        warnings.simplefilter("error")
        warnings.simplefilter("ignore", DeprecationWarning)
        warnings.simplefilter("ignore", PendingDeprecationWarning)
        yield
        plt.close("all")
    _forget_networks()


def _draw(figure: Figure, path: Path, **options) -> None:
    """What writing a picture runs, but for the pixels; the file is there, and empty."""
    if str(path).endswith(".png"):
        figure.set_layout_engine("none")
        figure.draw_without_rendering()
    Path(path).touch()


def _execute(source: str, name: str, namespace: dict, shown: list[str]) -> None:
    """Runs a cell as IPython does: what its last line is worth is shown."""
    linecache.cache[name] = (
        len(source),
        None,
        source.splitlines(keepends=True),
        name,
    )  # so that inspect finds its functions
    tree = ast.parse(source)
    last = ast.Expression(tree.body.pop().value) if isinstance(tree.body[-1], ast.Expr) else None
    exec(compile(tree, name, "exec"), namespace)
    if last is not None:
        value = eval(compile(last, name, "eval"), namespace)
        if value is not None:
            shown.append(_text(value))


def _text(value: object) -> str:
    return str(getattr(value, "data", None) if hasattr(value, "data") else value)


def smoke(path: Path) -> dict:
    """The parameters of the smoke profile, for a small network."""
    found = defaults(path) | profiles.profile_values("smoke").get(path.stem, {})
    return found | ({"layer": "0"} if "layer" in found else {})
