import numpy as np
import pandas as pd
import pytest
from tiny import convnet

from unsir_utils.audit.weights import beside, kinds, totals

COLUMNS = ["method", "trained", "seed", "layer", "distance", "to_retrain", "A_Dr", "A_Df"]
ROWS = [
    ("UNSIR", 5, 0, "conv", 3.0, 5.0, 70.0, 0.0),
    ("UNSIR", 5, 0, "head", 1.0, 2.0, 70.0, 0.0),
    ("UNSIR", 5, 1, "conv", 6.0, 4.0, 60.0, 1.0),
    ("UNSIR", 5, 1, "head", 2.0, np.nan, 60.0, 1.0),
    ("Retrain", 5, 0, "conv", 2.0, 0.0, 80.0, 0.0),
    ("Retrain", 5, 0, "head", 4.0, 0.0, 80.0, 0.0),
]
DISTANCES = pd.DataFrame(ROWS, columns=COLUMNS)


def test_the_scale_and_shift_of_a_normalisation_are_told_from_weights():
    assert {kinds(convnet())[layer] for layer in ("0", "5")} == {"weights"}
    assert kinds(convnet())["1"] == "normalisation"


def test_each_layer_is_held_against_the_yardsticks_own():
    assert beside(DISTANCES, "Retrain").ratio.tolist() == [1.5, 0.25, 3.0, 0.5, 1.0, 1.0]
    assert "ratio" not in DISTANCES


def test_of_several_yardsticks_the_mean_counts():
    assert beside(DISTANCES, "UNSIR").ratio.tolist() == pytest.approx([3 / 4.5, 1 / 1.5, 6 / 4.5, 2 / 1.5, 2 / 4.5, 4 / 1.5])


def test_each_network_is_held_against_a_yardstick_of_its_own():
    near, far = DISTANCES.assign(trained=0), DISTANCES.assign(trained=1, distance=10.0)
    ratio = beside(pd.concat([near, far], ignore_index=True), "Retrain").ratio
    assert ratio.tolist() == [1.5, 0.25, 3.0, 0.5, 1.0, 1.0] + [1.0] * 6


@pytest.mark.parametrize("nothing", [0.0, np.nan])
def test_nothing_is_a_multiple_of_a_layer_that_did_not_move(nothing):
    still = DISTANCES.assign(distance=[3.0, 1.0, 6.0, 2.0, nothing, 4.0])
    ratio = beside(still, "Retrain").ratio
    assert np.isnan(ratio[[0, 2, 4]]).all() and ratio[[1, 3, 5]].tolist() == [0.25, 0.5, 1.0]


def test_a_yardstick_that_was_not_measured_is_named():
    with pytest.raises(ValueError, match="'Fisher'"):
        beside(DISTANCES, "Fisher")


def test_sums_over_layers_in_the_tables_order():
    found = totals(DISTANCES).set_index(["method", "trained", "seed"])
    assert [*found.index] == [("UNSIR", 5, 0), ("UNSIR", 5, 1), ("Retrain", 5, 0)]
    assert found.total.tolist() == [4, 8, 6] and found["mean"].tolist() == [2, 4, 3]
    assert found.A_Dr.tolist() == [70, 60, 80] and found.A_Df.tolist() == [0, 1, 0]


def test_a_sum_is_undefined_where_a_layers_distance_is():
    further = totals(DISTANCES).further
    assert further[[0, 2]].tolist() == [7, 0] and np.isnan(further[1])
