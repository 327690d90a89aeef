import warnings
from collections import namedtuple
from types import SimpleNamespace

import pytest
import torch
from tiny import K, Returns, convnet, floats, half_frozen, mlp, untouched
from torch import nn

from unsir_utils.engine import checks
from unsir_utils.engine.samples import Samples


@pytest.mark.parametrize(
    "forget, message",
    [
        ([], "no forget class"),
        ([K], f"forget class {K} is out of range"),
        ([0, -1], "forget class -1 is out of range"),
        ([1, 1], "twice"),
        (range(K), f"all {K} classes"),
        ([True], "forget class True"),
        ([0.5], "forget class 0.5"),
        ([1.0], "forget class 1.0"),
        ([float("nan")], "forget class nan"),
        ([None], "forget class None"),
        (["cat"], "forget class 'cat'"),
        (3, "forget class is given as 3: expected a list"),
        ("cat", "forget class is given as 'cat': expected a list"),
        (torch.tensor(3), r"forget class is given as tensor\(3\)"),
        (torch.tensor([[3]]), r"forget class is given as tensor\(\[\[3\]\]\)"),
        (torch.tensor([True]), r"forget class tensor\(True\)"),
        (torch.tensor([1.0]), r"forget class tensor\(1.\)"),
    ],
    ids=str,
)
def test_bad_forget_classes_are_named(forget, message):
    with pytest.raises(ValueError, match=message):
        checks.forget_classes(forget, K)


@pytest.mark.parametrize("forget", [[2, 0], (2, 0), iter([2, 0]), torch.tensor([2, 0])], ids=lambda f: type(f).__name__)
def test_forget_classes_come_as_any_iterable_and_keep_their_order(forget):
    classes = checks.forget_classes(forget, K)
    assert classes == [2, 0] and all(type(c) is int for c in classes)


def with_images(images: torch.Tensor) -> Samples:
    return Samples(images, torch.zeros(len(images)).long(), K)


@pytest.mark.parametrize(
    "samples, message",
    [
        (floats((3, 8, 8))[:0], "the retain data is empty"),
        (Samples(torch.zeros(2, 3, 8, 8), torch.tensor([0, K]), K), "labels outside 0..3"),
        (Samples(torch.zeros(2, 3, 8, 8), torch.tensor([0, -1]), K), "labels outside 0..3"),
        (with_images(torch.full((2, 3, 8, 8), torch.nan)), "nan or infinite"),
        (with_images(torch.full((2, 3, 8, 8), torch.inf)), "nan or infinite"),
        (with_images(torch.zeros(2, 1, 8, 8)), r"does not take images of shape \[1, 8, 8\]"),
        (with_images(torch.zeros(2, 8, 8, 3)), r"does not take images of shape \[8, 8, 3\]"),
        (with_images(torch.zeros(2, 6)), r"does not take images of shape \[6\]"),
        (floats((3, 8, 8), n_classes=K - 1), "4 logits but the retain data has 3 classes"),
    ],
)
def test_bad_samples_are_named(samples, message):
    model = half_frozen()
    with untouched(model), pytest.raises(ValueError, match=message):
        checks.samples_for(model, samples)


def test_the_message_says_which_data():
    with pytest.raises(ValueError, match="the forget data is empty"):
        checks.samples_for(convnet(), floats((3, 8, 8))[:0], "forget data")


def test_the_last_image_is_looked_at_too():
    images = torch.zeros(50, 3, 8, 8)
    images[-1, -1, -1, -1] = torch.nan
    with pytest.raises(ValueError, match="nan or infinite"):
        checks.samples_for(convnet(), with_images(images))


def test_retain_data_with_forget_classes_are_named():
    samples = floats((6,))
    with pytest.raises(ValueError, match=r"forget classes \[1, 3\]: pass samples.without\(\[1, 3\]\)"):
        checks.retain_set(samples, [3, 1])
    checks.retain_set(samples.without([3, 1]), [3, 1])


def test_retain_data_without_a_retain_class_are_named():
    samples = floats((6,)).only([1])
    with pytest.warns(UserWarning, match=r"no sample of the classes \[0, 2\], so that they are unlearned, too"):
        checks.retain_set(samples, [3])
    with pytest.warns(UserWarning, match=r"classes \[2\]"):
        checks.retain_set(samples, [3], forgotten=[0])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        checks.retain_set(samples, [3], forgotten=[2, 0, 3])
        checks.retain_set(floats((6,)).without([3]), [3])


@pytest.mark.parametrize(
    "forgotten, message", [([1], r"forget classes \[1\]"), ([K], "forgotten class 4"), (2, "given as 2")]
)
def test_what_was_forgotten_before_is_not_in_the_retain_data(forgotten, message):
    with pytest.raises(ValueError, match=message):
        checks.retain_set(floats((6,)).only([1, 2]), [3], forgotten)


Tuple = namedtuple("Tuple", "logits aux")


@pytest.mark.parametrize(
    "make",
    [lambda z: Tuple(z, z[:1]), lambda z: {"logits": z}, lambda z: SimpleNamespace(logits=z)],
    ids=["tuple", "dict", "object"],
)
def test_logits_are_found_in_what_a_model_returns(make):
    assert checks.output_width(Returns(make, always=True), torch.zeros(2, 6)) == K


@pytest.mark.parametrize(
    "make, found",
    [
        (lambda z: (z, z), "a tuple"),
        (lambda z: {"out": z}, "a dict"),
        (lambda z: Tuple(None, z), "a Tuple"),
        (lambda z: z[0], r"a tensor \[4\]"),
    ],
)
def test_other_outputs_are_named_those_of_train_mode_too(make, found):
    with pytest.raises(ValueError, match=f"returns {found}: expected logits.*in train mode too"):
        checks.samples_for(Returns(make, always=True), floats((6,)))
    checks.samples_for(Returns(make), floats((6,)))
    with pytest.raises(ValueError, match=f"returns {found}"):
        checks.trainable(Returns(make), floats((6,)), 8)


@pytest.mark.parametrize(
    "last, warned", [(nn.Softmax(1), True), (nn.LogSoftmax(1), False), (nn.Sigmoid(), False), (nn.ReLU(), False)]
)
def test_a_softmax_at_the_end_is_warned_of(last, warned):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        checks.samples_for(nn.Sequential(mlp(), last), floats((6,)))
    assert ["probabilities: take the softmax off" in str(w.message) for w in caught] == [True] * warned


@pytest.mark.parametrize(
    "model, message",
    [
        (mlp().double(), "model's 0.weight is torch.float64: expected torch.float32"),
        (mlp().bfloat16(), "model's 0.weight is torch.bfloat16"),
        (mlp().to("meta"), "model's 0.weight is on meta, the data on cpu"),
    ],
)
def test_weights_of_another_type_or_place_are_named(model, message):
    with pytest.raises(ValueError, match=message):
        checks.samples_for(model, floats((6,)))


def without_statistics() -> nn.Module:
    return nn.Sequential(nn.Linear(6, 5), nn.BatchNorm1d(5, track_running_stats=False), nn.Linear(5, K))


def test_batchnorm_without_statistics_passes_and_wants_two_images():
    checks.trainable(without_statistics(), floats((6,)), 8)
    for samples, batch_size in ((floats((6,))[:1], 8), (floats((6,)), 1)):
        with pytest.raises(ValueError, match="BatchNorm needs more than one image in a batch"):
            checks.trainable(without_statistics(), samples, batch_size)


def test_one_image_is_enough_where_batchnorm_has_a_map():
    checks.trainable(convnet(), floats((3, 8, 8))[:1], 8)


def test_a_model_must_have_something_to_train():
    checks.trainable(half_frozen(), floats((3, 8, 8)), 8)
    with pytest.raises(ValueError, match="no parameter of the model requires a gradient"):
        checks.trainable(half_frozen().requires_grad_(False), floats((3, 8, 8)), 8)


@pytest.mark.parametrize("output", [nn.Flatten(0), nn.Unflatten(1, (K, 1))], ids=["vector", "map"])
def test_a_model_must_give_logits(output):
    with pytest.raises(ValueError, match=r"logits \[n, K\]"):
        checks.output_width(nn.Sequential(mlp(), output), torch.zeros(2, 6))


def test_output_width_leaves_the_model_alone():
    model = half_frozen()
    with untouched(model):
        assert checks.output_width(model, torch.zeros(1, 3, 8, 8)) == K
    model = nn.Sequential(nn.ReLU(inplace=True), nn.Dropout(), convnet().train())
    x = torch.randn(2, 3, 8, 8)
    before = x.clone()
    with untouched(model), torch.inference_mode():
        assert checks.output_width(model, x, training=True) == K
    assert torch.equal(x, before)


@pytest.mark.parametrize("number", [0, -1, -0.5, float("nan"), float("inf")])
def test_what_must_be_positive_is_named(number):
    with pytest.raises(ValueError, match=f"steps is {number}"):
        checks.positive(lr=0.1, steps=number)


def test_positive_numbers_pass():
    checks.positive(lr=1e-9, steps=1)


@pytest.mark.parametrize("number", [0, -1, 2.5, 2.0, float("nan"), True, "2", None])
def test_what_must_be_a_count_is_named(number):
    with pytest.raises(ValueError, match=f"copies is {number}: expected a whole number"):
        checks.counts(steps=1, copies=number)


def test_counts_pass():
    checks.counts(steps=1, copies=torch.tensor(2))
    checks.counts(least=0, cap=0)
    with pytest.raises(ValueError, match="cap is -1: expected a whole number of at least 0"):
        checks.counts(least=0, cap=-1)
