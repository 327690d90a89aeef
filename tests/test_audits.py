import pandas as pd
import pytest

from unsir_utils.audit.features import read
from unsir_utils.audit.membership import margins
from unsir_utils.audit.what_is_left import TELLING, TESTS
from unsir_utils.workshop import audits as module
from unsir_utils.workshop import store
from unsir_utils.workshop.audits import Half, attacked, audits, outcomes_audited, shadow
from unsir_utils.workshop.cases import run_cases
from unsir_utils.workshop.study import Method, by_replicate, outcomes, scenario
from unsir_utils.workshop.timing import unsir_passes

REQUEST = {
    "data": {"name": "shapes", "n_classes": 4, "per_class": 20},
    "recipe": {"architecture": "AllCNN-0.125", "epochs": 1, "batch_size": 16},
    "forget": [0],
    "retain_per_class": 4,
}
METHODS = {name: [name, {}] for name in ("Original", "Masked logits", "Retrain")}
SETTINGS = {"per_class": 10, "shots": 2, "steps": 1}


@pytest.fixture(autouse=True)
def own_models(tmp_path_factory, monkeypatch):
    monkeypatch.setattr(store, "FOLDER", tmp_path_factory.getbasetemp() / "audits")
    monkeypatch.setenv("UNSIR_RESULTS", str(tmp_path_factory.getbasetemp() / "audited"))
    module._yardstick.cache_clear()
    module._looked.cache_clear()


def test_a_row_a_method_and_test():
    records = pd.DataFrame(audits(METHODS, [1, 2], SETTINGS, {"impair_lr": 0.5}, **REQUEST))
    assert list(records.test) == list(TESTS) * 3 and list(records.method.unique()) == list(METHODS)
    assert (records.impair_lr == 0.5).all() and (records[records.method != "Original"].A_Df == 0).all()
    by_method = records.set_index(["method", "test"]).value.unstack("method")
    assert (by_method["Masked logits"] == by_method["Original"]).all()
    assert (by_method["Retrain"] != by_method["Original"]).any()


def test_the_yardstick_stands_for_all_seeds():
    first = audits({"Original": ["Original", {}]}, [1, 2], SETTINGS, **REQUEST, seed=0)
    again = audits({"Original": ["Original", {}]}, [1, 2], SETTINGS, **REQUEST, seed=7)
    assert module._yardstick.cache_info().hits == 1 and repr(first) == repr(again)


def test_bad_input_is_named_before_any_work(monkeypatch):
    monkeypatch.setattr(module, "_networks", lambda *_: pytest.fail("work has begun"))
    with pytest.raises(ValueError, match="retrainings hold 0"):
        audits(METHODS, [0, 1], **REQUEST)
    with pytest.raises(ValueError, match="unknown options of FineTune: speed"):
        audits({"FineTune": ["FineTune", {"speed": 1}]}, [1, 2], **REQUEST)


def test_beside_the_outcomes_stands_what_the_audit_finds_and_what_it_cost():
    passes = {"noise_per_class": 2, "noise_steps": 3, "copies": 2, "batch_size": 8}
    methods = {**METHODS, "UNSIR": ["UNSIR", {**passes, "impair_lr": 0.001, "repair_lr": 0.001}]}
    found = pd.DataFrame(outcomes_audited(methods, [1], SETTINGS, **REQUEST)).set_index("method")
    audited = pd.DataFrame(audits(methods, [1, 2], SETTINGS, **REQUEST)).set_index(["method", "test"]).value
    features = [test for test in TELLING if TESTS[test].of == "features"]
    for name in methods:
        assert found.loc[name, features].to_dict() == audited[name][features].to_dict()
    plain = pd.DataFrame(outcomes(methods, **REQUEST)).set_index("method")
    pd.testing.assert_frame_equal(found[["A_Dr", "A_Df", "entropy"]], plain[["A_Dr", "A_Df", "entropy"]])
    assert found.passes["Masked logits"] == 0 and found.passes["Retrain"] == len(scenario(**REQUEST).retain)
    whole = sum(unsir_passes(12, 2, 2, steps=3).values())
    assert found.passes["UNSIR"] == whole  # none of the images that the arguments are checked with


def test_what_a_network_is_asked_beforehand_is_no_pass():
    """Neither that it takes the images, in whatever precision, nor which of its layers is the first or the last."""
    methods = {name: [name, {}] for name in ("Bias shift", "Head projection")}
    methods |= {"NoT (subset)": ["NoT (subset)", {"epochs": 3, "batch_size": 8}]}
    records = outcomes_audited(methods, [1], SETTINGS, **REQUEST)
    retain = len(scenario(**REQUEST).retain_subset)
    assert [record["passes"] for record in records] == [0, 0, 3 * retain]


@pytest.mark.parametrize("method", ["UNSIR", "Fisher"])
def test_passes_are_those_of_the_method_whatever_ran_before(method):
    options = (
        {"per_class": 2} if method == "Fisher" else {"noise_per_class": 2, "noise_steps": 3, "copies": 2, "batch_size": 8}
    )
    first, again = (outcomes_audited({"it": [method, options]}, [1], SETTINGS, **REQUEST)[0] for _ in range(2))
    assert first["passes"] == again["passes"]
    if method == "UNSIR":  # batch statistics change the network that is unlearned, not what passes through it
        (other,) = outcomes_audited({"it": [method, {**options, "batchnorm": "train"}]}, [1], SETTINGS, **REQUEST)
        assert other["passes"] == first["passes"]


def test_methods_one_by_one_give_the_records_of_all_at_once_and_the_networks_are_read_once():
    together = outcomes_audited(METHODS, [1], SETTINGS, **REQUEST)
    alone = [
        record for name, m in METHODS.items() for record in outcomes_audited({name: m}, [1], SETTINGS, **REQUEST, seed=2)
    ]
    for record in together + alone:
        del record["seconds"]
    assert repr(alone) == repr(together) and module._looked.cache_info().misses == 1


def test_replicates_name_their_network_and_ask_once_what_no_seed_changes():
    methods = {network: {"Original": Method("Original"), "UNSIR": Method("UNSIR")} for network in (4, 7)}
    request = {name: value for name, value in REQUEST.items() if name != "recipe"}
    cases = by_replicate(methods, [[4, 0], [7, 1], [4, 2]], REQUEST["recipe"], {"at": 0.1}, **request)
    asked = [(c["recipe"]["seed"], c["seed"], [*c["methods"]], c["setting"]) for c in cases]
    assert asked == [
        (4, 0, ["Original", "UNSIR"], {"at": 0.1, "trained": 4}),
        (4, 2, ["UNSIR"], {"at": 0.1, "trained": 4}),
        (7, 1, ["Original", "UNSIR"], {"at": 0.1, "trained": 7}),
    ]


def test_every_record_has_the_setting_of_its_case():
    (record,) = outcomes_audited({"Original": ["Original", {}]}, [1], SETTINGS, {"trained": 5}, **REQUEST, seed=1)
    assert record["trained"] == 5 and record["passes"] == 0 and {*TELLING} <= {*record}


def test_twins_were_trained_on_opposite_halves_of_the_class_and_on_all_the_rest():
    s = scenario(**REQUEST)
    one, two, third = (Half(s.data, s.recipe, s.forget, s.retain_per_class, number) for number in (0, 1, 2))
    assert (one.member ^ two.member).all() and not (one.member == third.member).all()
    assert one.member.sum() == len(s.forget_set) // 2
    for half in (one, two):
        assert half.forget_set.images.equal(s.forget_set.images[half.member])
        assert half.retain.images.equal(s.retain.images)
    assert one.network.name != two.network.name != s.network.name


def test_shadow_networks_are_kept_and_attacked():
    cases = [{**REQUEST, "number": number, "methods": METHODS} for number in range(6)]
    records = run_cases(shadow, cases)
    s = scenario(**REQUEST)
    half = Half(s.data, module.replace(s.recipe, seed=3), s.forget, s.retain_per_class, 3)
    ((told, member),) = records[(records.number == 3) & (records.method == "Original")][["margins", "member"]].to_numpy()
    assert told == margins(read(half.original, s.forget_set), s.forget).tolist() and member == half.member.tolist()
    found = attacked(records.sample(frac=1, random_state=0)).set_index(["method", "number"]).sort_index()
    assert len(found) == 6 * len(METHODS) and found.AUC.between(0, 1).all()
    assert found.loc["Masked logits"].equals(found.loc["Original"])
    assert not found.loc["Retrain"].equals(found.loc["Original"])
    assert attacked(run_cases(shadow, [])).empty
