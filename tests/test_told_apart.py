import math

import pytest
import torch
from scipy.spatial.distance import jensenshannon
from tiny import at_head

from unsir_utils.audit.told_apart import by_classifier, cka, jensen_shannon, remaining
from unsir_utils.engine.state import seeded

with seeded(0):
    ONE, OTHER = (at_head(2 * torch.randn(40, 5), [0] * 40, torch.eye(5)) for _ in range(2))


def test_the_dropped_logit_is_of_no_account():
    shifted = at_head(ONE.features, [0] * 40, torch.eye(5), [9.0, 0, 0, 0, 0])
    torch.testing.assert_close(remaining(shifted, [0]), remaining(ONE, [0]))
    torch.testing.assert_close(remaining(ONE, [0, 3]).exp().sum(1), torch.ones(40, dtype=torch.float64))
    assert jensen_shannon(shifted, OTHER, [0]) == pytest.approx(jensen_shannon(ONE, OTHER, [0]))


def test_scipys_divergence_agrees():
    p, q = remaining(ONE, [0]).exp(), remaining(OTHER, [0]).exp()
    assert jensen_shannon(ONE, OTHER, [0]) == pytest.approx((jensenshannon(p, q, axis=1, base=2) ** 2).mean())
    assert jensen_shannon(ONE, ONE, [0]) == 0


def test_answers_that_share_no_class_are_one_bit_apart():
    sure = [at_head([[0.0] + [1000.0 * (c == k) for c in (1, 2)]], [0], torch.eye(3)) for k in (1, 2)]
    assert jensen_shannon(*sure, [0]) == pytest.approx(1)


def test_alignment_is_the_papers_formula():
    x, y = (of.features - of.features.mean(0) for of in (ONE, OTHER))
    expected = (y.T @ x).norm() ** 2 / ((x.T @ x).norm() * (y.T @ y).norm())
    assert cka(ONE, OTHER) == pytest.approx(expected.item())


def test_alignment_does_not_see_rotation_scale_and_shift():
    turn = torch.linalg.qr(torch.eye(5, dtype=torch.float64) + OTHER.features[:5]).Q
    assert cka(ONE, at_head(3 * ONE.features @ turn + 7, [0] * 40, torch.eye(5))) == pytest.approx(1)
    assert math.isnan(cka(ONE, at_head(torch.ones(40, 5), [0] * 40, torch.eye(5))))


def test_equal_answers_cannot_be_told():
    assert by_classifier(ONE, ONE, [0]) == 0.5


def test_answers_to_other_classes_are_told():
    moved = at_head(ONE.features, [0] * 40, torch.eye(5), [0.0, 20, 0, 0, 0])
    assert by_classifier(ONE, moved, [0]) > 0.99


def test_the_classifier_is_not_judged_on_what_it_learned_from():
    """Answers at random: forty images in thirty classes would be told by heart."""
    with seeded(1):
        one, other = (at_head(torch.randn(40, 31), [0] * 40, torch.eye(31)) for _ in range(2))
    assert 0.3 < by_classifier(one, other, [0]) < 0.7
