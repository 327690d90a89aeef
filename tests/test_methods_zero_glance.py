import copy

import pytest
import torch
from by_hand import close, cross_entropy, descended, moved
from tiny import HeadFirst, K, convnet, fitted, floats, mlp, same_weights, sequence_net
from torch import nn

from unsir_utils.methods.zero_glance import bias_shift, first_layer, head_projection, l1_sparse, weight_negation
from unsir_utils.metrics import logits

FORGET = [1]


@pytest.fixture(scope="module")
def samples():
    return floats((6,), 24)


@pytest.fixture
def model(samples, float32):
    return fitted(mlp(), samples, 20)


@pytest.mark.parametrize("forget", [[1], [0, 3]], ids=str)
def test_a_shifted_bias_lowers_the_forget_logits_alone(forget, model, samples):
    fall = logits(model, samples) - logits(bias_shift(model, forget, (6,), shift=2.5), samples)
    expected = torch.zeros_like(fall)
    expected[:, forget] = 2.5
    torch.testing.assert_close(fall, expected)


def test_no_shift_changes_nothing(model):
    assert same_weights(bias_shift(model, FORGET, (6,), shift=0), model)


def test_a_head_without_a_bias_is_named():
    with pytest.raises(ValueError, match="no bias to shift"):
        bias_shift(nn.Linear(6, K, bias=False), FORGET, (6,))


def test_the_projection_by_hand():
    head = nn.Linear(2, 3)
    head.weight.data = torch.tensor([[3.0, 0.0], [0.0, 3.0], [0.0, 0.0]])
    head.bias.data = torch.tensor([1.0, 2.0, 3.0])
    projected = head_projection(head, [0], (2,))
    # The mean row is (1, 1), class 0's direction (2, -1); (3, 0) has 6/5 of it, (0, 3) has -3/5.
    expected = torch.tensor([[3 - 12 / 5, 6 / 5], [6 / 5, 3 - 3 / 5], [0.0, 0.0]])
    torch.testing.assert_close(projected.weight.data, expected)
    assert torch.equal(projected.bias, head.bias)


@pytest.mark.parametrize("forget", [[1], [0, 2], [0, 1, 2]], ids=str)
def test_a_forget_logit_becomes_the_mean_logit_but_for_the_biases(forget, model, samples):
    z, bias = logits(head_projection(model, forget, (6,)), samples), model[2].bias.detach()
    torch.testing.assert_close(z[:, forget] - z.mean(1, keepdim=True), (bias[forget] - bias.mean()).expand(24, -1))


def test_what_is_orthogonal_to_the_direction_stays(model):
    projected = head_projection(model, FORGET, (6,))
    rows = model[2].weight.detach()
    direction = rows[1] - rows.mean(0)
    features = torch.randn(5, 16)
    features -= features @ direction[:, None] * direction / direction.square().sum()
    torch.testing.assert_close(projected[2](features), model[2](features))
    assert all(torch.equal(a, b) for a, b in zip(projected[0].parameters(), model[0].parameters(), strict=True))


@pytest.mark.parametrize("make, shape", [(convnet, (3, 8, 8)), (HeadFirst, (6,)), (sequence_net, (2, 5))])
def test_the_head_is_found_without_an_image(make, shape):
    model = make()
    for edited in (bias_shift(model, FORGET, shape), head_projection(model, FORGET, shape)):
        changed = [name for name, p in edited.named_parameters() if not torch.equal(p, dict(model.named_parameters())[name])]
        assert len(changed) == 1 and len(dict(model.named_parameters())[changed[0]]) == K


def test_l1_sparse_is_a_loop_whose_penalty_falls(model, samples):
    retain, error = samples.without(FORGET), cross_entropy(samples.without(FORGET))
    tuned = l1_sparse(model, retain, alpha=0.01, epochs=2, lr=0.1, batch_size=64)

    def penalised(alpha):
        return lambda m: error(m) + alpha * sum(p.abs().sum() for p in m.parameters())

    close(tuned, descended(model, [penalised(0.01), penalised(0.005)], 0.1))
    assert moved(tuned, l1_sparse(model, retain, alpha=0.02, epochs=2, lr=0.1, batch_size=64)) > 1e-4


def test_without_a_penalty_l1_sparse_is_fine_tuning(model, samples):
    error = cross_entropy(samples.without(FORGET))
    close(l1_sparse(model, samples.without(FORGET), alpha=0, epochs=2, lr=0.1), descended(model, [error] * 2, 0.1))


def test_a_large_penalty_makes_weights_small(model, samples):
    sizes = [
        sum(p.abs().sum() for p in l1_sparse(model, samples, alpha=a, epochs=5, lr=0.05).parameters()) for a in (0, 0.1)
    ]
    assert sizes[1] < 0.9 * sizes[0]


def test_negation_turns_the_first_layer_and_fine_tunes(model, samples):
    retain = samples.without(FORGET)
    turned = copy.deepcopy(model)
    turned[0].weight.data *= -1
    found = weight_negation(model, retain, epochs=2, lr=0.1)
    close(found, descended(turned, [cross_entropy(retain)] * 2, 0.1))
    assert moved(found, turned) > 1e-3


def test_the_first_layer_is_the_one_that_runs_first():
    model = HeadFirst()
    assert first_layer(model, torch.zeros(2, 6)) is model.body
    with pytest.raises(ValueError, match="no first layer"):
        first_layer(nn.Flatten(), torch.zeros(2, 6))


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda m, s: bias_shift(m, FORGET, (6,), shift=-1), "shift is -1: expected a finite number, 0 or more"),
        (lambda m, s: bias_shift(m, [K], (6,)), "forget class 4"),
        (lambda m, s: head_projection(m, range(K), (6,)), "leave at least one"),
        (lambda m, s: head_projection(m, FORGET, (5,)), "does not take images of shape"),
        (lambda m, s: l1_sparse(m, s, alpha=-0.1), "alpha is -0.1"),
        (lambda m, s: l1_sparse(m, s, epochs=0), "epochs is 0"),
        (lambda m, s: weight_negation(m, s[:0]), "retain data is empty"),
        (lambda m, s: weight_negation(m, s, lr=0.0), "lr is 0"),
    ],
)
def test_bad_input_is_named(call, message, samples):
    with pytest.raises(ValueError, match=message):
        call(mlp(), samples)
