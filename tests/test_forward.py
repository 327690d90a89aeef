import copy
import os

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny import convnet, floats, mlp, same_weights, settings_of_cuda
from torch import nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from unsir_utils.audit.gradcam import gradcam
from unsir_utils.engine import checks, small_maps
from unsir_utils.engine import precision as rule
from unsir_utils.engine.forward import forward
from unsir_utils.engine.precision import autocast, computed_in, device, exact_cuda, precision, uses_bfloat16
from unsir_utils.engine.small_maps import SmallMaps
from unsir_utils.engine.training import one_epoch
from unsir_utils.methods.fisher import fisher_information
from unsir_utils.noise import learn_noise
from unsir_utils.unsir import unsir
from unsir_utils.workshop import models
from unsir_utils.workshop.provenance import environment

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


@pytest.mark.parametrize(
    "setting, expected", [(None, torch.bfloat16), ("", torch.bfloat16), ("auto", torch.bfloat16), ("float32", torch.float32)]
)
def test_precision_is_a_setting_that_the_records_name(setting, expected, monkeypatch):
    monkeypatch.setattr(rule, "cpu_has_bfloat16", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    if setting is not None:
        monkeypatch.setenv("UNSIR_PRECISION", setting)
    assert precision(convnet(), "cpu") is expected
    named = {name: environment()[name] for name in ("precision", "bfloat16")}
    assert named == {"precision": setting or "auto", "bfloat16": str(expected is torch.bfloat16).lower()}


def test_an_unknown_precision_is_answered_with_the_known_ones(monkeypatch):
    monkeypatch.setenv("UNSIR_PRECISION", "float16")
    with pytest.raises(ValueError, match="UNSIR_PRECISION is 'float16': choose one of auto, float32"):
        forward(convnet(), SAMPLES.images)


@pytest.mark.parametrize("before", [None, "auto", "float32"])
def test_a_precision_for_a_while(before, monkeypatch):
    if before:
        monkeypatch.setenv("UNSIR_PRECISION", before)
    with pytest.raises(RuntimeError, match="within"), computed_in("float32"):
        assert os.environ["UNSIR_PRECISION"] == "float32"
        raise RuntimeError("within")
    assert os.environ.get("UNSIR_PRECISION") == before
    with pytest.raises(ValueError, match="UNSIR_PRECISION is 'half'"), computed_in("half"):
        pass
    assert os.environ.get("UNSIR_PRECISION") == before


@pytest.mark.parametrize("capability, expected", [((7, 5), False), ((8, 0), True), ((9, 0), True)])
def test_a_gpu_that_emulates_bfloat16_does_not_use_it(capability, expected, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation=True: True)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    assert uses_bfloat16("cuda") is expected
    assert precision(DEPTHWISE, "cuda") is torch.float32


def test_the_callers_cuda_settings_come_back(fast_cuda):
    with pytest.raises(ZeroDivisionError), exact_cuda():
        assert settings_of_cuda() == ["ieee", "ieee", "ieee", True, False]
        raise ZeroDivisionError
    assert settings_of_cuda() == fast_cuda


PASSES = {
    "forward": lambda m: forward(m, SAMPLES.images),
    "one_epoch": lambda m: one_epoch(m, SAMPLES.batches(8), torch.optim.SGD(m.parameters(), lr=0.1)),
    "learn_noise": lambda m: learn_noise(m, [1], (3, 8, 8), per_class=2, steps=1, in_place=True),
    "fisher": lambda m: fisher_information(m, SAMPLES),
    "gradcam": lambda m: gradcam(m, SAMPLES, 0, "0"),
}


class Watched(torch.autograd.Function):
    """The identity, which notes the settings of CUDA in both directions."""

    @staticmethod
    def forward(context, x, seen):
        context.seen = seen
        seen.append(("forward", settings_of_cuda()))
        return x.clone()

    @staticmethod
    def backward(context, gradient):
        context.seen.append(("backward", settings_of_cuda()))
        return gradient, None


@pytest.mark.parametrize("name", PASSES)
def test_no_pass_of_the_kernels_uses_tf32(name, fast_cuda, monkeypatch):
    model, seen = convnet(), []
    monkeypatch.setattr(nn.Flatten, "forward", lambda self, x: Watched.apply(x.flatten(1), seen))
    PASSES[name](model)
    assert {direction for direction, _ in seen} == {"forward"} | ({"backward"} if name != "forward" else set())
    assert all(settings == ["ieee", "ieee", "ieee", True, False] for _, settings in seen)
    assert settings_of_cuda() == fast_cuda


@pytest.mark.parametrize(
    "asked, message",
    [
        ("mps", "device mps is not supported"),
        ("meta", "device meta is not supported"),
        ("gpu", "unknown device 'gpu': choose cpu, cuda or cuda:N"),
        ("cuda", "device cuda is not there: torch finds 0 CUDA devices"),
        ("cuda:1", "device cuda:1 is not there"),
    ],
)
def test_a_device_that_cannot_be_used_is_refused_with_a_sentence(asked, message, monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: int(asked == "cuda:1"))
    monkeypatch.setenv("UNSIR_DEVICE", asked)
    with pytest.raises(ValueError, match=message):
        device()


@pytest.mark.parametrize(
    "gpus, environment, asked, expected",
    [
        (0, "", None, "cpu"),
        (2, "", None, "cuda"),
        (2, "cpu", None, "cpu"),
        (2, "cpu", "cuda:1", "cuda:1"),
        (2, "cuda:1", "cpu", "cpu"),
    ],
)
def test_the_device_is_the_one_asked_for_else_the_environments_else_the_gpu(gpus, environment, asked, expected, monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: gpus > 0)
    monkeypatch.setenv("UNSIR_DEVICE", environment)
    assert device(asked) == torch.device(expected)


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


def test_gradient_checkpointing_goes_with_small_maps():
    """It runs a part again in the backward pass, where the mode is off, and must find the same tensors."""
    part = nn.Conv2d(2, 3, 3, padding=1)

    def gradient(through) -> torch.Tensor:
        x = torch.ones(1, 2, 2, 2, requires_grad=True)
        with SmallMaps():
            y = through(x).square().sum()
        return torch.autograd.grad(y, x)[0]

    torch.testing.assert_close(gradient(lambda x: checkpoint(part, x, use_reentrant=False)), gradient(part))


def test_a_small_map_is_no_convolution_any_more(monkeypatch):
    def refused(*arguments):
        raise AssertionError("a convolution")

    monkeypatch.setattr(small_maps, "_by_position", refused)
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


class Flattening(nn.Module):
    """As tutorials write it: `view`, which wants the maps in torch's own order."""

    def __init__(self, flatten) -> None:
        super().__init__()
        self.body, self.head, self.flatten = nn.Conv2d(3, 4, 3), nn.Linear(4 * 6 * 6, 4), flatten

    def forward(self, x):
        return self.head(self.flatten(self.body(x).relu()))


def test_a_network_that_views_its_maps_gives_what_it_gives_elsewhere():
    viewing = Flattening(lambda x: x.view(-1, 4 * 6 * 6))
    x = SAMPLES.inputs()
    with pytest.raises(RuntimeError, match="view size is not compatible"):
        viewing(x)
    assert torch.allclose(forward(viewing, x), viewing(x.contiguous()), atol=1e-6)
    reshaping = copy.deepcopy(viewing)
    reshaping.flatten = lambda x: x.flatten(1)
    retain = SAMPLES.without([1])
    one, other = (unsir(m, [1], retain, noise_per_class=2, noise_steps=2).model for m in (viewing, reshaping))
    assert same_weights(one, other)


def test_other_errors_of_a_network_stay_what_they_are():
    with pytest.raises(RuntimeError, match="shape '\\[-1, 7\\]' is invalid"):
        forward(Flattening(lambda x: x.view(-1, 7)), SAMPLES.inputs())


@pytest.mark.parametrize("numbers", [(1, 0, 1, 1), ((2,), (1,), (1,), 1), ((2, 2), "valid", (1, 1), 1)], ids=str)
def test_small_maps_take_numbers_in_every_form_that_torch_does(numbers):
    x, weight = torch.randn(2, 3, 4, 4), torch.randn(5, 3, 3, 3)
    with SmallMaps():
        found = F.conv2d(x, weight, None, *numbers)
    assert torch.allclose(found, F.conv2d(x, weight, None, *numbers), atol=1e-5)


def test_a_network_that_fails_in_bfloat16_alone_is_told_how_to_run(monkeypatch):
    class Filling(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = convnet()

        def forward(self, x):
            z = torch.zeros(len(x), 4)
            z[torch.arange(len(x))] = self.net(x)  # autocast gives bfloat16, which does not go into float32
            return z

    checks.samples_for(Filling(), SAMPLES)
    monkeypatch.setattr(rule, "cpu_has_bfloat16", lambda: True)
    with pytest.raises(ValueError, match="fails in torch.bfloat16, in which it would run here: set UNSIR_PRECISION=float32"):
        checks.samples_for(Filling(), SAMPLES)
    with computed_in("float32"):
        checks.samples_for(Filling(), SAMPLES)
