"""Races take turns; ratios, answers and a step's anatomy by hand; every contest runs."""

from itertools import count

import pandas as pd
import pytest
import tiny
import torch

from unsir_utils.engine.precision import precision
from unsir_utils.engine.samples import Samples
from unsir_utils.workshop import anatomy, races, store, study

REQUEST = dict(
    data={"name": "shapes", "n_classes": 4, "per_class": 12},
    recipe={"architecture": "AllCNN-0.125", "epochs": 1, "batch_size": 16},
    forget=[0],
    retain_per_class=4,
)
SETTINGS = dict(noise_per_class=2, noise_steps=1, copies=1, batch_size=8, impair_lr=1e-3, repair_lr=1e-3)


@pytest.fixture(autouse=True)
def apart(tmp_path_factory, monkeypatch):
    """A store and kept cases of these tests' own."""
    folder = tmp_path_factory.getbasetemp() / "races"
    monkeypatch.setenv("UNSIR_RESULTS", str(folder))
    monkeypatch.setattr(store, "FOLDER", folder / "models")
    yield
    tiny.forget_all()


@pytest.fixture
def seconds(monkeypatch):
    """A clock by which the first job takes 1 s, the next 2 s, and so on."""
    ticks = (tick for n in count(1) for tick in (0.0, float(n)))
    monkeypatch.setattr(races, "clock", lambda: next(ticks))


def test_the_sides_take_turns_and_the_first_round_does_not_count(seconds):
    calls = []
    sides = {side: lambda seed, side=side: calls.append((side, seed)) for side in ("plain", "here")}
    records = races.race("a job", sides, [3, 5])
    assert calls == [("plain", 3), ("here", 3), ("plain", 3), ("here", 3), ("plain", 5), ("here", 5)]
    told = [(r["what"], r["side"], r["seed"], r["seconds"]) for r in records]
    assert told == [("a job", "plain", 3, 3), ("a job", "here", 3, 4), ("a job", "plain", 5, 5), ("a job", "here", 5, 6)]


def test_a_long_race_has_no_warm_up_and_judges_the_models_made(seconds):
    samples, model = tiny.floats((6,)), tiny.mlp()
    with torch.no_grad():
        model[-1].bias[2] += 1e6  # says 2 of everything
    sides = {
        "made": lambda _: model,
        "own clock": lambda _: pd.Series({"seconds": 9.0, "epochs": None}),
        "fisher": lambda _: {},
    }
    made, own, fisher = races.race("a job", sides, [0], (samples, [2]), warm_up=False)
    assert (made["seconds"], made["A_Dr"], made["A_Df"]) == (1, 0, 100)
    assert own["seconds"] == 9 and pd.isna(own["epochs"]) and "A_Dr" not in own
    assert fisher["seconds"] == 3 and fisher.keys() == {"what", "side", "seed", "seconds", "GB"}


def test_the_peak_of_memory_never_falls():
    before = races.peak_memory()
    assert 0.01 < before <= races.peak_memory() < 1000


def records_of(**seconds: list[float]) -> pd.DataFrame:
    return pd.DataFrame([{"side": s, "seed": i, "seconds": t} for s, of in seconds.items() for i, t in enumerate(of)])


def test_a_ratio_is_of_medians_with_the_range_over_the_rounds():
    found = races.ratio(pd.Series([2.0, 6.0, 5.0]), pd.Series([1.0, 2.0, 4.0]))
    assert found == {"ratio": 2.5, "lowest": 1.25, "highest": 3.0}


@pytest.mark.parametrize("wanted, reached", [(20.0, "yes"), (20.1, "no")])
def test_a_line_of_the_table_multiplies_what_was_timed_in_part(wanted, reached):
    records = records_of(here=[1.0, 2.0, 4.0], epoch=[2.0, 6.0, 4.0])
    line = races.compared("UNSIR", records, "here", "epoch", wanted, times=10, named="Retrain")
    assert line == {
        "what": "UNSIR", "against": "Retrain", "what (s)": 2.0, "against (s)": 40.0,
        "ratio": 20.0, "lowest": 10.0, "highest": 30.0, "wanted": wanted, "reached": reached,
    }  # fmt: skip


TEST = Samples(torch.zeros(60, 3), torch.arange(60) % 3, 3)  # one image of class 0 is 5 points, one of the others 2.5


def side(a_dr: list[float], a_df: list[float]) -> pd.DataFrame:
    return pd.DataFrame({"A_Dr": a_dr, "A_Df": a_df})


@pytest.mark.parametrize("a_dr, answer", [([58.0, 60.0, 62.0], "no"), ([53.0, 53.0, 53.0], "yes")])
def test_sides_are_alike_where_they_differ_by_three_standard_errors_at_most(a_dr, answer):
    there = side([48.0, 50.0, 52.0], [1.0, 1.0, 1.0])  # a standard error of 2 / sqrt(3)
    found = races.alike(side(a_dr, [5.0, 5.0, 5.0]), there, TEST, [0])
    seen = {"no": "+10.0, to be seen from 4.9", "yes": "+3.0, to be seen from 3.5"}
    assert found == {"A_Dr": seen[answer], "A_Df": "+4.0, to be seen from 5.0", "answer": answer}


@pytest.mark.parametrize("a_dr, answer", [(52.5, "yes"), (52.6, "no"), (float("nan"), "no")])
def test_sides_of_one_seed_are_alike_up_to_a_test_image(a_dr, answer):
    assert races.alike(side([a_dr], [0.0]), side([50.0], [0.0]), TEST, [0])["answer"] == answer


GOOD = [(49.0, 1.0, 1.0), (49.0, 3.0, 3.0)]
WORSE = [(48.9, 1.0, 1.0), (49.0, 1.1, 1.0), (50.0, float("nan"), 1.0)]


@pytest.mark.parametrize("a_dr, a_df, ceiling, answer", [(*x, "yes") for x in GOOD] + [(*x, "no") for x in WORSE])
def test_a_side_is_as_good_within_a_point_and_below_the_ceiling(a_dr, a_df, ceiling, answer):
    found = races.as_good(side([a_dr], [a_df]), side([50.0], [9.0]), ceiling)
    assert found["answer"] == answer
    assert found["A_Dr"] == f"{a_dr - 50:+.1f}, at least -1" and found["A_Df"] == f"{a_df:.1f} %, at most {ceiling:.1f}"


def test_both_fisher_informations_are_the_same():
    assert 0 <= races.fisher_difference(tiny.convnet().eval(), tiny.floats((3, 8, 8), 2)) < 1e-6


# Kept


def counted(rounds, base, **_):
    counted.calls.append(rounds)
    if len(counted.calls) == counted.fails_at:
        raise KeyboardInterrupt
    return [{"side": "here", "seed": seed, "base": base} for seed in rounds]


CALLS = counted.calls = []
counted.fails_at = 0


def test_an_interrupted_contest_goes_on_after_its_last_round_until_it_is_dropped():
    CALLS.clear()
    counted.fails_at = 2
    kept = races.Kept(range(3), base="shapes")
    with pytest.raises(KeyboardInterrupt):
        kept.run(counted, apart=True, forget=[0])
    counted.fails_at = 0
    found = kept.run(counted, apart=True, forget=[0])
    assert CALLS == [[0], [1], [1], [2]] and found.seed.tolist() == [0, 1, 2] and set(found.base) == {"shapes"}
    kept.drop()
    kept.run(counted, apart=True, forget=[0])
    kept.run(counted, forget=[0])
    assert CALLS[4:] == [[0], [1], [2], [0, 1, 2]]
    kept.drop()


# Contests

FAST = dict(SETTINGS, retain_per_class=4)
ONE = ["plain", "here", "fast()", "an epoch", "by image and class", "by layer"]
CONTESTS = [
    (races.one_class, dict(settings=SETTINGS, fast=FAST, fisher_images=1), "UNSIR, 1 class", ONE),
    (races.several_classes, dict(settings=SETTINGS, forget=[0, 2]), "UNSIR, 2 classes", ["plain", "here"]),
    (races.many_classes, dict(settings=SETTINGS, forget=[0, 1]), "many classes", ["1", "2"]),
    (races.training_epoch, dict(epoch_images=16, batch_size=8), "training, an epoch of 16 images", ["plain", "here"]),
    (races.accuracy, {}, "test accuracy, 200 images", ["plain", "here"]),
    (races.relearning_epochs, dict(epoch_images=16, relearning={"per_epoch": 8, "cap": 1, "watched": 4}),
     "relearning, 1 epoch(s) of 8 images", ["plain", "here"]),
]  # fmt: skip


@pytest.mark.parametrize("contest, case, what, sides", CONTESTS, ids=lambda value: getattr(value, "__name__", ""))
def test_every_contest_times_all_its_sides_and_leaves_the_original_as_it_was(contest, case, what, sides):
    kept, original = races.Kept([1], **REQUEST), study.scenario(**REQUEST).original
    before = tiny.snapshot(original)[0]
    found = kept.run(contest, **case)
    assert found.what.tolist() == [what] * len(sides) and found.side.tolist() == sides
    assert (found.seconds > 0).all() and set(found.seed) == {1}
    judged = ["plain", "here", "fast()"] if what.startswith("UNSIR") else []
    assert found.side[found.get("A_Dr", found.seconds * torch.nan).notna()].tolist() == [s for s in judged if s in sides]
    assert "epochs" not in found or found.epochs.nunique(dropna=False) == 1
    assert tiny.same_weights(original, before)
    kept.drop()


def test_plain_and_here_get_the_same_work(monkeypatch):
    asked = []
    monkeypatch.setattr(races.plain, "unsir", lambda *args, **settings: asked.append((*args, settings)))
    monkeypatch.setattr(races, "unsir", lambda *args, seed, **settings: asked.append((*args, seed, settings)) or tiny.mlp())
    with pytest.raises(AttributeError, match="model"):  # what stands in for the kernel returns none
        races.several_classes(SETTINGS, [3], **{**REQUEST, "forget": [0, 2]})
    (network, *plainly), (original, *here) = asked
    assert tiny.same_weights(network, original) and original is study.scenario(**REQUEST).original
    assert plainly[0] == here[0] == (0, 2) and plainly[2:] == here[2:] == [3, SETTINGS]
    assert [label for _, label in plainly[1]] == here[1].labels.tolist()


# The anatomy of a step


def test_the_parts_of_a_step_are_medians_and_their_sum():
    seconds = [("plain", 1, 2, 3, 4), ("plain", 3, 4, 5, 6), ("plain", 9, 3, 9, 5), ("here", 1, 1, 1, 1)]
    parts = anatomy.parts(pd.DataFrame(seconds, columns=["side", *anatomy.PARTS]))
    assert parts.plain.tolist() == [3000, 3000, 5000, 5000, 16000] and parts.here.tolist() == [1000] * 4 + [4000]
    assert parts.index.tolist() == [*anatomy.PARTS, "whole step"]


def test_what_a_step_reaches_of_the_peak_by_hand():
    rows = [*anatomy.PARTS, "whole step"]
    parts = pd.DataFrame({"plain": [1.0, 200, 300, 9, 1000], "here": [1.0, 50, 50, 9, 200]}, index=rows)
    found = anatomy.at_the_peak(parts, pd.Series({"plain": 8e9, "here": 40e9}), 2_000_000_000)
    assert found["GFLOP a step"].tolist() == [2, 2] and found["GFLOP/s, peak"].tolist() == [8, 40]
    assert found["GFLOP/s reached"].tolist() == [4, 20] and found["share (%)"].tolist() == [50, 50]
    assert found["ratio at the peak"].tolist() == [4, 20]  # a second over 0.25 s and 0.05 s


def test_what_a_switch_pays_leaves_out_the_data_and_counts_a_step_of_noise():
    lines = [
        {"side": s, "seed": 0, **dict(zip(anatomy.PARTS, [9, 1, 1, 2], strict=True))} for s in ("here", *anatomy.SWITCHES)
    ]
    lines += [{**lines[0], "side": "plain", "forward": 5}, {**lines[0], "side": "nearly zero", "forward": 21}]
    lines[2]["backward"] = 3  # without channels_last
    noise = records_of(on=[1.0], off=[4.0])
    found = anatomy.pays(pd.DataFrame(lines), noise, 10).set_index("switch")
    assert found.ratio.tolist() == [1, 1.5, 1, 1, 1, 4, 3]
    assert found.loc["channels last", ["on (ms)", "off (ms)"]].tolist() == [4000, 6000]
    assert found.loc["frozen model", ["on (ms)", "off (ms)"]].tolist() == [100, 400]
    assert found.index[-1] == "zeroed weights, plain" and found["on (ms)"].iloc[-1] == 8000


def test_operations_of_a_linear_layer_by_hand(float32):
    x, y = torch.zeros(8, 6), torch.zeros(8, dtype=torch.int64)
    assert anatomy.operations(torch.nn.Linear(6, 4), x, y) == 2 * 2 * 8 * 6 * 4  # forward, and the weight's gradient


def test_a_step_is_timed_in_all_its_parts_with_each_switch_off(monkeypatch):
    samples, model = tiny.floats((3, 8, 8), 8), tiny.convnet()
    model[-1].weight.data[0] = 0
    before = tiny.snapshot(model)[0]
    stepping, asked = anatomy.stepping, []
    monkeypatch.setattr(anatomy, "stepping", lambda *args, **off: asked.append((args, off)) or stepping(*args, **off))
    taken = anatomy.step_race(model, samples, 4, 2, [0])
    assert taken.side.tolist() == ["plain", "here", "nearly zero", *anatomy.SWITCHES]
    assert (taken[anatomy.PARTS] > 0).all(axis=None) and tiny.same_weights(model, before)
    off = dict.fromkeys(anatomy.SWITCHES, False)
    assert [switches for _, switches in asked] == [off, {}, off, *({name: False} for name in anatomy.SWITCHES)]
    zero = asked[2][0][0][-1].weight[0]
    assert (zero > 0).all() and (zero < 1e-37).all() and asked[0][0][0] is model
    with pytest.raises(ValueError, match="8 images are too few for 3 steps of 4"):
        anatomy.step_race(model, samples, 4, 3, [0])


@pytest.mark.parametrize("fused, channels_last", [(True, False), (False, True)])
def test_a_switch_of_a_step_acts(fused, channels_last, monkeypatch):
    made, laid_out, adam = [], [], anatomy.Adam
    monkeypatch.setattr(anatomy, "Adam", lambda *a, **k: made.append(adam(*a, **k)) or made[0])

    def look(layer, inputs) -> None:
        laid_out.extend(t.is_contiguous(memory_format=torch.channels_last) for t in (layer.weight, *inputs))

    samples, model = tiny.floats((3, 8, 8), 4), tiny.convnet()
    model[0].register_forward_pre_hook(look)
    batches = [(samples.images.contiguous(), samples.labels)]
    anatomy.stepping(model, lambda: batches, 1, fused=fused, channels_last=channels_last)(0)
    assert bool(made[0].defaults["fused"]) == fused and laid_out == [channels_last] * 2


def test_noise_and_the_peak_are_timed_on_both_sides():
    model = tiny.convnet()
    noise = anatomy.noise_race(model, (3, 8, 8), 0, 4, 2, [0, 1])
    assert noise.side.tolist() == ["on", "off"] * 2 and all(p.grad is None for p in model.parameters())
    kinds = anatomy.precisions(model)
    assert kinds == {"plain": torch.float32, "here": precision(model, "cpu")}
    assert (anatomy.peak(8, kinds, torch.device("cpu"), 2, [0]) > 0).all()


def test_the_peak_is_two_operations_a_product_and_second(monkeypatch):
    monkeypatch.setattr(anatomy, "race", lambda *_: [{"side": "here", "seconds": t} for t in (1.0, 2.0, 8.0)])
    assert anatomy.peak(10, {"here": torch.float32}, torch.device("cpu"), 3, [0]).tolist() == [3000]
