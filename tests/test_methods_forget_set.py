import copy

import pytest
import torch
from by_hand import close, cross_entropy, descended, kl, moved
from tiny import K, convnet, fitted, floats, mlp, pixels, same_weights
from torch.nn import functional as F

from unsir_utils.engine.state import seeded
from unsir_utils.methods.forget_set import (
    _stepped,
    bad_teacher,
    boundary_shrink,
    delete,
    most_salient,
    neggrad_plus,
    random_labels,
    salun,
    scrub,
)
from unsir_utils.methods.passes import distillation, mean_gradients
from unsir_utils.methods.zero_glance import l1_sparse
from unsir_utils.metrics import predictions

FORGET = [1]
WHOLE = {"batch_size": 64, "lr": 0.05}  # one batch, in whatever order


@pytest.fixture(scope="module")
def samples():
    return floats((6,), 24)


@pytest.fixture
def parts(samples):
    return samples.without(FORGET), samples.only(FORGET)


@pytest.fixture
def model(samples, float32):
    return fitted(mlp(), samples, 20)


def test_neggrad_plus_descends_and_ascends_at_once(model, parts):
    r, f = map(cross_entropy, parts)
    expected = descended(model, [lambda m: 0.7 * r(m) - 0.3 * f(m)] * 3, 0.05)
    close(neggrad_plus(model, *parts, alpha=0.7, epochs=3, **WHOLE), expected)


def test_neggrad_plus_of_retain_data_alone_is_fine_tuning(model, parts):
    close(neggrad_plus(model, *parts, alpha=1, epochs=2, **WHOLE), l1_sparse(model, parts[0], alpha=0, epochs=2, **WHOLE))


def drawn_labels(forget, epochs: int, n_retain: int) -> list[tuple]:
    """The order of the forget data and their labels, epoch by epoch, with seed 3."""
    draws = []
    with seeded(3):
        for _ in range(epochs):
            order = torch.randperm(len(forget))
            draws.append((forget[order], torch.randint(K, (len(forget),))))
            torch.randperm(n_retain)
    return draws


def test_random_labels_are_drawn_anew_each_epoch_and_the_retain_data_follow(model, parts):
    retain, forget = parts
    draws = drawn_labels(forget, 2, len(retain))
    assert not torch.equal(draws[0][1], draws[1][1])
    losses = [loss for d in draws for loss in (cross_entropy(*d), cross_entropy(retain))]
    close(random_labels(model, *parts, epochs=2, seed=3, **WHOLE), descended(model, losses, 0.05))


def largest_half(model, forget) -> list[torch.Tensor]:
    gradients = torch.autograd.grad(cross_entropy(forget)(model), list(model.parameters()))
    sizes = torch.cat([g.abs().flatten() for g in gradients])
    smallest = sizes.sort(descending=True).values[len(sizes) // 2 - 1]
    return [g.abs() >= smallest for g in gradients]


def test_salun_is_random_labels_on_the_most_salient_half(model, parts):
    retain, forget = parts
    mask = largest_half(model, forget)
    assert sum(m.sum() for m in mask) == sum(m.numel() for m in mask) // 2
    losses = [loss for d in drawn_labels(forget, 2, len(retain)) for loss in (cross_entropy(*d), cross_entropy(retain))]
    found = salun(model, *parts, epochs=2, seed=3, **WHOLE)
    close(found, descended(model, losses, 0.05, may_move=mask))
    for after, before, may_move in zip(found.parameters(), model.parameters(), mask, strict=True):
        assert torch.equal(after[~may_move], before[~may_move])


def test_with_every_weight_salun_is_random_labels(model, parts):
    assert same_weights(salun(model, *parts, share=1, epochs=2, **WHOLE), random_labels(model, *parts, epochs=2, **WHOLE))


def test_the_mask_has_the_share_of_all_weights_and_of_the_trainable_alone(parts):
    model = mlp()
    model[0].requires_grad_(False)
    mask = most_salient(model, parts[1], 0.25, 8)
    assert [m.shape for m in mask] == [(K, 16), (K,)] and sum(m.sum() for m in mask) == (K * 16 + K) // 4


def test_mean_gradients_are_of_batches_in_order(model, samples):
    batches = [cross_entropy(samples[i : i + 10]) for i in (0, 10, 20)]
    gradients = [torch.autograd.grad(loss(model), list(model.parameters())) for loss in batches]
    for found, *each in zip(mean_gradients(model, samples, 10, torch.square), *gradients, strict=True):
        torch.testing.assert_close(found, sum(g**2 for g in each) / 3)


def test_distillation_by_hand():
    z, teacher = torch.tensor([[0.0, 2.0]]), torch.tensor([[2.0, 0.0]])
    p = 1 / (1 + torch.e**-1.0)  # at temperature 2 the logits are one apart, the two networks opposite: KL = 2 p - 1
    assert distillation(z, teacher, 2.0).item() == pytest.approx(4 * (2 * p - 1))
    assert distillation(teacher, teacher).item() == pytest.approx(0, abs=1e-7)


def test_boundary_shrink_trains_on_what_the_original_sees_across_the_boundary(model, parts):
    _, forget = parts
    x = forget.images.clone().requires_grad_()
    (g,) = torch.autograd.grad(F.cross_entropy(model(x), forget.labels), x)
    labels = model(forget.images + 1.5 * g.sign()).argmax(1)
    assert (labels != 1).any()
    found = boundary_shrink(model, forget, bound=1.5, epochs=2, **WHOLE)
    close(found, descended(model, [cross_entropy(forget, labels)] * 2, 0.05, weight_decay=0))


def test_a_boundary_at_no_distance_keeps_the_originals_labels(model, parts):
    loss = cross_entropy(parts[1], predictions(model, parts[1]))
    close(boundary_shrink(model, parts[1], bound=0, epochs=1, **WHOLE), descended(model, [loss], 0.05, weight_decay=0))


def test_pixels_step_a_tenth_of_their_range_and_stay_in_it(float32):
    model, forget = convnet(), pixels().only(FORGET)
    x = forget.inputs().requires_grad_()
    (g,) = torch.autograd.grad(F.cross_entropy(model.eval()(x.clone()), forget.labels), x)
    moved_by = _stepped(model.train(), forget, 0.1, 3).images.int() - forget.images.int()
    inside = (forget.images > 26) & (forget.images < 229) & (g != 0)
    assert (moved_by[inside].abs() - 25.5).abs().max() <= 0.5
    assert torch.equal(moved_by.sign()[inside], g.sign().int()[inside])
    assert (moved_by.abs() <= 26).all() and model.training


def test_delete_distils_the_original_without_the_forget_logit(model, parts):
    _, forget = parts
    p = torch.softmax(model(forget.images).detach()[:, [0, 2, 3]], 1)
    teacher = torch.zeros(len(forget), K)
    teacher[:, [0, 2, 3]] = p
    expected = descended(model, [kl(forget, teacher)] * 3, 0.05, weight_decay=0)
    close(delete(model, forget, epochs=3, **WHOLE), expected)


def test_scrub_goes_away_and_comes_back(model, parts):
    retain, forget = parts
    p_r, p_f = (torch.softmax(model(s.images).detach() / 3, 1) for s in parts)
    error, near, away = cross_entropy(retain), kl(retain, p_r, 3.0), kl(forget, p_f, 3.0)

    def towards(m):
        return 0.8 * error(m) + 0.2 * near(m)

    losses = [lambda m: -away(m), towards, lambda m: -away(m), towards, towards]
    options = dict(alpha=0.2, gamma=0.8, temperature=3.0, epochs=3, forget_epochs=2, forget_batch_size=64)
    close(scrub(model, *parts, **options, **WHOLE), descended(model, losses, 0.05))


def test_scrub_without_a_forget_epoch_is_fine_tuning(model, parts):
    options = dict(alpha=0, gamma=1, epochs=2, forget_epochs=0)
    close(scrub(model, *parts, **options, **WHOLE), l1_sparse(model, parts[0], alpha=0, epochs=2, **WHOLE))


def test_bad_teacher_learns_from_two_teachers(model, parts, samples):
    bad, student = mlp(seed=9), copy.deepcopy(model)
    teacher = torch.softmax(model(samples.images).detach(), 1)
    teacher[samples.labels == 1] = torch.softmax(bad(parts[1].images).detach(), 1)
    optimiser = torch.optim.Adam(student.parameters(), lr=0.05)
    for _ in range(3):
        optimiser.zero_grad()
        (kl(samples, teacher)(student) / K).backward()
        optimiser.step()
    close(bad_teacher(model, *parts, bad, share=1, epochs=3, **WHOLE), student, rtol=1e-3, atol=1e-5)


def test_a_teacher_that_is_the_original_teaches_nothing_new(model, parts):
    assert moved(bad_teacher(model, *parts, model, share=1, batch_size=64, lr=1e-4), model) <= 1.01e-4  # Adam's one step


@pytest.mark.parametrize("unlearn", [delete, boundary_shrink])
def test_in_eval_mode_the_running_statistics_stay(unlearn):
    model, forget = convnet(), floats((3, 8, 8)).only(FORGET)
    statistics = {name: b.clone() for name, b in model.named_buffers()}
    one, other = (unlearn(model, forget, epochs=1, lr=0.01, batchnorm=b) for b in ("eval", "train"))
    assert all(torch.equal(b, statistics[name]) for name, b in one.named_buffers())
    assert not all(torch.equal(b, statistics[name]) for name, b in other.named_buffers())
    with pytest.raises(ValueError, match="batchnorm is 'off'"):
        unlearn(model, forget, batchnorm="off")


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda m, r, f: neggrad_plus(m, r, f, alpha=1.1), "alpha is 1.1: expected a share, from 0 to 1"),
        (lambda m, r, f: neggrad_plus(m, f, f), r"contains forget classes \[1\]"),
        (lambda m, r, f: random_labels(m, r, f[:0]), "forget data is empty"),
        (lambda m, r, f: salun(m, r, f, share=0), "share is 0"),
        (lambda m, r, f: salun(m, r, f, share=2), "share is 2"),
        (lambda m, r, f: boundary_shrink(m, f, bound=-1), "bound is -1"),
        (lambda m, r, f: delete(m, f[:0]), "forget data is empty"),
        (lambda m, r, f: delete(m, f, lr=0), "lr is 0"),
        (lambda m, r, f: scrub(m, r, f, temperature=0), "temperature is 0"),
        (lambda m, r, f: scrub(m, r, f, forget_epochs=-1), "forget_epochs is -1"),
        (lambda m, r, f: scrub(m, r, f, forget_batch_size=0), "forget_batch_size is 0"),
        (lambda m, r, f: bad_teacher(m, r, f, mlp(K + 1)), "gives 5 logits but the forget data has 4 classes"),
        (lambda m, r, f: bad_teacher(m, r, f, mlp(), share=-0.1), "share is -0.1"),
    ],
)
def test_bad_input_is_named(call, message, parts):
    with pytest.raises(ValueError, match=message):
        call(mlp(), *parts)
