import os
import sys
from types import SimpleNamespace

import pytest
import torch
from tiny import same_weights
from torch import nn

from unsir_utils.engine.samples import Samples
from unsir_utils.workshop import provenance, switches
from unsir_utils.workshop.study import scenario

KERNELS = sys.modules["unsir_utils.unsir"]
REQUEST = dict(
    data={"name": "shapes", "n_classes": 4, "per_class": 12},
    recipe={"architecture": "AllCNN-0.125", "epochs": 1, "batch_size": 16},
    forget=[0, 2],
    seed=3,
)
SIZES = {"used": 1, "learned": 2, "per_class": 4, "copies": 2, "batch_size": 8}
RATES = {"impair_lr": 0.02, "repair_lr": 0.01}
ASKED = dict(rates=RATES, sizes=SIZES, reported=4)


pytestmark = pytest.mark.usefixtures("empty_store")


class Recall(nn.Module):
    """A network for images [n, 1] that answers the class that the image names; a negative one is answered with nan."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Parameter(torch.eye(3))

    def forward(self, x):
        return torch.where(x >= 0, self.table[x[:, 0].long().clamp(min=0)], torch.nan)


def taught(answers: list[float], labels: list[int], forget: tuple[int, ...]) -> dict[str, float]:
    test = Samples(torch.tensor(answers).float()[:, None], torch.tensor(labels), 3)
    s = SimpleNamespace(loaded=SimpleNamespace(test=test), forget=forget)
    return switches.both_ways(Recall(), s, batch_size=2)


def test_both_ways_by_hand():
    """Retain: right, right | wrong. Forget: right, wrong | wrong, wrong | right."""
    found = taught([0, 0, 1, 1, 0, 2, 0, 1], [0, 0, 0, 1, 1, 1, 1, 1], (1,))
    assert found == pytest.approx(
        {"A_Dr": 200 / 3, "A_Dr by batches": 50, "A_Df": 40, "A_Df by batches": 100 * (0.5 + 0 + 1) / 3}
    )


def test_an_answer_that_is_no_number_leaves_its_accuracy_undefined():
    found = taught([-1.0, 0.0, 1.0], [0, 0, 1], (1,))
    assert found == pytest.approx(
        {"A_Dr": torch.nan, "A_Dr by batches": torch.nan, "A_Df": 100, "A_Df by batches": 100}, nan_ok=True
    )


def test_rates_are_named_as_in_the_published_records():
    assert switches.rates_text(RATES) == "0.02, 0.01"
    assert switches.rates_text({"repair_lr": 0.0003, "impair_lr": 0.001}) == "0.001, 0.0003"


def cases(*requests: list[int], **given) -> list[dict]:
    return switches.switch_cases([*requests], [RATES], [0, 1], SIZES, data={}, **given)


def test_each_seed_runs_every_switch_and_own_labels_only_where_they_change_something():
    names = [*switches.switches(2)]
    of = {str(forget): [c["switch"] for c in cases(forget)] for forget in ([0], [2], [0, 2])}
    assert of["[2]"] == of["[0, 2]"] == 2 * names
    assert of["[0]"] == 2 * [name for name in names if name != "own labels"]


def test_a_case_holds_what_it_is_asked_for():
    first, *_ = cases([2], only=["all noise images"])
    turned = {"used": SIZES["learned"]}
    assert first == dict(switch="all noise images", turned=turned, rates=RATES, sizes=SIZES, forget=[2], seed=0, data={})
    assert len(cases([2], [1, 2], only=["all noise images", "No noise"])) == 8


def test_an_unknown_switch_is_named():
    with pytest.raises(ValueError, match="unknown switch: no label; choose among"):
        cases([2], only=["No noise", "no label"])


@pytest.mark.parametrize(
    "name, used, labels, batchnorm",
    [
        ("as released", 1, {0}, "train"),
        ("all noise images", 2, {0}, "train"),
        ("own labels", 1, {0, 2}, "train"),
        ("eval-mode BatchNorm", 1, {0}, "eval"),
        ("all together", 2, {0, 2}, "eval"),
        ("random draw", 1, {0}, "train"),
    ],
)
def test_a_switch_turns_what_it_says_and_nothing_else(monkeypatch, name, used, labels, batchnorm):
    s, modes, learn_noise = scenario(**REQUEST), [], KERNELS.learn_noise

    def watched(*arguments, **settings):
        modes.append(settings["batchnorm"])
        return learn_noise(*arguments, **settings)

    switches._learned.cache_clear()
    monkeypatch.setattr(KERNELS, "learn_noise", watched)
    noise = switches.unlearned(s.original, s, **{**SIZES, **RATES, **switches.switches(SIZES["learned"])[name]}).noise
    assert len(noise) == used * len(REQUEST["forget"])
    assert set(noise.labels.tolist()) == labels and set(modes) == {batchnorm}


@pytest.mark.parametrize("name, drawn", [("as released", False), ("No noise", False), ("random draw", True)])
def test_the_first_images_are_seen_unless_they_are_drawn(monkeypatch, name, drawn):
    s, seen = scenario(**REQUEST), []
    two_passes = switches.two_passes

    def watched(model, retain, *arguments, **settings):
        seen.append(retain)
        return two_passes(model, retain, *arguments, **settings)

    monkeypatch.setattr(switches, "two_passes", watched)
    monkeypatch.setattr(KERNELS, "two_passes", watched)
    found = switches.unlearned(s.original, s, **{**SIZES, **RATES, **switches.switches(SIZES["learned"])[name]})
    (retain,), first = seen, s.retain.first(SIZES["per_class"])
    assert len(retain) == len(first) == 2 * SIZES["per_class"]
    assert torch.equal(retain.images, first.images) != drawn
    assert (found.noise is None) == (name == "No noise")


def test_no_noise_is_the_two_passes_alone():
    s = scenario(**REQUEST)
    found = switches.unlearned(s.original, s, noise=False, **SIZES, **RATES)
    passes = dict(copies=SIZES["copies"], batch_size=SIZES["batch_size"], seed=3, **RATES)
    assert same_weights(found.model, switches.two_passes(s.original, s.retain.first(4), None, **passes).model)


def test_a_case_measures_both_stages():
    impaired, repaired = switches.run_switch("as released", {}, **ASKED, **REQUEST)
    s = scenario(**REQUEST)
    found = switches.unlearned(s.original, s, **SIZES, **RATES)
    for record, stage, model in [(impaired, "impair", found.impaired.model), (repaired, "repair", found.model)]:
        about = {**RATES, "forget": "[0, 2]", "stage": f"after {stage}", "rates": "0.02, 0.01"}
        assert record == about | switches.both_ways(model, s, 4)


def test_another_precision_unlearns_the_very_network_that_the_usual_one_trained(monkeypatch):
    original, seen, run = scenario(**REQUEST).original, [], switches.unlearned

    def watched(model, *arguments, **options):
        seen.append((os.environ["UNSIR_PRECISION"], model))
        return run(model, *arguments, **options)

    monkeypatch.setattr(switches, "unlearned", watched)
    with provenance.listening() as heard:
        switches.run_switch("as released", {}, precision="float32", **ASKED, **REQUEST)
    ((setting, model),) = seen
    assert setting == "float32" and model is original and "UNSIR_PRECISION" not in os.environ
    assert len(heard["networks"]) == 1, "no other is trained"


@pytest.mark.parametrize("batchnorm", ["train", "eval"])
def test_the_noise_phase_moves_statistics_in_train_mode_and_never_a_weight(monkeypatch, batchnorm):
    s, tested = scenario(**REQUEST), []
    monkeypatch.setattr(switches, "evaluate", lambda model, test: tested.append(model) or (0.0, 12.5))
    assert switches.after_noise(2, batchnorm, **REQUEST) == [{"accuracy": 12.5, "weights unchanged": True}]
    assert same_weights(tested[0], s.original) == (batchnorm == "eval")


def test_a_weight_that_moved_is_told(monkeypatch):
    def moves(model, *_, **__):
        next(model.parameters()).data.add_(1)

    switches._learned.cache_clear()
    monkeypatch.setattr(KERNELS, "learn_noise", moves)
    assert not switches.after_noise(2, "eval", **REQUEST)[0]["weights unchanged"]
    switches._learned.cache_clear()
