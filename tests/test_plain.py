"""The plain implementations do what the kernels do, so that a race between them is fair."""

import pytest
import tiny
import torch

from unsir_utils import metrics
from unsir_utils.engine import training
from unsir_utils.noise import learn_noise
from unsir_utils.unsir import unsir
from unsir_utils.workshop import plain

SHAPE = (3, 8, 8)
pytestmark = pytest.mark.usefixtures("float32")


def close(one: torch.nn.Module, other: torch.nn.Module, atol: float = 1e-5) -> bool:
    there = other.state_dict()
    return all(torch.allclose(v.float(), there[k].float(), atol=atol) for k, v in one.state_dict().items())


def test_a_list_holds_the_normalised_images_and_their_labels():
    samples = tiny.pixels(5)
    images, labels = zip(*plain.as_list(samples), strict=True)
    assert torch.equal(torch.stack(images), samples.inputs()) and list(labels) == samples.labels.tolist()


def test_a_network_is_a_copy_in_pytorchs_own_layout():
    model = tiny.convnet().to(memory_format=torch.channels_last)
    copied = plain.network(model)
    assert copied is not model and tiny.same_weights(copied, model)
    assert copied[0].weight.is_contiguous() and not model[0].weight.is_contiguous()


def test_noise_is_that_of_the_kernel():
    model = tiny.convnet().eval()
    torch.manual_seed(3)
    images = plain.learn_noise(model, 2, 5, 4, SHAPE)
    assert torch.allclose(images, learn_noise(model, [2], SHAPE, per_class=5, steps=4, seed=3).images, atol=1e-5)


@pytest.mark.parametrize("clip", [None, 0.01])
def test_an_epoch_of_one_batch_is_that_of_the_kernel(clip):
    samples, (one, other) = tiny.floats(SHAPE), (tiny.convnet(), tiny.convnet())
    rates = [torch.optim.SGD(model.parameters(), lr=0.1) for model in (one, other)]
    plain.one_epoch(one.train(), plain.as_list(samples), rates[0], len(samples), clip=clip)
    training.one_epoch(other, samples.batches(len(samples)), rates[1], clip_value=clip)
    assert close(one, other) and not close(one, tiny.convnet(), atol=1e-3)


def test_an_epoch_sees_every_image_once_in_random_order():
    seen = []

    class Watch(torch.nn.Linear):
        def forward(self, x):
            seen.append(x)
            return super().forward(x)

    samples, model = tiny.floats((6,), 7), Watch(6, tiny.K)
    torch.manual_seed(0)
    plain.one_epoch(model, plain.as_list(samples), torch.optim.SGD(model.parameters(), lr=0.0), 3)
    assert [len(x) for x in seen] == [3, 3, 1] and not torch.equal(torch.cat(seen), samples.images)
    assert torch.equal(torch.cat(seen).sort(dim=0).values, samples.images.sort(dim=0).values)


def test_unsir_in_one_batch_a_pass_is_that_of_the_kernel():
    model, retain = tiny.fitted(tiny.convnet(), tiny.floats(SHAPE)).train(), tiny.floats(SHAPE).without([2])
    settings = dict(noise_per_class=3, noise_steps=4, copies=2, batch_size=64, impair_lr=1e-3, repair_lr=1e-3)
    with tiny.untouched(model), torch.random.fork_rng():
        made = plain.unsir(model, [2], plain.as_list(retain), 3, **settings)
    assert close(made, unsir(model, [2], retain, seed=3, **settings).model, atol=1e-4)
    assert not close(made, model, atol=5e-4) and not made.training


def test_unsir_learns_each_classs_noise_and_repeats_it(monkeypatch):
    passes = []
    monkeypatch.setattr(
        plain, "one_epoch", lambda model, samples, optimiser, batch_size: passes.append((samples, optimiser))
    )
    retain = plain.as_list(tiny.floats(SHAPE).without([0, 3]))
    settings = dict(noise_per_class=2, noise_steps=1, copies=3, batch_size=8, impair_lr=0.2, repair_lr=0.1)
    plain.unsir(tiny.convnet(), [3, 0], retain, 0, **settings)
    (impaired, at), (repaired, then) = passes
    assert [label for _, label in impaired[: -len(retain)]] == [3, 3, 0, 0] * 3 and repaired is retain
    assert [optimiser.param_groups[0]["lr"] for optimiser in (at, then)] == [0.2, 0.1]


@pytest.mark.parametrize("batch_size", [4, 250])
def test_evaluation_is_that_of_the_kernel_whatever_the_batches(batch_size):
    samples, model = tiny.floats(SHAPE), tiny.convnet().eval()
    assert plain.evaluate(model, plain.as_list(samples), batch_size) == pytest.approx(metrics.evaluate(model, samples))


@pytest.mark.parametrize("start, cap, lr, epochs", [("original", 3, 0.1, 0), ("new", 2, 1e-6, None)])
def test_relearning_takes_as_many_epochs_as_the_kernels(start, cap, lr, epochs, monkeypatch):
    samples, steps = tiny.floats(SHAPE), []

    class Counted(torch.optim.SGD):
        def step(self):
            steps.append(super().step())

    monkeypatch.setattr(plain, "SGD", Counted)
    new, watched = tiny.plain(seed=1).eval(), samples.only([0])
    original = tiny.fitted(tiny.plain(), samples).eval()
    model, asked = {"original": original, "new": new}[start], dict(per_epoch=16, cap=cap, lr=lr)
    with tiny.untouched(model), torch.random.fork_rng():
        found = plain.relearn_epochs(model, original, plain.as_list(samples), plain.as_list(watched), **asked)
    assert len(steps) == (0 if epochs == 0 else cap)  # one batch an epoch, none after the last look
    assert found == metrics.relearn_epochs(model, original, samples, watched, **asked) == epochs


def test_relearning_stops_at_the_first_epoch_that_suffices():
    samples = tiny.floats(SHAPE)
    halfway = tiny.fitted(tiny.plain(), samples, steps=3).eval()
    lists = plain.as_list(samples), plain.as_list(samples.only([0]))
    asked = dict(per_epoch=64, lr=0.05)
    torch.manual_seed(0)
    epochs = plain.relearn_epochs(tiny.plain().eval(), halfway, *lists, cap=50, **asked)
    assert 0 < epochs < 50
    torch.manual_seed(0)
    assert plain.relearn_epochs(tiny.plain().eval(), halfway, *lists, cap=epochs - 1, **asked) is None
