import pandas as pd
import pytest
import tiny
import torch
from torch import nn

from unsir_utils.engine.samples import Samples
from unsir_utils.unsir import unsir
from unsir_utils.workshop import timing
from unsir_utils.workshop.store import Recipe, Trained
from unsir_utils.workshop.study import scenario
from unsir_utils.workshop.timing import Job, image_passes, in_turns, mini_batches, over_unsir, step_megabytes, unsir_passes


def test_passes_at_the_released_settings_by_hand():
    assert unsir_passes(9_000, 256, 20) == {"noise": 10_240, "impair": 14_120, "repair": 9_000}
    sizes = dict(classes=10, epochs=40, finetune_epochs=2, noise=256, copies=20)
    assert image_passes(45_000, 5_000, 9_000, **sizes) == {
        "Retrain": 1_800_000, "FineTune": 90_000, "NegGrad": 5_000, "Fisher (loop)": 450_000,
        "Fisher (layer-wise)": 450_000, "Masked logits": 0, "No noise": 18_000, "UNSIR": 33_360, "Released": 28_300,
    }  # fmt: skip


def test_the_released_code_cannot_use_more_noise_than_there_is():
    found = image_passes(20, 5, 10, classes=4, epochs=1, finetune_epochs=1, noise=2, copies=3, used=3)
    assert found["Released"] == found["UNSIR"] == 80 + 10 + 6 + 10


def test_the_formula_counts_as_the_kernel_does():
    retain = tiny.floats((3, 8, 8), n=12).without([1])
    done = unsir(tiny.convnet(), [1], retain, noise_per_class=2, noise_steps=5, copies=3, batch_size=4)
    assert done.samples == unsir_passes(len(retain), 2, 3, steps=5)


@pytest.mark.parametrize(
    "sizes, steps", [((9_000, 252, 20, 256), 55 + 36), ((6_000, 0, 20, 256), 24 + 24), ((8, 1, 8, 8), 3)]
)
def test_each_pass_has_a_last_batch_of_its_own(sizes, steps):
    assert mini_batches(*sizes) == steps


@pytest.fixture
def clock(monkeypatch):
    """A clock that stands still until it is wound: a list with the time in it."""
    now = [0.0]
    monkeypatch.setattr(timing.time, "perf_counter", lambda: now[0])
    return now


def test_jobs_take_turns_the_first_round_does_not_count_and_parts_are_scaled_up(clock):
    turns, lasts = [], iter([100, 100, 2, 7, 3, 8])

    def run(name):
        turns.append(name)
        clock[0] += next(lasts)

    jobs = {"A": Job(lambda: run("A"), 5, 20), "B": Job(lambda: run("B"), 0, 0)}
    assert in_turns(jobs, repeats=2).to_dict("list") == {"A": [8, 12], "B": [7, 8]}
    assert turns == ["A", "B"] * 3


def test_a_training_counts_without_what_surrounds_it(clock):
    network = Trained(nn.Identity(), [], 1.5, Recipe("AllCNN", 1), "a", "b")
    assert in_turns({"Retrain": Job(lambda: network, 1, 40)}, 1).Retrain.tolist() == [60]


def test_unsir_has_its_phases_and_is_refused_where_the_count_is_wrong():
    retain = tiny.floats((3, 8, 8), n=12).without([1])
    done = unsir(tiny.convnet(), [1], retain, noise_per_class=1, noise_steps=1, copies=1)
    passes = 1 + (9 + 1) + 9
    found = in_turns({"UNSIR": Job(lambda: done, passes, passes)}, 1).loc[0]
    assert {name: found[f"UNSIR: {name}"] for name in done.seconds} == done.seconds
    with pytest.raises(ValueError, match=f"UNSIR took {passes} image passes where 30 were expected"):
        in_turns({"UNSIR": Job(lambda: done, 30, 30)}, 1)


def test_seconds_at_other_settings_grow_with_the_passes_of_each_phase():
    here = {"Retrain": 10, "UNSIR: noise": 4, "UNSIR: impair": 6, "UNSIR: repair": 1}
    there = {"Retrain": 100, "UNSIR: noise": 8, "UNSIR: impair": 6, "UNSIR: repair": 13}
    seconds = pd.DataFrame({"Retrain": [10.0, 20.0], "UNSIR: noise": 2.0, "UNSIR: impair": 3.0, "UNSIR: repair": 1.0})
    found = over_unsir(seconds.assign(UNSIR=99.0), here, there)
    assert found.Retrain.tolist() == [100 / 20, 200 / 20]  # 4 s of noise, 3 s of impair, 13 s of repair
    assert found.index.names == ["trained", "seed"] and found.index.tolist() == [(0, 0), (0, 1)]


def test_one_epoch_of_retraining_sees_a_part_of_both_sets(monkeypatch):
    s = scenario({"name": "shapes", "n_classes": 4, "per_class": 40}, {"architecture": "AllCNN-0.125", "epochs": 9}, [2])
    monkeypatch.setattr(timing, "trained", lambda recipe, data, folder: (recipe, data))
    recipe, data = timing.one_epoch(s, s.loaded.train.draw(9))
    assert (recipe.epochs, recipe.left_out) == (1, (2,))
    assert len(data.train) == 4 * 9
    share = 9 / (len(s.retain) / 3)
    assert len(data.test) == 4 * round(share * len(s.loaded.test) / 4)


def test_a_stand_in_holds_none_of_its_forget_classes():
    model, samples = timing.stand_in("AllCNN-0.125", 16, 20, 7)
    assert samples.labels.unique().tolist() == [7, 8, 9] and samples.images.shape == (20, 3, 16, 16)
    assert model(samples.inputs(slice(0, 2))).shape == (2, 10)


def test_memory_of_a_step_by_hand(monkeypatch):
    monkeypatch.setenv("UNSIR_PRECISION", "float32")
    model = nn.Sequential(nn.Flatten(), nn.Linear(12, 5))
    samples = Samples(torch.zeros(7, 3, 2, 2, dtype=torch.uint8), torch.arange(7) % 5, 5)
    weights, batch, logits = 4 * (12 * 5 + 5), 2 * 12 * 4, 2 * 5 * 4
    expected = weights + 3 * weights + batch + 7 * 12 + 3 * 12 * 4 + logits
    assert step_megabytes(model, samples, batch_size=2, noise_total=3) * 2**20 == pytest.approx(expected)


def test_one_thing_grows_at_a_time_and_the_base_is_timed_once(monkeypatch):
    monkeypatch.setattr(timing, "step_megabytes", lambda model, samples, **sizes: len(samples))
    monkeypatch.setattr(timing, "in_turns", lambda jobs, repeats: pd.DataFrame([{k: job.part for k, job in jobs.items()}]))
    base = {"architecture": "AllCNN-0.125", "image_size": 8, "retain": 20, "n_forget": 1}
    varied = {"retain": [20, 30], "architecture": ["AllCNN-0.125"]}
    found = timing.growth(base, varied, repeats=1, noise_total=2, copies=3, batch_size=4)
    once, more = 40 * 2 + 20 + 6 + 20, 40 * 2 + 30 + 6 + 30
    parameters = timing.models.n_parameters(timing.stand_in(**base)[0])
    expected = [["retain", 20, once, 20], ["retain", 30, more, 30], ["architecture", parameters, once, 20]]
    assert found.to_numpy().tolist() == expected
