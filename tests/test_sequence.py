import copy
import math
from types import SimpleNamespace

import pandas as pd
import pytest
import torch
from tiny import pixels

from unsir_utils import metrics
from unsir_utils.workshop import sequence
from unsir_utils.workshop.study import scenario

ASKED = dict(
    data={"name": "shapes", "n_classes": 4, "per_class": 12},
    recipe={"architecture": "AllCNN-0.125", "epochs": 1, "batch_size": 16},
    retain_per_class=5,
    seed=3,
)
OPTIONS = {"noise_per_class": 2, "noise_steps": 2, "copies": 2}


pytestmark = pytest.mark.usefixtures("empty_store")


def predicting(monkeypatch, answers: list[int]) -> None:
    monkeypatch.setattr(metrics, "predictions", lambda model, samples: torch.tensor(answers))


def test_accuracies_are_those_of_the_classes_gone_of_the_others_and_of_each(monkeypatch):
    predicting(monkeypatch, [0, 1, 2, 3, 3, 1, 0, 3])  # labels: 0, 1, 2, 3, 0, 1, 2, 3
    found = sequence.accuracies(None, pixels(8), [0, 2])
    assert found == {"A_Dr": 100, "A_Df": 50, "class 0": 50, "class 1": 100, "class 2": 50, "class 3": 100}


def test_a_diverged_network_has_no_accuracy(monkeypatch):
    predicting(monkeypatch, [0, 1, 2, 3, 0, 1, 2, -1])
    assert all(math.isnan(v) for v in sequence.accuracies(None, pixels(8), [0]).values())


class Seen:
    """In the place of UNSIR and of its two passes: what they are called with; the networks diverge from `lost` on."""

    def __init__(self, monkeypatch, lost: float = math.inf) -> None:
        self.calls, self.lost = [], lost
        monkeypatch.setattr(sequence, "unsir", lambda model, request, subset, **o: self(model, subset, request=request, **o))
        monkeypatch.setattr(sequence, "two_passes", lambda model, subset, noise, **o: self(model, subset, noise=noise, **o))

    def __call__(self, model, subset, **options):
        self.calls.append(SimpleNamespace(model=model, subset=subset, **options))
        if len(self.calls) < self.lost:
            return SimpleNamespace(model=torch.nn.Sequential(model))
        lost = copy.deepcopy(model)
        for weight in lost.parameters():
            weight.data.fill_(math.nan)
        return SimpleNamespace(model=lost)


def test_each_request_is_unlearned_from_the_network_before_without_any_class_gone(monkeypatch):
    seen = Seen(monkeypatch)
    records = sequence.chain(requests=[[2], [0, 1]], with_noise=True, options=OPTIONS, setting={"trained": 5}, **ASKED)
    first, second = seen.calls
    assert [(c.request, c.forgotten) for c in seen.calls] == [([2], [2]), ([0, 1], [2, 0, 1])]
    assert second.model[0] is first.model and first.seed == second.seed == 3 and first.noise_steps == 2
    assert set(first.subset.labels.tolist()) == {0, 1, 3} and set(second.subset.labels.tolist()) == {3}
    assert [(r["trained"], r["step"], r["asked"]) for r in records] == [(5, 1, 1), (5, 2, 3)]


def test_each_step_draws_a_subset_of_its_own(monkeypatch):
    seen = Seen(monkeypatch)
    sequence.chain(requests=[[2], [0]], with_noise=False, options={}, **ASKED)
    train = scenario(ASKED["data"], ASKED["recipe"], [2, 0]).loaded.train
    for call, (gone, seed) in zip(seen.calls, [([2], 103), ([2, 0], 203)], strict=True):
        assert call.noise is None
        assert torch.equal(call.subset.images, train.without(gone).draw(5, seed=seed).images)


def test_nothing_is_unlearned_from_a_network_that_has_diverged(monkeypatch):
    seen = Seen(monkeypatch, lost=2)
    records = sequence.chain(requests=[[0], [1], [2]], with_noise=False, options={}, **ASKED)
    assert len(seen.calls) == 2
    assert [math.isnan(r["A_Dr"]) for r in records] == [math.isnan(r["class 3"]) for r in records] == [False, True, True]
    assert [r["asked"] for r in records] == [1, 2, 3]


@pytest.mark.parametrize("with_noise, options", [(True, OPTIONS), (False, {})])
def test_it_runs_what_it_says(with_noise, options):
    (at_once,) = sequence.chain(requests=[[0, 1]], with_noise=with_noise, options=options, **ASKED)
    s = scenario(ASKED["data"], ASKED["recipe"], [0, 1])
    subset = s.retain.draw(5, seed=103)
    model = sequence.two_passes(s.original, subset, None, seed=3).model
    if with_noise:
        model = sequence.unsir(s.original, [0, 1], subset, forgotten=[0, 1], seed=3, **options).model
    a_dr, a_df = metrics.retain_forget_accuracy(model, s.loaded.test, [0, 1])
    assert (at_once["A_Dr"], at_once["A_Df"]) == pytest.approx((a_dr, a_df))


RECORDS = pd.DataFrame(
    [
        ("one after another", 1, 0, 50.0, 70.0),
        ("one after another", 1, 1, 60.0, 80.0),
        ("one after another", 2, 0, 40.0, 60.0),
        ("one after another", 2, 1, 10.0, 30.0),
        ("all at once", 1, 0, 20.0, 30.0),
        ("all at once", 1, 1, 21.0, 33.0),
    ],
    columns=["order", "step", "seed", "class 0", "class 2"],
)


def test_the_course_goes_from_the_originals_along_the_requests_to_all_at_once():
    found = sequence.course(RECORDS, [0, 2], torch.tensor([[80.0, 1.0, 70.0], [100.0, 9.0, 90.0]]))
    assert found.index.tolist() == [0, 1, 2, 2.5, 3]
    assert found["mean"].tolist() == pytest.approx([85, 65, 35, math.nan, 26], nan_ok=True)
    assert found["min"].tolist() == pytest.approx([75, 60, 20, math.nan, 25], nan_ok=True)
    assert found["max"].tolist() == pytest.approx([95, 70, 50, math.nan, 27], nan_ok=True)


def test_the_course_of_a_network_that_has_diverged_is_undefined_from_there_on():
    lost = RECORDS.mask(RECORDS.step == 2, None).assign(step=RECORDS.step, order=RECORDS.order)
    found = sequence.course(lost, [0], torch.tensor([[90.0, 1.0, 80.0]]))
    assert found["mean"].tolist() == pytest.approx([90, 55, math.nan, math.nan, 20.5], nan_ok=True)
