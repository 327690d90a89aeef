"""Work side by side: the same results as in order, and what a dead worker costs."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from unsir_utils.workshop import workers
from unsir_utils.workshop.cases import run_cases
from unsir_utils.workshop.progress import progress
from unsir_utils.workshop.workers import each


@pytest.fixture(autouse=True)
def two_workers(tmp_path, monkeypatch):
    monkeypatch.setenv("UNSIR_RESULTS", str(tmp_path))
    monkeypatch.setenv("UNSIR_WORKERS", "2")
    monkeypatch.delenv("UNSIR_SCHEDULER", raising=False)


def about(x):
    return x, os.getpid(), torch.get_num_threads()


def note(folder, x):
    with open(f"{folder}/{x}", "a") as file:
        file.write("ran\n")


def dies_once(folder, x):
    note(folder, x)
    if x == 1 and Path(folder, "1").read_text() == "ran\n":
        os.kill(os.getpid(), signal.SIGKILL)
    return [{"square": x * x}]


def dies_always(x):
    os.kill(os.getpid(), signal.SIGKILL)


def refuses(x):
    raise ValueError(f"no {x}")


def sums(x):
    with torch.random.fork_rng():
        torch.manual_seed(x)
        return [{"sum": torch.randn(1000, 100).matmul(torch.randn(100, 50)).sum().item()}]


def test_results_come_in_order_from_two_other_processes_with_this_ones_threads():
    found = each(about, list(range(6)), "numbers")
    assert [x for x, _, _ in found] == list(range(6))
    assert len({pid for _, pid, _ in found} - {os.getpid()}) == 2
    assert {threads for _, _, threads in found} == {torch.get_num_threads()}


def test_cases_are_the_bytes_of_the_run_in_order(tmp_path, monkeypatch):
    given = [{"x": x} for x in range(5)]
    beside = run_cases(sums, given)
    monkeypatch.setenv("UNSIR_RESULTS", str(tmp_path / "other"))
    monkeypatch.setenv("UNSIR_WORKERS", "1")
    in_order = run_cases(sums, given)
    assert beside.to_csv() == in_order.to_csv()
    kept = [
        {f.name: f.read_bytes() for f in (root / "checkpoints/cases").glob("*.json")}
        for root in (tmp_path, tmp_path / "other")
    ]
    assert kept[0] == kept[1] and len(kept[0]) == 5


def test_a_worker_that_dies_costs_its_case_only(tmp_path):
    found = run_cases(dies_once, [{"folder": str(tmp_path), "x": x} for x in range(5)])
    assert found["square"].tolist() == [0, 1, 4, 9, 16]
    assert [(tmp_path / str(x)).read_text().count("ran") for x in range(5)] == [1, 2, 1, 1, 1]


def test_work_that_kills_every_worker_is_given_up_and_what_is_finished_is_kept():
    with pytest.raises(RuntimeError, match="died twice over the same .* set UNSIR_WORKERS to fewer"):
        each(dies_always, [1, 2], "deaths")


def test_an_error_comes_through_and_leaves_no_process():
    with pytest.raises(ValueError, match="no [12]"):
        each(refuses, [1, 2], "refusals")
    assert each(about, [1, 2], "again")


def test_a_notebooks_own_function_is_taken_along(tmp_path):
    cell = "def cube(x):\n    return [{'cube': x**3}]\nprint(run_cases(cube, [{'x': 2}, {'x': 3}])['cube'].tolist())"
    code = f"from unsir_utils.workshop.cases import run_cases\nexec(compile({cell!r}, 'cell', 'exec'))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path)
    assert done.stdout == "[8, 27]\n", done.stderr


def test_a_worker_of_another_machine_is_refused(monkeypatch):
    monkeypatch.setattr(workers, "machine", lambda: "another machine")
    with pytest.raises(ValueError, match="a worker computes on torch .*, this notebook on another machine"):
        each(about, [1, 2], "numbers")


@pytest.mark.parametrize("asked", ["0", "two", "-1", "1.5"])
def test_a_bad_number_of_workers_is_named(monkeypatch, asked):
    monkeypatch.setenv("UNSIR_WORKERS", asked)
    with pytest.raises(ValueError, match=f"UNSIR_WORKERS is '{asked}': expected a whole number"):
        each(about, [1, 2], "numbers")


def test_one_piece_of_work_needs_no_other_process():
    assert each(about, [1], "one")[0][1] == os.getpid()


@pytest.fixture
def cluster(tmp_path, monkeypatch):
    """A scheduler and two workers, processes of their own that share only a folder."""
    pytest.importorskip("distributed")
    place = tmp_path / "scheduler.json"
    dask = [sys.executable, "-m", "distributed.cli."]
    started = [
        subprocess.Popen(
            [*dask[:2], "distributed.cli.dask_scheduler", "--port", "0", "--no-dashboard", "--scheduler-file", str(place)]
        )
    ]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), *sys.path])}
    for name in ("a", "b"):
        folder = tmp_path / name
        folder.mkdir()
        command = [
            *dask[:2],
            "distributed.cli.dask_worker",
            "--scheduler-file",
            str(place),
            "--nthreads",
            "1",
            "--no-dashboard",
            "--name",
            name,
        ]
        started.append(subprocess.Popen(command, cwd=folder, env=environment))
    deadline = time.monotonic() + 60
    while not place.exists() and time.monotonic() < deadline:
        time.sleep(0.2)
    from distributed import Client

    with Client(scheduler_file=str(place)) as client:
        client.wait_for_workers(2, timeout=60)
        monkeypatch.setenv("UNSIR_SCHEDULER", client.scheduler.address)
    yield client
    for process in started[::-1]:
        process.terminate()
        process.wait(20)


def test_a_dask_cluster_gives_the_same_and_survives_a_worker(tmp_path, monkeypatch, cluster):
    given = [{"x": x} for x in range(4)]
    there = run_cases(sums, given)
    found = run_cases(dies_once, [{"folder": str(tmp_path), "x": x} for x in range(5)])
    assert found["square"].tolist() == [0, 1, 4, 9, 16]
    monkeypatch.setenv("UNSIR_RESULTS", str(tmp_path / "other"))
    monkeypatch.delenv("UNSIR_SCHEDULER")
    monkeypatch.setenv("UNSIR_WORKERS", "1")
    assert there.to_csv() == run_cases(sums, given).to_csv()


def test_a_line_a_minute_says_what_is_left(tmp_path, monkeypatch):
    log = tmp_path / "log"
    monkeypatch.setenv("UNSIR_PROGRESS", str(log))
    monkeypatch.setattr("unsir_utils.workshop.progress.EVERY_S", 0.0)
    monkeypatch.setattr("unsir_utils.workshop.progress.time.monotonic", iter([0.0, 0.0, 30.0, 60.0]).__next__)
    assert list(progress(iter("abc"), "epochs", total=4, initial=1)) == ["a", "b", "c"]
    assert log.read_text() == "epochs: 2 of 4, about 1 min left\nepochs: 3 of 4, about 0 min left\n"
