import pytest
import torch
from tiny import K, convnet, floats, half_frozen, mlp, untouched
from torch import nn

from unsir_utils import checks
from unsir_utils.samples import Samples


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
        (
            Samples(torch.zeros(2, 1, 8, 8, dtype=torch.uint8), torch.zeros(2).long(), K, (0.5,) * 3, (0.5,) * 3),
            "has 1 channels but mean and std for 3",
        ),
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


@pytest.mark.parametrize("output", [nn.Flatten(0), nn.Unflatten(1, (K, 1))], ids=["vector", "map"])
def test_a_model_must_give_logits(output):
    with pytest.raises(ValueError, match=r"logits \[n, K\]"):
        checks.output_width(nn.Sequential(mlp(), output), torch.zeros(2, 6))


def test_output_width_leaves_the_model_alone():
    model = half_frozen()
    with untouched(model):
        assert checks.output_width(model, torch.zeros(1, 3, 8, 8)) == K


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
