import os
import subprocess
import sys

import pytest

from unsir_utils.data.paths import REPOSITORY
from unsir_utils.workshop import cards

TWO = "GPU 0: NVIDIA H100 (UUID: GPU-a)\n  MIG 1g.10gb Device 0: (UUID: MIG-x)\nGPU 1: NVIDIA H100 (UUID: GPU-b)\n"


@pytest.fixture
def machine(monkeypatch, tmp_path):
    """Sets how many cards nvidia-smi lists (None: there is none), on four cores."""
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setenv("UNSIR_RESULTS", str(tmp_path))
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1, 2, 3}, raising=False)

    def listing(text):
        def run(*_, **__):
            if text is None:
                raise FileNotFoundError("nvidia-smi")
            return subprocess.CompletedProcess([], 0, text)

        monkeypatch.setattr(subprocess, "run", run)

    return listing


@pytest.mark.parametrize(
    "listed, settings, jobs",
    [
        (None, {}, 4),
        ("", {}, 4),
        (None, {"UNSIR_THREADS": "2"}, 2),
        (None, {"UNSIR_THREADS": "8"}, 1),
        (None, {"UNSIR_WORKERS": "2"}, 2),
        (None, {"UNSIR_THREADS": "2", "UNSIR_WORKERS": "2"}, 1),
        (TWO, {}, 2),
        (TWO, {"UNSIR_DEVICE": "cpu"}, 4),
        (TWO, {"UNSIR_DEVICE": "cuda:1"}, 1),
        (TWO, {"CUDA_VISIBLE_DEVICES": "1"}, 1),
        (TWO, {"CUDA_VISIBLE_DEVICES": ""}, 4),
        (TWO, {"CUDA_VISIBLE_DEVICES": "-1"}, 4),
    ],
)
def test_as_many_jobs_as_cards_or_else_as_the_cores_can_feed(machine, monkeypatch, listed, settings, jobs):
    machine(listed)
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    assert cards.jobs() == jobs


def test_make_gets_one_job_where_the_number_cannot_be_told(monkeypatch):
    monkeypatch.setenv("UNSIR_THREADS", "two")
    said = subprocess.run([sys.executable, "-m", cards.__name__], cwd=REPOSITORY, capture_output=True, text=True)
    assert said.returncode != 0 and said.stdout == "1\n"
    assert said.stderr == "UNSIR_THREADS is 'two': expected a whole number from 1 on, or leave it unset\n"


def test_two_runs_have_a_card_each_and_a_third_shares(machine):
    machine(TWO)
    with cards.own_card():
        assert os.environ.pop("CUDA_VISIBLE_DEVICES") == "0"
        with cards.own_card():
            assert os.environ.pop("CUDA_VISIBLE_DEVICES") == "1"
            with cards.own_card():
                assert "CUDA_VISIBLE_DEVICES" not in os.environ
    assert "CUDA_VISIBLE_DEVICES" not in os.environ


def test_the_cards_named_are_named_again_afterwards(machine, monkeypatch):
    machine(TWO)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1,0")
    with cards.own_card():
        assert os.environ["CUDA_VISIBLE_DEVICES"] == "1"
    assert os.environ["CUDA_VISIBLE_DEVICES"] == "1,0"
