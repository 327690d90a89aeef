"""Claims 4, 5, D, F and G on records made by hand: what is undefined, and what an interval decides."""

import math

import pandas as pd
import pytest

from unsir_utils.report import claims
from unsir_utils.report.judge import judge

BOTH = [f"{method} ({rate})" for rate in claims.RATES for method in ("UNSIR", "No noise")]


def rows(**columns) -> pd.DataFrame:
    """Three seeds of each of BOTH; a column's list is one value a seed."""
    lines = [{"method": m, "seed": seed, **{k: v[seed] for k, v in columns.items()}} for m in BOTH for seed in range(3)]
    return pd.DataFrame(lines)


def verdicts(tests) -> list[str]:
    return [line["verdict"] for line in judge(tests)]


RETRAIN = {"method": "Retrain", "seed": 0, "largest_share": 0.4}


@pytest.mark.parametrize(
    "largest, retrain, verdict",
    [
        ([0.42, 0.43, 0.44], RETRAIN, "holds, but not because of the noise"),
        ([0.42, 0.43, 0.44], RETRAIN | {"largest_share": 0.2}, "does not hold"),  # 0.23 above Retrain's
        ([0.79, 0.8, 0.81], RETRAIN, "does not hold"),
        ([0.1, 0.5, 0.9], RETRAIN, "undecided"),
        ([0.42, 0.43, 0.44], RETRAIN | {"largest_share": math.nan}, "undefined"),
        ([0.42, 0.43, math.nan], RETRAIN, "undefined"),  # a diverged network is not spread
    ],
)
def test_predictions_are_spread_or_not(largest, retrain, verdict):
    records = pd.concat([rows(largest_share=largest), pd.DataFrame([retrain])])
    assert verdicts(claims.spread(records, 1000)) == [verdict] * 2


def distances(**by_method) -> pd.DataFrame:
    lines = [(m, 0, 0, layer, d) for m, found in by_method.items() for layer, d in zip("abc", found, strict=True)]
    return pd.DataFrame(lines, columns=["method", "trained", "seed", "layer", "distance"])


def test_layers_are_off_a_yardstick_by_the_median_of_decades():
    records = distances(Retrain=[1, 1, 1], Other=[10, 10, 10], UNSIR=[10, 100, 1], Still=[0, 10, 10], Lost=[math.nan, 1, 1])
    off = {y: claims.off_retrain(records, y).set_index("method").off for y in ("Retrain", "Other")}
    assert off["Retrain"]["UNSIR"] == pytest.approx(1) and off["Other"]["UNSIR"] == pytest.approx(1)
    assert off["Retrain"]["Other"] == pytest.approx(1) and off["Other"]["Other"] == 0
    assert off["Retrain"][["Still", "Lost"]].isna().all()


def test_layers_are_off_the_yardstick_of_their_own_network():
    one, far = distances(Retrain=[1, 1, 1], UNSIR=[10, 10, 10]), distances(Retrain=[1000, 1000, 1000], UNSIR=[10, 10, 10])
    lost = distances(Retrain=[math.nan, 1, 1], UNSIR=[10, 10, 10])
    every = pd.concat(part.assign(trained=n) for n, part in enumerate((one, far, distances(UNSIR=[1, 1, 1]), lost)))
    off = claims.off_retrain(every).set_index(["method", "trained"]).off
    assert off["UNSIR"][:2].tolist() == [1, 2] and off["UNSIR"][2:].isna().all()


def maps(cosine_forget, cosine_retain=0.9, empty_after=False, empty_before=False, **special) -> pd.DataFrame:
    """Two forget and two retain images, on three networks of all four methods; special: of the forget maps of the first."""
    lines = []
    for method in BOTH:
        for seed in range(3):
            for part, cosine in (("forget", cosine_forget), ("retain", cosine_retain)):
                for image in range(2):
                    line = {"method": method, "trained": seed, "seed": seed}
                    line |= {"explained": "true", "image": image, "part": part}
                    line |= {"cosine": cosine, "empty before": empty_before, "empty after": empty_after}
                    lines.append(line | (special if part == "forget" and seed == 0 else {}))
    return pd.DataFrame(lines)


@pytest.mark.parametrize(
    "records, left_out, as_zero",
    [
        (maps(0.5), "holds, but not because of the noise", "holds, but not because of the noise"),
        (maps(0.85), "does not hold", "does not hold"),
        (maps(None, None, empty_after=True), "undefined", "does not hold"),  # 0 minus 0: it looks nowhere at anything
        (maps(None, None, empty_before=True), "undefined", "undefined"),
        (maps(0.85, cosine=None, **{"empty after": True}), "undefined", "undecided"),  # 0.9, 0.05, 0.05 lower
        (maps(0.85, cosine=None, **{"empty before": True}), "undefined", "undefined"),  # one network lacks any map
        (maps(0.5, cosine=None), "undefined", "undefined"),  # neither map is empty: the network has diverged
        (maps(None, None), "undefined", "undefined"),
    ],
)
def test_maps_that_are_empty_or_undefined_decide_nothing(records, left_out, as_zero):
    assert verdicts(claims.looks_away(records)) == [left_out, as_zero] * 2


def against(unsir, between) -> pd.DataFrame:
    """UNSIR and no noise on three networks, each at a distance from the others' retrained models; these have one, too."""
    pairs = dict(zip([(0, 1), (0, 2), (1, 2)], between, strict=True))
    lines = [(m, n, k, unsir) for m in BOTH for n in range(3) for k in range(3) if k != n]
    lines += [("Retrain", *ends, tv) for pair, tv in pairs.items() for ends in (pair, pair[::-1])]
    frame = pd.DataFrame(lines, columns=["method", "trained", "against", "tv"]).assign(seed=0)
    return frame.assign(tv_retain=frame.tv, tv_forget=frame.tv)


@pytest.mark.parametrize(
    "unsir, between, verdict",
    [
        (0.12, [0.1, 0.1, 0.1], "holds, but not because of the noise"),
        (0.5, [0.1, 0.1, 0.1], "does not hold"),
        (0.15, [0.05, 0.1, 0.2], "undecided"),
        (0.12, [0.0, 0.0, 0.0], "undefined"),  # no multiple of nothing
        (0.0, [0.0, 0.0, 0.0], "undefined"),
        (0.12, [0.1, math.nan, 0.1], "undefined"),  # one retrained model has diverged
        (math.nan, [0.1, 0.1, 0.1], "undefined"),
    ],
)
def test_one_more_retrained_model(unsir, between, verdict):
    assert verdicts(claims.like_retrained(against(unsir, between))) == [verdict] * 2


def test_a_share_below_one_percent_is_shown_as_it_is():
    small, large = (rows(A_Dr=[70.0] * 3, A_Df=[0.0] * 3).assign(share=share) for share in (0.004, 0.3))
    tests = claims.small_share(pd.concat([small, large]), 0.004)
    assert [t.tested for t in tests] == [f"0.4 % of the retain data is enough ({rate})" for rate in claims.RATES]
    assert [c.what for c in tests[0].criteria] == ["A_Df with 0.4 %", "A_Dr less than with 30 %"]


def test_a_network_without_any_retain_map_is_not_left_out():
    records = maps(0.5)
    records.loc[(records.part == "retain") & (records.seed == 0), ["cosine", "empty before"]] = [math.nan, True]
    assert verdicts(claims.looks_away(records)) == ["undefined"] * 4


def audited(above: dict[str, list[float]], verdict: str = "fails", of: str = "features") -> pd.DataFrame:
    """One test with a bound of 40 %: points above it by method, one value a seed."""
    lines = [{"method": m, "seed": seed, "value": 40 + v} for m, found in above.items() for seed, v in enumerate(found)]
    return pd.DataFrame(lines).assign(test="linear probe", of=of, bound=40.0, verdict=verdict)


LEFT = {"Masked logits": [30], "Bias shift": [30], "Retrain": [-5, -6, -7]}


@pytest.mark.parametrize(
    "unsir, bare, verdict",
    [
        ([-9, -8, -10], [20, 21, 22], "holds"),
        ([-9, -8, -10], [-9, -8, -10], "holds, but not because of the noise"),
        ([9, 8, 10], [-9, -8, -10], "does not hold"),
        ([-9, 0, 10], [20, 21, 22], "undecided"),
        ([-9, -8, math.nan], [20, 21, 22], "undefined"),
    ],
)
def test_a_class_is_recoverable_beyond_the_bound_of_retrained_networks(unsir, bare, verdict):
    found = {f"{m} ({r})": v for r in claims.RATES for m, v in (("UNSIR", unsir), ("No noise", bare))}
    tests = claims.recoverable(audited(found | LEFT | {"Unlearned noise": bare}), 1.0)
    lines = judge(tests)
    assert [line["verdict"] for line in lines] == [verdict] * 2
    assert "Masked logits does not hold" in lines[0]["controls"] and "Retrain holds" in lines[0]["controls"]


def test_a_test_that_cannot_tell_decides_nothing():
    found = {f"{m} ({r})": [-9, -8, -10] for r in claims.RATES for m in ("UNSIR", "No noise")} | LEFT
    blind = [audited(found, verdict="cannot tell"), audited(found, of="head")]
    assert verdicts(claims.recoverable(pd.concat(blind), 1.0)) == ["undefined"] * 2
