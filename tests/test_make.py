"""make as people run it, in a copy of the project with two small notebooks and the report."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

from unsir_utils.data.paths import REPOSITORY
from unsir_utils.workshop.strip import METADATA

PARAMETERS = 'profile: str = "mine"'
BROKEN, MENDED = 'raise ValueError("no maps")', 'print("maps")'


def write(path: Path, source: str) -> None:
    cells = [
        new_markdown_cell("# Small"),
        new_code_cell(PARAMETERS, metadata={"tags": ["parameters"]}),
        new_code_cell(source),
    ]
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    nbformat.write(new_notebook(cells=cells, metadata=kernel), path)


@pytest.fixture(scope="module")
def project(tmp_path_factory) -> Path:
    copy = tmp_path_factory.mktemp("project")
    for name in ("Makefile", ".gitignore", "requirements.lock", "pyproject.toml"):
        shutil.copy(REPOSITORY / name, copy)
    shutil.copytree(REPOSITORY / "unsir_utils", copy / "unsir_utils", ignore=shutil.ignore_patterns("__pycache__"))
    (copy / "notebooks" / "profiles").mkdir(parents=True)
    shutil.copy(REPOSITORY / "notebooks" / "99_report.ipynb", copy / "notebooks")
    write(copy / "notebooks" / "01_good.ipynb", 'print("fine")')
    write(copy / "notebooks" / "02_bad.ipynb", BROKEN)
    for command in ("init -q", "add -A", "-c user.name=a -c user.email=a@b.c commit -qm all"):
        subprocess.run(["git", *command.split()], cwd=copy, check=True)
    stamp(copy).write_text(f"{copy}\n")  # as if it were installed: the environment is the one that these tests run in
    return copy


def stamp(project: Path) -> Path:
    return project.parent / "installed"


def make(project: Path, *arguments: str, **settings: str) -> subprocess.CompletedProcess:
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("UNSIR_", "MAKE", "MFLAGS"))}
    environment = {**kept, "VIRTUAL_ENV": sys.prefix, "PYTHONPATH": str(project), **settings}
    command = ["make", f"STAMP={stamp(project)}", *arguments]
    found = subprocess.run(command, cwd=project, env=environment, capture_output=True, text=True)
    assert "installing into" not in found.stdout
    return found


def test_the_kernel_that_every_notebook_asks_for_is_installed():
    """Another Jupyter's python3 has none of what is needed."""
    assert METADATA["kernelspec"]["name"] == "unsir" and "--name unsir " in (REPOSITORY / "Makefile").read_text()


@pytest.mark.skipif(shutil.which("make") is None or not Path(sys.prefix, "bin", "python").exists(), reason="no make here")
def test_a_notebook_that_fails_costs_itself_and_a_setting_runs_all_again(project):
    found = make(project, "reproduce")
    assert found.returncode != 0 and "1 of 3 notebooks did not end" in found.stdout
    assert "ValueError: no maps" in found.stderr and "open runs/quick/failed/02_bad.ipynb" in found.stderr
    assert "nothing is published of profile quick" in found.stdout  # the comparison
    report = (project / "runs" / "quick" / "99_report.ipynb").read_text()
    assert "02_bad failed" in report and (project / "runs" / "quick" / "01_good.ipynb").exists()
    assert subprocess.run(["git", "status", "--short"], cwd=project, capture_output=True).stdout == b""

    write(project / "notebooks" / "02_bad.ipynb", MENDED)
    again = make(project, "01_good", "02_bad")
    assert again.returncode == 0 and "02_bad                      running" in again.stdout
    assert "01_good                     running" not in again.stdout

    other = make(project, "01_good", UNSIR_PRECISION="float32")
    assert "01_good                     running" in other.stdout
