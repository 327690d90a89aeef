import math
from dataclasses import asdict

import pandas as pd
import pytest
from tiny import forget_all

from unsir_utils import settings
from unsir_utils.data.paths import published_root
from unsir_utils.workshop import cases, search, store

START = {"retain_per_class": 10, "noise_per_class": 4, "noise_steps": 5, "copies": 3, "batch_size": 8}


def test_passes_by_hand():
    assert search.passes_of(START, n_classes=5, n_forget=2) == 5 * 8 + (30 + 3 * 8) + 30
    assert search.passes_of(START, n_classes=5, n_forget=2, noise=False) == 60


def test_combinations_change_two_things_or_more_and_each_in_one_way():
    a, other_a, b, c = {"copies": 1}, {"copies": 2}, {"noise_steps": 1}, {"impair_lr": 0.1, "repair_lr": 0.2}
    assert search.combinations([a, other_a, b, c]) == [
        {**b, **c}, {**a, **c}, {**a, **b}, {**a, **b, **c}, {**other_a, **c}, {**other_a, **b}, {**other_a, **b, **c},
    ]  # fmt: skip
    assert search.combinations([a, other_a]) == []


def test_the_order_of_names_makes_no_other_thing():
    assert search.combinations([{"impair_lr": 1, "repair_lr": 1}, {"repair_lr": 2, "impair_lr": 2}]) == []


def test_changes_that_overlap_are_refused():
    with pytest.raises(ValueError, match="impair_lr.*overlap"):
        search.combinations([{"impair_lr": 1.0}, {"impair_lr": 1.0, "repair_lr": 1.0}])


def test_candidates_are_each_change_and_as_many_combinations_as_there_is_room_for():
    changes = [{"copies": 1}, {"copies": 2}, {"noise_steps": 1}]
    single, several = search.candidates(START, changes, 5, 5, 2, dearest=1.0)
    assert single == [{**START, **change} for change in changes]
    assert len(several) == 1 and several[0]["copies"] in (1, 2) and several[0]["noise_steps"] == 1
    assert len(search.candidates(START, changes, 99, 5, 2, dearest=1.0)[1]) == 2
    with pytest.raises(ValueError, match="n_candidates must be at least 4"):
        search.candidates(START, changes, 3, 5, 2, dearest=1.0)


def test_the_draw_is_always_the_same():
    changes = [{"copies": n} for n in (1, 2, 4, 5, 6)] + [{"noise_steps": n} for n in (1, 2)]
    several = search.candidates(START, changes, 10, 5, 2, dearest=9.0)[1]
    assert [(c["copies"], c["noise_steps"]) for c in several] == [(5, 1), (6, 2)]


def test_what_costs_too_much_is_left_out_after_the_draw():
    changes = [{"noise_steps": 1}, {"retain_per_class": 20}, {"copies": 0}]  # 92, 184, 100 passes where the start has 124
    single, several = search.candidates(START, changes, 99, 5, 2, dearest=1.0)
    assert single == [{**START, "noise_steps": 1}, {**START, "copies": 0}]
    assert several == [{**START, "noise_steps": 1, "copies": 0}]
    exact = search.candidates(START, changes, 99, 5, 2, dearest=92 / 124)[0]
    assert exact == [{**START, "noise_steps": 1}]


def test_what_was_changed_in_words():
    rates = {"impair_lr": 0.1, "repair_lr": 0.2, "head_factor": 1.0}
    other = {**START, **rates, "retain_per_class": 9, "noise_steps": 1, "impair_lr": 0.3, "head_factor": 5.0}
    words = "retain images 9, noise steps 1, impair 0.3, head 5"
    assert search.changed(other, START | rates) == words
    assert search.changed(START, START) == "the paper's settings"


def runs(*a_df: float, left: list[int] | None = None) -> pd.DataFrame:
    return pd.DataFrame({"candidate": left or range(len(a_df)), "A_Df": a_df})


@pytest.mark.parametrize(
    "a_df, stay",
    [
        ((0.0, 1.0, 1.1, 0.5), [0, 1, 3]),
        ((3.0, 1.0, 3.0, 3.1), [0, 1, 2]),  # the start's is the bar where it is higher
        ((math.nan, 1.0, 1.1, math.nan), [0, 1]),
    ],
)
def test_who_stays_in_a_round(a_df, stay):
    assert search.staying(runs(*a_df)) == stay


def test_who_leaves_runs_no_further(monkeypatch):
    a_df = {1: [0.0, 5.0, 0.0, 0.0], 2: [2.0, 0.0, 2.0, 9.0]}  # by round and candidate
    seen = []

    def run_cases(function, given, label):
        n = len(seen) + 1
        seen.append([case["candidate"] for case in given])
        return pd.DataFrame([{"candidate": c["candidate"], "A_Df": a_df[n][c["candidate"]]} for c in given])

    monkeypatch.setattr(cases, "run_cases", run_cases)
    requests = [{"recipe": {"seed": 7}, "forget": [1]}, {"recipe": {"seed": 8}, "forget": [2]}]
    judged, left = search.in_rounds([START] * 4, requests)
    assert seen == [[0, 1, 2, 3], [0, 2, 3]] and left == [0, 2]
    assert judged["round"].tolist() == [1] * 4 + [2] * 3 and judged.network.tolist() == [7] * 4 + [8] * 3
    assert judged.forget.tolist() == ["[1]"] * 4 + ["[2]"] * 3


def test_totals_are_the_mean_and_the_worst_of_the_rounds():
    judged = {
        "candidate": [0, 1, 0],
        "image_passes": [9, 8, 9],
        "round": [1, 1, 2],
        "A_Dr": [70.0, 60, 80],
        "A_Df": [0.0, 2, 1],
    }
    found = search.totals(pd.DataFrame(judged))
    assert found.to_numpy().tolist() == [[9, 2, 75, 1], [8, 1, 60, 2]]


def stayed(*lines: tuple[int, int, float]) -> pd.DataFrame:
    return pd.DataFrame(lines, columns=["candidate", "image_passes", "A_Dr"]).set_index("candidate")


@pytest.mark.parametrize(
    "lines, fast, best",
    [
        ([(0, 900, 70.0), (1, 100, 68.9), (2, 200, 69.0), (3, 500, 75.0)], 2, 3),  # 1 is more than a point below
        ([(0, 900, 70.0), (1, 100, 71.0), (2, 100, 72.0), (3, 90, 72.0)], 3, 3),  # of equally good the cheaper
        ([(0, 900, 70.0), (1, 100, 71.0), (2, 100, 71.5)], 2, 2),  # of equally cheap the better
        ([(0, 900, 70.0), (4, 50, 80.0)], 0, 4),  # 4 has another batch size, which only `fast` minds
        ([(0, 900, math.nan), (2, 100, math.nan)], 2, 2),
        ([(0, 900, 70.0), (2, 100, math.nan)], 0, 0),
    ],
)
def test_the_two_rules(lines, fast, best):
    assert search.choice(stayed(*lines), [8, 8, 8, 8, 4]) == {"paper's": 0, "fast": fast, "best": best}


def test_the_rules_take_the_shipped_settings_from_the_published_search():
    table = pd.read_csv(published_root() / "laptop" / "tables" / "15_how_little_records.csv")
    last = table[table["round"] == table["round"].max()]
    own = table.drop_duplicates("candidate").set_index("candidate").sort_index()
    names = search.choice(search.totals(table).loc[search.staying(last)], own.batch_size.tolist())
    for name, shipped in (("fast", settings.FAST), ("best", settings.BEST)):
        chosen = own.loc[names[name], list(asdict(shipped).keys() & set(own))]
        assert chosen.to_dict() == {k: v for k, v in asdict(shipped).items() if k in chosen}


APART = dict(requests=[[0], [1]], search_models=[0], search_seeds=[0], elsewhere=[{"recipe_seed": 1}], confirm_seeds=[1])


@pytest.mark.parametrize(
    "given, named",
    [
        ({"requests": [[0], [1, 2]]}, "equally many"),
        ({"search_seeds": [0, 1]}, r"seeds \[1\] search and confirm"),
        ({"search_models": [1]}, r"networks of seeds \[1\]"),
    ],
)
def test_what_confirms_must_not_have_chosen(given, named):
    search.check_apart(**APART)
    with pytest.raises(ValueError, match=named):
        search.check_apart(**{**APART, **given})


def test_a_try_is_measured_on_validation_data_and_counts_its_passes(tmp_path, monkeypatch):
    monkeypatch.setattr(store, "FOLDER", tmp_path)
    forget_all()
    request = dict(
        data={"name": "shapes", "n_classes": 4, "per_class": 12},
        recipe={"architecture": "AllCNN-0.125", "epochs": 1, "batch_size": 16},
        forget=[1],
        seed=3,
    )
    own = {**START, "retain_per_class": 5, "head_factor": 2.0}
    monkeypatch.setattr(search, "validate", lambda model, s: {"A_Dr": len(s.retain_subset), "A_Df": s.seed})
    (found,) = search.try_out(7, own, **request)
    assert found["image_passes"] == search.passes_of(own, 4, 1) and found["seconds"] > 0
    assert (found["A_Dr"], found["A_Df"]) == (15, 3)
    forget_all()
