"""The audit as a whole, on tiny networks: a changed head alone fails it, a network that never saw the class passes."""

import copy
import math
import statistics

import pytest
import tiny
import torch
from scipy.stats import t
from torch import nn

from unsir_utils.audit.what_is_left import TESTS, Look, Yardstick, audit, placed
from unsir_utils.engine.samples import Samples
from unsir_utils.engine.state import seeded
from unsir_utils.methods.baselines import MaskedLogits

OF_FEATURES = [name for name, test in TESTS.items() if test.of == "features"]


def alike(n: int, seed: int) -> Samples:
    """Four classes of vectors [n, 6]. The class 0 is the class 1 with something in a place where the others have noise."""
    with seeded(seed):
        labels = torch.arange(n) % 4
        x = torch.randn(n, 6)
    x[torch.arange(n), labels.clamp(min=1)] += 5
    x[labels == 0, 0] += 5
    return Samples(x, labels, 4)


def trained(samples: Samples, seed: int, steps: int = 60) -> nn.Module:
    """Weight decay takes out of the features what no class needs."""
    with seeded(seed):
        model = nn.Sequential(nn.Linear(6, 12), nn.ReLU(), nn.Linear(12, 8), nn.ReLU(), nn.Linear(8, 4))
    optimiser = torch.optim.AdamW(model.parameters(), lr=0.05, weight_decay=1.0)
    for _ in range(steps):
        optimiser.zero_grad()
        nn.functional.cross_entropy(model(samples.inputs()), samples.labels).backward()
        optimiser.step()
    return model.eval()


TRAIN, TEST = alike(400, 0), alike(800, 1)


@pytest.fixture(scope="module")
def networks() -> dict:
    return {
        "original": trained(TRAIN, 0),
        "retrained": [trained(TRAIN.without([0]), seed) for seed in (1, 2, 3, 4)],
        "another": trained(TRAIN.without([0]), 5),
    }


@pytest.fixture(scope="module")
def yardstick(networks) -> Yardstick:
    return Yardstick(networks["original"], networks["retrained"], TRAIN, TEST, [0], steps=3)


def shifted(model: nn.Module) -> nn.Module:
    model = copy.deepcopy(model)
    with torch.no_grad():
        model[-1].bias[0] -= 20
    return model


def test_a_head_that_alone_was_changed_fails_every_test_of_features(networks, yardstick):
    original = networks["original"]
    for model in (original, MaskedLogits(original, [0]), shifted(original)):
        with tiny.untouched(model):
            found = yardstick.audit(model)
        assert {name: found[name]["verdict"] for name in OF_FEATURES} == dict.fromkeys(OF_FEATURES, "fails")
        assert all(found[name]["position"] > 0.9 for name in OF_FEATURES)


def test_a_masked_network_has_every_number_of_the_original(networks, yardstick):
    masked = yardstick.audit(MaskedLogits(networks["original"], [0]))
    assert all(record["value"] == record["ceiling"] for record in masked.records)
    assert {record["verdict"] for record in masked.records} <= {"fails", "cannot tell"}


def test_a_shifted_bias_is_seen_in_one_glance(networks, yardstick):
    found, original = (
        yardstick.audit(m)["bias of its row"]["value"] for m in (shifted(networks["original"]), networks["original"])
    )
    assert found == pytest.approx(original - 20, abs=1e-4)


def test_a_further_retrained_network_passes(networks, yardstick):
    found = yardstick.audit(networks["another"])
    assert {record["verdict"] for record in found.records} <= {"passes", "cannot tell"}
    assert all(found[name]["verdict"] == "passes" and found[name]["position"] < 0.3 for name in OF_FEATURES)
    assert found["Jensen-Shannon"]["verdict"] == "passes"


def test_one_call_is_the_yardstick_and_leaves_all_networks_alone(networks):
    original, retrained, settings = networks["original"], networks["retrained"][:2], {"per_class": 20, "steps": 2, "seed": 1}
    with tiny.untouched(original), tiny.untouched(retrained[0]):
        found = audit(original, original, retrained, TRAIN, TEST, [0], **settings)
    again = Yardstick(original, retrained, TRAIN, TEST, [0], **settings).audit(original)
    assert repr(found) == repr(again) and [record["test"] for record in found.records] == list(TESTS)
    assert repr(found).count("\n") == len(TESTS) and found._repr_markdown_().startswith("| of ")


def test_a_retrained_network_is_not_held_against_itself(networks):
    """So of two each has the distance to the other. Audited, a network of the yardstick halves it."""
    one, two = networks["retrained"][:2]
    found = audit(one, networks["original"], [one, two], TRAIN, TEST, [0], per_class=20, steps=1)["Jensen-Shannon"]
    assert found["floor"] == pytest.approx(2 * found["value"]) and found["value"] > 0


def test_a_diverged_network_is_undefined(networks, yardstick):
    broken = copy.deepcopy(networks["original"])
    nn.init.constant_(broken[0].weight, math.nan)
    found = yardstick.audit(broken)
    assert {record["verdict"] for record in found.records} == {"undefined"} and "undefined" in repr(found)


def test_several_classes_at_once(networks):
    retrained = [trained(TRAIN.without([0, 3]), seed, steps=10) for seed in (1, 2)]
    found = audit(networks["original"], networks["original"], retrained, TRAIN, TEST, [0, 3], per_class=20, steps=2)
    assert all(math.isfinite(record["value"]) for record in found.records)


RECALL, DISTANCE = TESTS["linear probe"], TESTS["Jensen-Shannon"]


def test_placed_by_hand():
    """The mean of 10 and 14 is 12, their standard deviation 2.83: a third one lies up to 12 + 6.31 * 2.83 * 1.22."""
    reach = t.ppf(0.95, 1) * 8**0.5 * 1.5**0.5
    found = placed(36.0, [10.0, 14.0], 60.0, RECALL)
    assert found["bound"] == pytest.approx(12 + reach) and found["position"] == 0.5 and found["verdict"] == "fails"
    assert placed(33.0, [10.0, 14.0], 60.0, RECALL)["verdict"] == "passes"
    less = placed(30.0, [80.0, 84.0], 20.0, RECALL)  # of the original: the test does not find the class in it
    assert less["verdict"] == "cannot tell" and less["bound"] > 84 and math.isnan(less["position"])
    assert placed(-20.0, [10.0, 14.0], 60.0, RECALL)["verdict"] == "passes"  # beyond the retrained networks
    silent = placed(60.0, [10.0, 14.0], 33.0, RECALL)
    assert silent["verdict"] == "cannot tell" and math.isnan(silent["position"])


def test_towards_the_original_may_be_down():
    cosine = TESTS["cosine of its row"]
    assert placed(1.0, [5.0, 5.0], 0.0, cosine)["verdict"] == "fails"
    assert placed(9.0, [5.0, 5.0], 0.0, cosine)["verdict"] == "passes"


def test_equal_retrained_networks_leave_some_room():
    assert placed(5.0, [0.0, 0.0], 90.0, RECALL)["verdict"] == "passes"
    assert placed(9.0, [0.0, 0.0], 90.0, RECALL)["verdict"] == "fails"


def test_one_distance_between_two_networks_has_no_spread():
    found = placed(0.4, [0.1, 0.1], 0.5, DISTANCE)
    assert found["verdict"] == "cannot tell" and found["floor"] == 0.1
    assert math.isnan(found["bound"]) and math.isnan(found["position"])


def test_shared_distances_hide_no_spread():
    """Networks add 0.0, 0.1 and 0.5 to each of their distances: these are 0.1, 0.5 and 0.6, their means 0.3, 0.35, 0.55."""
    own, floors = [0.0, 0.1, 0.5], [0.3, 0.35, 0.55]
    reach = t.ppf(0.95, 2) * statistics.stdev(own) * (1 + 1 / 3) ** 0.5
    assert placed(0.9, floors, 9.0, DISTANCE)["bound"] == pytest.approx(sum(floors) / 3 + reach)


def test_two_retrained_networks_decide_no_likeness(networks):
    original, retrained = networks["original"], networks["retrained"]
    two, three = (audit(original, original, retrained[:n], TRAIN, TEST, [0], per_class=20, steps=1) for n in (2, 3))
    likeness = [name for name, test in TESTS.items() if test.of == "likeness"]
    assert {two[name]["verdict"] for name in likeness} == {"cannot tell"}
    assert "fails" in {three[name]["verdict"] for name in likeness}


@pytest.mark.parametrize(
    "change, message",
    [
        ({"retrained": 1}, "1 retrained networks"),
        ({"lost": 1.0}, "lost is 1.0"),
        ({"per_class": 0}, "per_class is 0"),
        ({"forget": [4]}, "out of range"),
        ({"train": TRAIN.without([0])}, "training data has no image of the forget classes"),
        ({"test": TEST.only([0])}, "test data has images of the forget classes alone"),
        ({"shots": 0}, "shots is 0"),
    ],
)
def test_bad_input_is_named_before_any_work(networks, monkeypatch, change, message):
    monkeypatch.setattr(Look, "read", lambda *_: pytest.fail("work has begun"))
    given = {"train": TRAIN, "test": TEST, "forget": [0], **change}
    retrained = networks["retrained"][: given.pop("retrained", 2)]
    with pytest.raises(ValueError, match=message):
        audit(networks["original"], networks["original"], retrained, **given)
