import math
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from unsir_utils.report.judge import (
    FAILS,
    HOLDS,
    NOT_THE_NOISE,
    UNDECIDED,
    UNDEFINED,
    VERDICTS,
    Criterion,
    added_by_noise,
    combined,
    interval,
    judge,
    level,
    replicates,
    shown,
)
from unsir_utils.report.judge import Test as OneTest

NAN, INF = math.nan, math.inf


def by_seed(*values: float) -> pd.Series:
    """One network, a seed a value."""
    return by_network(values)


def by_network(*networks: tuple) -> pd.Series:
    keys = [(n, s) for n, seeds in enumerate(networks) for s in range(len(seeds))]
    return pd.Series(
        [v for seeds in networks for v in seeds], pd.MultiIndex.from_tuples(keys, names=["trained", "seed"]), dtype=float
    )


def at_most(*values: float, bound: float = 1.0, **options) -> Criterion:
    return Criterion("A_Df", by_seed(*values), "at most", bound, **options)


def verdict_of(*tests: OneTest) -> str:
    return judge(tests)[0]["verdict"]


# The interval


@pytest.mark.parametrize("confidence", [0.95, 0.99])
def test_the_interval_is_scipys_t_interval(confidence):
    values = [70.1, 72.4, 71.0, 69.5]
    expected = stats.ttest_1samp(values, 0).confidence_interval(confidence)
    found = interval(by_seed(*values), alpha=1 - confidence)
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high))
    assert found.mean == pytest.approx(np.mean(values)) and found.sd == pytest.approx(np.std(values, ddof=1))
    assert (found.n, found.replicates) == (4, "4 seeds of 1 network")


def test_networks_are_the_outer_level():
    values = by_network((1.0, 3.0), (5.0, 7.0), (9.0, 9.0))
    assert replicates(values).tolist() == [2.0, 6.0, 9.0]
    assert interval(values).replicates == "3 networks"
    assert interval(values).sd == pytest.approx(np.std([2, 6, 9], ddof=1))


def test_the_spread_is_at_least_one_step():
    """t(0.975, 2) = 4.3027: three equal accuracies on 1,000 images lie within 4.3027 * 0.1 / sqrt(3)."""
    found = interval(by_seed(0.0, 0.0, 0.0), step=0.1)
    assert found.high == pytest.approx(4.302653 * 0.1 / math.sqrt(3)) and found.low == -found.high


@pytest.mark.parametrize("unit, cut", [("%", True), ("of 1", True), ("times", True), ("decades", True), ("points", False)])
def test_an_interval_is_cut_to_what_its_number_can_be(unit, cut):
    found = Criterion("it", by_seed(0.0, 0.2, 0.4), "at most", 0.3, unit).interval()
    assert (found.low == 0) == cut and found.high == pytest.approx(0.2 + 4.302653 * 0.2 / math.sqrt(3))


@pytest.mark.parametrize("values", [(), (1.0,), (1.0, NAN, 2.0)])
def test_too_few_or_undefined_values_have_no_interval(values):
    found = interval(by_seed(*values))
    assert (found.low, found.high) == (-INF, INF)
    assert math.isnan(found.mean) == (values != (1.0,))


def test_one_undefined_seed_makes_its_network_undefined():
    assert replicates(by_network((1.0, NAN), (2.0, 4.0))).isna().tolist() == [True, False]


@pytest.mark.parametrize(
    ("values", "text"),
    [
        ((1.0, 2.0, 3.0), "2.0 [-0.5, 4.5]"),
        ((5.0,), "5.0"),
        ((NAN, 1.0), "undefined"),
        ((-0.01, 0.0, 0.0), "0.0 [0.0, 0.0]"),
    ],
)
def test_it_is_told_as_mean_and_ends(values, text):
    assert interval(by_seed(*values)).text() == text


# One criterion


@pytest.mark.parametrize(
    ("sense", "bound", "values", "outcome"),
    [
        ("at most", 1, (0.1, 0.2, 0.3), HOLDS),
        ("at most", 1, (5.1, 5.2, 5.3), FAILS),
        ("at most", 1, (0.0, 0.5, 1.4), UNDECIDED),
        ("at least", 10, (20.0, 21.0, 22.0), HOLDS),
        ("at least", 10, (1.0, 2.0, 3.0), FAILS),
        ("at least", 10, (5.0, 10.0, 15.0), UNDECIDED),
        ("beyond", 2, (-5.0, -5.1, -5.2), HOLDS),
        ("beyond", 2, (5.0, 5.1, 5.2), HOLDS),
        ("beyond", 2, (0.1, 0.0, -0.1), FAILS),
        ("beyond", 2, (1.9, 2.0, 2.2), UNDECIDED),
    ],
)
def test_the_verdict_compares_the_interval_with_the_threshold(sense, bound, values, outcome):
    assert Criterion("x", by_seed(*values), sense, bound).outcome() == outcome


def test_the_mean_alone_decides_nothing():
    """A mean of 0.93 is below 1, its interval is not."""
    assert at_most(0.5, 1.0, 1.3).outcome() == UNDECIDED


@pytest.mark.parametrize(
    ("values", "outcome"),
    [
        ((), UNDEFINED),
        ((NAN, NAN, NAN), UNDEFINED),
        ((0.0, 0.0, NAN), UNDEFINED),
        ((0.0,), UNDEFINED),
        ((0.0, 0.0), UNDECIDED),
    ],
)
def test_nothing_defined_is_not_a_refutation(values, outcome):
    assert at_most(*values).outcome() == outcome
    assert at_most(*(v + 99 for v in values)).outcome() == outcome


def test_equal_values_decide_only_as_far_as_the_images_do():
    assert at_most(0.0, 0.0, 0.0, step=100 / 1000).outcome() == HOLDS
    assert at_most(0.0, 0.0, 0.0, step=100 / 50).outcome() == UNDECIDED


@pytest.mark.parametrize(("unit", "values", "high"), [("%", (90.0, 99.0, 99.0), 100), ("of 1", (0.9, 0.99, 0.99), 1)])
def test_an_interval_ends_where_the_number_can(unit, values, high):
    assert Criterion("x", by_seed(*values), "at most", 0.5, unit).interval().high == high


def test_a_count_is_exact():
    assert at_most(54.0, bound=154, unit="times", exact=True).outcome() == HOLDS
    assert judge([OneTest(6, "", [at_most(54.0, bound=154, exact=True)])])[0]["replicates"] == "exact"


def test_an_unknown_sense_is_refused():
    with pytest.raises(ValueError, match="sense is 'about'"):
        Criterion("x", by_seed(1.0), "about", 1)


@pytest.mark.parametrize(
    ("low", "high", "outcome", "words"),
    [
        ((-INF, -INF, -INF), (INF, INF, INF), UNDECIDED, "between minus infinity and infinity"),  # both at the cap
        ((5.0, 5.0, 5.0), (INF, INF, INF), HOLDS, "between 5.0 and infinity"),  # UNSIR at the cap
        ((-INF, -INF, -INF), (-9.0, -9.5, -10.0), FAILS, "between minus infinity and -8.3"),  # the baseline at the cap
        ((3.0, 4.0, 5.0), (3.0, 4.0, 5.0), HOLDS, "4.0 ["),  # neither
        ((5.0, 5.0, NAN), (INF, INF, NAN), UNDEFINED, "undefined in 1 of 3 runs"),
    ],
)
def test_a_capped_value_decides_only_what_a_cap_can(low, high, outcome, words):
    c = Criterion("relearn", by_seed(*low), "at least", 1, "epochs", highest=by_seed(*high))
    assert c.outcome() == outcome and words in shown(c)


def test_criteria_of_unlike_replicates_are_told_apart():
    networks = pd.Series([0.1, 0.2, 0.1], pd.MultiIndex.from_tuples([(0, 0), (1, 0), (2, 0)], names=["trained", "seed"]))
    rows = [Criterion("a", networks, "at most", 1), at_most(0.1, 0.2, 0.1), at_most(0.1, 0.2, 0.2)]
    (line,) = judge([OneTest(1, "", rows)])
    assert line["replicates"] == "3 networks (1 of 3); 3 seeds of 1 network (2 of 3)"


def test_how_many_replicates_would_decide():
    """sd 1, mean 0.5 below the bound: t(0.975, n-1) / sqrt(n) < 0.5 first at n = 18."""
    c = at_most(-1.0, 0.0, 1.0, bound=0.5)
    n = next(n for n in range(3, 99) if stats.t.ppf(0.975, n - 1) / math.sqrt(n) < 0.5)
    assert n == 18 and c.would_decide() == "about 18 seeds"
    assert at_most(0.0, 0.0, 0.0).would_decide() == ""
    assert at_most(0.9, 1.0, 1.1).would_decide() == "over 1000 seeds"


# Several looks


def test_holm_gives_each_decision_its_room():
    """Of three looks with p 0.01, 0.02 and 0.2 Holm rejects two: 0.01 <= 0.05 / 3 and 0.02 <= 0.05 / 2."""
    looks = [at_most(*_with_p(p), bound=0.0) for p in (0.01, 0.02, 0.2)]
    assert level(looks) == pytest.approx(0.05)
    assert [c.outcome(level(looks)) for c in looks] == [FAILS, FAILS, UNDECIDED]
    looks = [at_most(*_with_p(p), bound=0.0) for p in (0.02, 0.02, 0.02)]
    assert level(looks) == pytest.approx(0.05 / 3)
    assert [c.outcome(level(looks)) for c in looks] == [UNDECIDED] * 3


def _with_p(p: float) -> list[float]:
    """Three values whose two-sided t test against 0 has this p."""
    spread = np.array([-1.0, 0.0, 1.0])
    return (spread + stats.t.isf(p / 2, 2) / math.sqrt(3)).tolist()


def test_the_looks_of_one_claim_are_counted_together_and_of_another_apart():
    alone = OneTest(1, "alone", [at_most(*_with_p(0.04), bound=0.0)])
    others = [OneTest(1, f"look {i}", [at_most(*_with_p(0.9), bound=0.0)]) for i in range(3)]
    assert verdict_of(alone) == FAILS
    assert verdict_of(alone, *others) == UNDECIDED
    assert verdict_of(alone, *[OneTest(2, t.tested, t.criteria) for t in others]) == FAILS


@pytest.mark.parametrize(
    ("outcomes", "every", "some"),
    [
        ([HOLDS, HOLDS], HOLDS, HOLDS),
        ([HOLDS, FAILS], FAILS, HOLDS),
        ([HOLDS, UNDECIDED], UNDECIDED, HOLDS),
        ([UNDECIDED, FAILS], FAILS, UNDECIDED),
        ([UNDEFINED, HOLDS], UNDEFINED, HOLDS),
        ([UNDEFINED, UNDECIDED], UNDEFINED, UNDEFINED),
        ([FAILS, FAILS], FAILS, FAILS),
        ([], UNDEFINED, UNDEFINED),
    ],
)
def test_every_criterion_must_hold_or_one(outcomes, every, some):
    assert combined(outcomes) == every and combined(outcomes, any_of=True) == some


# What the noise has to do with it

GONE, THERE, UNSURE = by_seed(0.1, 0.2, 0.3), by_seed(50.0, 51.0, 52.0), by_seed(0.0, 0.0, 30.0)


@pytest.mark.parametrize(
    ("without", "images", "verdict", "needed"),
    [
        (None, {}, HOLDS, ""),
        (GONE, {}, NOT_THE_NOISE, "no"),
        (THERE, {}, HOLDS, "yes"),
        (UNSURE, {}, HOLDS, UNDECIDED),
        (by_seed(NAN, NAN, NAN), {}, HOLDS, UNDECIDED),
        (THERE, {"Blank images": GONE}, NOT_THE_NOISE, "no"),
        (THERE, {"Blank images": THERE}, HOLDS, "yes"),
    ],
)
def test_a_control_that_does_as_well_takes_the_credit_from_the_noise(without, images, verdict, needed):
    (line,) = judge([OneTest(1, "", [Criterion("A_Df", GONE, "at most", 1, without=without, images=images)])])
    assert (line["verdict"], line["noise needed"]) == (verdict, needed)


@pytest.mark.parametrize(
    "low, high, needed",
    [
        ((-INF, -INF, -INF), (INF, INF, INF), UNDECIDED),  # a control at the cap has not failed
        ((-INF, -INF, -INF), (-9.0, -9.5, -10.0), "yes"),
        ((5.0, 5.0, 5.0), (INF, INF, INF), "no"),
    ],
)
def test_a_capped_control_decides_only_what_a_cap_can(low, high, needed):
    control = by_seed(*low), by_seed(*high)
    c = Criterion("relearn", by_seed(9.0, 9.5, 10.0), "at least", 1, "epochs", without=control)
    (line,) = judge([OneTest(3, "", [c])])
    assert line["noise needed"] == needed


def test_a_mask_that_meets_it_is_told_but_takes_no_credit():
    (line,) = judge([OneTest(1, "", [Criterion("A_Df", GONE, "at most", 1, without=THERE, beside={"Masked logits": GONE})])])
    assert line["verdict"] == HOLDS and line["controls"] == "No noise does not hold; Masked logits holds"


def test_a_control_must_meet_every_criterion():
    first = Criterion("a", GONE, "at most", 1, without=GONE)
    second = Criterion("b", GONE, "at most", 1, without=THERE)
    assert verdict_of(OneTest(1, "", [first, second])) == HOLDS
    assert verdict_of(OneTest(1, "", [first, first])) == NOT_THE_NOISE


def test_a_control_that_meets_it_but_is_shown_to_do_worse_takes_no_credit():
    """Bound 7: UNSIR loses 1, the passes alone 6.5, paired and hardly spread."""
    loss, bound = by_seed(0.9, 1.0, 1.1), ("A_Dr lost", "at most", 7)
    told = {}
    for name, alone in {"worse": (6.4, 6.5, 6.6), "alike": (0.8, 1.0, 1.2), "better": (0.1, 0.2, 0.3)}.items():
        what, sense, most = bound
        (line,) = judge([OneTest(2, "", [Criterion(what, loss, sense, most, "points", without=by_seed(*alone))])])
        told[name] = line["verdict"], line["noise needed"]
    assert told == {"worse": (HOLDS, "yes"), "alike": (NOT_THE_NOISE, "no"), "better": (NOT_THE_NOISE, "no")}


def test_what_the_noise_adds_is_paired():
    """Differences 1, 2, 3 though the values themselves vary by tens."""
    c = at_most(11.0, 32.0, 53.0, without=by_seed(10.0, 30.0, 50.0))
    assert added_by_noise(c) == "+2.0 [-0.5, +4.5] points"
    assert added_by_noise(at_most(1.0, 2.0, 3.0, without=by_seed(1.0, NAN, 3.0))) == "undefined"
    assert added_by_noise(at_most(1.0)) == ""


def test_a_test_that_cannot_be_judged_says_why_and_is_no_look():
    reason = "the original gets 48.4 % right, 70 % are needed"
    found = judge(
        [
            OneTest(8, "", [at_most(*_with_p(0.04), bound=0.0)], why_not=reason),
            OneTest(8, "", [at_most(*_with_p(0.04), bound=0.0)]),
        ]
    )
    assert [line["verdict"] for line in found] == [UNDEFINED, FAILS] and found[0]["measured"] == reason


def test_the_line_shows_what_the_verdict_hangs_on():
    rows = [Criterion("A_Df, 1 class", GONE, "at most", 1), Criterion("A_Df, 4 classes", THERE, "at most", 1)]
    (line,) = judge([OneTest(1, "gone", rows)])
    assert line["measured"] == "A_Df, 4 classes: 51.0 [48.5, 53.5] %" and line["criteria"] == "holds 1, does not hold 1"
    assert (line["claim"], line["holds if"], line["replicates"]) == ("1", "at most 1 %", "3 seeds of 1 network")


def test_of_rows_that_came_out_alike_the_worst_is_shown_and_of_two_halves_that_hold_both():
    worse = Criterion("A_Df, 7 classes", by_seed(69.0, 70.0, 71.0), "at most", 1)
    missing = Criterion("A_Df, 9 classes", by_seed(69.0, NAN, 71.0), "at most", 1)
    rows = [Criterion("A_Df, 4 classes", THERE, "at most", 1), worse, Criterion("A_Df, 1 class", GONE, "at most", 1)]
    assert judge([OneTest(1, "gone", rows)])[0]["measured"].startswith("A_Df, 7 classes")
    assert judge([OneTest(1, "gone", [rows[2], missing, rows[2]])])[0]["measured"].startswith(
        "A_Df, 9 classes: undefined in 1"
    )

    kept = Criterion("A_Dr more", by_seed(4.9, 5.0, 5.1), "at least", 2, "points")
    (line,) = judge([OneTest("C", "both", [kept, rows[2]])])
    assert line["measured"] == "A_Df, 1 class: 0.2 [0.0, 0.4] %; A_Dr more: 5.0 [4.8, 5.2] points"
    assert line["holds if"] == "at most 1 %; at least 2 points"

    less = replace(kept, without=by_seed(3.9, 4.0, 4.1))
    (line,) = judge([OneTest("C", "both", [less, replace(rows[2], without=GONE)])])
    assert line["the noise adds"] == "+0.0 [+0.0, +0.0] points; +1.0 [+1.0, +1.0] points", "of each, in the same order"


@pytest.mark.parametrize(
    "mean, sense, bound, room",
    [(3.0, "at least", 2, 1), (3.0, "at most", 2, -1), (-3.0, "beyond", 2, 1), (1.0, "beyond", 2, -1)],
)
def test_headroom_is_how_far_a_number_lies_on_the_right_side(mean, sense, bound, room):
    assert Criterion("", by_seed(mean, mean, mean), sense, bound).headroom() == room


def test_the_headroom_of_a_capped_number_is_that_of_its_worse_end():
    capped = Criterion("", by_seed(5.0, 5.0, 5.0), "at least", 1, "epochs", highest=by_seed(*[math.inf] * 3))
    assert capped.headroom() == 4


@pytest.mark.parametrize(
    "values", [(), (NAN,), (0.0,), (NAN, NAN), (0.0, 0.0, 0.0), (100.0,) * 5, (INF, INF, INF), (-INF, 1.0, 2.0)]
)
@pytest.mark.parametrize("sense", ["at most", "at least", "beyond"])
@pytest.mark.parametrize("any_of", [False, True])
def test_no_record_makes_it_fall_over_or_say_nan(values, sense, any_of):
    c = Criterion("x", by_seed(*values), sense, 1, without=by_seed(*values), images={"Blank images": by_seed()}, step=0.1)
    for line in judge([OneTest(1, "", [c, c], any_of), OneTest(1, "", [])]):
        assert line["verdict"] in VERDICTS
        assert "nan" not in " ".join(line.values()) and " inf" not in " ".join(line.values()).replace("infinity", "")
