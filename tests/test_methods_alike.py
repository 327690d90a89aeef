"""What holds for every method of today's, whatever it does."""

import inspect

import pytest
import torch
from tiny import convnet, fitted, floats, half_frozen, mlp, same_weights, untouched

from unsir_utils.methods import forget_set, one_shot, zero_glance
from unsir_utils.metrics import evaluate

SHAPE, FORGET = (3, 8, 8), [1]
QUICK = {"epochs": 2, "lr": 0.05, "batch_size": 16}
ONLY_FORGET = {"epochs": 4, "lr": 0.05, "batch_size": 16}
CALLS = {
    "bias shift": lambda m, r, f, **o: zero_glance.bias_shift(m, FORGET, SHAPE, **o),
    "head projection": lambda m, r, f, **o: zero_glance.head_projection(m, FORGET, SHAPE, **o),
    "NoT": lambda m, r, f, **o: zero_glance.weight_negation(m, r, **QUICK, **o),
    "l1-sparse": lambda m, r, f, **o: zero_glance.l1_sparse(m, r, alpha=0.05, **QUICK, **o),
    "NegGrad+": lambda m, r, f, **o: forget_set.neggrad_plus(m, r, f, alpha=0.8, **QUICK, **o),
    "random labels": lambda m, r, f, **o: forget_set.random_labels(m, r, f, **QUICK, **o),
    "SalUn": lambda m, r, f, **o: forget_set.salun(m, r, f, **QUICK, **o),
    "boundary shrink": lambda m, r, f, **o: forget_set.boundary_shrink(m, f, bound=1.5, **ONLY_FORGET, **o),
    "SCRUB": lambda m, r, f, **o: forget_set.scrub(m, r, f, lr=0.02, batch_size=16, forget_batch_size=4, **o),
    "bad teacher": lambda m, r, f, **o: forget_set.bad_teacher(m, r, f, convnet(seed=5), **{**QUICK, "lr": 0.01}, **o),
    "DELETE": lambda m, r, f, **o: forget_set.delete(m, f, **ONLY_FORGET, **o),
    "SSD": lambda m, r, f, **o: one_shot.ssd(m, r, f, alpha=2.0, batch_size=5, **o),
    "SVD projection": lambda m, r, f, **o: one_shot.svd_projection(m, r, f, patches=50, **o),
}
EVERY = pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
SEEDED = [name for name in CALLS if name not in ("bias shift", "head projection", "SSD")]


@pytest.fixture(scope="module")
def samples():
    return floats(SHAPE, 60)


@pytest.fixture(scope="module")
def parts(samples):
    return samples.without(FORGET), samples.only(FORGET)


@pytest.fixture(scope="module")
def model(samples):
    return fitted(convnet(), samples, 30)


def test_every_kernel_is_called():
    kernels = {
        f
        for module in (zero_glance, forget_set, one_shot)
        for f in vars(module).values()
        if inspect.isfunction(f)
        and f.__module__ == module.__name__
        and next(iter(inspect.signature(f).parameters)) == "model"
    }
    public = {f.__name__ for f in kernels if not f.__name__.startswith("_")} - {"most_salient", "first_layer"}
    assert len(public) == len(CALLS)


@EVERY
def test_it_forgets_and_leaves_the_original_as_it_was(call, model, parts):
    with untouched(model):
        found = call(model, *parts)
    assert evaluate(found, parts[1])[0] > evaluate(model, parts[1])[0]


@EVERY
def test_modes_and_flags_come_back(call, samples, parts):
    model = half_frozen()
    with untouched(model):
        call(model, *parts)


@pytest.mark.parametrize("name", SEEDED)
def test_a_seed_decides_the_result(name, model, parts):
    one, same, other = (CALLS[name](model, *parts, seed=seed) for seed in (1, 1, 2))
    assert same_weights(one, same) and not same_weights(one, other)


@EVERY
@pytest.mark.parametrize("caller", [torch.no_grad, torch.inference_mode])
def test_it_works_whatever_the_caller_does(call, caller, model, parts):
    expected = call(model, *parts)
    with caller():
        found = call(model, *parts)
    assert same_weights(found, expected) and not any(p.is_inference() for p in found.parameters())


@pytest.mark.parametrize("name", [name for name in CALLS if name not in ("bias shift", "head projection")])
def test_a_frozen_network_is_refused(name, parts):
    with pytest.raises(ValueError, match="requires a gradient"):
        CALLS[name](convnet().requires_grad_(False), *parts)


@EVERY
def test_what_does_not_take_the_images_is_named(call, parts):
    with pytest.raises(ValueError, match="does not take images of shape"):
        call(mlp(), *parts)
