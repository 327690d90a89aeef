import json
from dataclasses import asdict

import pytest
import tiny
import torch
from torch.nn import functional as F

from unsir_utils import settings
from unsir_utils.data.paths import REPOSITORY
from unsir_utils.unsir import best, fast, unsir

BOTH = pytest.mark.parametrize("preset, chosen", [(fast, settings.FAST), (best, settings.BEST)], ids=["fast", "best"])
EITHER = pytest.mark.parametrize("preset", [fast, best], ids=["fast", "best"])
SMALL = {"noise_per_class": 2, "noise_steps": 2, "copies": 2, "batch_size": 8}


@pytest.fixture
def retain():
    return tiny.floats((3, 8, 8), n=80).without([1])


def assert_same(one, other):
    assert one.samples == other.samples
    for a, b in zip(one.model.state_dict().values(), other.model.state_dict().values(), strict=True):
        assert torch.equal(a, b)


@BOTH
def test_a_preset_is_unsir_with_its_settings(preset, chosen, retain):
    own = asdict(chosen)
    subset = retain.draw(own.pop("retain_per_class"), seed=0)
    model = tiny.convnet()
    assert_same(preset(model, [1], retain), unsir(model, [1], subset, **own, seed=0))


@EITHER
def test_any_setting_may_be_overridden(preset, retain):
    model, own = tiny.convnet(), {**SMALL, "impair_lr": 0.05, "repair_lr": 0.002, "head_factor": 3.0}
    found = preset(model, [1], retain, retain_per_class=3, seed=5, **own)
    assert_same(found, unsir(model, [1], retain.draw(3, seed=5), seed=5, **own))
    assert found.samples == {"noise": 4, "impair": 3 * 3 + 4, "repair": 3 * 3}


@BOTH
def test_a_single_override_leaves_the_rest_as_it_is(preset, chosen, retain):
    found = preset(tiny.convnet(), [1], retain, noise_per_class=3)
    assert found.samples["noise"] == 3 * chosen.noise_steps


@EITHER
def test_an_unknown_setting_is_refused(preset, retain):
    with pytest.raises(TypeError, match="nois_steps"):
        preset(tiny.convnet(), [1], retain, nois_steps=3)


@EITHER
@pytest.mark.parametrize("setting, value", [("retain_per_class", -1), ("repair_lr", 0.0), ("noise_steps", 0), ("copies", 0)])
def test_bad_settings_are_named_before_any_work(preset, setting, value, retain, monkeypatch):
    monkeypatch.setattr(F, "cross_entropy", lambda *_, **__: pytest.fail("work began"))
    with pytest.raises(ValueError, match=f"{value}: expected"):
        preset(tiny.convnet(), [1], retain, **{setting: value})


@BOTH
def test_the_settings_are_what_the_notebook_chose(preset, chosen):
    numbers = REPOSITORY / "results" / "laptop" / "numbers" / "15_how_little.json"
    searched = json.loads(numbers.read_text())[preset.__name__]
    rest = {name: value for name, value in asdict(settings.PAPER).items() if name not in searched}
    assert asdict(chosen) == searched | rest, f"{numbers} holds another choice: copy it into settings.py"
