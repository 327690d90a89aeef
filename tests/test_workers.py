"""Work side by side: the same results as in order, and what a dead worker costs."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from unsir_utils.settings import PAPER_RATES
from unsir_utils.workshop import store, workers
from unsir_utils.workshop.cases import run_cases
from unsir_utils.workshop.progress import progress
from unsir_utils.workshop.study import Method, by_replicate, outcomes
from unsir_utils.workshop.workers import each

# A notebook's cell. A worker that takes the second case dies of it, once.
CELL = """
import os
import signal
import torch

def sums(folder, x):
    with open(f"{folder}/{x}", "a") as file:
        file.write("ran ")
    with open(f"{folder}/{x}") as file:
        if file.read() == "ran " and x == 1:
            os.kill(os.getpid(), signal.SIGKILL)
    with torch.random.fork_rng():
        torch.manual_seed(x)
        total = torch.randn(1000, 100).matmul(torch.randn(100, 50)).sum().item()
        return [{"sum": total, "threads": torch.get_num_threads()}]
"""


@pytest.fixture(autouse=True)
def two_workers(tmp_path, monkeypatch):
    monkeypatch.setenv("UNSIR_RESULTS", str(tmp_path))
    monkeypatch.setenv("UNSIR_WORKERS", "2")
    monkeypatch.delenv("UNSIR_SCHEDULER", raising=False)


def as_in_order(tmp_path, monkeypatch):
    """Asserts that the cases came out as in order, in as many bytes, and that only the one whose worker died ran twice."""
    names = {"__name__": "__main__"}
    exec(compile(CELL, "cell", "exec"), names)
    given = [{"folder": str(tmp_path), "x": x} for x in range(5)]
    beside = run_cases(names["sums"], given)
    assert [(tmp_path / str(x)).read_text().count("ran") for x in range(5)] == [1, 2, 1, 1, 1]
    assert set(beside["threads"]) == {torch.get_num_threads()}
    monkeypatch.setenv("UNSIR_RESULTS", str(tmp_path / "other"))
    monkeypatch.setenv("UNSIR_WORKERS", "1")
    monkeypatch.delenv("UNSIR_SCHEDULER", raising=False)
    assert run_cases(names["sums"], given).to_csv() == beside.to_csv()
    roots = (tmp_path, tmp_path / "other")
    kept = [{file.name: file.read_bytes() for file in (root / "checkpoints/cases").glob("*.json")} for root in roots]
    assert kept[0] == kept[1] and len(kept[0]) == 5


def test_processes_give_the_run_in_order_and_one_that_dies_costs_its_case_only(tmp_path, monkeypatch):
    as_in_order(tmp_path, monkeypatch)


GROWS = """
import os
import sys
import time

def process(_):
    sys.modules.setdefault("hoard", []).append(b"x" * 400_000_000)
    time.sleep(1.1)  # loky looks at its memory once a second
    return os.getpid()
"""


def test_a_process_that_has_grown_is_replaced_without_a_word(recwarn):
    names = {"__name__": "__main__"}
    exec(compile(GROWS, "cell", "exec"), names)
    assert len(set(each(names["process"], list(range(6)), "growing"))) > 2
    assert not [str(warning.message) for warning in recwarn]


def test_processes_share_a_network_that_one_of_them_trains(tmp_path, monkeypatch):
    request = {"data": {"name": "shapes", "n_classes": 3, "per_class": 20}, "forget": [0], "retain_per_class": 5}
    methods = {0: {"No noise": Method("No noise", {"batch_size": 8, **PAPER_RATES})}}
    asked = by_replicate(
        methods, [[0, 0], [0, 1]], {"architecture": "AllCNN-0.125", "epochs": 1, "batch_size": 16}, **request
    )
    found, kept = {}, {}
    for workers_, place in (("2", tmp_path / "beside"), ("1", tmp_path / "in order")):
        monkeypatch.setenv("UNSIR_WORKERS", workers_)
        monkeypatch.setenv("UNSIR_RESULTS", str(place))
        monkeypatch.setattr(store, "FOLDER", place / "checkpoints")
        found[workers_] = run_cases(outcomes, asked).drop(columns="seconds")
        cases = (json.loads(file.read_text()) for file in (place / "checkpoints/cases").glob("*.json"))
        kept[workers_] = [network for case in cases for network in case["made_from"]["networks"].values()]
    assert found["1"].equals(found["2"]) and len(found["1"]) == 2
    assert len({network["seconds"] for network in kept["2"]}) == 1 < len(kept["2"]), "one training, of one length"
    assert {network["sha256"] for network in kept["1"] + kept["2"]} == {kept["1"][0]["sha256"]}


@pytest.fixture
def cluster(tmp_path, monkeypatch):
    """A Dask scheduler and two workers, processes that share only a folder with this one."""
    distributed = pytest.importorskip("distributed")
    place = tmp_path / "scheduler.json"
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1]), "UNSIR_RESULTS": str(tmp_path)}

    def start(name: str, what: str, *options: str) -> subprocess.Popen:
        (tmp_path / name).mkdir()
        command = [sys.executable, "-m", f"distributed.cli.dask_{what}", "--scheduler-file", str(place), "--no-dashboard"]
        return subprocess.Popen([*command, *options], cwd=tmp_path / name, env=environment, stderr=subprocess.DEVNULL)

    started = [start("scheduler", "scheduler", "--port", "0")]
    started += [start(name, "worker", "--nthreads", "1", "--no-nanny") for name in ("first", "second")]
    try:
        deadline = time.monotonic() + 120
        while not place.exists() and time.monotonic() < deadline:
            time.sleep(0.2)
        with distributed.Client(scheduler_file=str(place), set_as_default=False) as client:
            client.wait_for_workers(2, timeout=120)
            monkeypatch.setenv("UNSIR_SCHEDULER", client.scheduler.address)
        yield
    finally:
        for process in started[::-1]:
            process.kill()
            process.wait(20)


def test_a_dask_cluster_gives_the_run_in_order_and_survives_a_worker(tmp_path, monkeypatch, cluster):
    as_in_order(tmp_path, monkeypatch)


def test_work_that_kills_every_worker_is_given_up():
    with workers._processes() as (do, _), pytest.raises(RuntimeError, match="died twice .* set UNSIR_WORKERS to fewer"):
        do(os._exit, 1)


def test_an_error_of_the_work_comes_through():
    with workers._processes() as (do, _), pytest.raises(ValueError, match="invalid literal"):
        do(int, "x")


def test_a_worker_of_another_machine_is_refused():
    with pytest.raises(ValueError, match="a worker computes on torch .*, this notebook on another machine"):
        workers._numbered(0, str, 1, torch.get_num_threads(), "another machine")


@pytest.mark.parametrize("asked", ["0", "two", "-1", "1.5"])
def test_a_bad_number_of_workers_is_named(monkeypatch, asked):
    monkeypatch.setenv("UNSIR_WORKERS", asked)
    with pytest.raises(ValueError, match=f"UNSIR_WORKERS is '{asked}': expected a whole number"):
        each(str, [1, 2], "numbers")


def test_one_piece_of_work_needs_no_other_process():
    assert each(lambda _: os.getpid(), [1], "one") == [os.getpid()]


def test_a_line_a_minute_says_what_is_left(tmp_path, monkeypatch):
    log = tmp_path / "log"
    monkeypatch.setenv("UNSIR_PROGRESS", str(log))
    monkeypatch.setenv("TQDM_DISABLE", "1")
    monkeypatch.setattr("unsir_utils.workshop.progress.EVERY_S", 0.0)
    monkeypatch.setattr("unsir_utils.workshop.progress.time.monotonic", iter([0.0, 0.0, 30.0, 60.0]).__next__)
    assert list(progress(iter("abc"), "epochs", total=4, initial=1)) == ["a", "b", "c"]
    assert log.read_text() == "epochs: 2 of 4, about 60 s left\nepochs: 3 of 4, about 30 s left\n"
