import copy
import inspect
from dataclasses import replace

import pytest
import torch
from test_study import tiny  # noqa: F401
from tiny import convnet

from unsir_utils.noise import learn_noise
from unsir_utils.unsir import unsir
from unsir_utils.workshop import noise_store, study
from unsir_utils.workshop.noise_store import noise_against
from unsir_utils.workshop.store import Recipe, Trained

pytestmark = pytest.mark.usefixtures("empty_store")

SHAPE, SMALL = (3, 8, 8), {"per_class": 2, "steps": 2}


@pytest.fixture(autouse=True)
def empty_place(monkeypatch, tmp_path):
    monkeypatch.setenv("UNSIR_RESULTS", str(tmp_path))
    return tmp_path / "checkpoints" / "noise"


@pytest.fixture
def network():
    return Trained(convnet().eval(), [], 1.0, Recipe("AllCNN-0.125", 1), "a network", sha256="its checksum")


def learning(*given, **options):
    """Counts how often it is asked."""
    learning.asked += 1
    return learn_noise(*given, **options)


@pytest.fixture
def learn(monkeypatch):
    learning.asked = 0
    monkeypatch.setattr(noise_store, "_code", lambda _: "its code")
    learning.__signature__ = inspect.signature(learn_noise)
    return learning


def assert_same(one, other):
    assert torch.equal(one.images, other.images) and torch.equal(one.labels, other.labels)
    assert (one.losses, one.seconds, one.samples) == (other.losses, other.seconds, other.samples)


def test_it_is_learned_once_and_comes_back_whole(network, learn):
    first = noise_against(learn, network, (1, 2), SHAPE, **SMALL)
    assert_same(first, noise_against(learn, network, (1, 2), SHAPE, **SMALL))
    assert learn.asked == 1
    assert torch.equal(first.images, learn_noise(network.model, (1, 2), SHAPE, **SMALL).images)


def test_a_default_is_the_same_request_named_or_not(network, learn):
    for options in (SMALL, {**SMALL, "seed": 0, "penalty": 0.1}):
        noise_against(learn, network, (1,), SHAPE, **options)
    assert learn.asked == 1


@pytest.mark.parametrize("change", [{"forget": (2,)}, {"seed": 1}, {"steps": 3}, {"penalty": 0.0}, {"sha256": "another"}])
def test_what_decides_the_noise_names_it(network, learn, change):
    noise_against(learn, network, (1,), SHAPE, **SMALL)
    other = replace(network, sha256=change.pop("sha256", network.sha256))
    noise_against(learn, other, change.pop("forget", (1,)), SHAPE, **{**SMALL, **change})
    assert learn.asked == 2


def test_another_machine_learns_its_own(network, learn, monkeypatch):
    noise_against(learn, network, (1,), SHAPE, **SMALL)
    monkeypatch.setattr(noise_store, "machine", lambda: "another")
    noise_against(learn, network, (1,), SHAPE, **SMALL)
    assert learn.asked == 2


def test_a_file_that_no_one_can_read_is_learned_again(network, learn, empty_place):
    first = noise_against(learn, network, (1,), SHAPE, **SMALL)
    (file,) = empty_place.glob("*.safetensors")
    file.write_bytes(file.read_bytes()[:50])
    assert torch.equal(first.images, noise_against(learn, network, (1,), SHAPE, **SMALL).images)
    assert learn.asked == 2


@pytest.mark.parametrize("batchnorm", ["eval", "train"])
def test_a_method_gets_the_noise_that_unsir_would_learn(tiny, batchnorm, empty_place):  # noqa: F811
    options = {"noise_per_class": 2, "noise_steps": 2, "batchnorm": batchnorm}
    before = copy.deepcopy(tiny.original.state_dict())
    study._learned.cache_clear()
    found, _ = study.apply("UNSIR", tiny, **options)
    expected = unsir(tiny.original, tiny.forget, tiny.retain_subset, seed=tiny.seed, **options).model
    assert all(torch.equal(a, b) for a, b in zip(found.state_dict().values(), expected.state_dict().values(), strict=True))
    assert all(torch.equal(before[name], value) for name, value in tiny.original.state_dict().items())
    assert len([*empty_place.glob("*.safetensors")]) == (batchnorm == "eval")


def test_a_notebook_gets_the_same_noise_from_the_kernel_and_from_the_study(tiny):  # noqa: F811
    found = study.learned_noise(tiny, noise_per_class=2, noise_steps=2, penalty=0.3)
    expected = learn_noise(
        tiny.original, tiny.forget, tiny.loaded.train.shape, per_class=2, steps=2, penalty=0.3, seed=tiny.seed
    )
    assert torch.equal(found.images, expected.images)
    with pytest.raises(ValueError, match="unknown options of the noise: per_class; choose among"):
        study.learned_noise(tiny, per_class=2)


def test_a_second_notebook_takes_what_the_first_has_learned(tiny, monkeypatch):  # noqa: F811
    options = {"noise_per_class": 2, "noise_steps": 2}
    first, _ = study.apply("UNSIR", tiny, **options)
    study._learned.cache_clear()
    monkeypatch.setattr("unsir_utils.noise.accumulate_gradient", lambda *_: pytest.fail("learned again"))
    again, _ = study.apply("UNSIR", tiny, **options, impair_lr=0.02)
    assert all(torch.equal(a, b) for a, b in zip(first.state_dict().values(), again.state_dict().values(), strict=True))
