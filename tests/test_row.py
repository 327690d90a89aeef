import pytest
from tiny import at_head

from unsir_utils.audit.row import row

WEIGHT, BIAS = [[0.0, 3.0], [6.0, 8.0], [2.0, 0.0]], [-1.0, 2.0, 1.0]
TRAIN = at_head([[0.0, 2.0], [2.0, 0.0], [1.0, 1.0]], [0, 0, 1], WEIGHT, BIAS)


def test_a_row_by_hand():
    """Norms 3 and 10, 2; biases -1 and 2, 1; the class's mean feature is (1, 1), at 45 degrees from its row (0, 3)."""
    assert row(TRAIN, [0]) == pytest.approx({"norm": 0.5, "bias": -2.5, "cosine": 0.5**0.5})


def test_rows_of_several_classes_are_averaged():
    assert row(TRAIN, [0, 1]) == pytest.approx({"norm": 6.5 / 2, "bias": -0.5, "cosine": (0.5**0.5 + 14 / 200**0.5) / 2})
