import pytest
import torch

from unsir_utils import training

torch.set_num_threads(1)


@pytest.fixture
def float32(monkeypatch):
    """The kernels compute in float32, so that a plain loop can be held against them."""
    monkeypatch.setattr(training, "cpu_has_bfloat16", lambda: False)
