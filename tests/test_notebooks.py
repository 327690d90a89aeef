import ast
import csv
import os
import re
import statistics
from pathlib import Path

import matplotlib
import matplotlib.pyplot as plt
import nbformat
import pytest
from papermill.engines import papermill_engines
from replay import InThisProcess

from unsir_utils.data.paths import REPOSITORY
from unsir_utils.workshop import run, store
from unsir_utils.workshop.strip import stripped

PATHS = sorted((REPOSITORY / "notebooks").glob("*.ipynb"))
# Between them they show what a kernel alone does: widgets, bars, workers, pictures. The others run in this process.
IN_A_KERNEL = ("00_start_here", "01_cifar10", "20_your_own_model", "99_report")
EACH = pytest.mark.parametrize("path", PATHS, ids=lambda path: path.stem)


def read(path: Path):
    return nbformat.read(path, as_version=4)


def code(path: Path) -> list:
    return [cell for cell in read(path).cells if cell.cell_type == "code"]


def parameters(path: Path) -> list:
    return [cell for cell in code(path) if "parameters" in cell.metadata.get("tags", [])]


def test_there_are_notebooks():
    assert len(PATHS) >= 2


@EACH
def test_one_cell_holds_the_parameters_as_typed_and_explained_literals(path):
    (cell,) = parameters(path)
    lines = cell.source.splitlines()
    for statement in ast.parse(cell.source).body:
        assert isinstance(statement, ast.AnnAssign), f"not an annotated assignment: {ast.unparse(statement)}"
        value, name = ast.literal_eval(statement.value), statement.target.id
        assert type(value).__name__ in ast.unparse(statement.annotation) or value is None, name
        rest = lines[statement.end_lineno - 1].encode()[statement.end_col_offset :].decode()
        assert rest.strip().startswith("#"), f"{name} has no comment"
    assert 'profile: str = "mine"' in cell.source


@EACH
def test_it_holds_no_absolute_path(path):
    text = path.read_text()
    assert str(REPOSITORY) not in text and str(Path.home()) not in text
    assert not re.findall(r"""["'(]/\w[^"']*|\b[A-Z]:\\\\\w[^"']*""", "\n".join(c.source for c in read(path).cells))


@EACH
def test_it_starts_with_a_title(path):
    first = read(path).cells[0]
    assert first.cell_type == "markdown" and re.match(r"# \w", first.source), first.source.splitlines()[0]


@EACH
def test_text_comes_between_its_cells_and_they_are_short(path):
    kinds = "".join(cell.cell_type[0] for cell in read(path).cells)
    assert "cccc" not in kinds
    told = [cell.source for cell in code(path) if "Results.of(" not in cell.source]  # the imports may be many
    assert max(len(source.splitlines()) for source in told) <= 25
    assert all(cell.source.strip() for cell in read(path).cells)


@EACH
def test_it_asks_before_it_answers_and_folds_what_is_not_read(path):
    text = "\n".join(cell.source for cell in read(path).cells if cell.cell_type == "markdown")
    answers = re.findall("<details>.*?</details>", text, re.DOTALL)
    assert text.count("**Guess first:**") == len(answers) >= 1
    assert not re.search(r"\d+\.\d|\d ?%", "".join(answers)), "a run may contradict a number"
    (imports,) = (cell for cell in code(path) if f'Results.of("{path.stem}", globals())' in cell.source)
    assert "hide-input" in imports.metadata.tags and imports.metadata.jupyter.source_hidden
    assert "make env, or pip install -e ." in imports.source


@pytest.fixture(scope="session")
def networks(tmp_path_factory) -> Path:
    """One store of trained networks for all notebooks, and for all workers of pytest-xdist."""
    folder = tmp_path_factory.getbasetemp()
    return (folder.parent if "PYTEST_XDIST_WORKER" in os.environ else folder) / "networks"


@pytest.fixture
def without_kernels(networks, monkeypatch):
    monkeypatch.setitem(papermill_engines._engines, None, InThisProcess)
    monkeypatch.setattr(store, "FOLDER", networks)
    matplotlib.use("agg")
    yield
    plt.close("all")


@pytest.mark.smoke
@EACH
def test_it_runs_from_end_to_end(path, networks, tmp_path, monkeypatch, request):
    for name in ("OMP_NUM_THREADS", *run.KERNEL_SETTINGS):
        monkeypatch.setenv(name, "1")
    monkeypatch.setenv("UNSIR_RESULTS", str(tmp_path))
    monkeypatch.setenv("UNSIR_MODELS", str(networks))
    monkeypatch.setenv("UNSIR_THREADS", "1")
    if path.stem not in IN_A_KERNEL:
        request.getfixturevalue("without_kernels")
    copy = run.run(path, "smoke")
    assert copy == tmp_path / "smoke" / path.name
    outputs = [output for cell in code(copy) for output in cell.outputs]
    assert [o for o in outputs if o.output_type == "error" or o.get("name") == "stderr"] == []
    for place in (REPOSITORY, tmp_path, Path.home()):
        assert str(place) not in copy.read_text()
    for kind, suffix in [("tables", "csv"), ("tables", "md"), ("tables", "tex"), ("figures", "png"), ("figures", "pdf"),
                         ("numbers", "json")]:  # fmt: skip
        files = list((copy.parent / kind).glob(f"{path.stem}*.{suffix}"))
        assert files and all(file.stat().st_size > 0 for file in files), f"no {suffix} in {kind}"
    assert stripped(without_injected(copy)) == path.read_text(), (
        "git would not be clean after such a run is saved: `git add` the source, remove it and check it out"
    )
    if path.stem == "01_cifar10":
        assert_the_table_is_that_of_its_records(copy.parent / "tables" / path.stem)


def without_injected(copy: Path) -> str:
    """The source as it is after Run All; papermill has put a cell with the profile's values into it."""
    notebook = read(copy)
    notebook.cells = [cell for cell in notebook.cells if "injected-parameters" not in cell.metadata.get("tags", [])]
    return nbformat.writes(notebook)


def rows(file: str) -> list[dict]:
    with open(file, newline="", encoding="utf-8") as lines:
        return list(csv.DictReader(lines))


def assert_the_table_is_that_of_its_records(stem: Path) -> None:
    table, records = rows(f"{stem}.csv"), rows(f"{stem}_records.csv")
    runs = {(r["network"], r["n_forget"], r["method"]) for r in records}
    assert {(row["network"], row["#forget"], row["method"]) for row in table} == runs and len(table) == len(runs)
    for row in table:
        for measure in ("A_Dr", "A_Df"):
            key = row["network"], row["#forget"], row["method"]
            values = [float(r[measure]) for r in records if (r["network"], r["n_forget"], r["method"]) == key]
            mean, *spread = map(float, row[f"{measure} (%)"].split(" ± "))
            assert mean == pytest.approx(statistics.mean(values), abs=0.051)
            assert spread == ([pytest.approx(statistics.stdev(values), abs=0.051)] if len(values) > 1 else [])
