import copy

import pytest
import torch
from tiny import SHAPES, K, Returns, convnet, half_frozen, mlp, plain, same_weights, sequence_net, untouched
from torch import nn
from torch.nn import functional as F

from unsir_utils import noise
from unsir_utils.noise import Noise, blank_images, learn_noise, unlearned_noise

EVERY_MODEL = pytest.mark.parametrize("make", SHAPES, ids=lambda make: make.__name__)
QUICK = dict(per_class=3, steps=2)


def objective(model, images, labels, penalty):
    """Each class's own means, summed: what every step of the noise's Adam lowers."""
    total = 0.0
    for c in labels.unique():
        mine = images[labels == c]
        size = sum((image**2).sum() for image in mine) / len(mine)
        total += penalty * size - F.cross_entropy(model(mine), labels[labels == c])
    return total


def plain_loop(model, labels, shape, steps, lr, penalty, seed):
    torch.manual_seed(seed)
    images, m, v, losses = torch.randn(len(labels), *shape), 0.0, 0.0, []
    for step in range(1, steps + 1):
        images.requires_grad_()
        loss = objective(model, images, labels, penalty)
        (g,) = torch.autograd.grad(loss, images)
        m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g**2
        images = images.detach() - lr * (m / (1 - 0.9**step)) / ((v / (1 - 0.999**step)).sqrt() + 1e-8)
        losses.append(loss.item())
    return images, losses


@EVERY_MODEL
@pytest.mark.parametrize("penalty", [0.0, 0.1])
def test_noise_equals_a_plain_loop(float32, make, penalty):
    settings = dict(steps=5, lr=0.1, penalty=penalty, seed=7)
    learned = learn_noise(make(), [3, 1], SHAPES[make], per_class=4, **settings)
    images, losses = plain_loop(make().eval(), torch.tensor([3] * 4 + [1] * 4), SHAPES[make], **settings)
    torch.testing.assert_close(learned.images, images, atol=2e-4, rtol=1e-4)
    assert learned.losses == pytest.approx(losses, rel=1e-4, abs=1e-4)


def test_batchnorm_train_learns_against_the_batchs_own_statistics(float32):
    learned = learn_noise(convnet(), [1], (3, 8, 8), per_class=6, steps=4, batchnorm="train")
    images, _ = plain_loop(convnet().train(), torch.ones(6).long(), (3, 8, 8), 4, 0.1, 0.1, 0)
    torch.testing.assert_close(learned.images, images, atol=2e-4, rtol=1e-4)


def test_the_loss_falls():
    losses = learn_noise(convnet(), [0, 2], (3, 8, 8), per_class=8).losses
    assert losses[-1] < 0.1 * losses[0]


def test_unpenalised_noise_raises_the_models_error():
    model = convnet().eval()
    start = unlearned_noise([0, 2], (3, 8, 8), per_class=8)
    learned = learn_noise(model, [0, 2], (3, 8, 8), per_class=8, penalty=0.0)
    before, after = (F.cross_entropy(model(n.images), n.labels).item() for n in (start, learned))
    assert after > before + 1


def test_the_control_is_the_noise_before_its_first_step():
    hardly = learn_noise(convnet(), [0, 2], (3, 8, 8), per_class=4, lr=1e-12, seed=5)
    control = unlearned_noise([0, 2], (3, 8, 8), per_class=4, seed=5)
    torch.testing.assert_close(control.images, hardly.images, atol=1e-6, rtol=0)
    assert torch.equal(control.labels, hardly.labels) and control.samples == 0


@pytest.mark.parametrize("control", [unlearned_noise, blank_images])
@pytest.mark.parametrize(
    "bad",
    [dict(forget=[]), dict(forget=3), dict(forget="cat"), dict(forget=[-1]), dict(per_class=0), dict(per_class=2.5)],
    ids=str,
)
def test_the_control_names_bad_settings(control, bad):
    with pytest.raises(ValueError, match=next(iter(bad))):
        control(**dict(forget=[1], shape=(3, 8, 8)) | bad)


@pytest.mark.parametrize("caller", [torch.no_grad, torch.inference_mode])
def test_noise_is_learned_whatever_the_caller_does(caller):
    with caller():
        learned = learn_noise(convnet(), [1], (3, 8, 8), **QUICK)
    assert torch.equal(learned.images, learn_noise(convnet(), [1], (3, 8, 8), **QUICK).images)


def test_a_model_may_work_in_place_on_the_noise(float32):
    """A ReLU before a ReLU changes nothing."""
    in_place, expected = (nn.Sequential(nn.ReLU(inplace), mlp()) for inplace in (True, False))
    one, other = (learn_noise(model, [1], (6,), per_class=3, steps=3).images for model in (in_place, expected))
    assert torch.equal(one, other) and (one < 0).any()


def test_noise_comes_as_float32_whatever_torchs_default():
    makers = [lambda: learn_noise(convnet(), [1], (3, 8, 8), **QUICK)]
    makers += [lambda control=control: control([1], (3, 8, 8), per_class=3) for control in (unlearned_noise, blank_images)]
    expected, model = [make().images for make in makers], convnet()
    makers[0] = lambda: learn_noise(model, [1], (3, 8, 8), **QUICK)
    try:
        torch.set_default_dtype(torch.float64)
        found = [make().images for make in makers]
    finally:
        torch.set_default_dtype(torch.float32)
    assert all(torch.equal(one, other) and one.dtype == torch.float32 for one, other in zip(found, expected, strict=True))


def test_a_model_that_returns_no_logits_in_train_mode_is_refused_before_its_noise_is_learned(monkeypatch):
    monkeypatch.setattr(F, "cross_entropy", lambda *_, **__: pytest.fail("work began"))
    with pytest.raises(ValueError, match="the model returns a tuple"):
        learn_noise(Returns(lambda z: (z, z)), [1], (6,), batchnorm="train")


def test_classes_learned_together_equal_each_learned_alone(float32, monkeypatch):
    start = torch.randn(10, 3, 8, 8)

    def learned(forget, first):
        with monkeypatch.context() as patch:
            patch.setattr(torch, "randn", lambda n, *shape, **_: start[first : first + n].clone())
            return learn_noise(convnet(), forget, (3, 8, 8), per_class=5, steps=6).images

    alone = torch.cat([learned([2], 0), learned([0], 5)])
    torch.testing.assert_close(learned([2, 0], 0), alone, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("size", [1, 3, 4])
def test_chunks_bound_memory_not_the_result(float32, monkeypatch, size):
    whole, parts = (
        monkeypatch.setattr(noise, "CHUNK", chunk) or learn_noise(convnet(), [1, 2], (3, 8, 8), per_class=4, steps=5)
        for chunk in (512, size)
    )
    torch.testing.assert_close(parts.images, whole.images, atol=1e-4, rtol=1e-4)
    assert parts.losses == pytest.approx(whole.losses, rel=1e-4)


@pytest.mark.parametrize(
    "forget, counts, labels",
    [
        ([2], dict(per_class=3), [2, 2, 2]),
        ([3, 0], dict(per_class=2), [3, 3, 0, 0]),
        ([2, 0, 1], dict(per_class=9, total=7), [2, 2, 2, 0, 0, 1, 1]),
        ([0, 3], dict(total=2), [0, 3]),
    ],
)
def test_images_are_counted_per_class_or_in_all(forget, counts, labels):
    learned = learn_noise(convnet(), forget, (3, 8, 8), steps=2, **counts)
    assert learned.labels.tolist() == labels
    assert learned.images.shape == (len(labels), 3, 8, 8) and learned.images.dtype == torch.float32
    assert (len(learned), learned.samples, len(learned.losses)) == (len(labels), 2 * len(labels), 2)
    assert not learned.images.requires_grad


@EVERY_MODEL
@pytest.mark.parametrize("settings", [{}, dict(in_place=True), dict(batchnorm="train")], ids=str)
def test_the_callers_model_stays_as_it_was(make, settings):
    model = make()
    with untouched(model):
        learn_noise(model, [1], SHAPES[make], **QUICK, **settings)


def test_in_place_train_mode_overwrites_the_running_statistics_alone():
    model, before = half_frozen(), half_frozen()
    learn_noise(model, [1], (3, 8, 8), **QUICK, batchnorm="train", in_place=True)
    changed = {name for name, value in model.state_dict().items() if not torch.equal(value, before.state_dict()[name])}
    assert changed == {"1.running_mean", "1.running_var", "1.num_batches_tracked"}
    assert model[1].num_batches_tracked == QUICK["steps"]
    assert [m.training for m in model.modules()] == [m.training for m in before.modules()]
    assert [p.requires_grad for p in model.parameters()] == [p.requires_grad for p in before.parameters()]


def test_a_failing_model_gets_its_modes_and_gradients_back(monkeypatch):
    model = half_frozen()
    monkeypatch.setattr(F, "cross_entropy", lambda *_, **__: 1 / 0)
    with untouched(model), pytest.raises(ZeroDivisionError):
        learn_noise(model, [1], (3, 8, 8), **QUICK, in_place=True)


@pytest.mark.parametrize("make", [convnet, plain, mlp, sequence_net])
def test_a_seed_gives_the_same_bytes_whatever_the_random_state(make):
    def learned(seed):
        torch.manual_seed(torch.seed())
        return learn_noise(make(), [0, 1], SHAPES[make], **QUICK, seed=seed).images

    assert torch.equal(learned(1), learned(1))
    assert not torch.allclose(learned(1), learned(2), atol=0.1)


def test_weight_penalty_keeps_the_noise_small():
    weak, strong = (learn_noise(mlp(), [1], (6,), penalty=penalty).images.square().mean() for penalty in (0.0, 10.0))
    assert strong < 0.1 < weak


def test_labelled_keeps_the_rest():
    learned = Noise(torch.arange(6.0).view(3, 2), torch.tensor([2, 2, 3]), [1.0], 0.5, 3)
    other = learned.labelled(0)
    assert other.labels.tolist() == [0, 0, 0] and other.images is learned.images and other.samples == 3
    assert learned.labels.tolist() == [2, 2, 3]


@pytest.mark.parametrize(
    "bad, message",
    [
        (dict(per_class=0), "per_class is 0"),
        (dict(total=0), "total is 0"),
        (dict(total=1), "total is 1 for 2 forget classes"),
        (dict(steps=-1), "steps is -1"),
        (dict(lr=0.0), "lr is 0.0"),
        (dict(per_class=2.5), "per_class is 2.5"),
        (dict(lr=float("inf")), "lr is inf"),
        (dict(penalty=-0.1), "penalty is -0.1"),
        (dict(penalty=float("nan")), "penalty is nan"),
        (dict(penalty=float("inf")), "penalty is inf"),
        (dict(batchnorm="off"), "batchnorm is 'off'"),
        (dict(forget=[K]), f"forget class {K}"),
        (dict(forget=[]), "no forget class"),
        (dict(forget=[1.0]), "forget class 1.0"),
        (dict(forget=3), "forget class is given as 3"),
        (dict(shape=(1, 8, 8)), r"does not take images of shape \[1, 8, 8\]"),
    ],
    ids=str,
)
def test_bad_settings_are_named_before_any_work(monkeypatch, bad, message):
    monkeypatch.setattr(F, "cross_entropy", lambda *_, **__: pytest.fail("work began"))
    with pytest.raises(ValueError, match=message):
        learn_noise(convnet(), **dict(forget=[0, 1], shape=(3, 8, 8)) | bad)


def test_a_stale_gradient_of_the_model_changes_nothing():
    model = convnet()
    stale = copy.deepcopy(model)
    for p in stale.parameters():
        p.grad = torch.full_like(p, 1e3)
    one, other = (learn_noise(m, [1], (3, 8, 8), **QUICK) for m in (model, stale))
    assert torch.equal(one.images, other.images) and same_weights(model, stale)
