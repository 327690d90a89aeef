import pandas as pd
import pytest

from unsir_utils.report import claims, tables
from unsir_utils.report.judge import judge

RATE = "paper's rates"


def table(a_dr: list[float], bare: list[float]) -> pd.DataFrame:
    rows = [
        {"network": "A", "n_forget": 1, "method": f"{method} ({RATE})", "seed": seed, "A_Dr": value, "A_Df": 0.0}
        for method, series in (("UNSIR", a_dr), ("No noise", bare))
        for seed, value in enumerate(series)
    ]
    return pd.DataFrame(rows)


@pytest.mark.parametrize(
    "a_dr, bare, expected",
    [
        ([62.0, 63.0, 64.0], [60.0, 60.0, 60.0], "+3.0 [+0.5, +5.5] points"),  # 4.303 * 1 / sqrt(3)
        ([62.0], [60.0], "+2.0 points"),
        ([62.0, float("nan")], [60.0, 60.0], "undefined"),
    ],
)
def test_noise_adds_a_paired_number_with_its_interval(a_dr, bare, expected):
    line = claims.noise_adds(table(a_dr, bare), images=100, classes=10).iloc[0]
    assert (line["A_Dr"], line["network"], line["#forget"], line["rates"]) == (expected, "A", "1", RATE)


def test_sizes_may_differ_by_network():
    records = table([62.0] * 3, [60.0] * 3)
    alike = [claims.noise_adds(records, size, 10).iloc[0]["A_Df"] for size in (1, {"A": 1})]
    assert alike == ["+0.0 [-248.4, +248.4] points"] * 2  # one image of one is 100 %


def test_one_image_may_undo_equal_changes_of_a_slip():
    rows = [
        {
            "forget": "[0]",
            "rates": "1, 1",
            "switch": switch,
            "stage": "after repair",
            "seed": seed,
            "A_Dr": 50.0,
            "A_Df": 0.0,
        }
        for switch in ("as released", "own labels", "random draw")
        for seed in range(3)
    ]
    verdicts = [judge(claims.slips(pd.DataFrame(rows), images, 10))[0]["verdict"] for images in (1000, 10)]
    assert verdicts == ["does not hold", "undecided"]


def test_a_relearn_time_of_no_network_is_undefined():
    assert tables.mean_capped(pd.Series([], dtype=float), 3) == "undefined"
