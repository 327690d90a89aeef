import math

import pytest
import torch

from unsir_utils import metrics, models, store, study
from unsir_utils.baselines import MaskedLogits
from unsir_utils.study import METHODS, best, choose, compare, scenario, sweep

REQUEST = dict(
    data={"name": "shapes", "n_classes": 4, "per_class": 12},
    recipe={"architecture": "AllCNN-0.125", "epochs": 1, "batch_size": 16},
    forget=[1, 2],
    retain_per_class=5,
)
NOISE = {"noise_per_class": 2, "noise_steps": 2, "copies": 2}
OPTIONS = {"FineTune": {"epochs": 1}, "Fisher": {"per_class": 1}, "UNSIR": NOISE, "Released": {"used": 1, "learned": 2}}
RELEARNING = {"per_epoch": 16, "cap": 2, "watched": 4, "steps_cap": 2}


@pytest.fixture(autouse=True, scope="module")
def empty_store(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(store, "FOLDER", tmp_path_factory.mktemp("store"))
        forget_all()
        yield
    forget_all()


def forget_all():
    for cached in (study._trained, study._noise, study.load_once):
        cached.cache_clear()


@pytest.fixture
def tiny():
    return scenario(**REQUEST)


@pytest.mark.parametrize(
    "accuracies, tolerance, chosen",
    [
        ([(90, 0.0), (95, 1.0), (99, 1.1)], 1.0, 1),
        ([(90, 0.0), (95, 0.9), (99, 3.0)], 5.0, 2),
        ([(90, 9.0), (50, 4.0), (99, 20.0)], 1.0, 1),
        ([(50, 4.0), (90, 4.0)], 1.0, 1),
        ([(10, 0.0), (99, 1.5)], 1.0, 0),
        ([(90, 0.0), (90, 0.5)], 1.0, 0),
    ],
)
def test_best_by_hand(accuracies, tolerance, chosen):
    records = [{"A_Dr": r, "A_Df": f} for r, f in accuracies]
    assert best(records, tolerance) is records[chosen]


@pytest.mark.parametrize("rates", [[0.001, 0.1], [0.001, 0.001], [0.01]], ids=["two", "twice the same", "one"])
def test_choose_marks_exactly_one_by_its_validation_accuracy(rates):
    tried = choose("NegGrad", [{"lr": lr} for lr in rates], {"batch_size": 16}, **REQUEST)
    assert [record["lr"] for record in tried] == rates
    (chosen,) = (record for record in tried if record["chosen"])
    assert chosen["A_Dr"] == best(tried)["A_Dr"] and chosen["A_Df"] == best(tried)["A_Df"]


def test_settings_are_chosen_on_validation_data(tiny, monkeypatch):
    seen, measure = [], metrics.retain_forget_accuracy
    monkeypatch.setattr(metrics, "retain_forget_accuracy", lambda m, s, f: seen.append(s) or measure(m, s, f))
    choose("NegGrad", [{"lr": 0.01}], {}, **REQUEST)
    assert seen == [tiny.loaded.validation]
    compare({"Original": ["Original", {}]}, **REQUEST)
    assert seen[1:] == [tiny.loaded.test]


def test_compare_measures_every_method(tiny):
    labels = {f"{name}, as {n}": [name, OPTIONS.get(name, {})] for n, name in enumerate(METHODS)}
    records = compare(labels, relearning=RELEARNING, **REQUEST)
    assert [record["method"] for record in records] == list(labels)
    for record in records:
        assert 0 <= record["A_Dr"] <= 100 and 0 <= record["A_Df"] <= 100
        assert 0 <= record["entropy"] <= 1 and 0.25 <= record["largest_share"] <= 1
        assert record["seconds"] > 0 and math.isfinite(record["seconds"])
        assert record["relearn_epochs"] in (None, 0, 1, 2) and record["relearn_steps"] in (None, 0, 1, 2)
    by_name = dict(zip(METHODS, records, strict=True))
    whole = metrics.retain_forget_accuracy(tiny.original, tiny.loaded.test, tiny.forget)
    assert (by_name["Original"]["A_Dr"], by_name["Original"]["A_Df"]) == whole
    assert by_name["Original"]["relearn_epochs"] == by_name["Original"]["relearn_steps"] == 0
    assert by_name["Masked logits"]["A_Df"] == by_name["Retrain"]["A_Df"] == 0


def test_compare_gives_the_same_records_every_time():
    def records(seed):
        study._noise.cache_clear()
        labels = {name: [name, OPTIONS.get(name, {})] for name in ("NegGrad", "Fisher", "No noise", "UNSIR")}
        return [{k: v for k, v in r.items() if k != "seconds"} for r in compare(labels, seed=seed, **REQUEST)]

    assert records(0) == records(0)
    assert any(one != other for one, other in zip(records(0), records(1), strict=True))


def test_methods_leave_the_original_as_it_was(tiny):
    before = {name: value.clone() for name, value in tiny.original.state_dict().items()}
    for name in ("FineTune", "NegGrad", "Fisher", "Masked logits", "No noise", "UNSIR"):
        study.apply(name, tiny, **OPTIONS.get(name, {}))
    after = tiny.original.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_a_masked_model_is_relearned_without_its_mask(tiny, monkeypatch):
    model, relearned = models.build("AllCNN-0.125", 4, seed=7), []
    for name in ("relearn_epochs", "relearn_steps"):
        monkeypatch.setattr(metrics, name, lambda m, *_, **__: relearned.append(m))
    study.relearn(MaskedLogits(model, [1, 2]), tiny, **RELEARNING)
    assert relearned == [model, model]


def test_the_relearn_time_of_the_masked_model_is_that_of_the_bare_network(tiny):
    network, _ = study.apply("NegGrad", tiny, lr=0.02, epochs=2, batch_size=8)
    settings = RELEARNING | {"cap": 40, "lr": 0.05, "per_epoch": 40}
    bare, masked = (study.relearn(m, tiny, **settings) for m in (network, MaskedLogits(network, [1, 2])))
    assert bare == masked and bare["relearn_epochs"]


def test_noise_is_learned_once_for_all_rates_and_its_seconds_count(tiny, monkeypatch):
    study._noise.cache_clear()
    learned, learn = [], study.learn_noise
    monkeypatch.setattr(study, "learn_noise", lambda *a, **o: learned.append(learn(*a, **o)) or learned[-1])
    seconds = [study.apply("UNSIR", tiny, **NOISE, impair_lr=lr)[1] for lr in (0.01, 0.02)]
    assert len(learned) == 1 and min(seconds) > learned[0].seconds > 0
    study.apply("UNSIR", tiny, **NOISE | {"noise_steps": 3})
    assert [len(noise.losses) for noise in learned] == [2, 3]


def test_retrain_never_saw_the_forget_classes(tiny, monkeypatch):
    recipes = []
    monkeypatch.setattr(study, "trained", lambda recipe, data: recipes.append(recipe))
    study._trained.cache_clear()
    with pytest.raises(AttributeError):
        study.apply("Retrain", tiny)
    study._trained.cache_clear()
    assert [recipe.left_out for recipe in recipes] == [(1, 2)]


def test_a_scenario_parts_its_training_data(tiny):
    assert set(tiny.retain.labels.tolist()) == {0, 3} and set(tiny.forget_set.labels.tolist()) == {1, 2}
    assert len(tiny.retain) + len(tiny.forget_set) == len(tiny.loaded.train)
    assert tiny.retain_subset.labels.bincount().tolist() == [5, 0, 0, 5]
    assert 0 <= tiny.accuracy <= 100


def test_an_unknown_method_is_answered_with_the_known_ones(tiny):
    with pytest.raises(ValueError, match="unknown method 'SISA': choose one of Original, Retrain"):
        study.apply("SISA", tiny)
    with pytest.raises(ValueError, match="unknown method 'SISA'"):
        compare({"mine": ["SISA", {}]}, **REQUEST)


def test_a_sweep_gives_each_method_the_settings_that_it_takes(tiny, tmp_path, monkeypatch):
    monkeypatch.setenv("UNSIR_RESULTS", str(tmp_path))
    methods = {"UNSIR": ["UNSIR", NOISE], "No noise": ["No noise", {}]}
    settings = [{"repair_epochs": n, "penalty": p} for n, p in [(1, 0.1), (2, 0.1), (1, 9.0)]]
    swept = sweep(settings, methods, [0, 3], **REQUEST)
    assert swept[["seed", "repair_epochs", "penalty", "method"]].values.tolist() == [
        [seed, s["repair_epochs"], s["penalty"], name] for seed in (0, 3) for s in settings for name in methods
    ]
    (by_hand,) = compare({"UNSIR": ["UNSIR", {**NOISE, **settings[1]}]}, **{**REQUEST, "seed": 3})
    row = swept[(swept.seed == 3) & (swept.repair_epochs == 2) & (swept.method == "UNSIR")].iloc[0]
    assert (row.A_Dr, row.A_Df, row.entropy) == (by_hand["A_Dr"], by_hand["A_Df"], by_hand["entropy"])
    alike = swept[(swept.method == "No noise") & (swept.repair_epochs == 1)].groupby("seed").entropy.nunique()
    assert alike.tolist() == [1, 1]


def test_a_sweep_over_the_requests_changes_the_scenario(tmp_path, monkeypatch):
    monkeypatch.setenv("UNSIR_RESULTS", str(tmp_path))
    settings = [{"forget": [1], "n": 1}, {"forget": [0, 1, 2], "n": 3}]
    swept = sweep(settings, {"Masked logits": ["Masked logits", {}]}, [0], **REQUEST)
    expected = [compare({"m": ["Masked logits", {}]}, **{**REQUEST, "forget": s["forget"]})[0]["A_Dr"] for s in settings]
    assert swept.A_Dr.tolist() == expected and swept.n.tolist() == [1, 3]


def test_the_controls_replace_the_noise_one_for_one(tiny):
    images = {name: make(tiny, 6) for name, make in study.CONTROLS.items()}
    assert images["No noise"] is None
    assert images["Unlearned noise"].labels.tolist() == images["Blank images"].labels.tolist() == [1] * 6 + [2] * 6
    assert images["Unlearned noise"].images.std() == pytest.approx(1, abs=0.05) and not images["Blank images"].images.any()
    again, subset = images["More retain"], tiny.retain_subset
    assert len(again) == 12
    for image, label in zip(again.images, again.labels, strict=True):
        ((same,),) = torch.nonzero((subset.inputs() == image).flatten(1).all(1)).T
        assert subset.labels[same] == label
