from itertools import count

import pytest
import torch
from tiny import forget_all, set_cuda, settings_of_cuda

from unsir_utils.engine import precision
from unsir_utils.workshop import store

torch.set_num_threads(1)

OF_THE_SHELL = ["CHECKPOINTS", "DATA", "DEVICE", "MODELS", "PRECISION", "PROGRESS", "SCHEDULER", "THREADS", "WORKERS"]


def pytest_configure(config):
    config.addinivalue_line("markers", "smoke: runs a whole notebook, a minute or two each; left out by -m 'not smoke'")


@pytest.fixture(autouse=True)
def the_machines_own_rule(monkeypatch):
    """Whatever the shell asks for."""
    for name in OF_THE_SHELL:
        monkeypatch.delenv(f"UNSIR_{name}", raising=False)


@pytest.fixture(scope="session")
def fresh_places(tmp_path_factory):
    folder = tmp_path_factory.mktemp("results")
    return (folder / str(n) for n in count())


@pytest.fixture(autouse=True)
def a_place_of_its_own(monkeypatch, fresh_places):
    """No test writes to the reader's runs, or takes what another one kept."""
    monkeypatch.setenv("UNSIR_RESULTS", str(next(fresh_places)))


@pytest.fixture(scope="module")
def empty_store(tmp_path_factory):
    """A file's tests train their own networks, and find none in memory that others left."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(store, "FOLDER", tmp_path_factory.mktemp("store"))
        forget_all()
        yield
    forget_all()


@pytest.fixture
def float32(monkeypatch):
    """The kernels compute in float32, so that a plain loop can be held against them."""
    monkeypatch.setattr(precision, "cpu_has_bfloat16", lambda: False)


@pytest.fixture
def fast_cuda():
    """The caller of the kernels has chosen speed before digits; its settings."""
    before, fast = settings_of_cuda(), ["tf32", "tf32", "tf32", False, True]
    set_cuda(*fast)
    yield fast
    set_cuda(*before)
