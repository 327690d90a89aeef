import copy
import math

import numpy as np
import pytest
import scipy.stats
import sklearn.metrics
import torch
import torchmetrics
from hypothesis import given
from hypothesis import strategies as st
from tiny import K, Returns, convnet, fitted, floats, half_frozen, mlp, same_weights, untouched
from torch import nn
from torch.nn import functional as F

from unsir_utils import metrics
from unsir_utils.engine.samples import Samples
from unsir_utils.methods.baselines import MaskedLogits

AS_LOGITS = nn.Identity()


def predicted(classes, labels) -> Samples:
    """Samples whose images are the logits that predict `classes`."""
    return Samples(5 * F.one_hot(torch.tensor(classes), K).float(), torch.tensor(labels), K)


@pytest.fixture
def uneven(monkeypatch):
    """23 samples in batches of 10, 10 and 3, all errors in the last one."""
    monkeypatch.setattr(metrics, "EVALUATION_BATCH", 10)
    labels = [i % K for i in range(23)]
    return predicted([*labels[:20], *((c + 1) % K for c in labels[20:])], labels)


def test_accuracy_weighs_every_sample_alike(uneven):
    loss, accuracy = metrics.evaluate(AS_LOGITS, uneven)
    guess = uneven.images.argmax(1)
    assert accuracy == pytest.approx(100 * sklearn.metrics.accuracy_score(uneven.labels, guess))
    torch_accuracy = torchmetrics.functional.accuracy(guess, uneven.labels, task="multiclass", num_classes=K)
    assert accuracy == pytest.approx(100 * torch_accuracy.item())
    assert accuracy != pytest.approx(100 * (1 + 1 + 0) / 3)
    assert loss == pytest.approx(sklearn.metrics.log_loss(uneven.labels, uneven.images.softmax(1).double()), rel=1e-5)


def test_accuracy_of_no_sample_is_nan():
    assert all(math.isnan(x) for x in metrics.evaluate(AS_LOGITS, predicted([0], [0])[:0]))


def test_per_class_accuracy_is_recall(uneven):
    recall = sklearn.metrics.recall_score(uneven.labels, uneven.images.argmax(1), average=None)
    np.testing.assert_allclose(metrics.per_class_accuracy(AS_LOGITS, uneven), 100 * recall)


def test_per_class_accuracy_by_hand():
    accuracy = metrics.per_class_accuracy(AS_LOGITS, predicted([0, 0, 1, 1, 1], [0, 0, 0, 1, 3]))
    np.testing.assert_allclose(accuracy, [100 * 2 / 3, 100, np.nan, 0])


@pytest.mark.parametrize(
    "forget, expected", [([0], (100 / 3, 75)), ([1, 2], (80, 0)), ([3], (100 * 3 / 6, 100)), ([0, 3], (0, 80))]
)
def test_retain_and_forget_accuracy_by_hand(forget, expected):
    samples = predicted([0, 0, 0, 1, 2, 1, 3], [0, 0, 0, 0, 1, 2, 3])
    assert metrics.retain_forget_accuracy(AS_LOGITS, samples, forget) == pytest.approx(expected)


def test_prediction_distribution_by_hand():
    shares = metrics.prediction_distribution(AS_LOGITS, predicted([0, 0, 0, 2], [1, 1, 1, 1]))
    assert shares.tolist() == [0.75, 0, 0.25, 0]


def test_logits_are_those_of_eval_mode_in_order(float32, monkeypatch):
    monkeypatch.setattr(metrics, "EVALUATION_BATCH", 4)
    model = nn.Sequential(convnet(), nn.Dropout()).train()
    samples = floats((3, 8, 8))
    with untouched(model):
        z = metrics.logits(model, samples)
    torch.testing.assert_close(z, model.eval()(samples.images).detach())


def test_a_model_that_works_in_place_does_not_overwrite_the_samples():
    samples = floats((6,))
    before = samples.images.clone()
    metrics.evaluate(nn.Sequential(nn.ReLU(inplace=True), mlp()), samples)
    assert torch.equal(samples.images, before)


shares = st.lists(st.floats(0, 1), min_size=2, max_size=20).filter(lambda w: sum(w) > 0.01).map(torch.tensor)


@given(shares, st.randoms())
def test_entropy_is_scipys_over_log_k_and_blind_to_order(weights, random):
    p = weights.double() / weights.double().sum()
    entropy = metrics.normalised_entropy(p)
    assert entropy == pytest.approx(scipy.stats.entropy(p.numpy(), base=len(p)), abs=1e-9)
    assert -1e-12 <= entropy <= 1 + 1e-12
    order = random.sample(range(len(p)), len(p))
    assert metrics.normalised_entropy(p[order]) == pytest.approx(entropy, abs=1e-12)


@given(st.integers(2, 300))
def test_entropy_of_even_shares_is_no_more_than_one(k):
    assert metrics.normalised_entropy(torch.full((k,), 1 / k, dtype=torch.float64)) <= 1


@pytest.mark.parametrize("p, expected", [([1, 0, 0, 0], 0), ([0.25] * 4, 1), ([0.5, 0.5, 0, 0], 0.5)])
def test_entropy_by_hand(p, expected):
    assert metrics.normalised_entropy(torch.tensor(p, dtype=torch.float64)) == pytest.approx(expected)


def test_weight_distance_by_hand():
    model = nn.Sequential(nn.Linear(2, 1), nn.BatchNorm1d(1), nn.ReLU(), nn.Linear(1, 1, bias=False))
    other = copy.deepcopy(model)
    with torch.no_grad():
        other[0].weight += torch.tensor([[3.0, 0.0]])
        other[0].bias -= 4
        other[1].running_mean += 100
        other[3].weight += 2
    distance = metrics.weight_distance(model, other)
    assert distance == pytest.approx({"0": 5, "1": 0, "3": 2}, abs=1e-6)
    assert list(distance) == ["0", "1", "3"]


@pytest.mark.parametrize("other", [convnet(K + 1), mlp()], ids=["other width", "other layers"])
def test_weight_distance_wants_one_architecture(other):
    with pytest.raises(ValueError, match="different parameters"):
        metrics.weight_distance(convnet(), other)


@pytest.fixture(scope="module")
def lost():
    """(a model that has lost class 1, the original, all samples, those of class 1)"""
    train = floats((6,), 42)
    original = fitted(mlp(), train, 10)
    ignorant = copy.deepcopy(original)
    with torch.no_grad():
        ignorant[2].weight[1], ignorant[2].bias[1] = 0, -4
    return ignorant, original, train, train.only([1])


RELEARN = [metrics.relearn_epochs, metrics.relearn_steps]


@pytest.mark.parametrize("relearn", RELEARN)
def test_relearning_the_original_takes_no_time(relearn, lost):
    _, original, train, forget = lost
    assert relearn(original, original, train, forget) == 0


@pytest.mark.parametrize("relearn", RELEARN)
def test_relearning_gives_up_at_the_cap(relearn, lost):
    assert relearn(*lost, lr=1e-9, cap=3) is None


@pytest.mark.parametrize("relearn", RELEARN)
@pytest.mark.parametrize("empty, message", [(2, "the training data is empty"), (3, "the forget data is empty")])
def test_relearning_from_nothing_is_refused(relearn, empty, message, lost):
    arguments = [part[:0] if place == empty else part for place, part in enumerate(lost)]
    with pytest.raises(ValueError, match=message):
        relearn(*arguments)


@pytest.mark.parametrize("relearn, settings", [(RELEARN[0], {"per_epoch": 40}), (RELEARN[1], {"lr": 0.05})])
def test_relearning_takes_some_time_and_the_same_every_time(relearn, settings, lost):
    times = {relearn(*lost, **settings, seed=3) for _ in range(2)}
    assert len(times) == 1 and times.pop() > 1


@pytest.mark.parametrize("relearn", RELEARN)
def test_relearning_names_bad_settings_before_any_work(relearn, lost, monkeypatch):
    monkeypatch.setattr(metrics, "evaluate", lambda *_: pytest.fail("work began"))
    for bad in ({"cap": -1}, {"cap": 2.5}, {"lr": 0.0}, {"batch_size": 0}):
        (name,) = bad
        with pytest.raises(ValueError, match=f"{name} is {bad[name]}"):
            relearn(*lost, **bad)
    with pytest.raises(ValueError, match="requires a gradient"):
        relearn(mlp().requires_grad_(False), *lost[1:])
    with pytest.raises(ValueError, match="5 logits but the"):
        relearn(lost[0], mlp(K + 1), *lost[2:])


@pytest.mark.parametrize("relearn", RELEARN)
def test_a_cap_of_zero_asks_whether_anything_was_lost(relearn, lost):
    assert relearn(*lost, cap=0) is None and relearn(lost[1], *lost[1:], cap=0) == 0


@pytest.mark.parametrize("relearn", RELEARN)
@pytest.mark.parametrize("caller", [torch.no_grad, torch.inference_mode])
def test_relearning_trains_whatever_the_caller_does(relearn, caller, lost):
    settings = dict(per_epoch=40) if relearn is metrics.relearn_epochs else dict(lr=0.05)
    with caller():
        assert relearn(*lost, **settings) == relearn(*lost, **settings) != 0


def test_share_is_positive(lost):
    with pytest.raises(ValueError, match="share is nan"):
        metrics.relearn_steps(*lost, share=float("nan"))


@pytest.mark.parametrize("relearn", RELEARN)
@pytest.mark.parametrize("make", [convnet, half_frozen])
def test_relearning_trains_a_copy(relearn, make):
    model, original, train = make(), fitted(convnet(), floats((3, 8, 8)), 20), floats((3, 8, 8))
    with untouched(model), untouched(original):
        assert relearn(model, original, train, train.only([1]), cap=2, lr=1e-4) is None


@pytest.mark.parametrize("relearn, expected", [(RELEARN[0], {False}), (RELEARN[1], {False, True})])
def test_batchnorm_is_in_eval_mode_throughout_when_relearning_by_epochs(relearn, expected):
    model, original, train = convnet(), fitted(convnet(), floats((3, 8, 8)), 20), floats((3, 8, 8))
    modes = set()
    model[1].register_forward_hook(lambda batchnorm, *_: modes.add(batchnorm.training))
    relearn(model, original, train, train.only([1]), cap=1, lr=1e-4)
    assert modes == expected


@pytest.mark.parametrize("relearn", RELEARN)
def test_a_masked_class_is_never_relearned(relearn, lost):
    _, original, train, forget = lost
    assert relearn(MaskedLogits(original, [1]), original, train, forget, cap=5) is None


@pytest.mark.parametrize("batch_size", [8, 9])
def test_relearned_epochs_equal_a_plain_loop(float32, lost, batch_size):
    ignorant, original, train, forget = lost
    model, target = copy.deepcopy(ignorant).eval(), F.cross_entropy(original(forget.images), forget.labels)
    torch.manual_seed(5)
    epochs = 0
    while F.cross_entropy(model(forget.images), forget.labels) > target:
        drawn = torch.randint(len(train), (20,))
        for index in drawn[torch.randperm(20)].split(batch_size):
            loss = F.cross_entropy(model(train.images[index]), train.labels[index])
            with torch.no_grad():
                for p, g in zip(model.parameters(), torch.autograd.grad(loss, list(model.parameters())), strict=True):
                    p -= 0.02 * g
        epochs += 1
    measured = metrics.relearn_epochs(*lost, per_epoch=20, lr=0.02, cap=200, batch_size=batch_size, seed=5)
    assert measured == epochs > 2
    assert metrics.relearn_epochs(*lost, per_epoch=20, lr=0.02, cap=epochs, batch_size=batch_size, seed=5) == epochs
    assert metrics.relearn_epochs(*lost, per_epoch=20, lr=0.02, cap=epochs - 1, batch_size=batch_size, seed=5) is None


def test_relearned_steps_equal_a_plain_loop(float32):
    train = floats((3, 8, 8), 42, seed=1)
    original, forget = fitted(convnet(), train), train.only([1])
    ignorant = copy.deepcopy(original)
    with torch.no_grad():
        ignorant[5].weight[1], ignorant[5].bias[1] = 0, -8
    model = copy.deepcopy(ignorant)
    optimiser = torch.optim.Adam(model.parameters(), lr=0.02)

    def accuracy(network):
        network.eval()
        return sklearn.metrics.accuracy_score(forget.labels, network(forget.images).argmax(1))

    def loop():
        steps = 0
        while True:
            for index in torch.randperm(len(train)).split(10):
                if accuracy(model) >= 0.95 * accuracy(original):
                    return steps
                model.train()
                optimiser.zero_grad()
                F.cross_entropy(model(train.images[index]), train.labels[index]).backward()
                optimiser.step()
                steps += 1

    torch.manual_seed(2)
    steps = loop()
    arguments = dict(lr=0.02, batch_size=10, seed=2)
    assert metrics.relearn_steps(ignorant, original, train, forget, **arguments) == steps > 2
    assert metrics.relearn_steps(ignorant, original, train, forget, cap=steps - 1, **arguments) is None
    assert not same_weights(model, ignorant)


def test_a_diverged_model_is_right_about_nothing():
    samples = floats((6,), 12)

    class Diverged(torch.nn.Module):
        def forward(self, x):
            return torch.full((len(x), K), float("nan"))

    assert (
        metrics.evaluate(Diverged(), samples)[1] == 0 and metrics.per_class_accuracy(Diverged(), samples).tolist() == [0] * K
    )
    assert metrics.retain_forget_accuracy(Diverged(), samples, [0]) == (0, 0)
    assert metrics.prediction_distribution(Diverged(), samples).sum() == 0


@pytest.mark.parametrize(
    "forget, message",
    [([K], f"forget class {K} is out of range"), ([-1], "forget class -1"), (1, "given as 1"), ("1", "given as '1'")],
)
def test_classes_out_of_range_are_named(forget, message):
    with pytest.raises(ValueError, match=message):
        metrics.retain_forget_accuracy(AS_LOGITS, predicted([0, 1], [0, 1]), forget)


MEASURES = [metrics.predictions, metrics.evaluate, metrics.per_class_accuracy, metrics.prediction_distribution]


@pytest.mark.parametrize("measure", MEASURES)
def test_a_model_or_labels_of_other_classes_are_named(measure):
    with pytest.raises(ValueError, match="4 logits but the data has 3 classes"):
        measure(AS_LOGITS, Samples(torch.zeros(2, K), [0, 1], K - 1))
    with pytest.raises(ValueError, match=r"labels outside 0\.\.3"):
        measure(AS_LOGITS, Samples(torch.zeros(2, K), [0, K], K))


def test_logits_are_taken_out_of_what_a_model_returns():
    model, samples = Returns(lambda z: {"logits": z}, always=True), floats((6,))
    assert torch.equal(metrics.logits(model, samples), metrics.logits(model.net, samples))
    with pytest.raises(ValueError, match="the model returns a tuple"):
        metrics.evaluate(Returns(lambda z: (z,), always=True), samples)


@pytest.mark.parametrize(
    "shape, size", [((3, 32, 32), 1000), ((1, 64, 64), 1000), ((3, 224, 224), 81), ((6,), 1000)], ids=str
)
def test_large_images_are_measured_in_smaller_batches(shape, size):
    seen = []
    samples = Samples(torch.zeros(2 * size + 1, *shape, dtype=torch.uint8), torch.zeros(2 * size + 1), K)

    class Counting(nn.Module):
        def forward(self, x):
            seen.append(len(x))
            return torch.zeros(len(x), K)

    metrics.logits(Counting(), samples)
    assert seen == [size, size, 1]


def test_a_network_in_half_precision_is_measured_as_it_is():
    samples = floats((3, 8, 8), 40)
    half, full = convnet().half(), convnet().half().float()
    assert torch.allclose(metrics.logits(half, samples), metrics.logits(full, samples), atol=0.02)
