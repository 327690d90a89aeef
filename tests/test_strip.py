import shutil
import subprocess
import sys

import nbformat
import pytest
from jupyter_server.services.contents.filemanager import FileContentsManager
from nbformat.v4 import output_from_msg
from traitlets.config import Config

from unsir_utils.data.paths import REPOSITORY
from unsir_utils.workshop import strip

NOTEBOOKS = sorted((REPOSITORY / "notebooks").glob("*.ipynb"))


def git(folder, *arguments: str) -> str:
    who = ["-c", "user.name=A", "-c", "user.email=a@b.c"]
    return subprocess.run(["git", *who, *arguments], cwd=folder, capture_output=True, text=True, check=True).stdout


@pytest.fixture
def clone(tmp_path, monkeypatch):
    """A repository of one notebook and one published copy, with the filter installed."""
    if not shutil.which("git"):
        pytest.skip("there is no git")
    for folder, source in (("notebooks", NOTEBOOKS[0]), ("results/quick", REPOSITORY / "results/quick/00_start_here.ipynb")):
        (tmp_path / folder).mkdir(parents=True)
        shutil.copy(source, tmp_path / folder / "00.ipynb")
    for file in (".gitattributes", ".gitignore"):
        shutil.copy(REPOSITORY / file, tmp_path)
    monkeypatch.setattr(strip, "REPOSITORY", tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(REPOSITORY))
    git(tmp_path, "init", "-q")
    strip.install()
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-qm", "one")
    return tmp_path


def run_all_and_save(path) -> None:
    """As JupyterLab: outputs, counters, timings, widgets, and the kernel's own words in the metadata."""
    notebook = nbformat.read(path, as_version=4)
    for n, cell in enumerate(c for c in notebook.cells if c.cell_type == "code"):
        message = {"header": {"msg_type": "stream"}, "content": {"name": "stdout", "text": "hi"}}
        cell.update(execution_count=n + 1, outputs=[output_from_msg(message)])
        cell.metadata.update(
            execution={"iopub.status.busy": "2026"}, scrolled=True, collapsed=False, jupyter={"x": 1}, trusted=True
        )
    notebook.metadata.kernelspec.display_name = "Python 3 (ipykernel)"
    notebook.metadata.language_info = {"name": "python", "version": "3.99", "codemirror_mode": {"name": "ipython"}}
    notebook.metadata.widgets = {"application/vnd.jupyter.widget-state+json": {"state": {}}}
    nbformat.write(notebook, path)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_what_is_committed_is_what_the_filter_gives(path):
    nbformat.validate(nbformat.read(path, as_version=4))
    assert strip.stripped(path.read_text()) == path.read_text()


def test_a_notebook_that_was_run_and_saved_is_no_change(clone):
    run_all_and_save(clone / "notebooks/00.ipynb")
    assert git(clone, "diff") == ""
    strip.settle(str(clone / "notebooks/00.ipynb"))
    assert git(clone, "status", "--short") == ""


def test_jupyter_settles_what_it_saves(clone, monkeypatch):
    config = Config({"FileContentsManager": {"post_save_hook": "unsir_utils.workshop.strip.after_save"}})
    manager = FileContentsManager(root_dir=str(clone), config=config)
    run_all_and_save(clone / "notebooks/00.ipynb")
    started = []
    monkeypatch.setattr(strip, "start", started.append)
    manager.save(manager.get("notebooks/00.ipynb"), "notebooks/00.ipynb")
    (command,) = started
    assert command[:3] == [sys.executable, "-m", "unsir_utils.workshop.strip"] and command[3] == "--settle"
    strip.settle(command[4])
    assert git(clone, "status", "--short") == ""


def test_what_is_edited_or_new_is_not_staged(clone):
    new = clone / "notebooks/01.ipynb"
    shutil.copy(NOTEBOOKS[1], new)
    path = clone / "notebooks/00.ipynb"
    path.write_text(path.read_text().replace("Start here", "Begin here"))
    for notebook in (new, path):
        strip.settle(str(notebook))
    assert git(clone, "status", "--short") == " M notebooks/00.ipynb\n?? notebooks/01.ipynb\n"


def test_an_edited_cell_is_the_only_change(clone):
    path = clone / "notebooks/00.ipynb"
    run_all_and_save(path)
    path.write_text(path.read_text().replace("Start here", "Begin here"))
    changed = [line for line in git(clone, "diff", "-U0").splitlines() if line[0] in "+-" and line[:3] not in ("+++", "---")]
    assert len(changed) == 2 and "Begin here" in changed[1]


def test_a_published_copy_keeps_its_outputs(clone):
    assert '"output_type"' in git(clone, "show", "HEAD:results/quick/00.ipynb")


def test_it_can_be_turned_off_for_good(clone):
    git(clone, "config", strip.FILTER, strip.OFF)
    strip.install()
    run_all_and_save(clone / "notebooks/00.ipynb")
    assert git(clone, "status", "--short") == " M notebooks/00.ipynb\n"


@pytest.mark.parametrize("where", ["an archive", "an archive in another repository", "no git"])
def test_without_a_clone_there_is_nothing_to_install(tmp_path, monkeypatch, where):
    monkeypatch.setattr(strip, "REPOSITORY", tmp_path / "a")
    (tmp_path / "a").mkdir()
    if where == "an archive in another repository":
        git(tmp_path, "init", "-q")
    if where == "no git":
        monkeypatch.setenv("PATH", "")
    strip.install()
    config = tmp_path / ".git/config"
    assert not config.exists() or "nbstripout" not in config.read_text()


def test_half_a_merge_passes_through():
    assert strip.stripped("<<<<<<< ours\n{}") == "<<<<<<< ours\n{}"


def test_the_command_reads_and_writes_utf_8():
    text = NOTEBOOKS[0].read_bytes()
    done = subprocess.run(
        [sys.executable, "-m", "unsir_utils.workshop.strip"], cwd=REPOSITORY, input=text, capture_output=True, check=True
    )
    assert done.stdout == text
