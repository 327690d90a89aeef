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
    for place in (figure, published_root() / "quick" / figure.parent.name / figure.name):
        if place.exists() and (words := Image.open(place).info.get("Description")):
            return words
    return ""


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
    called = [node for node in ast.walk(ast.parse(code)) if isinstance(node, ast.Call) and "results.figure" == ast.unparse(node.func)]
    found: list[str] = []
    for call in called:
        given = call.args[1:2]
        if given and not isinstance(given[0], ast.Constant):
            found += [name for name in all_of_it if name]
        else:
            found.append(given[0].value if given else "")
    return found
