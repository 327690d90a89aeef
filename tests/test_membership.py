import pytest
import torch
from scipy.stats import entropy
from sklearn.metrics import roc_auc_score
from tiny import at_head
from torch.nn.functional import cross_entropy

from unsir_utils.audit.membership import by_entropy, by_loss
from unsir_utils.engine.state import seeded

with seeded(0):
    LOGITS = 2 * torch.randn(60, 4, dtype=torch.float64)
LABELS = (torch.arange(60) % 4).tolist()
TRAIN, TEST = (at_head(z, LABELS, torch.eye(4)) for z in (LOGITS, LOGITS.flip(0) * 0.5))


def told(members: torch.Tensor, strangers: torch.Tensor) -> float:
    return roc_auc_score([1] * len(members) + [0] * len(strangers), torch.cat([members, strangers]))


def test_the_margin_orders_images_as_the_loss_does():
    losses = [cross_entropy(of.logits[of.labels == 2], of.labels[of.labels == 2], reduction="none") for of in (TRAIN, TEST)]
    assert by_loss(TRAIN, TEST, [2]) == pytest.approx(told(*(-loss for loss in losses)))


def test_no_shift_of_the_class_changes_the_trace():
    shifted = [at_head(of.features, LABELS, torch.eye(4), [0.0, 0, -80, 0]) for of in (TRAIN, TEST)]
    assert by_loss(*shifted, [2]) == by_loss(TRAIN, TEST, [2]) != 0.5
    assert by_entropy(*shifted, [2]) == by_entropy(TRAIN, TEST, [2]) != 0.5


def test_by_hand():
    """Margins of the members: 1 and 0, of the others: 0 and -1. Three of four pairs are in order, one is a tie: 3.5 of 4."""
    train, test = (at_head(z, [0, 0], torch.eye(2)) for z in ([[1.0, 0], [0, 0.0]], [[0.0, 0], [0, 1.0]]))
    assert by_loss(train, test, [0]) == 3.5 / 4


def test_the_entropy_is_that_of_the_retain_classes():
    def sureness(of):
        return torch.tensor([-entropy(z.softmax(0)) for z in of.logits[of.labels == 2][:, [0, 1, 3]]])

    assert by_entropy(TRAIN, TEST, [2]) == pytest.approx(told(sureness(TRAIN), sureness(TEST)))
