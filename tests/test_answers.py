import numpy as np
import pandas as pd
import pytest
import torch
from scipy.stats import permutation_test
from torch import Tensor, nn

from unsir_utils.audit.answers import apart, chance_of, gap, gaps, holm, largest_share, likeness, middle, shares
from unsir_utils.engine.samples import Samples
from unsir_utils.noise import Noise

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


class Chances(nn.Module):
    """A network that gives every image of a class [n] the same probabilities: those in the class's row of `given`."""

    def __init__(self, *given: list[float]) -> None:
        super().__init__()
        self.logits = nn.Parameter(torch.tensor(given).log())

    def forward(self, x: Tensor) -> Tensor:
        return self.logits[x[:, 0].long()]


FOUR = Samples(torch.tensor([[0.0], [0.0], [0.0], [1.0]]), torch.tensor([0, 0, 0, 1]), 2)
SURE, UNSURE = Chances([0.9, 0.1], [0.2, 0.8]), Chances([0.4, 0.6], [0.2, 0.8])


def test_two_networks_are_apart_by_hand():
    """On three of four images the probabilities differ by 0.5 and the answers do, too; on the last one nothing does."""
    assert gap(SURE, UNSURE, FOUR) == pytest.approx((0.375, 0.75))
    assert gap(SURE, SURE, FOUR) == (0, 0)
    assert gap(SURE, Chances([0.6, 0.4], [0.2, 0.8]), FOUR) == pytest.approx((0.225, 0))


def test_a_masked_class_has_no_probability():
    assert gap(Chances([0.0, 1.0], [0.0, 1.0]), Chances([1.0, 0.0], [0.0, 1.0]), FOUR) == pytest.approx((0.75, 0.75))


def test_nothing_is_said_of_a_diverged_network():
    assert np.isnan(gap(SURE, Chances([0.4, 0.6], [float("nan")] * 2), FOUR)).all()


def test_the_parts_are_kept_apart():
    found = gaps(SURE, UNSURE, {"retain": FOUR.only([0]), "forget": FOUR.only([1])})
    assert found == pytest.approx({"tv_retain": 0.5, "differ_retain": 1, "tv_forget": 0, "differ_forget": 0})


@pytest.mark.parametrize("label, belief", [(0, 75.0), (1, 25.0)])
def test_what_noise_is_like_by_hand(label, belief):
    """The network answers log 3 against 0 whatever it sees: 3/4 for class 0."""
    model = nn.Linear(2, 2)
    with torch.no_grad():
        model.weight.zero_()
        model.bias.copy_(torch.tensor([np.log(3), 0.0]))
    noise = Noise(torch.tensor([[3.0, 4.0], [0.0, 1.0]]), torch.full((2,), label), [], 0.0, 0)
    expected = {"norm": 3.0, "error": -np.log(belief / 100), "belief": belief}
    assert likeness(model, noise, 2) == pytest.approx(expected, rel=0.01)


def test_a_diverged_network_believes_nothing_of_the_noise():
    model = nn.Linear(2, 2)
    nn.init.constant_(model.weight, float("nan"))
    found = likeness(model, Noise(torch.tensor([[3.0, 4.0]]), torch.tensor([0]), [], 0.0, 0), 2)
    assert found["norm"] == 5 and np.isnan(found["error"]) and np.isnan(found["belief"])
