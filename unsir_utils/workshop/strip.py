"""What git sees of a source notebook: no outputs, no counters, nothing that a machine writes into its metadata.

A git filter, over nbstripout: python -m unsir_utils.workshop.strip < notebook. --install tells this repository's git of it;
--settle NOTEBOOK tells `git status` of a save that changed nothing which is committed.
"""

from __future__ import annotations

import subprocess
import sys
from typing import Any

from ..data.paths import REPOSITORY

METADATA = {
    "kernelspec": {"display_name": "UNSIR", "language": "python", "name": "unsir"},  # of make env
    "language_info": {"name": "python"},
}
KEPT = {"tags"}  # of a cell's metadata
FOLDED = "hide-input"  # a tag: the cell is stored folded, whether or not a reader unfolded it
FILTER = "filter.nbstripout.clean"
OFF = "cat"  # as the filter: git sees the notebooks as they are


def stripped(text: str) -> str:
    """The notebook as it is committed. Text that is no notebook, as in the middle of a merge, stays as it is."""
    import nbformat  # late, for what is done before it below
    from nbstripout import strip_output

    try:
        notebook = nbformat.reads(text, as_version=4)
    except nbformat.reader.NotJSONError:
        return text
    notebook = strip_output(notebook, keep_output=False, keep_count=False, keep_id=True)
    notebook.metadata = METADATA
    for number, cell in enumerate(notebook.cells):
        cell.id = f"cell-{number}"  # as a run's copy has it; JupyterLab's are random
        cell.metadata = {key: value for key, value in cell.metadata.items() if key in KEPT and value}
        if FOLDED in cell.metadata.get("tags", []):
            cell.metadata["jupyter"] = {"source_hidden": True}
    return nbformat.writes(notebook) + "\n"


def install() -> None:
    """Names the filter in .git/config, unless someone turned it off there or this is no clone, as a downloaded archive."""
    try:
        top = _git("rev-parse", "--show-cdup")
    except (OSError, subprocess.CalledProcessError):
        return
    if top or _git("config", "--default", "", "--get", FILTER) == OFF:
        return
    _git("config", FILTER, f"'{sys.executable}' -m unsir_utils.workshop.strip")
    _git("config", "filter.nbstripout.smudge", "cat")


def settle(notebook: str) -> None:
    """Has git see that a saved notebook is unchanged, where it is: `git status` goes by the size of the file alone."""
    try:
        if _git("config", "--default", OFF, "--get", FILTER) != OFF:
            _git("ls-files", "--error-unmatch", notebook)
            _git("diff", "--quiet", "--", notebook)
            _git("add", "--", notebook)
    except (OSError, subprocess.CalledProcessError):
        return  # edited, or not git's


def after_save(os_path: str, **_: object) -> None:
    """JupyterLab's post_save_hook (make lab); it does not wait."""
    if os_path.endswith(".ipynb"):
        start([sys.executable, "-m", "unsir_utils.workshop.strip", "--settle", os_path])


def start(command: list[str]) -> None:
    subprocess.Popen(command, cwd=REPOSITORY)


def _git(*arguments: str) -> str:
    done = subprocess.run(["git", *arguments], cwd=REPOSITORY, capture_output=True, text=True, check=True)
    return done.stdout.strip()


if __name__ == "__main__":
    if "--install" in sys.argv:
        install()
    elif "--settle" in sys.argv:
        settle(sys.argv[-1])
    else:
        modules: dict[str, Any] = sys.modules
        modules["rfc3987_syntax"] = None  # jsonschema would spend 3 seconds on a grammar of URLs, git waiting
        committed = stripped(sys.stdin.buffer.read().decode())
        sys.stdout.buffer.write(committed.encode())
