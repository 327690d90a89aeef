"""Relative links of the pages that are made: moved along with their text, and led to the executed copies that there are."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path

from ..data.paths import published_root

LINK = re.compile(r'(\]\(|<img src="|<a href=")(?![a-z]+:)([^)\s"#]+)')  # the path alone, without its anchor
PREFERRED = ["paper", "laptop", "bench", "quick"]  # of a notebook's executed copies


def with_paths(text: str, change: Callable[[str], str]) -> str:
    """`text`, Markdown or a notebook's JSON, with the path of every relative link and picture changed."""
    return LINK.sub(lambda link: link[1] + change(link[2]), text)


def relocated(text: str, here: Path, there: Path) -> str:
    """A text whose links are meant from the folder `here`, for a page in the folder `there`."""
    return with_paths(text, lambda path: Path(os.path.relpath(here / path, there)).as_posix())


def copies(name: str) -> list[Path]:
    """The published executed copies of a notebook, that on the most real data first."""
    found = (published_root() / profile / f"{name}.ipynb" for profile in PREFERRED)
    return [copy for copy in found if copy.exists()]


def to_copies(text: str, folder: Path) -> str:
    """An executed copy's JSON, each link to a notebook led to the copy in its own folder, or else to the first there is."""

    def path_to(path: str) -> str:
        there = copies(Path(path).stem) if path.endswith(".ipynb") else []
        own = [copy for copy in there if copy.parent == folder]
        return Path(os.path.relpath((own or there)[0], folder)).as_posix() if there else path

    return with_paths(text, path_to)
