import math

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_curve
from tiny import at_head

from unsir_utils.audit.recovered import logit_recovered, prototype_recovered, recall_at, shifts
from unsir_utils.engine.state import seeded


@pytest.mark.parametrize("lost, recall", [(0.0, 25), (0.25, 50), (0.5, 50), (0.74, 50), (0.75, 100)])
def test_recall_by_hand(lost, recall):
    assert recall_at(torch.tensor([5.0, 3.5, 1.5, 1.5]), torch.tensor([4.0, 3.0, 2.0, 1.0]), lost) == recall


def test_equal_scores_are_lost_together():
    assert recall_at(torch.tensor([1.0, 2.0]), torch.tensor([1.0] * 10), 0.5) == 50


@pytest.mark.parametrize("lost", [0.01, 0.02, 0.3])
def test_it_is_a_point_of_sklearns_roc_curve(lost):
    with seeded(0):
        forget, retain = 1 + torch.randn(80), torch.randn(300)
    false, true, _ = roc_curve([1] * 80 + [0] * 300, [*forget, *retain], drop_intermediate=False)
    assert recall_at(forget, retain, lost) == pytest.approx(100 * true[false <= lost + 1e-9].max())


def test_nothing_is_said_of_a_diverged_network():
    assert math.isnan(recall_at(torch.tensor([1.0, math.nan]), torch.tensor([0.0])))


# One feature a class, which the head hands on. Of two images of the class 0 one is answered best by it, one second best.
IMAGES = [[3.0, 0, 1], [1.0, 2, 0], [0, 2.0, 1], [0, 1.0, 3]]
LABELS = [0, 0, 1, 2]


def test_a_shift_of_the_logit_changes_nothing():
    for bias in ([0.0, 0, 0], [-50.0, 0, 0], [50.0, 0, 0]):
        assert logit_recovered(at_head(IMAGES, LABELS, torch.eye(3), bias), [0]) == 100  # margins 2, -1 and -2, -3
    turned = torch.tensor([[-1.0, 0, 0], [0, 1, 0], [0, 0, 1]])
    assert logit_recovered(at_head(IMAGES, LABELS, turned), [0]) == 0  # margins -4, -3 and -2, -3


def test_the_shift_by_hand():
    """The class 0 gives the retain images 2 and 3 less than they get; none of two may be lost, or one."""
    images = at_head(IMAGES, LABELS, torch.eye(3))
    assert shifts(images, [0]).tolist() == [2, 0, 0] and shifts(images, [0], lost=0.5).tolist() == [3, 0, 0]


def test_each_forget_class_is_recovered_alone():
    """The class 2 alone is a retain class: margins of the class 0 are 2, 1 and -3, of the class 1 they are 1 and -2."""
    assert logit_recovered(at_head(IMAGES, LABELS, torch.eye(3)), [0, 1]) == 100
    assert logit_recovered(at_head(IMAGES, LABELS, torch.tensor([[1.0, 0, 0], [0, -9, 0], [0, 0, 1]])), [0, 1]) == 50


def test_a_row_from_an_image_by_hand():
    """Features (1, 0) of the class and (0, 1) of the others: the row is (1, -1), as long as the others' rows, 5."""
    train = at_head([[1.0, 0], [0, 1.0]], [0, 1], [[0.0, 0], [3.0, 4]])
    row = np.array([5, -5]) / math.sqrt(2)  # (5, 0) would lose neither
    images = np.array([[2.0, 0], [3.0, 0.8], [0, 1.0], [0.5, 0.2]])
    margin = images @ row - images @ [3, 4]
    expected = recall_at(torch.tensor(margin[:2]), torch.tensor(margin[2:]))
    found = prototype_recovered(train, at_head(images, [0, 0, 1, 1], [[0.0, 0], [3.0, 4]]), [0], 1)
    assert margin[0] > margin[3] > margin[1] and found == expected == 50


def test_the_old_row_is_of_no_account_and_more_images_are_a_better_mean():
    with seeded(0):
        labels = torch.arange(400) % 4
        x = torch.eye(4, 12)[labels] + 0.5 * torch.randn(400, 12)
    head = 5 * torch.eye(4, 12)
    off = head.clone()
    off[0] = -100
    found = {k: prototype_recovered(*[at_head(x, labels.tolist(), head)] * 2, [0], k) for k in (1, 5, 50)}
    assert found[1] + 5 < found[5] + 2 < found[50]
    assert prototype_recovered(*[at_head(x, labels.tolist(), off)] * 2, [0], 5) == found[5]
