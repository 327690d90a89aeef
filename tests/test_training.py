import copy
from contextlib import nullcontext
from functools import partial

import pytest
import torch
from tiny import HeadFirst, K, convnet, floats, half_frozen, mlp, plain, same_weights, sequence_net, untouched
from torch import nn
from torch.nn import functional as F

from unsir_utils.engine.state import mode, seeded
from unsir_utils.engine.training import adam, flush_tiny_weights, head, in_memory_order, one_epoch, parameter_groups
from unsir_utils.workshop import models

SAMPLES = floats((3, 8, 8), 20)


def sgd(model, lr=0.1):
    return torch.optim.SGD(model.parameters(), lr=lr)


def test_an_epoch_equals_a_plain_loop(float32):
    model, other = convnet(), convnet().train()
    losses, expected = one_epoch(model, SAMPLES.batches(8), sgd(model)), []
    for x, y in SAMPLES.batches(8):
        loss = F.cross_entropy(other(x), y)
        other.zero_grad()
        loss.backward()
        with torch.no_grad():
            for p in other.parameters():
                p -= 0.1 * p.grad
        expected.append(loss.item())
    assert losses == pytest.approx(expected, rel=1e-5)
    for name, value in model.state_dict().items():
        torch.testing.assert_close(value, other.state_dict()[name])


@pytest.mark.parametrize(
    "make", [torch.optim.Adam, torch.optim.AdamW, partial(torch.optim.SGD, momentum=0.9, nesterov=True)]
)
def test_steps_in_memory_order_are_the_same_steps(make):
    """And copy no weight: the moments lie as the weights do."""
    one, other = (convnet().to(memory_format=torch.channels_last) for _ in range(2))
    plainly = make(one.parameters(), lr=0.01, weight_decay=0.1, fused=True)
    ordered = in_memory_order(make(other.parameters(), lr=0.01, weight_decay=0.1, fused=True))
    for _ in range(3):
        for model, optimiser in ((one, plainly), (other, ordered)):
            one_epoch(model, SAMPLES.batches(8), optimiser)
    assert same_weights(one, other) and not same_weights(one, convnet())
    assert [w.stride() for w in one.parameters()] == [w.stride() for w in other.parameters()]
    moments = [m for state in ordered.state.values() for m in state.values() if torch.is_tensor(m) and m.dim() == 4]
    assert moments and all(m.is_contiguous() for m in moments)


def test_no_batch_no_step():
    model = convnet()
    assert one_epoch(model, [], sgd(model)) == []
    assert same_weights(model, convnet())


def test_gradients_are_clipped_by_value(float32):
    model, before = plain(), plain()
    one_epoch(model, [(100 * SAMPLES.images, SAMPLES.labels)], sgd(model, lr=1.0), clip_value=0.05)
    moved = [(a - b).abs() for a, b in zip(model.state_dict().values(), before.state_dict().values(), strict=True)]
    steps = torch.cat([step.flatten() for step in moved])
    assert steps.max().item() == pytest.approx(0.05, rel=1e-3)
    assert 0 < (steps < 0.04).float().mean() < 1


def test_the_schedule_steps_after_every_batch():
    model = convnet()
    optimiser = sgd(model)
    schedule = torch.optim.lr_scheduler.ExponentialLR(optimiser, 0.5)
    one_epoch(model, SAMPLES.batches(5), optimiser, schedule=schedule)
    assert optimiser.param_groups[0]["lr"] == pytest.approx(0.1 * 0.5**4)


@pytest.mark.parametrize("train_mode", [True, False])
def test_batchnorm_statistics_move_in_train_mode_only(train_mode):
    model, before = convnet(), convnet()
    one_epoch(model, SAMPLES.batches(8), sgd(model), train_mode=train_mode)
    assert torch.equal(model[1].running_mean, before[1].running_mean) == (not train_mode)
    assert model[1].num_batches_tracked == (3 if train_mode else 0)
    assert not torch.equal(model[0].weight, before[0].weight)


def test_stale_gradients_are_cleared_before_the_first_step(float32):
    model, stale = plain(), plain()
    for p in stale.parameters():
        p.grad = torch.full_like(p, 1e3)
    for m in (model, stale):
        one_epoch(m, SAMPLES.batches(8), sgd(m))
    assert same_weights(model, stale)


def test_frozen_parameters_stay():
    model = half_frozen()
    weight = model[0].weight.clone()
    one_epoch(model, SAMPLES.batches(8), adam(model, 0.1), clip_value=0.1)
    assert torch.equal(model[0].weight, weight)


def test_another_objective_is_followed():
    model, before = mlp(), mlp()
    samples = floats((6,))
    one_epoch(model, samples.batches(21), sgd(model), objective=lambda z, y: -F.cross_entropy(z, y))
    loss = [F.cross_entropy(m(samples.images), samples.labels) for m in (model, before)]
    assert loss[0] > loss[1]


@pytest.mark.parametrize("training", [True, False])
def test_every_submodule_gets_its_own_mode_back(training):
    model = nn.Sequential(half_frozen(), nn.Dropout().eval(), nn.Sequential(nn.BatchNorm1d(K)).train())
    before = [m.training for m in model.modules()]
    assert True in before and False in before
    with pytest.raises(ZeroDivisionError), mode(model, training):
        assert all(m.training is training for m in model.modules())
        raise ZeroDivisionError
    assert [m.training for m in model.modules()] == before


def test_draws_inside_come_from_the_seed_and_those_outside_go_on():
    torch.manual_seed(0)
    expected = torch.rand(2)
    torch.manual_seed(0)
    drawn = []
    first = torch.rand(1)
    for seed in (5, 5, 6):
        with seeded(seed):
            drawn.append(torch.rand(3))
    assert torch.equal(torch.cat([first, torch.rand(1)]), expected)
    assert torch.equal(drawn[0], drawn[1]) and not torch.equal(drawn[0], drawn[2])


def test_seeding_the_cpu_touches_no_gpu(monkeypatch):
    monkeypatch.setattr(torch.cuda, "manual_seed_all", lambda seed: pytest.fail("every GPU was seeded"))
    monkeypatch.setattr(torch.cuda, "manual_seed", lambda seed: pytest.fail("a GPU was seeded"))
    with seeded(3):
        drawn = torch.rand(3)
    assert torch.equal(drawn, torch.rand(3, generator=torch.Generator().manual_seed(3)))


def test_a_gpu_is_seeded_and_its_random_state_comes_back(monkeypatch):
    """A GPU that is none: its random state is a number in a list."""
    state = {"cuda:1": 7}
    current = []
    monkeypatch.setattr(torch.cuda, "get_rng_state", lambda device: state[str(device)])
    monkeypatch.setattr(torch.cuda, "set_rng_state", lambda value, device: state.update({str(device): value}))
    monkeypatch.setattr(torch.cuda, "device", lambda device: current.append(str(device)) or nullcontext())
    monkeypatch.setattr(torch.cuda, "manual_seed", lambda seed: state.update({current[-1]: seed}))
    monkeypatch.setattr(torch.cuda, "manual_seed_all", lambda seed: pytest.fail("every GPU was seeded"))
    before = torch.get_rng_state()
    with seeded(3, "cuda:1"):
        assert state == {"cuda:1": 3}
    assert state == {"cuda:1": 7} and torch.equal(torch.get_rng_state(), before)


def test_the_random_state_comes_back_after_an_error():
    before = torch.get_rng_state()
    with pytest.raises(ZeroDivisionError), seeded(1):
        torch.rand(1)
        raise ZeroDivisionError
    assert torch.equal(torch.get_rng_state(), before)


def test_tiny_weights_become_zero_and_others_stay():
    layer = nn.Linear(5, 1)
    with torch.no_grad():
        layer.weight.copy_(torch.tensor([[1e-45, -1e-31, 2e-30, -0.5, 0.0]]))
        layer.bias.fill_(-1e-38)
    flush_tiny_weights(layer)
    assert torch.equal(layer.weight, torch.tensor([[0.0, 0.0, 2e-30, -0.5, 0.0]])) and layer.bias.item() == 0
    assert layer.weight.requires_grad


def test_the_head_may_learn_at_its_own_rate():
    model = convnet()
    start = copy.deepcopy(model)
    before, after = list(start.parameters()), list(model.parameters())
    one_epoch(model, list(SAMPLES.batches(20)), adam(model, 0.001, 50.0, SAMPLES.inputs()))
    moved = [
        (a - b).abs().max().item() for a, b in zip(after, before, strict=True)
    ]  # Adam's first step is as long as its rate
    assert moved[-2:] == pytest.approx([0.05, 0.05], rel=1e-2) and moved[:-2] == pytest.approx(
        [0.001] * len(moved[:-2]), rel=0.2
    )


def pooled_convolution() -> nn.Module:
    """An All-CNN's head, with what else may stand behind one."""
    behind = nn.ReLU(inplace=True), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(), nn.BatchNorm1d(K), nn.LogSoftmax(1)
    return nn.Sequential(nn.Conv2d(3, K, 1), nn.Conv2d(K, K, 1), *behind)


HEADS = {
    "declared first": (HeadFirst(), (6,), "head"),
    "linear": (convnet(), (3, 8, 8), "5"),
    "frozen": (convnet().requires_grad_(False), (3, 8, 8), "5"),
    "sequences": (sequence_net(), (2, 5), "4"),
    "pooled convolution": (pooled_convolution(), (3, 8, 8), "1"),
    "in place": (nn.Sequential(nn.ReLU(inplace=True), mlp(), nn.ReLU(inplace=True)), (6,), "1.2"),
    "transformer": (models.vit(K), (3, 32, 32), "heads.head"),
    "mobile": (models.mobilenet_v2(K), (3, 32, 32), "classifier.1"),
    **{name: (models.build(name, K), (3, 8, 8), "head") for name in ("ResNet20", "ResNet20-B", "ResNet56")},
}


@pytest.mark.parametrize("model, shape, name", HEADS.values(), ids=HEADS)
def test_the_head_is_what_yields_the_logits(model, shape, name):
    x = torch.randn(2, *shape)
    with untouched(model), torch.inference_mode():
        assert head(model, x) is model.get_submodule(name)
    assert not any(m._forward_hooks for m in model.modules())


@pytest.mark.parametrize("model, shape, name", HEADS.values(), ids=HEADS)
def test_the_head_has_a_group_of_its_own(model, shape, name):
    body, last = parameter_groups(model, 0.1, 2.0, torch.randn(2, *shape))
    assert (body["lr"], last["lr"]) == (0.1, 0.2)
    assert [id(p) for p in last["params"]] == [id(p) for p in model.get_submodule(name).parameters()]
    assert {id(p) for p in body["params"] + last["params"]} == {id(p) for p in model.parameters()}


class TwoHeads(HeadFirst):
    def forward(self, x):
        return self.head(self.body(x)) + self.spare(self.body(x))


class Cosines(HeadFirst):
    """The head's weights are used without the layer."""

    def forward(self, x):
        return F.linear(F.normalize(self.body(x)), F.normalize(self.head.weight))


NO_HEAD = {
    "two": TwoHeads(),
    "not called": Cosines(),
    "none": nn.BatchNorm1d(6),
    "narrower": nn.Sequential(mlp(), nn.ZeroPad1d(1)),
}


@pytest.mark.parametrize("model", NO_HEAD.values(), ids=NO_HEAD)
def test_where_no_single_layer_yields_the_logits_the_head_is_not_guessed(model):
    with pytest.raises(ValueError, match="no single Linear or convolution yields the model's logits.*head_factor=1"):
        adam(model, 0.1, 2.0, torch.randn(2, 6))
    assert len(adam(model, 0.1).param_groups) == 1


def test_a_head_is_not_found_without_inputs():
    with pytest.raises(ValueError, match="head_factor is 2.0: pass some inputs"):
        adam(convnet(), 0.1, 2.0)


@pytest.mark.parametrize("caller", [torch.no_grad, torch.inference_mode])
def test_an_epoch_trains_whatever_the_caller_does(caller):
    model, expected = convnet(), convnet()
    one_epoch(expected, SAMPLES.batches(8), sgd(expected))
    with caller():
        one_epoch(model, SAMPLES.batches(8), sgd(model))
    assert same_weights(model, expected)
