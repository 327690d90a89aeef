import math

import matplotlib.pyplot as plt
import pandas as pd
import pytest
from tiny import convnet

from unsir_utils.report import paper_table
from unsir_utils.settings import PAPER_RATES
from unsir_utils.workshop import cases, models, rows, store, study

DATA = {"name": "shapes", "n_classes": 3, "per_class": 60}
RECIPES = {"tiny": {"epochs": 2, "lr": 0.1, "batch_size": 16}, "tinier": {"epochs": 1, "batch_size": 8}}
REQUESTS = {"tiny": [[0], [0, 1]], "tinier": [[2]]}
ONE = [[0, 0]]  # training and seed


@pytest.fixture
def table() -> list[rows.Row]:
    return rows.table_rows(REQUESTS, DATA, RECIPES, ONE, retain_per_class=8)


@pytest.fixture
def learned(monkeypatch, tmp_path, table):
    """The originals of the rows, trained on little data."""
    monkeypatch.setattr(store, "FOLDER", tmp_path)
    for name in RECIPES:
        monkeypatch.setitem(models.ARCHITECTURES, name, convnet)
    monkeypatch.setattr(study.Scenario, "accuracy", 90.0)
    return rows.originals_of(table)


# workshop/rows.py


def test_a_row_is_a_network_and_a_request(table):
    assert [row.setting for row in table] == [
        {"network": "tiny", "n_forget": 1, "trained": 0}, {"network": "tiny", "n_forget": 2, "trained": 0},
        {"network": "tinier", "n_forget": 1, "trained": 0},
    ]  # fmt: skip
    assert table[1].request == {
        "data": DATA, "recipe": {"architecture": "tiny", "epochs": 2, "lr": 0.1, "batch_size": 16, "seed": 0},
        "forget": [0, 1], "retain_per_class": 8,
    }  # fmt: skip
    assert table[1].intact.forget == (0, 1) and table[1].intact.retain_per_class == 8
    assert rows.first_rows(table) == {"tiny": table[0], "tinier": table[2]}


def test_data_may_be_of_each_network():
    own = {"tiny": DATA, "tinier": {**DATA, "n_classes": 4}}
    assert [row.request["data"]["n_classes"] for row in rows.table_rows(REQUESTS, own, RECIPES, ONE)] == [3, 3, 4]


def test_replicates_may_be_of_each_network():
    table = rows.table_rows(REQUESTS, DATA, RECIPES, {"tiny": [[0, 5], [1, 6]], "tinier": [[2, 5], [2, 6]]})
    assert [(row.network, row.trained, row.seeds) for row in table] == [
        ("tiny", 0, [5]), ("tiny", 1, [6]), ("tiny", 0, [5]), ("tiny", 1, [6]), ("tinier", 2, [5, 6]),
    ]  # fmt: skip


def test_a_recipe_without_a_request_is_named():
    with pytest.raises(ValueError, match="tinier: a recipe, but nothing to forget"):
        rows.table_rows({"tiny": [[0]], "tinier": []}, DATA, RECIPES, ONE)


def test_every_request_meets_each_trained_network_with_its_seeds():
    table = rows.table_rows(REQUESTS, DATA, RECIPES, [[3, 5], [3, 6], [4, 7]])
    assert [(row.trained, row.intact.recipe.seed, row.seeds, row.request["forget"]) for row in table] == [
        (n, n, seeds, forget) for forget in ([0], [0, 1], [2]) for n, seeds in ((3, [5, 6]), (4, [7]))
    ]  # fmt: skip
    found = rows.cases_of(table, [{"UNSIR": study.Method("UNSIR")}] * 6, relearning={})
    assert [case["seed"] for case in found] == [5, 6, 7] * 3


def test_networks_are_trained_in_the_order_in_which_rows_are_complete(monkeypatch, table):
    """First the originals, which must have learned; then each row's, its retrained one after it."""
    monkeypatch.setattr(study.Scenario, "accuracy", 99.0)
    asked = []
    for module in (study, rows):
        monkeypatch.setattr(module, "train", lambda all_: asked.append([(r.architecture, r.left_out) for _, r in all_]))
    rows.originals_of(table)
    first, second = (tuple(forget) for forget in REQUESTS["tiny"])
    assert asked[0] == [("tiny", ()), ("tinier", ())]
    assert asked[1][:4] == [("tiny", ()), ("tiny", first), ("tiny", ()), ("tiny", second)]


def test_each_fold_is_a_network_of_its_own_with_settings_of_its_own(monkeypatch):
    table = rows.table_rows(REQUESTS, DATA, RECIPES, [[0, 5], [3, 5]], folded=True)
    assert [(row.network, row.setting["trained"], row.request["data"]["fold"], row.request["forget"]) for row in table] == [
        ("tiny", 0, 0, [0]), ("tiny", 3, 3, [0]), ("tiny", 0, 0, [0, 1]), ("tiny", 3, 3, [0, 1]),
        ("tinier", 0, 0, [2]), ("tinier", 3, 3, [2]),
    ]  # fmt: skip
    assert rows.first_rows(table) == {"tiny": table[0], "tinier": table[4]}
    asked = []

    def run_cases(function, given, label):
        asked.extend((case["data"]["fold"], case["forget"]) for case in given)
        best = {0: 0.2, 3: 0.1}
        tried = [(case["candidate"]["lr"], case["candidate"]["lr"] == best[case["data"]["fold"]]) for case in given]
        return pd.DataFrame([{"lr": lr, "A_Dr": 90.0 if is_best else 80.0, "A_Df": 0.0} for lr, is_best in tried])

    monkeypatch.setattr(cases, "run_cases", run_cases)
    monkeypatch.setattr(rows, "_behind", lambda row: 6)
    own = rows.chosen_of(rows.tries_of(table, "NegGrad", [{"lr": 0.1}, {"lr": 0.2}], {}), "lr")
    assert asked[::2] == asked[1::2] == [(0, [0]), (3, [0]), (0, [0, 1]), (3, [0, 1]), (0, [2]), (3, [2])]
    assert own == [{"lr": lr} for lr in (0.2, 0.1, 0.2, 0.1, 0.2, 0.1)]
    methods = [{"NegGrad": study.Method("NegGrad", options)} for options in own]
    found = rows.cases_of(table, methods, relearning={})
    assert [case["methods"]["NegGrad"].options["lr"] for case in found] == [0.2, 0.1, 0.2, 0.1, 0.2, 0.1]
    assert [case["setting"]["trained"] for case in found] == [0, 3, 0, 3, 0, 3]


def test_an_original_at_chance_is_refused(monkeypatch, table):
    monkeypatch.setattr(study.Scenario, "accuracy", 49.0)  # of three classes
    monkeypatch.setattr(study, "train", list)
    with pytest.raises(ValueError, match="tiny: .*train it longer"):
        rows.originals_of(table)
    with pytest.raises(ValueError, match="7: .*train it longer"):
        study.intact_of([[7, 0], [7, 1]], {"architecture": "tiny", "epochs": 1}, data=DATA, forget=[0])


def test_an_absent_file_of_weights_is_named_before_any_training(monkeypatch):
    recipes = {**RECIPES, "tinier": {"epochs": 1, "weights": "file:nowhere"}}
    monkeypatch.setattr(study, "each", lambda *_: pytest.fail("something was trained"))
    with pytest.raises(FileNotFoundError, match="the weights file:nowhere are not at"):
        rows.originals_of(rows.table_rows(REQUESTS, DATA, recipes, ONE))


def test_settings_are_tried_and_chosen_on_each_row(monkeypatch, table):
    asked, right = [], {(0,): 0.1, (0, 1): 0.2, (2,): 0.2}

    def run_cases(function, given, label):
        asked.extend(given)
        assert function is study.trial
        tried = [(case["candidate"]["lr"], right[tuple(case["forget"])]) for case in given]
        return pd.DataFrame([{"lr": lr, "A_Dr": 90.0 if lr == best else 80.0, "A_Df": 0.0} for lr, best in tried])

    monkeypatch.setattr(cases, "run_cases", run_cases)
    tried = rows.tries_of(table, "NegGrad", [{"lr": 0.1}, {"lr": 0.2}], {"epochs": 1})
    assert [case["forget"] for case in asked] == [[0], [0], [0, 1], [0, 1], [2], [2]]
    assert [case["recipe"]["architecture"] for case in asked] == ["tiny"] * 4 + ["tinier"] * 2
    assert [case["candidate"]["lr"] for case in asked] == [0.1, 0.2] * 3
    assert all((case["seed"], case["method"], case["options"]) == (0, "NegGrad", {"epochs": 1}) for case in asked)
    assert rows.chosen_of(tried, "lr") == [{"lr": 0.1}, {"lr": 0.2}, {"lr": 0.2}]
    assert list(tried.network) == ["tiny"] * 4 + ["tinier"] * 2 and list(tried.n_forget) == [1, 1, 2, 2, 1, 1]
    behind = [len(row.intact.loaded.validation.only(row.request["forget"])) for row in table]
    assert list(tried.images) == [n for n in behind for _ in "ab"] and behind[1] > behind[0] > 0


def test_a_network_may_have_candidates_of_its_own(monkeypatch, table):
    def run_cases(function, given, label):
        return pd.DataFrame(
            [{"lr": case["candidate"]["lr"], "A_Dr": case["candidate"]["lr"], "A_Df": 0.0} for case in given]
        )

    monkeypatch.setattr(cases, "run_cases", run_cases)
    own = {"tinier": [{"lr": 0.3}], "tiny": [{"lr": 0.2}, {"lr": 0.1}]}
    tried = rows.tries_of(table, "NegGrad", own, {})
    assert list(tried.lr) == [0.2, 0.1, 0.2, 0.1, 0.3] and list(tried.network) == ["tiny"] * 4 + ["tinier"]
    assert rows.chosen_of(tried, "lr") == [{"lr": 0.2}, {"lr": 0.2}, {"lr": 0.3}]


def test_the_methods_of_a_row_stand_beside_their_controls():
    own = {"impair_lr": 0.5, "repair_lr": 0.25}
    found = rows.with_controls(own, {"copies": 3, "noise_per_class": 2}, NegGrad=study.Method("NegGrad"))
    assert list(found) == [
        "Original", "Retrain", "NegGrad", "Masked logits", "UNSIR (paper's rates)", "No noise (paper's rates)",
        "UNSIR (chosen rates)", "No noise (chosen rates)",
    ]  # fmt: skip
    for method in ("UNSIR", "No noise"):
        at = {which: found[f"{method} ({which})"].options for which in ("paper's rates", "chosen rates")}
        assert at["chosen rates"] == {**at["paper's rates"], **own} and at["paper's rates"].items() >= PAPER_RATES.items()
        assert at["chosen rates"]["copies"] == 3


def test_what_no_seed_changes_runs_once_on_each_network():
    table = rows.table_rows(REQUESTS, DATA, RECIPES, [[0, 5], [0, 6], [1, 5]])
    methods = [{"Retrain": study.Method("Retrain"), "UNSIR": study.Method("UNSIR")} for _ in table]
    found = rows.cases_of(table, methods, relearning={"cap": 2})
    assert [(case["setting"]["n_forget"], case["seed"], *case["methods"]) for case in found] == [
        (n, *run) for n in (1, 2, 1) for run in ((5, "Retrain"), (5, "UNSIR"), (6, "UNSIR"), (5, "Retrain"), (5, "UNSIR"))
    ]
    assert found[5]["forget"] == [0, 1] and found[8]["recipe"]["seed"] == 1
    assert all(case["relearning"] == {"cap": 2} for case in found)


# report/paper_table.py

RECORDS = pd.DataFrame(
    [
        ("tiny", 1, "Original", 0, 80.0, 90.0, 0.0),
        ("tiny", 1, "UNSIR", 0, 70.0, 2.0, 3.0),
        ("tiny", 1, "UNSIR", 1, 74.0, 0.0, None),
        ("tiny", 2, "Original", 0, 82.0, 91.0, 0.0),
        ("tiny", 2, "UNSIR", 0, math.nan, math.nan, math.nan),
    ],
    columns=["network", "n_forget", "method", "seed", "A_Dr", "A_Df", "relearn_epochs"],
)


def test_the_table_has_means_their_spread_and_censored_times():
    cells = paper_table.summary(RECORDS, cap=5).astype(str).to_numpy().tolist()
    assert cells == [
        ["tiny", "1", "Original", "80.0", "90.0", "0"],
        ["tiny", "1", "UNSIR", "72.0 ± 2.8", "1.0 ± 1.4", ">4"],  # 4 / sqrt(2), 2 / sqrt(2); (3 + 5) / 2
        ["tiny", "2", "Original", "82.0", "91.0", "0"],
        ["tiny", "2", "UNSIR", "undefined", "undefined", "undefined"],
    ]


def test_only_runs_that_have_a_time_can_be_past_the_cap():
    assert paper_table.past_the_cap(RECORDS) == ["UNSIR: 1 of 2 runs"]
    assert paper_table.past_the_cap(RECORDS[RECORDS.method == "Original"]) == []


def test_the_networks_and_their_data_are_told(learned):
    told = paper_table.networks(learned).to_dict("records")
    weights = sum(p.numel() for p in convnet(3).parameters())
    assert told[0] == {
        "network": "tiny", "parameters": f"{weights:,}", "data": "shapes3", "training images": "162",
        "shape of one": str(learned["tiny"].loaded.train.shape), "classes": "3", "test accuracy (%)": "90.0",
    }  # fmt: skip
    assert [line["network"] for line in told] == ["tiny", "tinier"]
    images, classes = paper_table.sizes(learned)
    assert classes == {"tiny": 3, "tinier": 3} and images["tiny"] * 3 == len(learned["tiny"].loaded.test)
    assert paper_table.trained_on(learned).startswith(
        "tiny on shapes3 (162 training images, 2 epochs of onecycle, from scratch)"
    )


@pytest.mark.parametrize(
    "recipe, told",
    [
        ({"weights": "IMAGENET1K_V1"}, "2 epochs of onecycle, ImageNet weights)"),
        ({"augment": True}, "2 epochs of onecycle, augmented, from scratch)"),
        ({"augment": True, "label_smoothing": 0.1}, "2 epochs of onecycle, augmented, label smoothing 0.1, from scratch)"),
        ({"weights": "file:some/where/body.safetensors"}, "2 epochs of onecycle, from the weights in body.safetensors)"),
    ],
    ids=str,
)
def test_the_caption_tells_what_a_network_started_from(recipe, told):
    (row,) = rows.table_rows({"tiny": [[0]]}, DATA, {"tiny": {"epochs": 2, **recipe}}, ONE)
    caption = paper_table.trained_on({"tiny": row.intact})
    assert caption.startswith("tiny on shapes3 (") and caption.endswith(told)


def test_another_architecture_under_a_networks_name_is_told():
    (row,) = rows.table_rows({"ResNet18": [[0]]}, DATA, {"ResNet18": {"architecture": "ResNet18-3x3", "epochs": 2}}, ONE)
    assert paper_table.trained_on({"ResNet18": row.intact}).startswith("ResNet18 (ResNet18-3x3) on shapes3 (")


def test_the_caption_tells_on_how_many_trainings_the_cells_rest():
    runs = [("tiny", 0, 0), ("tiny", 1, 1), ("tinier", 0, 0), ("tinier", 0, 1)]
    told = paper_table.replicated(pd.DataFrame(runs, columns=["network", "trained", "seed"]))
    assert told == "tiny: 2 networks, 1 seed each; tinier: 1 network, 2 seeds"


def test_the_folds_are_shown_with_what_was_chosen_in_each():
    common = {"network": "tiny", "method": "UNSIR", "A_Dr": 1.0, "A_Df": 0.0, "chosen": True, "images": 6}
    tried = pd.DataFrame({"trained": [0, 2], "n_forget": 1, **common})
    shown = paper_table.choices(tried)
    assert shown["fold or seed"].tolist() == ["0", "2"] and "#forget" not in shown
    shown = paper_table.choices(tried.assign(trained=0, n_forget=[1, 4]))
    assert shown["#forget"].tolist() == ["1", "4"] and "fold or seed" not in shown


def test_every_candidate_is_shown_and_the_chosen_one_is_marked():
    unsir = pd.DataFrame({"impair_lr": [0.1, 0.2], "A_Dr": [90.04, math.nan], "A_Df": [0.0, None], "chosen": [True, False]})
    ascent = pd.DataFrame({"lr": [0.5], "A_Dr": [80.0], "A_Df": [1.0], "chosen": [True]})
    setting = {"network": "tiny", "n_forget": 1, "trained": 0, "images": 6}
    both = [part.assign(**setting, method=name) for name, part in (("UNSIR", unsir), ("NegGrad", ascent))]
    table = paper_table.choices(pd.concat(both))
    assert list(table) == ["network", "method", "impair_lr", "lr", "A_Dr (%)", "A_Df (%)", "images behind A_Df", "chosen"]
    assert table.to_numpy().tolist() == [
        ["tiny", "UNSIR", "0.1", "", "90.0", "0.0", "6", "chosen"],
        ["tiny", "UNSIR", "0.2", "", "undefined", "undefined", "6", ""],
        ["tiny", "NegGrad", "", "0.5", "80.0", "1.0", "6", "chosen"],
    ]


def test_the_caption_tells_how_times_were_measured():
    told = paper_table.relearned(per_epoch=64, cap=3, watched=50, steps_cap=0)
    assert told == "relearn epochs of 64 images, at most 3, watching 50 forgotten images"


@pytest.mark.parametrize("n_rows, shape", [(1, (1, 1)), (4, (1, 4)), (6, (2, 4))])
def test_each_row_has_a_panel(n_rows, shape):
    one = RECORDS[RECORDS.n_forget == 1]
    figure = paper_table.panels(pd.concat([one.assign(n_forget=n + 1) for n in range(n_rows)]), {"tiny": 9})
    titles = [axis.get_title() for axis in figure.axes]
    grid = figure.axes[0].get_subplotspec().get_gridspec()
    plt.close(figure)
    assert titles == [f"tiny\n{n + 1} of 9 classes" for n in range(n_rows)] and (grid.nrows, grid.ncols) == shape


def test_of_more_than_four_panels_a_networks_stand_in_a_line():
    one = RECORDS[RECORDS.n_forget == 1]
    rows = [one.assign(network=network, n_forget=n) for network in ("tiny", "large") for n in (1, 5, 10)]
    figure = paper_table.panels(pd.concat(rows), {"tiny": 40, "large": 40})
    places = [axis.get_subplotspec().rowspan.start for axis in figure.axes]
    plt.close(figure)
    assert places == [0, 0, 0, 1, 1, 1]
