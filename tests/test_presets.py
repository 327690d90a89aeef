import json

import pytest
import tiny
import torch
import yaml
from torch.nn import functional as F

from unsir_utils import presets
from unsir_utils.paths import REPOSITORY
from unsir_utils.unsir import unsir

BOTH = pytest.mark.parametrize("name", ["fast", "best"])
SMALL = {"noise_per_class": 2, "noise_steps": 2, "copies": 2, "batch_size": 8}


@pytest.fixture
def retain():
    return tiny.floats((3, 8, 8), n=80).without([1])


def assert_same(one, other):
    assert one.samples == other.samples
    for a, b in zip(one.model.state_dict().values(), other.model.state_dict().values(), strict=True):
        assert torch.equal(a, b)


@BOTH
def test_a_preset_is_unsir_with_its_settings(name, retain):
    settings = yaml.safe_load(presets.PRESETS.read_text())[name]["settings"]
    subset = retain.draw(settings.pop("retain_per_class"), seed=0)
    model = tiny.convnet()
    assert_same(getattr(presets, name)(model, [1], retain), unsir(model, [1], subset, **settings, seed=0))


@BOTH
def test_any_setting_may_be_overridden(name, retain):
    model, own = tiny.convnet(), {**SMALL, "impair_lr": 0.05, "repair_lr": 0.002, "head_factor": 3.0}
    found = getattr(presets, name)(model, [1], retain, retain_per_class=3, seed=5, **own)
    assert_same(found, unsir(model, [1], retain.draw(3, seed=5), seed=5, **own))
    assert found.samples == {"noise": 4, "impair": 3 * 3 + 4, "repair": 3 * 3}


@BOTH
def test_a_single_override_leaves_the_rest_as_it_is(name, retain):
    settings = presets.preset(name)
    found = getattr(presets, name)(tiny.convnet(), [1], retain, noise_per_class=3)
    assert found.samples["noise"] == 3 * settings["noise_steps"]
    assert presets.preset(name) == settings


@BOTH
def test_an_unknown_setting_is_refused(name, retain):
    with pytest.raises(TypeError, match="nois_steps"):
        getattr(presets, name)(tiny.convnet(), [1], retain, nois_steps=3)


@BOTH
@pytest.mark.parametrize("setting, value", [("retain_per_class", -1), ("repair_lr", 0.0), ("noise_steps", 0), ("copies", 0)])
def test_bad_settings_are_named_before_any_work(name, setting, value, retain, monkeypatch):
    monkeypatch.setattr(F, "cross_entropy", lambda *_, **__: pytest.fail("work began"))
    with pytest.raises(ValueError, match=f"{value}: expected"):
        getattr(presets, name)(tiny.convnet(), [1], retain, **{setting: value})


def test_an_unknown_preset_is_named():
    with pytest.raises(ValueError, match="unknown preset 'quick': choose one of fast, best"):
        presets.preset("quick")


@BOTH
def test_the_file_holds_what_the_notebook_chose(name):
    entry = yaml.safe_load(presets.PRESETS.read_text())[name]
    numbers = REPOSITORY / "results" / entry["profile"] / "numbers" / f"{entry['notebook']}.json"
    if not numbers.exists():
        pytest.skip(f"profile {entry['profile']} was not run here")
    chosen = json.loads(numbers.read_text())[name]
    assert entry["settings"] == chosen, f"{numbers} holds another choice: copy it into {presets.PRESETS}"
