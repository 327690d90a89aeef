"""The pages that docs/build.py makes of what is published, before Sphinx turns them into a site."""

import importlib.util
import os
import subprocess
import sys

import nbformat
import pytest
from matplotlib.colors import to_rgb

from unsir_utils.data.paths import REPOSITORY
from unsir_utils.report import gather, pictures, plots

ADDRESS = "https://github.com/someone/something"


@pytest.fixture(scope="module")
def build():
    sys.path.insert(0, str(REPOSITORY / "docs"))
    spec = importlib.util.spec_from_file_location("build", REPOSITORY / "docs" / "build.py")
    spec.loader.exec_module(module := importlib.util.module_from_spec(spec))
    yield module
    sys.path.remove(str(REPOSITORY / "docs"))


@pytest.mark.parametrize("copy", sorted(REPOSITORY.glob("results/*/*.ipynb")), ids=lambda p: f"{p.parent.name}-{p.stem}")
def test_every_figure_has_its_words(copy):
    notebook = nbformat.read(copy, as_version=4)
    words = pictures.alternatives(notebook, copy.parent.name, copy.stem)
    for cell, said in zip(notebook.cells, words, strict=True):
        drawn = any("image/png" in output.get("data", {}) for output in cell.get("outputs", []))
        assert bool(said) == drawn
        if drawn and "results.figure(" in cell.source:
            assert said.endswith("."), "not the words that its figure was saved with"


def test_buttons_are_there_only_with_an_address_that_they_serve(build):
    assert build.launch("01_x", "") == build.launch("01_x", "https://elsewhere.org/a/b") == {}
    assert build.launch("01_x", ADDRESS) == {
        "run on Colab": "https://colab.research.google.com/github/someone/something/blob/site/notebooks/01_x.ipynb"
    }
    assert "run on Binder" in build.launch("00_x", ADDRESS)


def test_the_first_cell_installs_only_where_the_project_is_not(build, tmp_path):
    source = "notebooks/00_start_here.ipynb"
    cell = nbformat.reads(build.with_install_cell(source, ADDRESS), as_version=4).cells[0].source
    assert build.with_install_cell(source, "").count("git clone") == 0
    there = {**os.environ, "PYTHONPATH": str(REPOSITORY), "PATH": ""}
    subprocess.run([sys.executable, "-c", cell], cwd=tmp_path, env=there, check=True)
    stand_in = cell.replace('"git", "clone"', 'sys.executable, "-c", "import sys; print(sys.argv)"').replace(
        '"pip"', '"this"'
    )
    stand_in = stand_in.replace('find_spec("unsir_utils")', 'find_spec("no_such_module")').replace("os.chdir", "print")
    done = subprocess.run([sys.executable, "-c", stand_in], cwd=tmp_path, capture_output=True, text=True)
    assert ADDRESS in done.stdout and "unsir/notebooks" in done.stdout, done.stderr


def test_a_docstring_lists_its_arguments(build):
    text = build.module(REPOSITORY / "unsir_utils" / "repair.py", "repair")
    assert "{py:function} repair(model: nn.Module, retain: Samples, *, lr: float=PAPER.repair_lr" in text
    from kernels import as_list

    assert as_list("Does it.\n\na, b: one\n    thing\nc: two\n\nNo: list") == (
        "Does it.\n\n- **a, b**: one\n  thing\n- **c**: two\n\nNo: list"
    )


def contrast(colour: str) -> float:
    """Of a colour to white, by WCAG 2: 1 to 21."""
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in to_rgb(colour)]
    return 1.05 / (sum(w * c for w, c in zip((0.2126, 0.7152, 0.0722), linear, strict=True)) + 0.05)


def test_every_colour_stands_out_from_white():
    assert contrast("#F0E442") == pytest.approx(1.32, abs=0.01) and contrast("black") == pytest.approx(21)
    outlined = {gather.UNDEFINED, gather.UNTESTED}  # pale squares on purpose, with a dark edge
    colours = {plots.RETAIN, plots.FORGET} | {colour for colour, _ in plots.METHOD_STYLE.values()}
    colours |= {colour for verdict, colour in gather.VERDICTS.items() if verdict not in outlined}
    assert {colour for colour in colours if contrast(colour) < 3} == set()
