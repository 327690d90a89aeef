import math

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import stats

from unsir_utils import Samples
from unsir_utils.report import claims
from unsir_utils.report.judge import FAILS, HOLDS, NOT_THE_NOISE, UNDECIDED, UNDEFINED, VERDICTS, judge

NAN = math.nan
UNSIR, BARE = "UNSIR (paper's rates)", "No noise (paper's rates)"
STEP = claims.Step(A_Dr=0.25, A_Df=4.0)


def records(columns: str, *rows: tuple) -> pd.DataFrame:
    return pd.DataFrame(rows, columns=columns.split())


def per_seed(method: str, column: str, *values: float, **same: object) -> pd.DataFrame:
    return pd.DataFrame([{"method": method, "seed": s, column: v, **same} for s, v in enumerate(values)])


def outcome(tests: list) -> dict[str, str]:
    """Of the tests at the paper's rates, by their words up to the bracket."""
    lines = judge(tests)
    return {line["tested"].split(" (")[0]: line["verdict"] for line in lines if "chosen" not in line["tested"]}


def the(tests: list, i: int = 0, criterion: int = 0) -> list[float]:
    """The values of one criterion."""
    return tests[i].criteria[criterion].values.tolist()


def test_every_claim_states_what_decides_it():
    stated = claims.claims()
    papers, letters = list(stated)[:9], list(stated)[9:]
    assert papers == [*range(1, 10)] and letters == sorted(set(letters)) and "".join(letters).isupper()
    for claim in stated.values():
        assert {"claim", "statistic", "holds_if"} <= claim.keys()
        assert all(change.keys() == {"until", "was", "why"} for change in claim.get("history", []))


# By replicate


def test_values_are_by_network_and_seed():
    frame = records("method seed A_Df", ("UNSIR", 0, 1.0), ("UNSIR", 1, 2.0), ("No noise", 0, 3.0))
    assert claims.values(frame, "A_Df", method="UNSIR").to_dict() == {(0, 0): 1.0, (0, 1): 2.0}
    assert claims.values(frame.assign(trained=[5, 6, 5]), "A_Df", method="UNSIR").index.tolist() == [(5, 0), (6, 1)]
    assert len(claims.values(frame, "A_Df", method="Fisher")) == 0


def test_what_no_seed_changes_stands_beside_every_seed_of_its_network():
    frame = records(
        "trained method seed A_Dr",
        *[(n, "Original", 0, 80.0 + n) for n in (0, 1)],
        *[(n, "UNSIR", s, 70.0 + s) for n in (0, 1) for s in (0, 1)],
    )
    assert claims.lost(frame, "UNSIR").to_dict() == {(0, 0): 10.0, (0, 1): 9.0, (1, 0): 11.0, (1, 1): 10.0}


def test_a_replicate_without_its_partner_is_undefined():
    two = claims.values(per_seed("UNSIR", "A_Dr", 1.0, 2.0, 3.0), "A_Dr")
    partner = claims.values(per_seed("UNSIR", "A_Dr", 1.0, 2.0), "A_Dr")
    assert np.isnan(claims.at(partner, two)).tolist() == [False, False, True]


# The tables


def table(unsir: dict, bare: dict | None = None, **others: dict) -> pd.DataFrame:
    """One network, a row of one forget class; of each method, lists over seeds."""
    methods = {UNSIR: unsir, BARE: bare or unsir, **others}
    frames = []
    for method, columns in methods.items():
        n = len(next(iter(columns.values())))
        frames.append(pd.DataFrame({"network": "R", "n_forget": 1, "method": method, "seed": range(n), **columns}))
    return pd.concat(frames, ignore_index=True)


@pytest.mark.parametrize(
    "a_dr, bare, expected",
    [
        ([62.0, 63.0, 64.0], [60.0, 60.0, 60.0], "+3.0 [+0.5, +5.5] points"),  # 4.303 * 1 / sqrt(3)
        ([62.0], [60.0], "+2.0 points"),
        ([62.0, NAN], [60.0, 60.0], "undefined"),
    ],
)
def test_what_the_noise_adds_is_a_paired_number_with_its_interval(a_dr, bare, expected):
    line = claims.noise_adds(table({"A_Dr": a_dr, "A_Df": 0.0}, {"A_Dr": bare, "A_Df": 0.0}), 100, 10).iloc[0]
    assert (line["A_Dr"], line["network"], line["#forget"], line["rates"]) == (expected, "R", "1", "paper's rates")


def test_the_size_of_a_class_may_differ_by_network():
    given = table({"A_Dr": [62.0] * 3, "A_Df": 0.0}, {"A_Dr": [60.0] * 3, "A_Df": 0.0})
    alike = [claims.noise_adds(given, size, 10).iloc[0]["A_Df"] for size in (1, {"R": 1})]
    assert alike == ["+0.0 [-248.4, +248.4] points"] * 2  # one image of one is 100 %


ORIGINAL = {"Original": {"A_Dr": [76.0], "A_Df": [81.0], "relearn_epochs": [0]}}


def run(a_df: list, a_dr: list, epochs: list) -> dict:
    return {"A_Dr": a_dr, "A_Df": a_df, "relearn_epochs": epochs}


GOOD = run([0.0] * 3, [73.0, 73.2, 73.1], [NAN] * 3)
BAD = run([40.0, 41.0, 42.0], [60.0, 60.5, 61.0], [1, 1, 1])


def test_the_tables_claims():
    fine = table(GOOD, BAD, **ORIGINAL, FineTune=run([80.0] * 3, [75.0] * 3, [0, 0, 0]))
    found = outcome(claims.tables(fine, cap=20, images=1000, classes=10))
    assert set(found.values()) == {HOLDS} and len(found) == 3
    poor = table(BAD, GOOD, **ORIGINAL, FineTune=run([80.0] * 3, [75.0] * 3, [9, 9, 9]))
    assert set(outcome(claims.tables(poor, 20, 1000, 10)).values()) == {FAILS}


def test_the_same_without_noise_is_said():
    found = outcome(claims.tables(table(GOOD, GOOD, **ORIGINAL), 20, 1000, 10))
    assert set(found.values()) == {NOT_THE_NOISE}


def test_the_loss_is_from_the_networks_own_original():
    tests = claims.tables(table(GOOD, BAD, **ORIGINAL), 20, 1000, 10)
    assert the(tests, 1) == pytest.approx([3.0, 2.8, 2.9])


@pytest.mark.parametrize(
    ("ours", "theirs", "low", "high", "verdict"),
    [
        ([5, 6, 7], [1, 1, 1], [3, 4, 5], [3, 4, 5], HOLDS),
        ([2, 2, 2], [1, 1, 1], [0, 0, 0], [0, 0, 0], UNDECIDED),
        ([NAN] * 3, [1, 1, 1], [19, 19, 19], [math.inf] * 3, HOLDS),
        ([5, 5, 5], [NAN] * 3, [-math.inf] * 3, [-37, -37, -37], FAILS),
        ([NAN] * 3, [NAN] * 3, [-math.inf] * 3, [math.inf] * 3, UNDECIDED),
        ([0, 0, 0], [0, 0, 0], [0, 0, 0], [0, 0, 0], UNDECIDED),
    ],
)
def test_relearning_is_held_against_twice_a_baselines_and_a_cap_only_bounds_it(ours, theirs, low, high, verdict):
    """Past a cap of 20 epochs a time is 21 or more."""
    bare = run([0.0] * 3, [73.0] * 3, [0, 0, 0])
    frame = table(run([0.0] * 3, [73.0] * 3, ours), bare, **ORIGINAL, NegGrad=run([1.0] * 3, [60.0] * 3, theirs))
    tests = [t for t in claims.tables(frame, 20, 1000, 10) if t.claim == 3]
    criterion = tests[0].criteria[0]
    assert (criterion.values.tolist(), criterion.highest.tolist()) == (low, high)
    assert outcome(tests).popitem()[1] == verdict


def test_a_diverged_network_is_not_one_that_was_never_relearned():
    frame = table(run([NAN] * 3, [NAN] * 3, [NAN] * 3), **ORIGINAL, NegGrad=run([1.0] * 3, [60.0] * 3, [1, 1, 1]))
    assert set(outcome(claims.tables(frame, 20, 1000, 10)).values()) == {UNDEFINED}


def test_nearer_with_more_classes_compares_the_largest_with_the_smallest_request():
    rows = []
    for n, loss in ((1, 8.0), (2, 6.0), (4, 3.0)):
        rows += [("R", n, "Original", 0, 80.0, 80.0), ("R", n, "Masked logits", 0, 80.0 + n, 0.0)]
        rows += [("R", n, m, s, 80.0 - loss + 0.1 * s * n, 0.0) for m in (UNSIR, BARE) for s in range(3)]
    frame = records("network n_forget method seed A_Dr A_Df", *rows)
    tests = [t for t in claims.tables(frame.assign(relearn_epochs=NAN), 20, 1000, 10) if "nearer" in t.tested]
    assert the(tests) == pytest.approx([-5.0, -5.3, -5.6])
    assert "Masked logits holds" in judge(tests[:1])[0]["controls"], "no seed changes a mask: one record is all there is"
    assert not [t for t in claims.tables(frame[frame.n_forget < 4], 20, 1000, 10) if "nearer" in t.tested]


@pytest.mark.parametrize(("accuracy", "verdict"), [(75.0, NOT_THE_NOISE), (48.4, UNDEFINED)])
def test_a_network_that_hardly_learned_is_no_test(accuracy, verdict):
    frame = table(GOOD, GOOD, **ORIGINAL)
    lines = judge(claims.works_on_each(frame, {"R": accuracy}, {"R": 1000}, {"R": 10}))
    assert lines[0]["verdict"] == verdict and (accuracy > 70 or "48.4 %" in lines[0]["measured"])


# The analyses


def test_spread_is_judged_in_each_network_and_beside_retrain():
    frame = pd.concat([per_seed(UNSIR, "largest_share", 0.3, 0.31, 0.32), per_seed("Retrain", "largest_share", 0.25)])
    tests = claims.spread(frame, images=1000)
    assert the(tests, 0, 1) == pytest.approx([0.05, 0.06, 0.07])
    assert outcome(tests) == {"no class dominates": HOLDS}


def test_distance_is_the_median_of_the_layers_log_ratios():
    rows = [("Retrain", 0, 0, layer, 1.0) for layer in "abc"]
    rows += [(UNSIR, 0, s, layer, d) for s in range(3) for layer, d in zip("abc", (10.0, 2.0, 0.5), strict=True)]
    frame = records("method trained seed layer distance", *rows)
    assert the(claims.distance(frame)) == pytest.approx([math.log10(2)] * 3)


def test_counts_are_exact_and_seconds_are_judged_on_a_gpu_only():
    lines = judge(claims.counted({"Retrain": 54.0, "Fisher (loop)": 13.5}))
    assert [(line["verdict"], line["replicates"]) for line in lines] == [(FAILS, "exact"), (UNDEFINED, "exact")]
    assert lines[1]["measured"].startswith("13.5 times UNSIR's, but one image a pass takes far longer")
    seconds = claims.values(per_seed("", "s", 1900.0, 1901.0, 1902.0), "s")
    timed = judge(claims.counted({"Fisher (loop)": 13.5}, {"Fisher (loop)": seconds}))
    assert [line["verdict"] for line in timed] == [UNDEFINED, HOLDS]


def test_requests_in_turn_are_held_against_one_for_all():
    rows = [
        (UNSIR, order, s, 3, a_dr + s / 10, 0.0)
        for s in range(3)
        for order, a_dr in (("one after another", 70.0), ("all at once", 72.0))
    ]
    tests = claims.in_turn(records("method order seed asked A_Dr A_Df", *rows), n_asked=3)
    assert the(tests, 0, 1) == pytest.approx([2.0, 2.0, 2.0]) and outcome(tests) == {"requests in turn": HOLDS}
    bare = [(BARE, *row[1:]) for row in rows]
    assert outcome(claims.in_turn(records("method order seed asked A_Dr A_Df", *rows, *bare), 3)) == {
        "requests in turn": NOT_THE_NOISE
    }


def gaze(forget: list[float], method: str = UNSIR) -> pd.DataFrame:
    """Three networks, one image of each part; the retain image keeps 0.9 of its map. nan: the map is empty afterwards."""
    rows = [
        (method, s, s, "true", part, c, False, np.isnan(c))
        for s, f in enumerate(forget)
        for part, c in (("forget", f), ("retain", 0.9))
    ]
    return pd.DataFrame(
        rows, columns=["method", "trained", "seed", "explained", "part", "cosine", "empty before", "empty after"]
    )


def test_the_gaze_is_compared_between_the_parts():
    tests = claims.looks_away(gaze([0.1, 0.2, 0.3]))
    assert the(tests) == pytest.approx([0.8, 0.7, 0.6])


@pytest.mark.parametrize("retrained, outcome", [([0.5], UNDEFINED), ([0.5, 0.51, 0.52], HOLDS)])
def test_one_retrained_network_proves_nothing_however_often_it_is_compared(retrained, outcome):
    frame = pd.concat([gaze([0.1, 0.2, 0.3]), gaze(retrained, "Retrain")])
    assert judge(claims.looks_away(frame))[0]["controls"] == f"No noise undefined; Retrain {outcome}"


def test_in_the_second_reading_a_map_that_is_empty_afterwards_counts_as_zero():
    assert the(claims.looks_away(gaze([NAN] * 3)), 1) == pytest.approx([0.9] * 3)


def test_each_network_takes_the_place_of_the_one_retrained_from_its_start():
    between = {(0, 1): 0.1, (0, 2): 0.2, (1, 2): 0.3}
    rows = [("Retrain", n, 0, k, d, d) for pair, d in between.items() for n, k in (pair, pair[::-1])]
    rows += [(UNSIR, n, s, k, 0.3 + s, 0.6) for n, s in ((0, 0), (0, 1), (1, 0), (2, 0)) for k in range(3) if k != n]
    rows[-1] = (*rows[-1][:4], 0.9, 0.6)
    frame = records("method trained seed against tv_retain tv_forget", *rows)
    tests = claims.like_retrained(frame)
    assert the(tests) == pytest.approx([0.3 / 0.15, 1.3 / 0.15, 0.3 / 0.2, 0.6 / 0.25])
    assert tests[0].criteria[0].interval().replicates == "3 networks"
    same = frame.assign(tv_retain=frame.tv_retain.where(frame.method != "Retrain", 0.0))
    assert outcome(claims.like_retrained(same)) == {"answers like one more retrained model": UNDEFINED}


def test_a_small_share_is_held_against_the_largest():
    rows = [
        (UNSIR, s, share, a_dr, 0.0) for s in range(3) for share, a_dr in ((0.1, 70.0 + s), (0.3, 75.0 + s), (0.03, 9.0))
    ]
    tests = claims.small_share(records("method seed share A_Dr A_Df", *rows), 0.1)
    assert the(tests, 0, 1) == [5.0] * 3 and "30 %" in tests[0].criteria[1].what


def test_lambda_is_held_against_none():
    rows = [("paper's rates", s, lam, 70.0 + s + 10 * lam, 0.0) for s in range(3) for lam in (0.0, 0.1, 10.0)]
    tests = claims.penalty(records("rates seed penalty A_Dr A_Df", *rows), 0.1)
    assert the(tests) == pytest.approx([1.0] * 3)


def test_unsir_is_held_against_those_that_see_what_it_sees_at_their_own_settings():
    subset, a_dr = "retain subset", {"UNSIR": 70.0, "No noise": 99.0, "NoT (subset)": 72.0, "More retain": 99.0}
    rows = [(m, subset, s, value + s, 0.5) for m, value in a_dr.items() for s in range(3)]
    rows += [("Bias shift", "none", 0, 95.0, 0.0), ("SalUn", "forget set and all retain", 0, 95.0, 0.0)]
    (test,) = claims.keeps_as_much(records("method access seed A_Dr A_Df", *rows))
    assert test.tested == "UNSIR keeps as much as NoT (subset)"
    assert the([test]) == [0.5] * 3 and the([test], 0, 1) == [2.0] * 3


def chosen(a_df: float, a_dr: float) -> list:
    """Three networks, two requests each; the originals' A_Dr is 90."""
    methods = {"Original": (90.0, 95.0), "Masked logits": (91.0, 0.0), "forget()": (a_dr, a_df)}
    rows = [(n, i, m, *found, 1000) for n in range(3) for i in range(2) for m, found in methods.items()]
    return claims.choice_lands(records("network asked method A_Dr A_Df images", *rows).assign(seed=0))


@pytest.mark.parametrize(
    "a_df, a_dr, verdict", [(0.0, 89.0, HOLDS), (3.0, 89.0, FAILS), (0.0, 88.0, FAILS), (0.0, 88.4, UNDECIDED)]
)
def test_a_choice_lands_where_the_class_is_gone_and_the_rest_is_kept(a_df, a_dr, verdict):
    (test,) = chosen(a_df, a_dr)
    (line,) = judge([test])
    assert line["verdict"] == verdict and line["replicates"] == "3 networks"
    assert line["controls"] == "Masked logits holds"
    assert the([test], 0, 0) == [a_df] * 6 and the([test], 0, 1) == [90 - a_dr] * 6


def scattered(more: float, before: float = 90.0) -> list:
    """Two recipes, three networks each: what Fisher keeps more than shuffled at 1e-6; at 1e-7 it keeps all."""
    both = ("one-cycle", "released")
    rows = [
        (recipe, m, n, n, alpha, 60.0 + n + (more if m == "Fisher" and alpha == 1e-6 else 50.0 if m == "Fisher" else 0.0))
        for recipe in both
        for m in ("Fisher", "Fisher, shuffled", "Fisher, no information")
        for n in range(3)
        for alpha in (1e-6, 1e-7)
    ]
    parts = [
        (recipe, part, alone, n, n, before + n if (part, alone) == ("everything", False) else 0.0)
        for recipe in both
        for part in ("everything", "last layer")
        for alone in (True, False)
        for n in range(3)
    ]
    parts = records("recipe part alone trained seed A_Dr", *parts)
    return claims.spared(records("recipe method trained seed alpha A_Dr", *rows), parts, 1e-6, STEP)


@pytest.mark.parametrize("more, verdict", [(2.0, HOLDS), (0.0, FAILS), (1.1, UNDECIDED), (NAN, UNDEFINED)])
def test_fisher_spares_what_is_needed_where_it_keeps_more_than_shuffled(more, verdict):
    tests, spared = scattered(more), "what the retain data need is spared"
    assert [test.tested for test in tests] == [f"{spared} (one-cycle)", f"{spared} (released)"]
    assert the(tests) == pytest.approx([more] * 3, nan_ok=True)
    assert [line["verdict"] for line in judge(tests)] == [verdict] * 2


def test_where_shuffled_noise_takes_nothing_there_is_nothing_to_spare():
    found = judge(scattered(0.0, before=60.9))
    assert [line["verdict"] for line in found] == [UNDEFINED] * 2
    assert found[0]["measured"] == "shuffled, the noise takes 0.9 points of A_Dr: nothing to spare"
    assert judge(scattered(0.0, before=61.1))[0]["verdict"] == FAILS


def test_healing_is_the_gain_after_the_first_pass():
    rows = [
        ("paper's rates", m, s, n, 60.0 + n * (1 + s), 0.0)
        for m in ("UNSIR", "No noise")
        for s in range(3)
        for n in (0, 1, 5)
    ]
    tests = claims.heals(records("rates method seed passes A_Dr A_Df", *rows))
    assert the(tests) == [4.0, 8.0, 12.0]


def switched(change: float) -> pd.DataFrame:
    rows = [
        ("[0]", "0.02, 0.01", sw, "after repair", s, 70.0 + s + d, 0.0)
        for s in range(3)
        for sw, d in (("as released", 0.0), ("own labels", change), ("random draw", -9.0))  # the last is no slip
    ]
    return records("forget rates switch stage seed A_Dr A_Df", *rows)


def test_one_slip_is_enough_and_none_needs_all():
    verdicts = [judge(claims.slips(switched(change), 1000, 10))[0]["verdict"] for change in (-5.0, 0.1)]
    assert verdicts == [HOLDS, FAILS]


def test_one_image_may_undo_equal_changes_of_a_slip():
    verdicts = [judge(claims.slips(switched(0.0), images, 10))[0]["verdict"] for images in (1000, 10)]
    assert verdicts == [FAILS, UNDECIDED]


# The frontier


def grid(*rows: tuple) -> pd.DataFrame:
    """method, impair, repair, validation A_Dr and A_Df, test A_Dr and A_Df: three seeds that differ by a tenth."""
    return pd.concat(
        records(
            "method impair_lr repair_lr validation_A_Dr validation_A_Df A_Dr A_Df seed", *[(*r, s) for r in rows]
        ).assign(A_Dr=lambda f, s=s: f.A_Dr + s / 10)
        for s in range(3)
    )


PAIRS = grid(
    ("UNSIR", 0.001, 0.1, 75.0, 0.5, 74.0, 0.0),
    ("UNSIR", 0.02, 0.1, 60.0, 0.0, 61.0, 0.0),
    ("UNSIR", 0.001, 0.2, 80.0, 9.0, 80.0, 9.0),
    ("No noise", 0.001, 0.1, 76.0, 40.0, 76.0, 41.0),
    ("No noise", 0.02, 0.1, 62.0, 0.0, 63.0, 0.0),
    ("No noise", 0.001, 0.2, 76.0, 20.0, 76.0, 80.0),
)


def test_each_condition_gets_the_best_pair_of_its_own_on_validation_data():
    assert claims.best_pairs(PAIRS) == {"UNSIR": (0.001, 0.1), "No noise": (0.02, 0.1)}
    assert claims.best_pairs(PAIRS[PAIRS.validation_A_Df > 1]) == {"UNSIR": None, "No noise": None}
    assert claims.at_best(PAIRS).groupby("method").A_Dr.mean().to_dict() == pytest.approx({"UNSIR": 74.1, "No noise": 63.1})


def test_the_noise_is_judged_where_validation_data_show_most_and_at_each_ones_best():
    takes, keeps = claims.noise_takes(PAIRS, "[0]"), claims.noise_keeps(PAIRS, "[0]")
    assert claims.telling_pair(PAIRS) == (0.001, 0.1)
    assert takes.criteria[0].values.tolist() == [41.0] * 3
    assert keeps.criteria[0].values.tolist() == pytest.approx([11.0] * 3)
    assert [line["verdict"] for line in judge([takes, keeps])] == [HOLDS, HOLDS]


def test_where_the_passes_alone_leave_nothing_there_is_nothing_to_take():
    """A difference of 0 says nothing against the noise where both are at 0."""
    gone = PAIRS.assign(A_Df=0.0, validation_A_Df=0.5)
    (line,) = judge([claims.noise_takes(gone, "[0]")])
    assert line["verdict"] == UNDEFINED and "at most 0.5 % of the class" in line["measured"]
    only = PAIRS.assign(validation_A_Df=PAIRS.validation_A_Df.where(PAIRS.repair_lr == 0.2, 0.0))
    assert claims.noise_takes(only, "[0]").criteria[0].what.endswith("at 0.001 and 0.2")


def test_other_images_that_take_as_much_take_the_credit():
    blank = PAIRS[PAIRS.method == "UNSIR"].assign(method="Blank images")
    found = judge([claims.noise_takes(pd.concat([PAIRS, blank]), "[0]")])
    assert found[0]["verdict"] == NOT_THE_NOISE


def test_a_condition_that_never_forgets_has_no_best():
    stays = PAIRS.assign(validation_A_Df=PAIRS.validation_A_Df.where(PAIRS.method == "UNSIR", 50.0))
    assert judge([claims.noise_keeps(stays, "[0]")])[0]["verdict"] == UNDEFINED


UNTOUCHED = pd.concat(
    [per_seed(m, "A_Dr", 75.0, 75.0, 75.0, A_Df=a_df) for m, a_df in (("Original", 80.0), ("Masked logits", 0.0))]
)


def test_the_papers_pair_and_the_original_are_held_against_the_grids_best():
    test, near = claims.rates(PAIRS, UNTOUCHED, [0.02, 0.1])
    assert test.criteria[1].values.tolist() == pytest.approx([13.0] * 3) and judge([test])[0]["verdict"] == FAILS
    assert near.criteria[0].values.tolist() == pytest.approx([1.0, 0.9, 0.8])  # UNSIR's best has 74.0, 74.1, 74.2


def test_presets_are_judged_in_every_place_against_its_own_original():
    places = {"one": 75.0, "two": 80.0}
    parts = [UNTOUCHED.assign(place=p, settings=None, A_Dr=a_dr) for p, a_dr in places.items()]
    parts += [
        per_seed("UNSIR", "A_Dr", 74.5, 74.4, 74.6, A_Df=0.0, place=p, settings=s) for p in places for s in ("best", "fast")
    ]
    lines = judge(claims.presets(pd.concat(parts)))
    assert [line["tested"] for line in lines] == [f"the {s} settings, {p}" for s in ("best", "fast") for p in places]
    assert [line["verdict"] for line in lines] == [HOLDS, FAILS] * 2


def test_the_noise_is_judged_on_each_request():
    both = pd.concat([PAIRS.assign(n_forget=n) for n in (1, 4)])
    tested = [test.tested.split("(")[1] for test in claims.noise_matters(both, 100, 10)]
    assert tested == ["1 forgotten)", "1 forgotten)", "4 forgotten)", "4 forgotten)"]


def test_near_the_original_needs_both():
    frame = pd.concat([per_seed("UNSIR", "A_Dr", 75.5, 75.6, 75.4, A_Df=0.0), per_seed("Original", "A_Dr", 76.0, A_Df=80.0)])
    (line,) = judge([claims.stays_near(frame, "best")])
    assert line["verdict"] == HOLDS
    assert judge([claims.stays_near(frame.assign(A_Df=50.0), "best")])[0]["verdict"] == FAILS


# Each accuracy rests on images of its own


def test_one_image_weighs_less_in_the_accuracy_of_more_of_them():
    assert claims.one_image_of(images=100, classes=10, n_forget=2) == (0.125, 0.5)  # of 800, of 200
    test = Samples(torch.zeros(8, 1, 2, 2), torch.tensor([0, 0, 1, 1, 2, 2, 3, 3]), 4)
    assert claims.one_image(test, [3]) == (100 / 6, 50.0)


EVERYWHERE = {column: NAN for column in "rates order asked share penalty passes".split()} | {"access": "retain subset"}
STEPPED = {
    "in_turn": lambda f: claims.in_turn(f, 3, STEP),
    "small_share": lambda f: claims.small_share(f, 0.1, STEP),
    "penalty": lambda f: claims.penalty(f.drop(columns="method"), 0.1, STEP),
    "heals": lambda f: claims.heals(f, STEP),
    "noise_keeps": lambda f: [claims.noise_keeps(f, "", STEP)],
    "noise_takes": lambda f: [claims.noise_takes(f, "", STEP)],
    "keeps_as_much": lambda f: claims.keeps_as_much(pd.concat([f, f[:1].assign(method="NoT")]), STEP),
    "rates": lambda f: claims.rates(f, UNTOUCHED, [0.02, 0.1], STEP),
    "stays_near": lambda f: [claims.stays_near(f, "", STEP)],
    "presets": lambda f: claims.presets(f.assign(settings=None, place="here"), STEP),
    "slips": lambda f: claims.slips(switched(0.0), images=25, classes=17),
    "spared": lambda _: scattered(0.0),
}


@pytest.mark.parametrize("name", STEPPED)
def test_no_spread_is_less_than_one_image_of_those_that_an_accuracy_is_over(name):
    criteria = [
        c for test in STEPPED[name](PAIRS.drop_duplicates(["method", "seed"]).assign(**EVERYWHERE)) for c in test.criteria
    ]
    assert criteria and {c.step for c in criteria if "A_Dr" in c.what} <= {STEP.A_Dr}
    assert {c.step for c in criteria if "A_Dr" not in c.what} <= {STEP.A_Df}


# Hostile records

ALL = {
    "tables": (lambda f: claims.tables(f, 3, 100, 10), table(GOOD, BAD, **ORIGINAL, FineTune=GOOD, Fisher=BAD)),
    "works_on": (lambda f: claims.works_on_each(f, {"R": 80.0}, {"R": 100}, {"R": 10}), table(GOOD, BAD, **ORIGINAL)),
    "spread": (lambda f: claims.spread(f, 100), per_seed(UNSIR, "largest_share", 0.1, 0.2, 0.3)),
    "gaze": (claims.looks_away, pd.concat([gaze([0.1, 0.2, 0.3]), gaze([0.1], "Retrain")])),
    "noise_takes": (lambda f: [claims.noise_takes(f, "[0]")], PAIRS),
    "noise_keeps": (lambda f: [claims.noise_keeps(f, "[0]")], PAIRS),
    "rates": (lambda f: claims.rates(f, UNTOUCHED, [0.02, 0.1]), PAIRS),
    "stays_near": (lambda f: [claims.stays_near(f, "x")], per_seed("UNSIR", "A_Dr", 1.0, 2.0, 3.0, A_Df=0.0)),
    "any_number": (lambda f: claims.any_number(f, 100), table(GOOD, BAD)),
}
NUMBERS = ["A_Dr", "A_Df", "validation_A_Dr", "validation_A_Df", "largest_share", "cosine", "relearn_epochs"]
HOSTILE = {
    "undefined": lambda f, c: f.assign(**{c: NAN}),
    "equal": lambda f, c: f.assign(**{c: 1.0}),
    "zero": lambda f, c: f.assign(**{c: 0.0}),
    "one seed": lambda f, c: f[f.seed == 0],
    "one row": lambda f, c: f.head(1),
    "no control": lambda f, c: f[~f[_method(f)].astype(str).str.startswith("No noise")],
    "lost method": lambda f, c: f.assign(**{c: f[c].where(~f[_method(f)].astype(str).str.startswith("No noise"))}),
    "lost seed": lambda f, c: f.assign(**{c: f[c].where(f.seed > 0)}),
}


def _method(frame: pd.DataFrame) -> str:
    return "label" if "label" in frame else "method"


@pytest.mark.parametrize("mode", HOSTILE)
@pytest.mark.parametrize("kind", ALL)
def test_no_records_make_a_claim_fall_over(kind, mode):
    make, frame = ALL[kind]
    for column in [c for c in NUMBERS if c in frame]:
        lines = judge(make(HOSTILE[mode](frame, column)))
        assert {line["verdict"] for line in lines} <= set(VERDICTS)
        assert "nan" not in " ".join(v for line in lines for v in line.values())
        if mode == "one seed":
            assert {line["verdict"] for line in lines} <= {UNDEFINED}


def test_the_verdicts_words_do_not_depend_on_a_hair():
    """Two machines that differ by rounding: an interval that includes the threshold stays undecided on both."""
    reach = stats.t.ppf(0.975, 2) / math.sqrt(3)
    for shift in (-1e-6, 1e-6):
        frame = per_seed("UNSIR", "A_Df", -1 + reach / 2 + shift, reach / 2 + shift, 1 + reach / 2 + shift)
        assert claims.forgets("", frame, "UNSIR").outcome() == UNDECIDED
