import pytest
import torch

from unsir_utils import forward

torch.set_num_threads(1)


def pytest_configure(config):
    config.addinivalue_line("markers", "smoke: runs a whole notebook, a minute or two each; left out by -m 'not smoke'")


@pytest.fixture
def float32(monkeypatch):
    """The kernels compute in float32, so that a plain loop can be held against them."""
    monkeypatch.setattr(forward, "cpu_has_bfloat16", lambda: False)
