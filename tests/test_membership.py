import math

import pytest
import torch
from scipy.stats import entropy, norm
from sklearn.metrics import roc_auc_score
from tiny import at_head
from torch.nn.functional import cross_entropy

from unsir_utils.audit.membership import by_entropy, by_loss, log_ratios, margins, u_lira
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


def test_a_margin_is_the_logit_of_the_probability():
    own = torch.arange(60) % 4 == 2
    p = LOGITS[own].softmax(1)[:, 2]
    torch.testing.assert_close(margins(TRAIN.only([2]), [2]), (p / (1 - p)).log())


def test_a_ratio_by_hand():
    """Seen: mean 4, variance 2. Unseen: mean 0, variance 8. At 3: -1/4 - log(2)/2 + 9/16 + log(8)/2 = 5/16 + log(2)."""
    found = log_ratios(torch.tensor([3.0]), torch.tensor([[3.0], [5.0]]), torch.tensor([[-2.0], [2.0]]))
    assert found.item() == pytest.approx(5 / 16 + math.log(2))


def test_scipys_densities_agree():
    with seeded(3):
        target, seen, unseen = torch.randn(20).double(), torch.randn(5, 20).double() + 1, torch.randn(5, 20).double()
    expected = [norm.logpdf(target, of.mean(0), of.var(0).mean() ** 0.5) for of in (seen, unseen)]
    torch.testing.assert_close(log_ratios(target, seen, unseen), torch.from_numpy(expected[0] - expected[1]))


def test_shadow_networks_that_agree_divide_nothing_by_zero():
    same = torch.ones(3, 2)
    assert log_ratios(torch.tensor([1.0, 5.0]), same, same).tolist() == [0, 0]
    assert log_ratios(torch.tensor([1.0, 1.0]), same, same - 1).isfinite().all()


@pytest.mark.parametrize(
    "shapes", [((4,), (1, 4), (1, 4)), ((4,), (2, 3), (2, 3)), ((4,), (2, 4), (3, 4)), ((4,), (4,), (4,))]
)
def test_other_shapes_are_named(shapes):
    with pytest.raises(ValueError, match=r"margins are \[4\]"):
        log_ratios(*map(torch.zeros, shapes))


def halves(networks: int, images: int, seed: int = 0) -> torch.Tensor:
    with seeded(seed):
        one = torch.stack([torch.randperm(images) < images // 2 for _ in range(networks // 2)])
    return torch.stack([one, ~one], 1).flatten(0, 1)


def test_a_trace_is_found_whatever_the_images_are_like():
    member = halves(6, 40)
    with seeded(1):
        told = 100 * torch.randn(40) + member + 0.01 * torch.randn(6, 40)
    assert u_lira(told, member) == 6 * [{"AUC": 1.0, "right": 100.0, "found": 100.0}]


def test_where_there_is_no_trace_none_is_found():
    """In the mean over networks: an attack that a network's own twin leans on would be below chance."""
    found = []
    for seed in range(60):
        with seeded(seed):
            told = torch.randn(100) + torch.randn(6, 100)
        found += u_lira(told, halves(6, 100, seed))
    assert sum(record["AUC"] for record in found) / len(found) == pytest.approx(0.5, abs=0.01)
    assert sum(record["right"] for record in found) / len(found) == pytest.approx(50, abs=1)


def test_each_network_is_attacked_with_the_other_pairs():
    member = halves(8, 30)
    with seeded(2):
        told = torch.randn(8, 30, dtype=torch.float64) + 0.5 * member
    pairs = [(told[i], told[i + 1], member[i]) for i in (0, 2, 6)]  # network 5 and its twin, 4, left out
    seen, unseen = (torch.stack([torch.where(m == of, one, two) for one, two, m in pairs]) for of in (True, False))
    scores = log_ratios(told[5], seen, unseen)
    expected = roc_auc_score(member[5], scores)
    assert u_lira(told, member)[5]["AUC"] == pytest.approx(expected)


def test_a_network_that_diverged_is_undefined_and_spoils_those_that_it_shadows():
    member = halves(6, 10)
    told = member.double()
    told[0] = math.nan
    found = u_lira(told, member)
    assert all(math.isnan(record["AUC"]) for record in [found[0], *found[2:]]) and found[1]["AUC"] == 1


def test_what_are_no_pairs_is_named():
    member = halves(6, 10)
    with pytest.raises(ValueError, match="4 networks are given"):
        u_lira(member[:4].double(), member[:4])
    with pytest.raises(ValueError, match="no pairs of opposite halves"):
        u_lira(member[[0, 2, 1, 3, 4, 5]].double(), member[[0, 2, 1, 3, 4, 5]])
