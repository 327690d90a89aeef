"""The frontier's tables and points, against values worked out by hand."""

import math

import matplotlib.pyplot as plt
import pandas as pd
import pytest

from unsir_utils.report import claims, frontier

LOW, HIGH = (0.001, 0.0003), (0.02, 0.01)


def records(**by_method) -> pd.DataFrame:
    """by_method: method -> pair -> (A_Dr, A_Df), a tuple of values by replicate each; validation says the same."""
    rows = []
    for method, pairs in by_method.items():
        for (impair, repair), (a_dr, a_df) in pairs.items():
            for seed, (kept, left) in enumerate(zip(a_dr, a_df, strict=True)):
                pair = {"impair_lr": impair, "repair_lr": repair, "n_forget": 1, "trained": seed, "seed": seed}
                found = {"A_Dr": kept, "A_Df": left, "validation_A_Dr": kept, "validation_A_Df": left}
                rows.append({"method": method.replace("_", " "), **pair, **found})
    return pd.DataFrame(rows)


GRID = records(
    UNSIR={LOW: ((90, 92, 94), (0, 0, 0)), HIGH: ((20, 20, 20), (0, 0, 0))},
    No_noise={LOW: ((93, 94, 95), (40, 50, 60)), HIGH: ((80, 81, 82), (0, 0, 0))},
)
METHODS = ("UNSIR", "No noise")


def test_at_its_own_best_each_method_has_its_pair_and_its_distance_by_hand():
    table = frontier.beside(GRID, claims.at_best, METHODS, ("UNSIR", "A_Dr"), images=100, classes=10)
    unsir, bare = table.to_numpy().tolist()
    assert unsir == ["1", "UNSIR", "0.001 and 0.0003", "92.0 ± 2.0", "0.0 ± 0.0", ""]
    # 10, 11 and 12 points: mean 11, sd 1, t(2) = 4.303, so 11 ± 4.303 / sqrt(3) = 2.484
    assert bare == ["1", "No noise", "0.02 and 0.01", "81.0 ± 1.0", "0.0 ± 0.0", "+11.0 [+8.5, +13.5]"]
    assert table.columns[-1] == "A_Dr: UNSIR minus this (points)"


def test_at_equal_rates_all_stand_at_the_pair_that_tells_most():
    table = frontier.beside(GRID, frontier.at_telling_pair, METHODS, ("No noise", "A_Df"), images=100, classes=10)
    assert list(table["impair and repair rate"]) == ["0.001 and 0.0003"] * 2
    # 40, 50 and 60 points: mean 50, sd 10
    assert list(table["A_Df: No noise minus this (points)"]) == ["+50.0 [+25.2, +74.8]", ""]


@pytest.mark.parametrize("select", [claims.at_best, frontier.at_telling_pair])
def test_a_method_that_never_forgets_or_was_not_run_has_no_line_of_numbers(select):
    never = records(UNSIR={LOW: ((90, 92, 94), (30, 30, 30))})
    table = frontier.beside(never, select, METHODS, ("UNSIR", "A_Dr"), images=100, classes=10)
    assert table.iloc[:, 2:].to_numpy().tolist() == [["none", "", "", ""]] * 2


def test_a_replicate_that_diverged_leaves_its_pair_out_of_the_means():
    grid = records(UNSIR={LOW: ((90, 92), (0, 4)), HIGH: ((20, math.nan), (0, math.nan))})
    assert frontier.means(grid)[["impair_lr", "A_Dr", "A_Df"]].to_numpy().tolist() == [[0.001, 91.0, 2.0]]


def test_the_frontier_rises_with_what_may_be_left():
    points = pd.DataFrame({"A_Df": [30.0, 0.0, 10.0], "A_Dr": [95.0, 60.0, 50.0]})
    assert frontier.frontier(points) == ([0.0, 10.0, 30.0, 100.0], [60.0, 60.0, 95.0, 95.0])


def test_every_panel_holds_its_own_frontier_and_unsirs():
    figure, axes = plt.subplots(1, 2)
    frontier.frontiers(axes, frontier.means(GRID), METHODS)
    drawn = [[sorted(set(line.get_ydata())) for line in axis.lines[1:3]] for axis in axes]
    assert drawn == [[[92.0], [92.0]], [[81.0, 94.0], [92.0]]]
    plt.close(figure)
