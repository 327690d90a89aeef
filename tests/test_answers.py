import numpy as np
import pandas as pd
import pytest
from scipy.stats import permutation_test

from unsir_utils.audit.answers import apart, chance_of, holm, largest_share, middle, shares

TWO = np.array([[0, 0, 1, 2]])  # one seed, four images, three classes


def test_shares_count_each_class():
    assert shares(TWO, 3).tolist() == [[0.5, 0.25, 0.25]]
    assert shares(np.stack([TWO, TWO]), 3).shape == (2, 1, 3)


def test_a_diverged_network_has_no_shares():
    found = shares(np.array([[0, -1], [0, 1]]), 2)
    assert np.isnan(found[0]).all() and found[1].tolist() == [0.5, 0.5]


def test_the_largest_share_on_images_drawn_anew():
    drawn = np.array([[0, 1, 2, 3], [0, 0, 1, 1], [2, 3, 2, 3]])
    assert largest_share(TWO, 3, drawn).tolist() == [0.5, 1.0, 0.5]


def test_total_variation_by_hand():
    assert apart(TWO, np.array([[1, 1, 1, 2]]), 3) == pytest.approx(0.5)
    assert apart(TWO, TWO, 3) == 0


def test_the_chance_equals_scipys_permutation_test():
    """Of all ways to swap six images' answers; two classes, so that the distance is one of means."""
    one, two = np.array([[1, 1, 1, 1, 0, 1]]), np.array([[0, 0, 1, 0, 0, 1]])
    every = np.array([[bool(n >> i & 1) for i in range(6)] for n in range(64)])
    expected = permutation_test(
        (one[0], two[0]), lambda x, y: abs(x.mean() - y.mean()), permutation_type="samples", alternative="greater"
    ).pvalue
    found = chance_of(one, two, 2, every)
    assert found == pytest.approx((1 + 64 * expected) / 65)


def test_answers_that_are_equal_are_no_surprise():
    assert chance_of(TWO, TWO, 3, np.zeros((5, 4), dtype=bool)) == 1.0
    assert np.isnan(chance_of(np.array([[-1, 0, 0, 0]]), TWO, 3, np.zeros((5, 4), dtype=bool)))


def test_holm_by_hand():
    found = holm(pd.Series({"a": 0.01, "b": 0.04, "c": np.nan, "d": 0.03}))
    assert found.drop("c").to_dict() == pytest.approx({"a": 0.03, "b": 0.06, "d": 0.06}) and np.isnan(found["c"])
    assert holm(pd.Series({"a": 0.9, "b": 0.8})).max() == 1.0


def test_the_middle_of_resamples():
    assert middle(np.linspace(0, 1, 1001)) == "0.03 to 0.97"
    assert middle(np.array([0.2, 0.2]), "+") == "+0.20 to +0.20"
    assert middle(np.array([0.1, np.nan])) == "undefined"
