import copy
import inspect
import math

import pandas as pd
import pytest
import torch
from tiny import same_weights

from unsir_utils import metrics
from unsir_utils.methods.baselines import MaskedLogits
from unsir_utils.settings import best_record
from unsir_utils.unsir import unsir
from unsir_utils.workshop import models, study
from unsir_utils.workshop.study import METHODS, choose, grid, outcomes, scenario, sweep, trial, trials

REQUEST = dict(
    data={"name": "shapes", "n_classes": 4, "per_class": 12},
    recipe={"architecture": "AllCNN-0.125", "epochs": 1, "batch_size": 16},
    forget=[1, 2],
    retain_per_class=5,
)
NOISE = {"noise_per_class": 2, "noise_steps": 2, "copies": 2}
OPTIONS = {"FineTune": {"epochs": 1}, "Fisher": {"per_class": 1}, "UNSIR": NOISE, "Released": {"used": 1, "learned": 2}}
OPTIONS |= dict.fromkeys(study.CONTROLS, {"noise_per_class": 2, "copies": 2})
OPTIONS |= {name: {"epochs": 1} for name in study.RIVALS if "epochs" in study.options_of(name)} | {
    "SVD projection": {"patches": 50}
}
RELEARNING = {"per_epoch": 16, "cap": 2, "watched": 4, "steps_cap": 2}


pytestmark = pytest.mark.usefixtures("empty_store")


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
        ([(math.nan, math.nan), (10, 99.0)], 1.0, 1),
        ([(10, 99.0), (math.nan, 0.0)], 1.0, 0),
        ([(None, None), (99, math.nan), (10, 99.0)], 1.0, 2),
        ([(math.nan, math.nan), (None, None)], 1.0, 0),
    ],
)
def test_best_by_hand(accuracies, tolerance, chosen):
    records = [{"A_Dr": r, "A_Df": f} for r, f in accuracies]
    assert best_record(records, tolerance) is records[chosen]


@pytest.mark.parametrize("rates", [[0.001, 0.1], [0.001, 0.001], [0.01]], ids=["two", "twice the same", "one"])
def test_one_trial_is_chosen_by_its_validation_accuracy(rates):
    tried = tried_with("NegGrad", [{"lr": lr} for lr in rates], {"batch_size": 16})
    assert [record["lr"] for record in tried] == rates
    (chosen,) = (record for record in tried if record["chosen"])
    assert chosen["A_Dr"] == best_record(tried)["A_Dr"] and chosen["A_Df"] == best_record(tried)["A_Df"]


def tried_with(method, candidates, options):
    records = [record for case in trials(method, candidates, options, **REQUEST) for record in trial(**case)]
    return choose(pd.DataFrame(records).assign(method=method), "method").to_dict("records")


def test_the_best_of_each_group_is_chosen():
    accuracies = [("a", 90, 5), ("b", 60, 0), ("a", 80, 0), ("b", 70, 0), ("a", 85, 0.5), ("c", math.nan, math.nan)]
    tried = pd.DataFrame(accuracies, columns=["network", "A_Dr", "A_Df"])
    assert [*choose(tried, "network").chosen] == [False, False, False, True, True, True]
    assert [*choose(tried, pd.Series([0, 0, 0, 1, 1, 1])).chosen] == [False, False, True, False, True, False]


def test_rates_are_chosen_by_the_mean_over_the_seeds_that_are_given(monkeypatch):
    pairs = [{"impair_lr": lr, "repair_lr": 0.1} for lr in (1.0, 2.0, 3.0)]
    found = {0: [(95, 0.0), (80, 0.5), (90, 0.0)], 1: [(99, 60.0), (80, 1.0), (math.nan, math.nan)]}  # A_Dr, A_Df by pair

    def run_cases(function, cases, label):
        assert function is trial
        accuracies = [found[case["seed"]][pairs.index(case["candidate"])] for case in cases]
        records = zip(cases, accuracies, strict=True)
        return pd.DataFrame([{**case["candidate"], "A_Dr": a_dr, "A_Df": a_df} for case, (a_dr, a_df) in records])

    monkeypatch.setattr(study, "run_cases", run_cases)
    asked = {**REQUEST, "options": NOISE}
    assert study.chosen_rates(pairs, **asked, seed=0) == pairs[0]
    assert study.chosen_rates(pairs, [0, 1], **asked) == study.chosen_rates(pairs, [0, 1], **asked, seed=0) == pairs[1]


def test_settings_are_chosen_on_validation_data(tiny, monkeypatch):
    seen, predictions = [], metrics.predictions
    monkeypatch.setattr(metrics, "predictions", lambda m, s: seen.append(s) or predictions(m, s))
    trial("NegGrad", {"lr": 0.01}, {}, **REQUEST)
    assert seen == [tiny.loaded.validation]
    outcomes({"Original": ["Original", {}]}, **REQUEST)
    assert seen[1:] == [tiny.loaded.test]


def test_compare_measures_every_method(tiny):
    labels = {f"{name}, as {n}": [name, OPTIONS.get(name, {})] for n, name in enumerate(METHODS)}
    records = outcomes(labels, relearning=RELEARNING, **REQUEST)
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
        study._learned.cache_clear()
        study.information_of.cache_clear()
        labels = {name: [name, OPTIONS.get(name, {})] for name in ("NegGrad", "Fisher", "No noise", "UNSIR")}
        return [{k: v for k, v in r.items() if k != "seconds"} for r in outcomes(labels, seed=seed, **REQUEST)]

    assert records(0) == records(0)
    assert any(one != other for one, other in zip(records(0), records(1), strict=True))


def test_fishers_information_is_taken_once_for_every_alpha(monkeypatch):
    taken, information = [], study.fisher_information
    study.information_of.cache_clear()
    monkeypatch.setattr(study, "fisher_information", lambda *a, **k: taken.append(len(a[1])) or information(*a, **k))
    one, other = (study.apply("Fisher", study.scenario(**REQUEST), per_class=2, alpha=a)[0] for a in (1e-3, 1e-12))
    assert taken == [2 * 2] and not same_weights(one, other)


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


def test_both_relearn_times_start_from_the_seed_of_the_scenario(monkeypatch):
    seeds = []
    for name in ("relearn_epochs", "relearn_steps"):
        monkeypatch.setattr(metrics, name, lambda *_, seed, **__: seeds.append(seed))
    s = scenario(**REQUEST, seed=7)
    study.relearn(s.original, s, **RELEARNING)
    assert seeds == [7, 7]


def test_the_watched_images_are_shared_among_the_forget_classes(tiny, monkeypatch):
    watched = []
    for name in ("relearn_epochs", "relearn_steps"):
        monkeypatch.setattr(metrics, name, lambda _, __, train, forget, **___: watched.append(forget.labels.tolist()))
    study.relearn(tiny.original, tiny, **RELEARNING)
    assert [sorted(labels) for labels in watched] == [[1, 1, 2, 2]] * 2


def test_the_relearn_time_of_the_masked_model_is_that_of_the_bare_network(tiny):
    network, _ = study.apply("NegGrad", tiny, lr=0.02, epochs=2, batch_size=8)
    settings = RELEARNING | {"cap": 40, "lr": 0.05, "per_epoch": 40}
    bare, masked = (study.relearn(m, tiny, **settings) for m in (network, MaskedLogits(network, [1, 2])))
    assert bare == masked and bare["relearn_epochs"]


def test_noise_is_learned_once_for_all_rates_and_its_seconds_count(tiny, monkeypatch):
    study._learned.cache_clear()
    learned, at_hand = [], study.noise_against
    monkeypatch.setattr(study, "noise_against", lambda *a, **o: learned.append(at_hand(*a, **o)) or learned[-1])
    seconds = [study.apply("UNSIR", tiny, **NOISE, impair_lr=lr)[1] for lr in (0.01, 0.02)]
    assert len(learned) == 1 and min(seconds) > learned[0].seconds > 0
    study.apply("UNSIR", tiny, **NOISE | {"noise_steps": 3})
    assert [len(noise.losses) for noise in learned] == [2, 3]


def test_retrain_never_saw_the_forget_classes(tiny, monkeypatch):
    recipes = []
    monkeypatch.setattr(study, "trained", lambda recipe, data: recipes.append(recipe))
    study._trained_once.cache_clear()
    with pytest.raises(AttributeError):
        study.apply("Retrain", tiny)
    study._trained_once.cache_clear()
    assert [recipe.left_out for recipe in recipes] == [(1, 2)]


def test_a_scenario_parts_its_training_data(tiny):
    assert set(tiny.retain.labels.tolist()) == {0, 3} and set(tiny.forget_set.labels.tolist()) == {1, 2}
    assert len(tiny.retain) + len(tiny.forget_set) == len(tiny.loaded.train)
    assert tiny.retain_subset.labels.bincount().tolist() == [5, 0, 0, 5]


def test_the_accuracy_is_the_originals_on_the_whole_test_set(tiny, monkeypatch):
    monkeypatch.setattr(metrics, "evaluate", lambda model, samples: (0.0, [model, samples]))
    assert tiny.accuracy == [tiny.original, tiny.loaded.test]


def test_an_unknown_method_is_answered_with_the_known_ones(tiny):
    with pytest.raises(ValueError, match="unknown method 'SISA': choose one of Original, Retrain"):
        study.apply("SISA", tiny)
    with pytest.raises(ValueError, match="unknown method 'SISA'"):
        outcomes({"mine": ["SISA", {}]}, **REQUEST)


def test_a_sweep_gives_each_method_the_settings_that_it_takes(tiny, tmp_path, monkeypatch):
    monkeypatch.setenv("UNSIR_RESULTS", str(tmp_path))
    methods = {"UNSIR": ["UNSIR", NOISE], "No noise": ["No noise", {}]}
    settings = [{"repair_epochs": n, "penalty": p} for n, p in [(1, 0.1), (2, 0.1), (1, 9.0)]]
    swept = sweep(settings, methods, [0, 3], **REQUEST)
    assert swept[["seed", "repair_epochs", "penalty", "method"]].values.tolist() == [
        [seed, s["repair_epochs"], s["penalty"], name] for seed in (0, 3) for s in settings for name in methods
    ]
    (by_hand,) = outcomes({"UNSIR": ["UNSIR", {**NOISE, **settings[1]}]}, **{**REQUEST, "seed": 3})
    row = swept[(swept.seed == 3) & (swept.repair_epochs == 2) & (swept.method == "UNSIR")].iloc[0]
    assert (row.A_Dr, row.A_Df, row.entropy) == (by_hand["A_Dr"], by_hand["A_Df"], by_hand["entropy"])
    alike = swept[(swept.method == "No noise") & (swept.repair_epochs == 1)].groupby("seed").entropy.nunique()
    assert alike.tolist() == [1, 1]


def test_a_sweep_over_the_requests_changes_the_scenario(tmp_path, monkeypatch):
    monkeypatch.setenv("UNSIR_RESULTS", str(tmp_path))
    settings = [{"forget": [1], "n": 1}, {"forget": [0, 1, 2], "n": 3}]
    swept = sweep(settings, {"Masked logits": ["Masked logits", {}]}, [0], labels=["n"], **REQUEST)
    expected = [outcomes({"m": ["Masked logits", {}]}, **{**REQUEST, "forget": s["forget"]})[0]["A_Dr"] for s in settings]
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


@pytest.fixture
def diverged(tiny):
    """The network is right about every test image but one, whose logits are nan."""

    def spoil(of):
        class Spoiled(torch.nn.Module):
            def forward(self, x):
                z = torch.zeros(len(x), 4)
                z[:, 0] = torch.where((x == spoilt).flatten(1).all(1), math.nan, 1.0)
                return z

        spoilt = of.inputs(slice(0, 1))
        return Spoiled()

    return spoil


def test_a_diverged_network_is_undefined(tiny, diverged):
    for measured in (
        study.measure(diverged(tiny.loaded.test), tiny),
        study.validate(diverged(tiny.loaded.validation), tiny),
    ):
        assert measured and all(math.isnan(value) for value in measured.values())
    again = study.relearn(diverged(tiny.forget_set), tiny, **RELEARNING | {"watched": 100})
    assert len(again) == 2 and all(math.isnan(value) for value in again.values())


def test_measures_are_those_of_metrics(tiny):
    model, test = tiny.original, tiny.loaded.test
    measured = study.measure(model, tiny)
    spread = metrics.prediction_distribution(model, test.only(tiny.forget))
    assert (measured["A_Dr"], measured["A_Df"]) == metrics.retain_forget_accuracy(model, test, tiny.forget)
    assert measured["entropy"] == metrics.normalised_entropy(spread) and measured["largest_share"] == spread.max().item()
    held_out = study.validate(model, tiny)
    assert tuple(held_out.values()) == metrics.retain_forget_accuracy(model, tiny.loaded.validation, tiny.forget)


@pytest.mark.parametrize("diverge, expected", [((0,), 1), ((1,), 0), ((0, 1), 0)], ids=["the first", "the second", "all"])
def test_a_diverged_candidate_is_chosen_only_where_all_diverged(diverge, expected, monkeypatch):
    tried = []

    def apply(method, s, **options):
        model = copy.deepcopy(s.original)
        if len(tried) in diverge:
            next(model.parameters()).data.fill_(math.nan)
        tried.append(model)
        return model, 0.0

    monkeypatch.setattr(study, "apply", apply)
    records = tried_with("NegGrad", [{"lr": 0.1}, {"lr": 0.2}], {})
    assert [record["chosen"] for record in records] == [i == expected for i in range(2)]
    assert [math.isnan(record["A_Df"]) for record in records] == [i in diverge for i in range(2)]


SETTINGS = {
    "noise_per_class": 3,
    "noise_total": 5,
    "noise_steps": 3,
    "noise_lr": 0.3,
    "penalty": 0.5,
    "batchnorm": "train",
    "copies": 3,
    "impair_lr": 0.01,
    "impair_epochs": 2,
    "repair_lr": 0.02,
    "repair_epochs": 2,
    "batch_size": 4,
    "head_factor": 3.0,
}


def test_every_setting_of_unsir_is_tried():
    assert SETTINGS.keys() == inspect.signature(unsir).parameters.keys() - {
        "model", "forget", "retain", "noise", "seed", "forgotten"
    }  # fmt: skip


def test_every_method_is_tuned_on_validation_data_with_what_all_have_in_common(tmp_path, monkeypatch):
    monkeypatch.setenv("UNSIR_RESULTS", str(tmp_path))
    candidates = {
        "NegGrad": [{"lr": 0.1}, {"lr": 1e-5}],
        "DELETE": [{"lr": 1e-5, "batch_size": 8}, {"lr": 1.0, "batch_size": 8}],
        "Head projection": [{}],
    }
    found = study.tuned(candidates, {"batch_size": 16, "epochs": 1, "share": 0.5}, **REQUEST)
    assert list(found) == list(candidates) and all(name == method.name for name, method in found.items())
    for name, common in (("NegGrad", {"batch_size": 16, "epochs": 1}), ("DELETE", {"epochs": 1})):
        records = tried_with(name, candidates[name], common)
        (best,) = (c for c, record in zip(candidates[name], records, strict=True) if record["chosen"])
        assert found[name].options == {**common, **best}
    assert found["Head projection"].options == {}


@pytest.mark.parametrize(
    "setting", [{}, *({k: v} for k, v in SETTINGS.items()), SETTINGS, {"seed": 1}], ids=lambda s: "-".join(s)
)
def test_studys_unsir_is_unsir(setting):
    options = {**NOISE, **{k: v for k, v in setting.items() if k != "seed"}}
    s = scenario(**REQUEST, seed=setting.get("seed", 0))
    direct = unsir(s.original, s.forget, s.retain_subset, seed=s.seed, **options).model
    here = [study.apply("UNSIR", s, **options)[0] for _ in range(2)]  # its noise learned, and kept
    assert all(same_weights(model, direct) for model in here)
    if setting:
        plain = scenario(**REQUEST)
        assert not same_weights(unsir(plain.original, plain.forget, plain.retain_subset, **NOISE).model, direct)


GRID_OPTIONS = {
    "noise_per_class": 2,
    "copies": 2,
    "batch_size": 4,
    "head_factor": 2.0,
    "impair_epochs": 2,
    "repair_epochs": 2,
}


@pytest.mark.parametrize("method", ["UNSIR", *study.CONTROLS])
@pytest.mark.parametrize("given", [{}, {"batchnorm": "train"}], ids=["eval", "train"])
def test_a_grid_holds_the_network_of_every_pair(method, given, monkeypatch):
    if given and method != "UNSIR":
        pytest.skip("a setting of the noise")
    options = {**GRID_OPTIONS, **given} | ({"noise_steps": 2} if method == "UNSIR" else {})
    networks, validate = [], study.validate
    monkeypatch.setattr(study, "validate", lambda model, s: networks.append(model) or validate(model, s))
    records = grid(method, [0.01, 0.03], [0.001, 0.02], options, **REQUEST, seed=1)
    s, pairs = scenario(**REQUEST, seed=1), [(i, r) for i in (0.01, 0.03) for r in (0.001, 0.02)]
    assert [(record["impair_lr"], record["repair_lr"]) for record in records] == pairs
    for network, record, (i, r) in zip(networks, records, pairs, strict=True):
        alone, _ = study.apply(method, s, **options, impair_lr=i, repair_lr=r)
        assert same_weights(network, alone)
        held_out = {f"validation_{k}": v for k, v in validate(alone, s).items()}
        tested = {k: v for k, v in study.measure(alone, s).items() if k in ("A_Dr", "A_Df")}
        assert record == {
            "trained": s.recipe.seed,
            "n_forget": len(s.forget),
            "impair_lr": i,
            "repair_lr": r,
            **held_out,
            **tested,
        }


def test_a_grids_defaults_are_those_of_the_method(monkeypatch):
    networks, validate = [], study.validate
    monkeypatch.setattr(study, "validate", lambda model, s: networks.append(model) or validate(model, s))
    grid("No noise", [0.02], [0.01], {}, **REQUEST)
    assert same_weights(networks[0], study.apply("No noise", scenario(**REQUEST))[0])


ONE = {"m": ["UNSIR", NOISE]}
UNKNOWN = [
    (lambda: sweep([{"penalti": 1}], ONE, [0], **REQUEST), "unknown settings of the sweep: penalti; choose among .*penalty"),
    (lambda: sweep([{"penalty": 1}], {"m": ["No noise", {}]}, [0], **REQUEST), "unknown settings of the sweep: penalty"),
    (lambda: sweep([{}], {"m": ["UNSIR", {"penalti": 1}]}, [0], **REQUEST), "unknown options of UNSIR: penalti"),
    (lambda: sweep([{}], ONE, [0], {"watchd": 1}, **REQUEST), "unknown options of relearning: watchd"),
    (lambda: sweep([{}], ONE, [0], **REQUEST, penalty=1), "unknown arguments of the sweep: penalty"),
    (lambda: sweep([{"recipe": {"architecture": "A", "epoch": 1}}], ONE, [0], **REQUEST), "settings of the recipe: epoch"),
    (lambda: outcomes({"m": ["UNSIR", {"noise": None}]}, **REQUEST), "unknown options of UNSIR: noise"),
    (lambda: outcomes({**ONE, "n": ["Original", {"lr": 1}]}, **REQUEST), "unknown options of Original: lr; there are none"),
    (lambda: outcomes(ONE, {"steps": 1}, **REQUEST), "unknown options of relearning: steps"),
    (
        lambda: outcomes(ONE, **REQUEST, sead=1),
        "unknown settings of the scenario: sead; choose among retain_per_class, seed",
    ),
    (lambda: trials("FineTune", [{"lr": 1}, {"rate": 1}], {}, **REQUEST), "unknown options of FineTune: rate"),
    (lambda: trials("FineTune", [{"lr": 1}], {"lr": 2}, **REQUEST), "options of FineTune are given twice: lr"),
    (lambda: trials("Released", [{"impair_lr": 1}], {"useds": 2}, **REQUEST), "unknown options of Released: useds"),
    (lambda: grid("UNSIR", [1], [1], {"copy": 2}, **REQUEST), "unknown options of UNSIR: copy"),
    (lambda: grid("UNSIR", [1], [1], {"repair_lr": 2}, **REQUEST), "options of UNSIR are given twice: repair_lr"),
    (lambda: grid("FineTune", [1], [1], {}, **REQUEST), "'FineTune' has no pair of rates: choose one of UNSIR, No noise"),
    (lambda: scenario(**{**REQUEST, "data": {"name": "shapes", "classes": 4}}), "unknown settings of the data: classes"),
    (lambda: scenario(**{**REQUEST, "recipe": {"architecture": "A", "epochs": 1, "lrs": 1}}), "settings of the recipe: lrs"),
]


@pytest.mark.parametrize("call, message", UNKNOWN, ids=[message[:50] for _, message in UNKNOWN])
def test_an_unknown_setting_is_named_before_any_work(call, message, monkeypatch):
    for work in ("trained", "load_once", "run_cases"):
        monkeypatch.setattr(study, work, lambda *_, **__: pytest.fail("work began"))
    with pytest.raises(ValueError, match=message):
        call()


def test_no_one_copies_the_retain_set_to_ask_its_shape(tiny, monkeypatch):
    monkeypatch.setattr(study.Scenario, "retain", property(lambda s: pytest.fail("copied")))
    assert study.CONTROLS["Unlearned noise"](tiny, 2).images.shape == study.CONTROLS["Blank images"](tiny, 2).images.shape
