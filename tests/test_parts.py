import math

from tiny import at_head

from unsir_utils.audit.parts import by_part

LABELS = [0, 0, 0, 0]
HERE = [[2.0, 0.0], [2.0, 1.0], [1.0, 0.0], [0.0, 1.0]]  # three of four are right under the original's head
ORIGINAL = at_head(HERE, LABELS, [[1.0, 0.0], [0.0, 1.0]], [0.0, 0.0])


def test_a_bias_pushed_down_forgets_by_its_row_and_leaves_the_features():
    pushed = at_head(HERE, LABELS, [[1.0, 0.0], [0.0, 1.0]], [-9.0, 0.0])
    assert by_part(pushed, ORIGINAL, [0]) == {"A_Df by row": 0.0, "A_Df by head": 0.0, "A_Df by features": 75.0}


def test_another_row_of_the_head_is_the_heads_doing_and_not_the_rows():
    raised = at_head(HERE, LABELS, [[1.0, 0.0], [0.0, 1.0]], [0.0, 1.5])  # 2 > 1.5, 2 < 2.5, 1 < 1.5, 0 < 2.5
    assert by_part(raised, ORIGINAL, [0]) == {"A_Df by row": 75.0, "A_Df by head": 25.0, "A_Df by features": 75.0}


def test_moved_features_forget_under_the_old_head():
    moved = at_head([[0.0, 1.0]] * 3 + [[1.0, 0.0]], LABELS, [[1.0, 0.0], [0.0, 1.0]], [0.0, 0.0])
    assert by_part(moved, ORIGINAL, [0]) == {"A_Df by row": 75.0, "A_Df by head": 75.0, "A_Df by features": 25.0}


def test_the_originals_tensors_stay():
    by_part(at_head(HERE, LABELS, [[5.0, 0.0], [0.0, 1.0]], [7.0, 0.0]), ORIGINAL, [0])
    assert ORIGINAL.weight.tolist() == [[1.0, 0.0], [0.0, 1.0]] and ORIGINAL.bias.tolist() == [0.0, 0.0]


def test_a_diverged_network_is_undefined():
    diverged = at_head([[math.nan]], [0], [[math.nan]], [math.nan])  # whose head may be any layer
    assert all(math.isnan(value) for value in by_part(diverged, ORIGINAL, [0]).values())
