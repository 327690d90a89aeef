"""A maintainer's `make publish`: all or nothing, and only what the profile says."""

import json

import pytest

from unsir_utils.report import publish
from unsir_utils.workshop.profiles import NOTEBOOKS, defaults

NAME, OTHER = "11_retain_share", "13_repair_steps"


@pytest.fixture
def both(tmp_path, monkeypatch):
    """(a finished run of one notebook, what is published)."""
    run, published = tmp_path / "runs/quick", tmp_path / "results/quick"
    monkeypatch.setattr(publish, "results_root", lambda: run.parent)
    monkeypatch.setattr(publish, "published_root", lambda: published.parent)
    put(run / f"{NAME}.ipynb", "new")
    put(run / f"tables/{NAME}.csv", "new")
    numbers(run)
    for file in (f"{NAME}.ipynb", f"tables/{NAME}_gone.csv", f"{OTHER}.ipynb", "tables/98_no_notebook.csv"):
        put(published / file, "old")
    return run, published


def put(file, text):
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)


def numbers(run, **changes):
    values = defaults(NOTEBOOKS / f"{NAME}.ipynb") | changes
    put(run / f"numbers/{NAME}.json", json.dumps({"parameters": values}))


def contents(folder):
    return {p.relative_to(folder).as_posix(): p.read_text() for p in folder.rglob("*") if p.is_file()}


def test_a_run_takes_the_place_of_what_was_published_of_its_notebook(both):
    run, published = both
    publish.publish("quick", [])
    assert contents(published) == {**contents(run), f"{OTHER}.ipynb": "old"}


@pytest.mark.parametrize(
    "spoil, message",
    [
        (lambda run: put(run / f"failed/{NAME}.ipynb", "half"), f"did not run to their end: {NAME}"),
        (lambda run: (run / f"{NAME}.ipynb").unlink(), "nothing was run"),
        (lambda run: numbers(run, share_of_claim=0.3), rf"{NAME} \(share_of_claim\) ran with other values"),
    ],
    ids=["failed", "absent", "tweaked"],
)
def test_what_is_no_run_of_the_profile_is_refused_and_nothing_is_touched(both, spoil, message):
    run, published = both
    spoil(run)
    before = contents(published)
    with pytest.raises(ValueError, match=message):
        publish.publish("quick", [])
    assert contents(published) == before


def test_a_notebook_that_is_named_must_have_run(both):
    with pytest.raises(ValueError, match=f"did not run to their end: {OTHER}"):
        publish.publish("quick", [NAME, OTHER])
