import copy

import pytest
import tiny
import torch
from torch import nn

from unsir_utils.audit.relearning import relearned
from unsir_utils.engine.state import seeded
from unsir_utils.methods.baselines import MaskedLogits

FEW = tiny.floats((6,), n=20)


def test_it_is_sgd_with_momentum_on_the_few_images(float32):
    plain = tiny.mlp()
    optimiser = torch.optim.SGD(plain.parameters(), lr=0.05, momentum=0.9)
    with seeded(3):
        orders = [part for _ in range(2) for part in torch.randperm(20).split(8)]
    for index in orders[:4]:  # 8, 8 and 4 images, and 8 of the second pass
        optimiser.zero_grad()
        nn.functional.cross_entropy(plain(FEW.images[index]), FEW.labels[index]).backward()
        optimiser.step()
    model = tiny.mlp()
    with tiny.untouched(model):
        found = relearned(model, FEW, steps=4, lr=0.05, batch_size=8, seed=3)
    for one, other in zip(found.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(one, other)


def test_frozen_weights_are_relearned_and_batchnorm_stays():
    model, few = tiny.half_frozen(), tiny.floats((3, 8, 8))
    with tiny.untouched(model), torch.no_grad():
        found = relearned(model, few, steps=3)
    assert not torch.equal(found[0].weight, model[0].weight)
    assert torch.equal(found[1].running_mean, model[1].running_mean)


def test_a_mask_does_not_stand_in_the_way():
    model = tiny.mlp()
    masked = relearned(MaskedLogits(copy.deepcopy(model), [0]), FEW, steps=3)
    assert tiny.same_weights(masked.network, relearned(model, FEW, steps=3))


def test_bad_input_is_named():
    with pytest.raises(ValueError, match="steps is 0"):
        relearned(tiny.mlp(), FEW, steps=0)
    with pytest.raises(ValueError, match="few images is empty"):
        relearned(tiny.mlp(), FEW[:0])
