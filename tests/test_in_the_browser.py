"""JupyterLab in a real Chromium, as a reader uses it: open, run, edit, run again, save; git sees the edit alone."""

import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import nbformat
import pytest

from unsir_utils.data.paths import REPOSITORY
from unsir_utils.workshop.profiles import profile_values

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
NOTEBOOK = "notebooks/00_start_here.ipynb"
PUBLISHED = "results/quick/00_start_here.ipynb"
WHAT_TO_DO = "Change the parameters cell, run it, then this cell again."
PATIENCE_S = 300.0  # of a busy machine; a quiet one takes a tenth

pytestmark = [
    pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium (Debian: apt-get install chromium)"),
    pytest.mark.skipif(shutil.which("git") is None, reason="there is no git"),
    pytest.mark.filterwarnings("ignore"),  # those of the driver are not ours
]


def git(folder: Path, *arguments: str) -> str:
    who = ["-c", "user.name=A", "-c", "user.email=a@b.c"]
    return subprocess.run(["git", *who, *arguments], cwd=folder, capture_output=True, text=True, check=True).stdout


def in_smoke(path: Path) -> None:
    """The notebook's own values become those of the smoke profile."""
    notebook = nbformat.read(path, as_version=4)
    (cell,) = (c for c in notebook.cells if "parameters" in c.metadata.get("tags", []))
    values = profile_values("smoke")[path.stem]
    given = [f"{name}: {type(value).__name__} = {value!r}  # smoke" for name, value in values.items()]
    cell.source = "\n".join([cell.source, *given])
    nbformat.write(notebook, path)


@pytest.fixture(scope="module")
def clone(tmp_path_factory) -> Path:
    """A repository of its own with the filter, as make env leaves it; 00 is as small as in smoke."""
    folder = tmp_path_factory.mktemp("clone")
    for name in ("unsir_utils", "notebooks"):
        shutil.copytree(REPOSITORY / name, folder / name, ignore=shutil.ignore_patterns("__pycache__", ".ipynb_checkpoints"))
    (folder / PUBLISHED).parent.mkdir(parents=True)
    for name in (PUBLISHED, ".gitattributes", ".gitignore"):
        shutil.copy(REPOSITORY / name, folder / name)
    in_smoke(folder / NOTEBOOK)
    git(folder, "init", "-q")
    here = {**os.environ, "PYTHONPATH": str(folder)}
    subprocess.run([sys.executable, "-m", "unsir_utils.workshop.strip", "--install"], cwd=folder, env=here, check=True)
    git(folder, "add", ".")
    git(folder, "commit", "-qm", "all")
    return folder


@pytest.fixture(scope="module")
def address(clone: Path, tmp_path_factory) -> Iterator[str]:
    """JupyterLab as make lab starts it."""
    place = tmp_path_factory.mktemp("jupyter")
    kernel = ["ipykernel", "install", "--prefix", str(place), "--name", "unsir", "--display-name", "UNSIR"]
    subprocess.run([sys.executable, "-m", *kernel], check=True, capture_output=True)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("UNSIR_", "TQDM_", "JUPYTER_"))}
    here = {"PYTHONPATH": str(clone), "OMP_NUM_THREADS": "1", "GOMP_SPINCOUNT": "0"}
    jupyter = {"JUPYTER_PATH": str(place / "share" / "jupyter"), "JUPYTER_CONFIG_DIR": str(place), "IPYTHONDIR": str(place)}
    options = "--no-browser --allow-root --expose-app-in-browser --IdentityProvider.token= --ServerApp.password="
    contents = "--ServerApp.contents_manager_class=unsir_utils.workshop.lab.Contents"
    command = [sys.executable, "-m", "jupyterlab", *options.split(), contents, f"--port={port}"]
    with (place / "log").open("w") as log:
        server = subprocess.Popen(command, cwd=clone, env={**kept, **here, **jupyter}, stdout=log, stderr=log)
        try:
            until(lambda: answers(f"http://127.0.0.1:{port}/api"), "JupyterLab did not start", (place / "log").read_text)
            yield f"http://127.0.0.1:{port}"
        finally:
            server.terminate()
            server.wait(60)


def answers(address: str) -> bool:
    try:
        return urllib.request.urlopen(address, timeout=5).status == 200
    except OSError:
        return False


def until(true: Callable[[], object], otherwise: str, about: Callable[[], object] = str) -> None:
    end = time.monotonic() + PATIENCE_S
    while not true():
        assert time.monotonic() < end, f"{otherwise}: {about()}"
        time.sleep(0.3)


class Lab:
    """A page of JupyterLab with one notebook."""

    def __init__(self, page, address: str, path: str) -> None:
        self.page, self.path = page, path
        page.goto(f"{address}/lab/tree/{path}?reset", wait_until="domcontentloaded")
        page.wait_for_selector(".jp-Notebook .jp-Cell")
        page.wait_for_function("jupyterapp.shell.currentWidget?.sessionContext?.session?.kernel?.status == 'idle'")

    def do(self, command: str) -> None:
        self.page.evaluate("command => jupyterapp.commands.execute(command)", command)

    def run_all(self) -> None:
        self.do("notebook:clear-all-cell-outputs")  # the counters of the run before would look like the end of this one
        self.page.get_by_role("menuitem", name="Run", exact=True).click()
        self.page.get_by_role("menuitem", name="Run All Cells", exact=True).click()
        self.page.wait_for_function(ENDED)

    def outputs(self) -> list[dict]:
        return self.page.evaluate(OUTPUTS)

    def shown(self, words: str) -> list[str]:
        """The outputs with these words, as Markdown or text."""
        texts = ["".join(o.get("data", {}).get("text/markdown", o.get("text", ""))) for o in self.outputs()]
        return [text for text in texts if words in text]

    def errors(self) -> list[str]:
        return ["\n".join(o["traceback"]) for o in self.outputs() if o["output_type"] == "error"]

    def edit(self, old: str, new: str) -> None:
        """Types over a line of the parameters cell."""
        line = self.page.locator(".jp-CodeCell .cm-line").filter(has_text=old).first
        line.scroll_into_view_if_needed()
        line.click()
        self.page.keyboard.press("End")
        self.page.keyboard.press("Shift+Home")
        self.page.keyboard.type(new)

    def save(self) -> None:
        self.do("docmanager:save")
        self.page.wait_for_function("!jupyterapp.shell.currentWidget.context.model.dirty")


CELLS = "Array.from(jupyterapp.shell.currentWidget.content.model.cells).map(c => c.toJSON())"
CELLS += ".filter(c => c.cell_type == 'code')"
OUTPUTS = f"{CELLS}.flatMap(c => c.outputs)"
ENDED = f"""jupyterapp.shell.currentWidget.sessionContext.session.kernel.status == 'idle' && (
    {CELLS}.every(c => c.execution_count) || {OUTPUTS}.some(o => o.output_type == 'error'))"""


@pytest.fixture(scope="module")
def browser() -> Iterator:
    sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed: make env")
    with sync_api.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-dev-shm-usage"])
        yield browser
        browser.close()


@pytest.fixture
def lab(browser, address) -> Iterator[Callable[[str], Lab]]:
    page = browser.new_page(viewport={"width": 1400, "height": 1000})
    page.set_default_timeout(1000 * PATIENCE_S)
    yield lambda path: Lab(page, address, path)
    page.close()


def assert_clean(clone: Path) -> None:
    """The server settles a save a moment later."""
    until(lambda: git(clone, "status", "--short") == "", "git is not clean", lambda: git(clone, "diff"))


def test_a_reader_runs_edits_and_saves_and_git_sees_the_edit_alone(lab, clone):
    page = lab(NOTEBOOK)
    page.save()
    assert_clean(clone)

    page.run_all()
    assert not page.errors()
    (table,) = page.shown("after repair")
    assert "A_Dr (%)" in table and page.shown("results.compare()")
    page.save()
    assert_clean(clone)

    page.edit("copies: int = 4  # smoke", "copies: int = 2  # smoke")
    page.run_all()
    assert not page.errors() and page.shown("copies = 2")
    page.save()
    lines = git(clone, "diff", "-U0").splitlines()
    changed = [line for line in lines if line[:1] in "+-" and line[:3] not in ("+++", "---")]
    assert len(changed) == 2 and "copies: int = 2" in changed[1]
    results = list((clone / "runs" / "mine").glob("*/numbers/00_start_here.json"))
    assert len(results) == 2, "the tweak has overwritten the run"

    page.edit("copies: int = 2  # smoke", "copies: int = 4  # smoke")
    page.save()
    assert_clean(clone)
    saved = (clone / NOTEBOOK).read_text()
    assert "widget-view" not in saved and "Sliders" in saved, "reopened, it would show an error in the sliders' place"


def test_a_published_copy_is_read_only_and_a_wrong_value_is_a_sentence(lab):
    page = lab(PUBLISHED)
    assert page.page.evaluate("jupyterapp.shell.currentWidget.context.contentsModel.writable") is False
    page = lab(NOTEBOOK)
    page.edit("forget: list = [3]  # the classes to erase", "forget: list = 3")
    page.run_all()
    first, *_ = page.errors()
    assert first == "ParameterError: forget = 3: expected a list, such as [3], and not int. " + WHAT_TO_DO
