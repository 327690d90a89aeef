"""What a figure shows, in words: they were saved with it (`Results.figure`)."""

from __future__ import annotations

import ast
from pathlib import Path

from nbformat import NotebookNode
from PIL import Image

from ..data.paths import of_notebook, published_root

SAVED = ("figures", "seconds")  # the folders


def files(profile: str, name: str) -> dict[str, Path]:
    """The published figures of a notebook, by what follows its name: "" for the one that has nothing more."""
    found = (p for kind in SAVED for p in sorted((published_root() / profile / kind).glob(f"{name}*.png")))
    return {p.stem.removeprefix(name).removeprefix("_"): p for p in found if of_notebook(p.stem, name)}


def alternative(figure: Path) -> str:
    """The words for a figure; where it was saved without, those of quick's of the same name."""
    places = [figure, published_root() / "quick" / figure.parent.name / figure.name]
    return next((words for place in places if place.exists() and (words := _description(place))), "")


def _description(figure: Path) -> str:
    with Image.open(figure) as opened:
        return opened.info.get("Description", "")


def alternatives(notebook: NotebookNode, profile: str, name: str) -> list[str]:
    """For each cell of an executed copy the words for its figures; a figure without any has the heading above it."""
    saved, heading, words = files(profile, name), "", []
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            heading = next((line.lstrip("# ") for line in cell.source.splitlines() if line.startswith("#")), heading)
        drawn = any("image/png" in output.get("data", {}) for output in cell.get("outputs", []))
        told = " ".join(alternative(saved[n]) for n in _named(cell.source, list(saved)) if n in saved) if drawn else ""
        words.append((told.strip() or heading) if drawn else "")
    return words


def _named(code: str, all_of_it: list[str]) -> list[str]:
    """The figures that a cell saves; all of the notebook's but its own where the cell names them by a variable."""
    calls = [node for node in ast.walk(ast.parse(code)) if isinstance(node, ast.Call)]
    names = [call.args[1:2] for call in calls if ast.unparse(call.func) == "results.figure"]
    if any(name and not isinstance(name[0], ast.Constant) for name in names):
        return [name for name in all_of_it if name]
    return [str(ast.literal_eval(name[0])) if name else "" for name in names]
