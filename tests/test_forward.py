import copy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny import convnet, floats, mlp
from torch import nn
from torch.nn import functional as F

from unsir_utils import forward as rule
from unsir_utils import models
from unsir_utils.forward import SmallMaps, autocast, forward, precision
from unsir_utils.training import one_epoch

SAMPLES = floats((3, 8, 8), 20)
DEPTHWISE = nn.Sequential(convnet(), nn.Sequential(nn.Conv2d(4, 4, 3, groups=4)))


@pytest.mark.parametrize(
    "model, has_bfloat16, expected",
    [
        (convnet(), True, torch.bfloat16),
        (convnet(), False, torch.float32),
        (mlp(), True, torch.bfloat16),
        (DEPTHWISE, True, torch.float32),
        (DEPTHWISE, False, torch.float32),
        (nn.Sequential(nn.MultiheadAttention(64, 4), nn.Linear(4, 4)), True, torch.float32),
        (nn.Sequential(nn.MultiheadAttention(256, 4), nn.Linear(4, 4)), True, torch.bfloat16),
    ],
)
def test_precision_follows_the_device_and_the_layers(model, has_bfloat16, expected, monkeypatch):
    monkeypatch.setattr(rule, "cpu_has_bfloat16", lambda: has_bfloat16)
    seen = []
    probe = nn.Linear(4, 4)
    probe.register_forward_hook(lambda _, inputs, output: seen.append(output.dtype))
    assert precision(model, "cpu") is expected
    with autocast(model, torch.device("cpu")):
        probe(torch.zeros(1, 4))
    assert seen == [expected]


def test_weights_and_losses_stay_float32_under_autocast(monkeypatch):
    monkeypatch.setattr(rule, "cpu_has_bfloat16", lambda: True)
    model, dtypes = convnet(), []
    one_epoch(
        model,
        SAMPLES.batches(8),
        torch.optim.SGD(model.parameters(), lr=0.1),
        objective=lambda z, y: dtypes.append(z.dtype) or F.cross_entropy(z, y),
    )
    assert set(dtypes) == {torch.float32} == {p.dtype for p in model.parameters()}


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_small_maps_give_what_the_convolution_gives(data):
    kernel, stride, padding = ([data.draw(st.integers(low, high)) for _ in "hw"] for low, high in ((1, 4), (1, 3), (0, 3)))
    size = [data.draw(st.integers(max(1, k - 2 * p), 5)) for k, p in zip(kernel, padding, strict=True)]
    x = torch.randn(3, 2, *size, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(5, 2, *kernel, dtype=torch.float64, requires_grad=True)
    bias = data.draw(st.sampled_from([None, torch.randn(5, dtype=torch.float64, requires_grad=True)]))
    leaves = [leaf for leaf in (x, weight, bias) if leaf is not None]
    expected = F.conv2d(x, weight, bias, stride, padding)
    with SmallMaps():
        found = torch.conv2d(x, weight, bias, stride, padding, (1, 1), 1)
    torch.testing.assert_close(found, expected)
    g = torch.randn_like(expected)
    gradients = (torch.autograd.grad(y, leaves, g) for y in (found, expected))
    for one, other in zip(*gradients, strict=True):
        torch.testing.assert_close(one, other)


def test_a_small_map_is_no_convolution_any_more(monkeypatch):
    def refused(*arguments):
        raise AssertionError("a convolution")

    monkeypatch.setattr(rule, "_by_position", refused)
    with SmallMaps():
        nn.Conv2d(2, 3, 3, padding=1)(torch.zeros(1, 2, 3, 3))  # nine positions
        nn.Conv2d(2, 3, 1)(torch.zeros(1, 2, 2, 2))  # a matrix product already
        nn.Conv2d(2, 2, 3, padding=1, groups=2)(torch.zeros(1, 2, 2, 2))
        nn.Conv2d(2, 3, 3, padding="same")(torch.zeros(1, 2, 2, 2))
        nn.Conv2d(2, 3, 3, padding=2, dilation=2)(torch.zeros(1, 2, 2, 2))
        with pytest.raises(AssertionError, match="a convolution"):
            nn.Conv2d(2, 3, 3, padding=1)(torch.zeros(1, 2, 2, 2))


@pytest.mark.parametrize("architecture", ["ResNet18", "AllCNN-0.125", "MobileNetV2"])
def test_a_network_gives_the_same_logits_and_gradients(architecture, float32):
    model = models.build(architecture, 10).double().eval()  # no dropout
    other, x = copy.deepcopy(model), torch.randn(8, 3, 32, 32, dtype=torch.float64)
    forward(model, x).square().sum().backward()
    other(x).float().square().sum().backward()
    torch.testing.assert_close(forward(model, x), other(x).float())
    for p, q in zip(model.parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(p.grad, q.grad, rtol=1e-4, atol=1e-6 * q.grad.abs().max().item())
