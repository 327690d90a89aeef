import copy
import sys
from collections import Counter, namedtuple

import pytest
import torch
from tiny import (
    SHAPES,
    HeadFirst,
    K,
    Returns,
    convnet,
    fitted,
    floats,
    half_frozen,
    mlp,
    pixels,
    plain,
    same_weights,
    untouched,
)
from torch import nn
from torch.nn import functional as F

from unsir_utils.engine.samples import Samples
from unsir_utils.impair import impair
from unsir_utils.metrics import retain_forget_accuracy
from unsir_utils.noise import Noise, learn_noise, unlearned_noise
from unsir_utils.repair import repair
from unsir_utils.unsir import noise_by_class, released, two_passes, unsir

impair_module, unsir_module = sys.modules["unsir_utils.impair"], sys.modules["unsir_utils.unsir"]

EVERY_MODEL = pytest.mark.parametrize("make", SHAPES, ids=lambda make: make.__name__)
QUICK = dict(noise_per_class=3, noise_steps=2, copies=2, batch_size=8)


def retained(make=convnet, forget=(1,), n=21):
    return floats(SHAPES[make], n).without(forget)


@pytest.fixture
def seen(monkeypatch):
    """The batches of all passes, in order."""
    batches, one_epoch = [], impair_module.one_epoch
    monkeypatch.setattr(
        impair_module, "one_epoch", lambda model, b, *rest: one_epoch(model, (batches.append(x) or x for x in b), *rest)
    )
    return batches


@EVERY_MODEL
def test_the_callers_model_stays_as_it_was(make):
    model, retain = make(), retained(make)
    with untouched(model):
        impair(model, retain, unlearned_noise([1], retain.shape, per_class=3), batch_size=8)
        repair(model, retain, batch_size=8)
        unsir(model, [1], retain, **QUICK)
        unsir(model, [1], retain, **QUICK, batchnorm="train")


def test_what_comes_back_is_told_in_a_line():
    unlearned = unsir(convnet(), [1], retained(), **QUICK)  # 16 retain images; 3 of noise, twice
    noise = "Noise(3 images of shape (3, 8, 8) for classes [1])"
    impaired, repaired = "Phase(22 images seen)", "Phase(16 images seen)"
    assert repr(unlearned) == f"Unlearned(noise={noise}, impaired={impaired}, repaired={repaired})"


def test_released_leaves_the_callers_model_as_it_was():
    model = half_frozen()
    with untouched(model):
        released(model, [0], retained(forget=[0]))


def test_frozen_parameters_and_modes_stay_through_unlearning():
    model = half_frozen()
    unlearned = unsir(model, [1], retained(), **QUICK).model
    assert torch.equal(unlearned[0].weight, model[0].weight) and not torch.equal(unlearned[5].weight, model[5].weight)
    assert [p.requires_grad for p in unlearned.parameters()] == [p.requires_grad for p in model.parameters()]
    assert [m.training for m in unlearned.modules()] == [m.training for m in model.modules()]


@pytest.mark.parametrize("batch_size, copies, epochs", [(8, 3, 1), (5, 20, 1), (100, 1, 2), (19, 1, 1)])
def test_an_epoch_sees_every_retain_sample_once_and_every_noise_image_copies_times(seen, batch_size, copies, epochs):
    retain = retained()
    fake = Noise(100 + torch.arange(4.0).view(4, 1, 1, 1).expand(4, 3, 8, 8), torch.full((4,), 1), [], 0.0, 0)
    phase = impair(convnet(), retain, fake, batch_size=batch_size, copies=copies, epochs=epochs)
    images, labels = (torch.cat(parts) for parts in zip(*seen, strict=True))
    expected = Counter({image[0, 0, 0].item(): epochs for image in retain.images})
    expected.update({100 + i: epochs * copies for i in range(4)})
    assert Counter(images[:, 0, 0, 0].tolist()) == expected
    assert (labels[images[:, 0, 0, 0] > 50] == 1).all() and labels.bincount()[1] == epochs * copies * 4
    assert phase.samples == len(images) == epochs * (len(retain) + copies * 4)
    assert len(phase.losses) == len(seen)


@pytest.mark.parametrize("n", [9, 10, 17, 18])
def test_no_batch_is_of_size_one(seen, n):
    repair(convnet(), floats((3, 8, 8), n), batch_size=8)
    assert sum(len(y) for _, y in seen) == n
    assert min(len(y) for _, y in seen) > 1


def test_retain_and_noise_are_mixed_within_batches(seen):
    impair(convnet(), retained(n=80), unlearned_noise([1], (3, 8, 8), per_class=4), copies=15, batch_size=20)
    assert all(0 < (y == 1).sum() < len(y) for _, y in seen)


@pytest.mark.parametrize("make", [convnet, plain, mlp], ids=lambda make: make.__name__)
@pytest.mark.parametrize("with_noise", [True, False])
def test_impair_equals_a_plain_loop(float32, make, with_noise):
    retain, model = retained(make), make().train()
    learned = unlearned_noise([1], SHAPES[make], per_class=3 if with_noise else 1, seed=1)
    images, labels = retain.images, retain.labels
    if with_noise:
        images = torch.cat([images] + 2 * [learned.images])
        labels = torch.cat([labels] + 2 * [learned.labels])
    optimiser = torch.optim.Adam(model.parameters(), lr=0.02)
    torch.manual_seed(4)
    for _ in range(2):
        for index in torch.randperm(len(images)).split(6):
            optimiser.zero_grad()
            F.cross_entropy(model(images[index]), labels[index]).backward()
            optimiser.step()
    impaired = impair(
        make(), retain, learned if with_noise else None, lr=0.02, epochs=2, copies=2, batch_size=6, seed=4
    ).model
    for name, value in model.state_dict().items():
        torch.testing.assert_close(impaired.state_dict()[name], value, atol=2e-4, rtol=2e-4)


def test_pixels_are_normalised_and_noise_is_not(seen):
    retain = pixels().without([1])
    learned = unlearned_noise([1], (3, 8, 8), per_class=2)
    impair(convnet(), retain, learned, copies=1)
    (x, y), mean, std = seen[0], torch.tensor(retain.mean), torch.tensor(retain.std)
    expected = (retain.images.float() / 255 - mean.view(3, 1, 1)) / std.view(3, 1, 1)
    torch.testing.assert_close(x[y != 1].sum(0), expected.sum(0), atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(x[y == 1].sum(0), learned.images.sum(0))


def test_gradients_of_the_noise_do_not_leak_into_the_first_step():
    model, fresh, retain = convnet(), convnet(), retained()
    learned = learn_noise(model, [1], retain.shape, per_class=3, steps=3, in_place=True)
    for p in model.parameters():
        p.grad = torch.full_like(p, 1e3)
    one, other = (impair(m, retain, learned, batch_size=8).model for m in (model, fresh))
    assert same_weights(one, other)


@pytest.mark.parametrize("batchnorm", ["eval", "train"])
def test_unsir_is_noise_then_impair_then_repair(batchnorm):
    model, retain = convnet(), retained(forget=[1, 2])
    whole = unsir(
        model, [2, 1], retain, noise_per_class=3, noise_steps=2, noise_lr=0.2, penalty=0.5, batchnorm=batchnorm,
        copies=2, impair_lr=0.03, impair_epochs=2, repair_lr=0.005, repair_epochs=3, batch_size=7, seed=9,
    )  # fmt: skip
    learned = learn_noise(
        model, [2, 1], retain.shape, per_class=3, steps=2, lr=0.2, penalty=0.5, batchnorm=batchnorm, seed=9,
        in_place=True,
    )  # fmt: skip
    impaired = impair(model, retain, learned, lr=0.03, epochs=2, copies=2, batch_size=7, seed=9)
    repaired = repair(impaired.model, retain, lr=0.005, epochs=3, batch_size=7, seed=9)
    assert torch.equal(whole.noise.images, learned.images) and torch.equal(whole.noise.labels, learned.labels)
    assert same_weights(whole.impaired.model, impaired.model) and not same_weights(whole.impaired.model, model)
    assert same_weights(whole.model, repaired.model) and not same_weights(whole.model, impaired.model)
    assert whole.samples == {"noise": 2 * 6, "impair": 2 * (len(retain) + 12), "repair": 3 * len(retain)}
    assert all(seconds > 0 for seconds in whole.seconds.values())


def test_given_noise_is_used_and_none_is_learned(monkeypatch):
    monkeypatch.setattr(unsir_module, "learn_noise", lambda *_, **__: pytest.fail("noise was learned"))
    retain = retained()
    given = unlearned_noise([1], retain.shape, per_class=3)
    whole = unsir(convnet(), [1], retain, noise=given, copies=2, batch_size=8, seed=2)
    impaired = impair(convnet(), retain, given, copies=2, batch_size=8, seed=2).model
    assert same_weights(whole.model, repair(impaired, retain, batch_size=8, seed=2).model)
    assert whole.noise is given


@pytest.mark.parametrize("total, n", [(None, 6), (5, 5)])
def test_noise_is_counted_per_class_or_in_all(total, n):
    settings = QUICK | dict(noise_total=total)
    assert len(unsir(convnet(), [1, 3], retained(forget=[1, 3]), **settings).noise) == n


def test_a_seed_decides_the_result():
    one, same, other = (unsir(convnet(), [1], retained(), **QUICK, seed=seed).model for seed in (3, 3, 4))
    assert same_weights(one, same) and not same_weights(one, other)


@pytest.fixture(scope="module")
def as_released():
    model, retain = convnet(), retained(forget=[0, 2], n=60)
    return model, retain, released(model, [0, 2], retain, per_class=10, seed=6)


def test_released_uses_three_noise_images_a_class_all_labelled_zero(as_released):
    _, retain, result = as_released
    assert len(result.noise) == 2 * 3 and (result.noise.labels == 0).all()
    assert result.samples == {"noise": 2 * 256 * 40, "impair": 2 * 10 + 20 * 2 * 3, "repair": 2 * 10}


def test_released_carries_the_noises_batchnorm_statistics_from_class_to_class_and_into_impair(as_released):
    model, retain, result = as_released
    model = copy.deepcopy(model)
    parts = [
        learn_noise(model, [c], retain.shape, batchnorm="train", seed=seed, in_place=True)
        for c, seed in [(0, 6000), (2, 6001)]
    ]
    learned = Noise(torch.cat([p.images[:3] for p in parts]), torch.zeros(6).long(), [], 0.0, 0)
    subset = retain.first(10)
    impaired = impair(model, subset, learned, seed=6)
    assert torch.equal(result.noise.images, learned.images)
    assert same_weights(result.impaired.model, impaired.model)
    assert same_weights(result.model, repair(impaired.model, subset, seed=6).model)


def test_released_takes_the_first_retain_samples_as_they_stand(seen):
    retain = retained(forget=[0], n=40)
    released(convnet(), [0], retain, per_class=4)
    images, labels = seen[-1]
    expected = torch.cat([retain.images[retain.labels == c][:4] for c in (1, 2, 3)])
    assert sorted(images[:, 0, 0, 0].tolist()) == sorted(expected[:, 0, 0, 0].tolist())


def test_every_slip_of_released_is_a_switch():
    retain = retained(forget=[1, 2], n=40)
    result = released(convnet(), [2, 1], retain, used=5, label=None, batchnorm="eval")
    assert result.noise.labels.tolist() == [2] * 5 + [1] * 5
    alone = learn_noise(convnet(), [1], retain.shape, seed=1)
    assert torch.equal(result.noise.images[5:], alone.images[:5])


def test_no_class_of_a_seed_starts_as_another_class_of_the_next(monkeypatch):
    seeds = []
    monkeypatch.setattr(unsir_module, "learn_noise", lambda *_, seed, **__: seeds.append(seed))
    for seed in (0, 1):
        noise_by_class(convnet(), [0, 1, 2], (3, 8, 8), learned=2, batchnorm="eval", seed=seed)
    assert len(set(seeds)) == 6


def test_released_takes_noise_that_was_learned_before_with_the_copy_it_left(as_released):
    model, retain, result = as_released
    noise, left = noise_by_class(model, [0, 2], retain.shape, learned=256, batchnorm="train", seed=6)
    assert same_weights(released(left, [0, 2], retain, noise=noise, per_class=10, seed=6).model, result.model)
    with pytest.raises(ValueError, match=r"a part for each of \[0, 2\], in this order"):
        released(left, [0, 2], retain, noise=noise[::-1], per_class=10)


def test_released_labels_the_noise_zero_even_where_class_zero_stays():
    result = released(convnet(), [2], retained(forget=[2]), per_class=5)
    assert (result.noise.labels == 0).all() and len(result.noise) == 3


def test_unlearned_models_come_without_gradients():
    retain = retained()
    for model in (repair(convnet(), retain).model, unsir(convnet(), [1], retain, **QUICK).model):
        assert all(p.grad is None for p in model.parameters())


@pytest.mark.parametrize("make, impair_lr", [(convnet, 0.1), (plain, 0.05), (mlp, 0.1)])
def test_unsir_erases_the_class_and_keeps_the_others(make, impair_lr):
    both = floats(SHAPES[make], 600, seed=2)
    train, test = both[:300], both[300:]
    model = fitted(make(), train)
    assert min(retain_forget_accuracy(model, test, [1])) > 90
    retain = train.without([1])
    unlearned = unsir(model, [1], retain, noise_per_class=16, impair_lr=impair_lr, batch_size=32).model
    a_dr, a_df = retain_forget_accuracy(unlearned, test, [1])
    assert a_df < 5 and a_dr > 85


def test_two_passes_are_impair_and_repair_with_whatever_images_are_given():
    model, retain = convnet(), retained()
    expected = repair(impair(model, retain, None, lr=0.03, seed=1).model, retain, lr=0.004, seed=1).model
    assert same_weights(two_passes(model, retain, None, impair_lr=0.03, repair_lr=0.004, seed=1).model, expected)
    noise = unlearned_noise([1], retain.shape, per_class=3)
    settings = dict(impair_lr=0.03, repair_lr=0.004, batch_size=8, seed=1)
    assert same_weights(
        two_passes(model, retain, noise, **settings).model, unsir(model, [1], retain, noise=noise, **settings).model
    )


def test_repair_shuffles_otherwise_than_impair(seen):
    two_passes(convnet(), retained(), None, batch_size=8)
    first, second = seen[: len(seen) // 2], seen[len(seen) // 2 :]
    assert [len(y) for _, y in first] == [len(y) for _, y in second]
    assert not any(torch.equal(x, other) for (x, _), (other, _) in zip(first, second, strict=True))


def test_batches_are_channels_last_with_noise_too(seen):
    two_passes(convnet(), retained(), unlearned_noise([1], (3, 8, 8), per_class=3), batch_size=8)
    assert all(x.is_contiguous(memory_format=torch.channels_last) for x, _ in seen)


def test_a_head_that_is_declared_first_learns_at_its_rate(float32):
    model, retain = HeadFirst(), floats((6,)).without([1])
    impaired = impair(model, retain, None, lr=1e-4, head_factor=100.0).model
    moved = {n: (p - model.get_parameter(n)).abs().max().item() for n, p in impaired.named_parameters()}
    assert moved["head.weight"] == pytest.approx(0.01, rel=1e-2) and moved["body.weight"] == pytest.approx(1e-4, rel=1e-2)
    assert moved["spare.weight"] == 0


def test_noise_of_another_type_is_converted():
    noise = unlearned_noise([1], (6,), per_class=3)
    given = Noise(noise.images.double(), noise.labels.int(), [], 0.0, 0)
    one, other = (unsir(mlp(), [1], retained(mlp), noise=n).model for n in (noise, given))
    assert same_weights(one, other)


def run_unsir(model: nn.Module, retain: Samples) -> nn.Module:
    return unsir(model, [1], retain, **QUICK, head_factor=2.0).model


def run_released(model: nn.Module, retain: Samples) -> nn.Module:
    return released(model, [1], retain, learned=3, batch_size=8).model


KERNELS = pytest.mark.parametrize("kernel", [run_unsir, run_released])


@KERNELS
@pytest.mark.parametrize("caller", [torch.no_grad, torch.inference_mode])
def test_unlearning_is_the_same_whatever_the_caller_does(kernel, caller):
    model, retain = convnet(), retained()
    expected = kernel(model, retain)
    with caller():
        found = kernel(model, retain)
    assert same_weights(found, expected) and not any(p.is_inference() for p in found.parameters())


@KERNELS
def test_unlearning_is_the_same_whatever_torchs_default_type(kernel):
    model, retain, expected = convnet(), retained(), kernel(convnet(), retained())
    try:
        torch.set_default_dtype(torch.float64)
        found = kernel(model, retain)
    finally:
        torch.set_default_dtype(torch.float32)
    assert same_weights(found, expected)


Auxiliary = namedtuple("Auxiliary", "logits aux")


@KERNELS
@pytest.mark.parametrize("make", [lambda z: Auxiliary(z, -z), lambda z: {"logits": z}], ids=["named tuple", "dict"])
def test_a_model_may_return_more_than_logits_in_train_mode(kernel, make):
    assert same_weights(kernel(Returns(make), retained(mlp)).net, kernel(mlp(), retained(mlp)))


@KERNELS
@pytest.mark.parametrize(
    "model, retain, message",
    [
        (Returns(lambda z: (z, z)), retained(mlp), "the model returns a tuple.*in train mode too"),
        (mlp().requires_grad_(False), retained(mlp), "requires a gradient"),
        (nn.Sequential(mlp(), nn.BatchNorm1d(K)), retained(mlp)[:1], "more than one image in a batch"),
        (mlp().double(), retained(mlp), "torch.float64: expected torch.float32"),
    ],
    ids=["tuple", "frozen", "one image", "double"],
)
@pytest.mark.filterwarnings("ignore:the retain data has no sample")
def test_what_would_not_train_is_refused_before_any_work(kernel, model, retain, message, monkeypatch):
    monkeypatch.setattr(F, "cross_entropy", lambda *_, **__: pytest.fail("work began"))
    with pytest.raises(ValueError, match=message):
        kernel(model, retain)


@KERNELS
def test_a_model_may_work_in_place_on_its_input(kernel, float32):
    one, other = (kernel(nn.Sequential(nn.ReLU(inplace), mlp()), retained(mlp)) for inplace in (True, False))
    assert same_weights(one, other)


@KERNELS
def test_batchnorm_may_be_without_running_statistics(kernel):
    model = nn.Sequential(nn.Linear(6, 5), nn.BatchNorm1d(5, track_running_stats=False), nn.Linear(5, K))
    assert not same_weights(kernel(model, retained(mlp)), model)


@pytest.mark.filterwarnings("ignore:the retain data has no sample")
def test_one_retain_image_is_enough_where_nothing_forbids_it():
    assert unsir(convnet(), [1], retained()[:1], **QUICK).samples["repair"] == 1


@KERNELS
def test_classes_that_the_retain_data_lacks_are_named(kernel):
    with pytest.warns(UserWarning, match=r"no sample of the classes \[2\]"):
        kernel(mlp(), retained(mlp).without([2]))


def test_a_later_request_says_what_was_forgotten_before(recwarn):
    unsir(mlp(), [1], retained(mlp).without([2]), forgotten=[2], **QUICK)
    assert not recwarn
    with pytest.raises(ValueError, match=r"forget classes \[2\]"):
        unsir(mlp(), [1], retained(mlp), forgotten=[2], **QUICK)


NO_HEAD = nn.Sequential(convnet(K - 1), nn.ZeroPad1d((0, 1)))


def bad_noise(images: torch.Tensor, labels: list[int]) -> Noise:
    return Noise(images, torch.tensor(labels), [], 0.0, 0)


BAD_NOISE = [
    (bad_noise(torch.zeros(2, 3, 4, 4), [1, 1]), r"noise has images \[3, 4, 4\], the retain data \[3, 8, 8\]"),
    (bad_noise(torch.full((2, 3, 8, 8), torch.nan), [1, 1]), "the noise has nan"),
    (bad_noise(torch.zeros(2, 3, 8, 8, dtype=torch.uint8), [1, 1]), "the noise is torch.uint8"),
    (bad_noise(torch.zeros(2, 3, 8, 8), [1]), r"noise has 2 images and labels \[1\]"),
    (bad_noise(torch.zeros(0, 3, 8, 8), []), "noise has 0 images"),
    (bad_noise(torch.zeros(2, 3, 8, 8), [1, K]), "noise label tensor.*4.* is out of range"),
    (bad_noise(torch.zeros(2, 3, 8, 8), [1, 2]), r"noise is for classes \[1, 2\]"),
]


def nan(samples: Samples) -> Samples:
    images = samples.images.clone()
    images[0, 0, 0, 0] = float("nan")
    return Samples(images, samples.labels, K)


@pytest.mark.parametrize(
    "bad, message",
    [
        (dict(forget=[1, 1]), "twice"),
        (dict(forget=[2]), r"retain data contains forget classes \[2\]"),
        (dict(retain=retained()[:0]), "retain data is empty"),
        (dict(retain=nan(retained())), "nan or infinite"),
        (dict(retain=Samples(torch.zeros(4, 1, 8, 8), torch.zeros(4).long(), K)), r"shape \[1, 8, 8\]"),
        (dict(model=convnet(K + 1)), "5 logits but the retain data has 4 classes"),
        *((dict([(name, 0)]), f"{name} is 0") for name in ["copies", "impair_lr", "impair_epochs", "repair_epochs"]),
        *((dict([(name, -1)]), f"{name} is -1") for name in ["batch_size", "repair_lr", "copies"]),
        (dict(noise_per_class=0), "per_class is 0"),
        (dict(noise_steps=0), "steps is 0"),
        (dict(copies=2.5), "copies is 2.5"),
        (dict(penalty=float("nan")), "penalty is nan"),
        (dict(noise_lr=-0.1), "lr is -0.1"),
        (dict(penalty=-1), "penalty is -1"),
        (dict(noise_total=0), "total is 0"),
        (dict(batchnorm="none"), "batchnorm is 'none'"),
        (dict(head_factor=-1.0), "head_factor is -1"),
        (dict(model=NO_HEAD, head_factor=2.0), "no single Linear or convolution"),
        *((dict(noise=noise), message) for noise, message in BAD_NOISE),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, dict) else "",
)
def test_bad_input_is_named_before_any_work(monkeypatch, bad, message):
    monkeypatch.setattr(F, "cross_entropy", lambda *_, **__: pytest.fail("work began"))
    with pytest.raises(ValueError, match=message):
        unsir(**dict(model=convnet(), forget=[1], retain=retained()) | bad)


@pytest.mark.parametrize(
    "bad, message",
    [
        (dict(images=BAD_NOISE[0][0]), "noise has images"),
        (dict(retain=nan(retained())), "nan or infinite"),
        *((dict([(name, 0)]), f"{name.removeprefix('impair_')} is 0") for name in ("impair_lr", "impair_epochs", "copies")),
        *((dict([(name, -1)]), f"{name} is -1") for name in ("repair_lr", "repair_epochs", "batch_size", "head_factor")),
        (dict(model=NO_HEAD, head_factor=2.0), "no single Linear or convolution"),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, dict) else "",
)
def test_two_passes_names_bad_input_before_any_work(monkeypatch, bad, message):
    monkeypatch.setattr(impair_module, "one_epoch", lambda *_, **__: pytest.fail("work began"))
    with pytest.raises(ValueError, match=message):
        two_passes(**dict(model=convnet(), retain=retained(), images=None) | bad)


@pytest.mark.parametrize(
    "bad, message",
    [
        *(
            (dict([(name, 0)]), f"{name} is 0")
            for name in ("per_class", "used", "learned", "copies", "batch_size", "impair_lr")
        ),
        *((dict([(name, -1)]), f"{name} is -1") for name in ("impair_epochs", "repair_lr", "repair_epochs", "head_factor")),
        (dict(batchnorm="off"), "batchnorm is 'off'"),
        (dict(label=K), f"label {K} is out of range"),
        (dict(repair_rl=0.1), r"unknown settings \['repair_rl'\]"),
        (dict(model=NO_HEAD, head_factor=2.0), "no single Linear or convolution"),
        (dict(retain=retained(), forget=[2]), r"contains forget classes \[2\]"),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, dict) else "",
)
def test_released_names_bad_input_before_its_noise_is_learned(monkeypatch, bad, message):
    monkeypatch.setattr(F, "cross_entropy", lambda *_, **__: pytest.fail("work began"))
    with pytest.raises((ValueError, TypeError), match=message):
        released(**dict(model=convnet(), forget=[1], retain=retained()) | bad)


class Keeping(nn.Module):
    """It keeps its features, which cannot be copied while they belong to a graph."""

    def __init__(self) -> None:
        super().__init__()
        self.net, self.last = mlp(8), nn.Linear(8, K)

    def forward(self, x):
        self.features = self.net(x)
        return self.last(self.features)


@pytest.mark.parametrize(
    "run",
    [
        lambda model, retain: unsir(model, [1], retain, **QUICK, head_factor=2.0),
        lambda model, retain: released(model, [1], retain, learned=3, copies=2, batch_size=8, head_factor=2.0),
    ],
    ids=["unsir", "released"],
)
def test_a_model_that_keeps_its_features_can_be_copied_afterwards(run):
    model, retain = Keeping(), floats((6,), 21).without([1])
    run(model, retain)
    copy.deepcopy(model)
