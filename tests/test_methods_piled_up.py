import copy

import pytest
import torch
from by_hand import close
from tiny import floats, plain

from unsir_utils.methods.piled_up import piled_up
from unsir_utils.noise import unlearned_noise
from unsir_utils.unsir import two_passes


def test_the_repair_step_goes_along_impairs_gradient_too(float32):
    """One batch a pass, so that two steps of Adam are all there is."""
    model, retain = plain(), floats((3, 8, 8), 16).without([1])
    noise = unlearned_noise([1], retain.shape, per_class=2, seed=3)
    found = piled_up(model, retain, noise, impair_lr=0.05, repair_lr=0.02, copies=3, batch_size=64)
    by_hand = copy.deepcopy(model)
    x, y = retain.inputs(slice(None)), retain.labels
    shown = torch.cat([x] + 3 * [noise.images]), torch.cat([y] + 3 * [noise.labels])
    for lr, (images, labels) in ((0.05, shown), (0.02, (x, y))):
        torch.nn.functional.cross_entropy(by_hand(images), labels).backward()  # onto what is there
        torch.optim.Adam(by_hand.parameters(), lr=lr).step()
    close(found, by_hand)
    assert all(p.grad is None for p in found.parameters())
    set_to_zero = two_passes(model, retain, noise, impair_lr=0.05, repair_lr=0.02, copies=3, batch_size=64).model
    with pytest.raises(AssertionError):
        close(found, set_to_zero)


def test_bad_input_is_named_before_any_work():
    retain = floats((3, 8, 8), 16).without([1])
    noise = unlearned_noise([1], retain.shape, per_class=2, seed=3)
    for bad in ({"copies": 0}, {"batch_size": 0}, {"impair_lr": -1.0}, {"repair_lr": 0.0}):
        with pytest.raises(ValueError, match=f"{[*bad][0]} is "):
            piled_up(plain(), retain, noise, **bad)
