import pandas as pd
import pytest

from unsir_utils.audit.what_is_left import TESTS
from unsir_utils.workshop import audits as module
from unsir_utils.workshop import store
from unsir_utils.workshop.audits import audits

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
    module._yardstick.cache_clear()


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
