from collections import OrderedDict

import pytest
import torch
import torchvision
from tiny import HeadFirst, K, Returns, convnet, floats, half_frozen, mlp, untouched
from torch import nn

from unsir_utils.engine.state import seeded
from unsir_utils.methods import fisher
from unsir_utils.methods.fisher import fisher_information
from unsir_utils.workshop import models


class Residual(nn.Module):
    """Every kind of layer that has a rule, in a network that branches and overwrites its activations."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 5, 3, stride=2, padding=1), nn.BatchNorm2d(5), nn.ReLU(inplace=True))
        self.body = nn.Sequential(nn.Conv2d(5, 5, (3, 1), padding=(1, 0), bias=False), nn.BatchNorm2d(5))
        self.point = nn.Conv2d(5, 6, 1)
        self.dilated = nn.Conv2d(6, 4, 2, stride=2, dilation=2)
        self.one = nn.Conv2d(4, 7, 3, padding=1)
        self.head = nn.Linear(7, K)

    def forward(self, x):
        x = self.stem(x)
        x = nn.functional.relu_(self.body(x) + x)
        x = nn.functional.relu_(self.one(self.dilated(self.point(x))))
        return self.head(x.flatten(1))


def trained_statistics(model: nn.Module, x: torch.Tensor) -> nn.Module:
    """BatchNorm with weights, biases and running statistics that are not those of a new model."""
    with seeded(1), torch.no_grad():
        for _ in range(3):
            model.train()(x)
        for m in model.modules():
            if isinstance(m, nn.BatchNorm2d):
                m.eps = 0.1
                m.weight.uniform_(0.5, 1.5)
                m.bias.uniform_(-0.5, 0.5)
    return model


def assert_alike(one, other):
    assert one.keys() == other.keys()
    for name in one:
        assert one[name].shape == other[name].shape
        difference = (one[name] - other[name]).norm() / other[name].norm()
        assert difference < 1e-4, f"{name}: {difference}"
        assert other[name].norm() > 0, name


@pytest.mark.parametrize("few", [0, 4, 100])
@pytest.mark.parametrize("make", [Residual, convnet, mlp, lambda: nn.Linear(6, K)])
def test_layerwise_equals_the_loop(make, few, monkeypatch):
    monkeypatch.setattr(fisher, "BATCH", 4)
    monkeypatch.setattr(fisher, "FEW", few)
    with seeded(0):
        model = make()
    samples = floats((6,) if isinstance(model, nn.Linear) or make is mlp else (3, 8, 8), 11)
    model = trained_statistics(model, samples.images)
    loop = fisher_information(model, samples, method="loop")
    assert_alike(fisher_information(model, samples), loop)
    assert list(loop) == [name for name, _ in model.named_parameters()]


def test_layerwise_equals_the_loop_for_resnet18():
    samples = floats((3, 32, 32), 3)
    model = trained_statistics(models.build("ResNet18", K), samples.images).to(memory_format=torch.channels_last)
    assert isinstance(model, torchvision.models.ResNet)
    assert_alike(fisher_information(model, samples), fisher_information(model, samples, method="loop"))


@pytest.mark.parametrize("method", ["loop", "layerwise"])
def test_logistic_regression_by_hand(method):
    model, samples = nn.Linear(6, K), floats((6,), 9)
    information = fisher_information(model, samples, method=method)
    with torch.no_grad():
        p = model(samples.images).softmax(1)
    expected = torch.zeros(K, 6)
    for x, px in zip(samples.images, p, strict=True):
        for y in range(K):
            for k in range(K):
                expected[k] += px[y] * ((px[k] - float(k == y)) * x) ** 2 / len(samples)
    torch.testing.assert_close(information["weight"], expected)
    torch.testing.assert_close(information["bias"], (p * (1 - p)).mean(0))


class Spare(Residual):
    """A layer without a rule that never runs, and one that runs for nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.never, self.aside = nn.LayerNorm(6), nn.Conv2d(3, 2, 1)

    def forward(self, x):
        self.aside(x)
        return super().forward(x)


@pytest.mark.parametrize("make, shape", [(HeadFirst, (6,)), (Spare, (3, 8, 8))])
def test_what_does_not_act_on_the_logits_has_no_information(make, shape):
    with seeded(0):
        model = make()
    one, other = (fisher_information(model, floats(shape, 5), method=method) for method in ("loop", "layerwise"))
    assert list(one) == list(other) == [name for name, _ in model.named_parameters()]
    for name in one:
        torch.testing.assert_close(one[name], other[name], rtol=1e-4, atol=1e-7)
        assert (one[name].norm() == 0) == name.startswith(("spare", "never", "aside")), name


class Aside(HeadFirst):
    """The weights of a layer that is not called."""

    def forward(self, x):
        return self.head(nn.functional.linear(x, self.body.weight))


def test_weights_that_are_used_without_their_layer_are_left_to_the_loop():
    with pytest.raises(ValueError, match=r"layers \['body'\] are used without being called: use method='loop'"):
        fisher_information(Aside(), floats((6,), 3), method="layerwise")
    information = fisher_information(Aside(), floats((6,), 3), method="loop")
    assert information["body.weight"].norm() > 0 == information["body.bias"].norm()


@pytest.mark.parametrize("caller", [torch.no_grad, torch.inference_mode])
@pytest.mark.parametrize("method", ["loop", "layerwise"])
def test_information_is_the_same_whatever_the_caller_does_and_the_model_returns(method, caller):
    model = Returns(lambda z: {"logits": z}, always=True)
    expected = fisher_information(model.net, floats((6,), 5), method=method)
    with caller():
        found = fisher_information(model, floats((6,), 5), method=method)
    assert all(torch.equal(found[f"net.{name}"], expected[name]) for name in expected)


class Twice(nn.Module):
    """A hidden layer that is used a second time."""

    def __init__(self) -> None:
        super().__init__()
        self.hidden, self.head = nn.Linear(6, 6), nn.Linear(6, K)

    def forward(self, x):
        return self.head(self.hidden(self.hidden(x).relu()))


class Tokens(nn.Module):
    """A linear layer over each of a sequence's places."""

    def __init__(self) -> None:
        super().__init__()
        self.hidden, self.head = nn.Linear(5, 7), nn.Linear(7, K)

    def forward(self, x):
        return self.head(self.hidden(x).relu().mean(1))


def tied() -> nn.Module:
    model = nn.Sequential(nn.Linear(6, 6), nn.ReLU(), nn.Linear(6, 6), nn.Linear(6, K))
    model[2].weight = model[0].weight
    return model


def with_odd(layer: nn.Module, width: int) -> nn.Module:
    """The layer between others that have a rule."""
    parts = {"odd": layer, "flat": nn.Flatten(), "head": nn.Linear(width, K)}
    return nn.Sequential(OrderedDict(parts))


REFUSED = {
    "LayerNorm": (lambda: with_odd(nn.LayerNorm(6), 6), (6,), r"layer odd \(LayerNorm"),
    "BatchNorm1d": (lambda: with_odd(nn.BatchNorm1d(6), 6), (6,), r"layer odd \(BatchNorm1d"),
    "PReLU": (lambda: with_odd(nn.PReLU(6), 6), (6,), r"layer odd \(PReLU"),
    "groups": (lambda: with_odd(nn.Conv2d(4, 6, 3, groups=2), 216), (4, 8, 8), r"layer odd \(Conv2d\(.*groups=2"),
    "same": (lambda: with_odd(nn.Conv2d(3, 2, 3, padding="same"), 128), (3, 8, 8), r"layer odd \(Conv2d\(.*same"),
    "reflect": (
        lambda: with_odd(nn.Conv2d(3, 2, 3, padding=1, padding_mode="reflect"), 128),
        (3, 8, 8),
        r"layer odd \(Conv2d\(.*reflect",
    ),
    "no statistics": (
        lambda: with_odd(nn.BatchNorm2d(3, track_running_stats=False), 192),
        (3, 8, 8),
        r"layer odd \(BatchNorm2d\(.*track_running_stats=False",
    ),
    "used twice": (Twice, (6,), "layer hidden is used twice"),
    "tokens": (Tokens, (2, 5), "layer hidden is used twice or on sequences"),
    "tied": (tied, (6,), "layers share weights"),
}


@pytest.mark.parametrize("make, shape, message", REFUSED.values(), ids=REFUSED)
def test_what_has_no_layerwise_rule_is_named_and_left_to_the_loop(make, shape, message):
    with seeded(0):
        model = make()
    with untouched(model), pytest.raises(ValueError, match=f"{message}.*: use method='loop'"):
        fisher_information(model, floats(shape, 3), method="layerwise")
    information = fisher_information(model, floats(shape, 3), method="loop")
    assert {name: i.shape for name, i in information.items()} == {n: p.shape for n, p in model.named_parameters()}
    assert same(fisher_information(model, floats(shape, 3)), information)


def test_the_faster_method_is_taken_where_every_layer_has_a_rule(monkeypatch):
    expected = fisher_information(convnet(), floats((3, 8, 8), 3), method="layerwise")
    monkeypatch.setattr(fisher, "_loop", lambda *_: pytest.fail("image by image"))
    assert same(fisher_information(convnet(), floats((3, 8, 8), 3)), expected)


def same(one, other):
    return one.keys() == other.keys() and all(one[name].equal(other[name]) for name in one)


@pytest.mark.parametrize("method", ["loop", "layerwise"])
def test_frozen_layers_have_information_too(method):
    frozen, free = half_frozen(), convnet()
    with untouched(frozen):
        information = fisher_information(frozen, floats((3, 8, 8), 3), method=method)
    assert_alike(information, fisher_information(free, floats((3, 8, 8), 3), method=method))


@pytest.mark.parametrize("method", ["loop", "layerwise"])
def test_no_samples_are_refused(method):
    with pytest.raises(ValueError, match="the retain data is empty"):
        fisher_information(mlp(), floats((6,))[:0], method=method)


def test_an_unknown_method_is_named():
    with pytest.raises(ValueError, match="method is 'exact'"):
        fisher_information(mlp(), floats((6,)), method="exact")


@pytest.mark.parametrize("method", ["loop", "layerwise"])
def test_the_callers_model_stays_as_it_was(method):
    model = convnet().train()
    model[1].eval()
    with untouched(model):
        fisher_information(model, floats((3, 8, 8), 3), method=method)


def test_batchnorm_keeps_its_running_statistics_and_eval_mode_counts():
    samples = floats((3, 8, 8), 5)
    train, evaluation = convnet().train(), convnet().eval()
    assert_alike(fisher_information(train, samples), fisher_information(evaluation, samples))
