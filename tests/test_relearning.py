import copy

import pytest
import tiny
import torch
from torch import nn

from unsir_utils.audit.relearning import relearned
from unsir_utils.engine.state import seeded
from unsir_utils.methods.baselines import MaskedLogits
from unsir_utils.methods.zero_glance import bias_shift

FEW = tiny.floats((6,), n=20)


def test_it_is_sgd_with_momentum_on_the_few_images(float32):
    plain = tiny.mlp()
    with torch.no_grad():
        z = plain(FEW.images[FEW.labels != 0])
    shift = torch.tensor([(z[:, 1:].amax(1) - z[:, 0]).min(), 0, 0, 0])  # of 15 retain images 2 % are none
    optimiser = torch.optim.SGD(plain.parameters(), lr=0.05, momentum=0.9)
    with seeded(3):
        orders = [part for _ in range(2) for part in torch.randperm(20).split(8)]
    for index in orders[:4]:  # 8, 8 and 4 images, and 8 of the second pass
        optimiser.zero_grad()
        nn.functional.cross_entropy(plain(FEW.images[index]) + shift, FEW.labels[index]).backward()
        optimiser.step()
    model = tiny.mlp()
    with tiny.untouched(model):
        found = relearned(model, FEW, [0], steps=4, lr=0.05, batch_size=8, seed=3)
    for one, other in zip(found.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(one, other)


def test_frozen_weights_are_relearned_and_batchnorm_stays():
    model, few = tiny.half_frozen(), tiny.floats((3, 8, 8))
    with tiny.untouched(model), torch.no_grad():
        found = relearned(model, few, [0], steps=3)
    assert not torch.equal(found[0].weight, model[0].weight)
    assert torch.equal(found[1].running_mean, model[1].running_mean)


def test_a_mask_does_not_stand_in_the_way():
    model = tiny.mlp()
    masked = relearned(MaskedLogits(copy.deepcopy(model), [0]), FEW, [0], steps=3)
    assert tiny.same_weights(masked.network, relearned(model, FEW, [0], steps=3))


def test_a_shifted_bias_does_not_either(float32):
    model = tiny.mlp()
    shifted = bias_shift(model, [0], FEW.shape, shift=30.0)
    one, other = (dict(relearned(m, FEW, [0], steps=5).named_parameters()) for m in (model, shifted))
    other["2.bias"] = other["2.bias"] + torch.tensor([30.0, 0, 0, 0])
    for name in one:
        torch.testing.assert_close(one[name], other[name], atol=1e-4, rtol=1e-4)


def test_bad_input_is_named():
    with pytest.raises(ValueError, match="steps is 0"):
        relearned(tiny.mlp(), FEW, [0], steps=0)
    with pytest.raises(ValueError, match="is empty"):
        relearned(tiny.mlp(), FEW[:0], [0])
