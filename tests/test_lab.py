"""What JupyterLab saves, and what a live notebook shows of its progress."""

import os

import IPython.display
import pytest
from matplotlib.figure import Figure
from tornado.web import HTTPError

from unsir_utils.data.paths import REPOSITORY
from unsir_utils.report.sliders import sliders
from unsir_utils.workshop import cases, progress
from unsir_utils.workshop.lab import LIVE, Contents, before_save


@pytest.fixture
def contents():
    return Contents(root_dir=str(REPOSITORY))


def test_what_is_published_can_be_opened_but_not_saved(contents):
    assert contents.is_writable("notebooks/00_start_here.ipynb")
    assert not contents.is_writable("results/quick/00_start_here.ipynb")
    with pytest.raises(HTTPError, match="open the notebook of this name in notebooks/"):
        before_save({}, "results/quick/00_start_here.ipynb", contents)


def test_a_saved_notebook_holds_no_widget(contents):
    kept = {"output_type": "display_data", "data": {"text/html": "4 of 4"}}
    cell = {"cell_type": "code", "outputs": [kept, {"output_type": "display_data", "data": {LIVE: {}}}]}
    before_save({"type": "notebook", "content": {"cells": [cell, {"cell_type": "markdown"}]}}, "notebooks/a.ipynb", contents)
    assert cell["outputs"] == [kept]


class Picture:
    """A display that can be updated."""

    def __init__(self, page):
        self.pages = [page]

    def update(self, page):
        self.pages.append(page)


@pytest.fixture
def screen(monkeypatch) -> list[Picture]:
    """As in a live notebook: what was displayed."""
    shown: list[Picture] = []

    def watched() -> bool:
        return "TQDM_DISABLE" not in os.environ

    monkeypatch.delenv("TQDM_DISABLE", raising=False)

    def display(page, **_):
        shown.append(Picture(page))
        return shown[-1]

    monkeypatch.setattr(IPython.display, "display", display)
    monkeypatch.setattr(progress, "watched", watched)
    monkeypatch.setattr("unsir_utils.report.sliders.watched", watched)
    monkeypatch.setattr(progress, "SHORT_S", -1.0)
    monkeypatch.setattr(progress, "REDRAWN_S", -1.0)
    return shown


def test_a_case_moves_an_inner_bar_and_one_line_is_left(screen):
    for case in progress.progress([{"rates": [1, 2], "data": {"name": "shapes"}}], "cases"):
        within = progress.within(case)
        assert within == case and [*within["rates"]] == [1, 2] and sum(1 for _ in within["rates"]) == 2
    (picture,) = screen
    lines = [page.data for page in picture.pages]
    assert any("cases: <progress" in line and "<br>rates: <progress" in line for line in lines)
    assert lines[-1] == "<code>cases: 1 of 1 in 0 s</code>" and not any(LIVE in line for line in lines)


def test_what_was_done_before_is_no_part_of_the_estimate(screen):
    bar = progress._Bar("epochs", 10, 5)
    bar.start, bar.done = 0.0, 6
    assert bar.line(10.0).endswith("6 of 10, about 40 s left")
    bar.close()


def one(n: int) -> list[dict]:
    return [{"n": n}]


def interrupted(n: int) -> list[dict]:
    if n > 1:
        raise KeyboardInterrupt
    return [{"n": n}]


def test_kept_cases_are_announced_and_an_interrupt_says_what_stays(screen, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("UNSIR_RESULTS", str(tmp_path))
    given = [{"n": 0}, {"n": 1}, {"n": 2}]
    cases.run_cases(one, given[:1], "runs")
    cases.run_cases(one, given, "runs")
    cases.run_cases(one, given, "runs")
    said = [page.data for picture in screen for page in picture.pages]
    assert (
        any("runs (1 more kept from before): " in line for line in said)
        and said[-1] == "<code>runs: all 3 kept from before</code>"
    )
    with pytest.raises(KeyboardInterrupt):
        cases.run_cases(interrupted, given, "runs")
    assert "Interrupted: finished runs are kept; the same cell goes on after them." in capsys.readouterr().err


def test_sliders_move_a_picture_that_stays_without_them(screen):
    drawn = []

    def draw(**given) -> Figure:
        drawn.append(given)
        return Figure()

    sliders(draw, copies=(4, [1, 16]), digit=(3, range(5)))
    picture, box = screen
    copies, _ = box.pages[0].children
    assert drawn == [{"copies": 4, "digit": 3}] and copies.options == (1, 4, 16) and not copies.continuous_update
    copies.value = 16
    assert drawn[-1] == {"copies": 16, "digit": 3} and len(picture.pages) == 2


def test_without_a_live_notebook_there_is_the_picture_alone(screen, monkeypatch):
    monkeypatch.setenv("TQDM_DISABLE", "1")
    sliders(lambda copies: Figure(), copies=(4, [1]))
    assert len(screen) == 1
    assert [*progress.progress([1], "cases")] == [1] and len(screen) == 1
