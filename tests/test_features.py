from dataclasses import replace

import pytest
import tiny
import torch
from torch import nn

from unsir_utils.audit import features as audited
from unsir_utils.audit.features import Unmasked, read
from unsir_utils.engine.samples import Samples
from unsir_utils.methods.baselines import MaskedLogits


def in_eighths(made: nn.Module | Samples) -> nn.Module | Samples:
    """The same in numbers whose sums and products float32 holds whole: no order of summation changes a digit."""
    if isinstance(made, Samples):
        return replace(made, images=(8 * made.images).round() / 8)
    with torch.no_grad():
        for weights in made.parameters():
            weights.copy_((8 * weights).round() / 8)
    return made


VECTORS = in_eighths(tiny.floats((6,), n=21))


class Tokens(nn.Module):
    """Vectors [n, 6] as three tokens of two numbers; the head answers each, their mean counts."""

    def __init__(self) -> None:
        super().__init__()
        self.last = nn.Linear(2, tiny.K)

    def forward(self, x):
        return self.last(x.unflatten(1, (3, 2))).mean(1)


def test_what_reaches_the_head_and_what_it_gives(float32, monkeypatch):
    monkeypatch.setattr(audited, "EVALUATION_BATCH", 8)  # of three batches
    model = in_eighths(tiny.mlp())
    with tiny.untouched(model):
        found = read(model, VECTORS)
    torch.testing.assert_close(found.features, model[:2](VECTORS.images).detach().double())
    torch.testing.assert_close(found.logits, model(VECTORS.images).detach().double())
    torch.testing.assert_close(found.logits, found.features @ found.weight.T + found.bias)
    assert found.labels.tolist() == VECTORS.labels.tolist() and found.defined


def test_a_mask_behind_the_head_hides_nothing(float32):
    model, x = tiny.mlp(), VECTORS.images
    plain, masked = read(model, VECTORS), read(MaskedLogits(model, [0]), VECTORS)
    assert torch.equal(plain.features, masked.features) and torch.equal(plain.logits, masked.logits)
    assert torch.equal(Unmasked(MaskedLogits(model, [0]), x)(x), model(x))


def test_maps_are_averaged_over_their_places(float32):
    layers = nn.Conv2d(3, 5, 3), nn.ReLU(), nn.Conv2d(5, tiny.K, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten()
    model, samples = in_eighths(nn.Sequential(*layers)), in_eighths(tiny.floats((3, 6, 6)))  # of 16 places
    found = read(model, samples)
    torch.testing.assert_close(found.features, model[:2](samples.images).mean((2, 3)).detach().double())
    torch.testing.assert_close(found.logits, found.features @ found.weight.T + found.bias)
    torch.testing.assert_close(found.logits, model(samples.images).detach().double())


def test_tokens_are_averaged(float32):
    model = in_eighths(Tokens())
    found = read(model, VECTORS)
    torch.testing.assert_close(found.features, VECTORS.images.unflatten(1, (3, 2)).mean(1).double())
    torch.testing.assert_close(found.logits, model(VECTORS.images).detach().double())


@pytest.mark.parametrize("make", [tiny.convnet, tiny.sequence_net, tiny.half_frozen])
def test_networks_are_left_as_they_were(make):
    model = make()
    with tiny.untouched(model):
        found = read(model, tiny.floats(tiny.SHAPES[make]))
    assert found.logits.shape == (21, tiny.K) and found.features.shape[1] == found.weight.shape[1]


def test_a_head_that_is_declared_first_and_has_no_bias():
    model = tiny.HeadFirst()
    model.head.bias = None
    found = read(model, VECTORS)
    assert found.features.shape == (21, 5) and found.bias.tolist() == [0] * tiny.K


def test_parts_are_taken_by_class():
    found = tiny.at_head([[1.0], [2.0], [3.0]], [0, 1, 2], [[1.0], [2.0], [3.0]])
    assert found.only([0, 2]).features.tolist() == [[1], [3]] and found.without([0]).labels.tolist() == [1, 2]
    assert found.others([1]) == [0, 2] and len(found) == 3


def test_a_network_without_a_single_head_is_refused():
    class TwoHeads(nn.Module):
        def __init__(self):
            super().__init__()
            self.one, self.two = nn.Linear(6, tiny.K), nn.Linear(6, tiny.K)

        def forward(self, x):
            return self.one(x) + self.two(x)

    with pytest.raises(ValueError, match="head"):
        read(TwoHeads(), VECTORS)
    with pytest.raises(ValueError, match="5 logits"):
        read(tiny.mlp(5), VECTORS)
