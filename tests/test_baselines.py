import pytest
import torch
from tiny import HeadFirst, K, Returns, convnet, fitted, floats, half_frozen, mlp, same_weights, untouched
from torch import nn

from unsir_utils.engine.state import seeded
from unsir_utils.methods.baselines import MaskedLogits, _posterior, finetune, fisher_forgetting, neggrad
from unsir_utils.methods.fisher import fisher_information
from unsir_utils.metrics import evaluate, logits, prediction_distribution, retain_forget_accuracy


@pytest.fixture(scope="module")
def samples():
    return floats((3, 8, 8), 60)


@pytest.fixture(scope="module")
def model(samples):
    return fitted(convnet(), samples, 10)


def test_a_mask_predicts_no_forget_class_and_keeps_the_other_logits(model, samples):
    masked = MaskedLogits(model, [0, 2])
    with untouched(model):
        z = logits(masked, samples)
    assert prediction_distribution(masked, samples)[[0, 2]].sum() == 0
    assert retain_forget_accuracy(masked, samples, [0, 2])[1] == 0
    assert torch.equal(z[:, [1, 3]], logits(model, samples)[:, [1, 3]])
    assert (z[:, [0, 2]] == -torch.inf).all()


def test_finetuning_lowers_the_retain_loss(model, samples):
    retain = samples.without([1])
    with untouched(model):
        tuned = finetune(model, retain, lr=0.05, batch_size=16)
    assert evaluate(tuned, retain)[0] < evaluate(model, retain)[0]


def test_neggrad_raises_the_forget_loss(model, samples):
    forget = samples.only([1])
    with untouched(model):
        risen = neggrad(model, forget, epochs=3, lr=0.01, batch_size=5)
    assert evaluate(risen, forget)[0] > evaluate(model, forget)[0]


def test_neggrad_in_eval_mode_leaves_the_running_statistics(samples):
    model, forget = convnet(), samples.only([1])
    statistics = {name: b.clone() for name, b in model.named_buffers()}
    one, other = (neggrad(model, forget, lr=0.01, batch_size=5, batchnorm=b) for b in ("eval", "train"))
    assert all(torch.equal(b, statistics[name]) for name, b in one.named_buffers())
    assert not all(torch.equal(b, statistics[name]) for name, b in other.named_buffers())
    assert evaluate(one, forget)[0] > evaluate(model, forget)[0]
    with pytest.raises(ValueError, match="batchnorm is 'off'"):
        neggrad(model, forget, batchnorm="off")


def test_one_step_of_neggrad_is_finetuning_backwards(float32):
    start, forget = mlp(), floats((6,)).only([1])
    up, down = neggrad(start, forget, lr=0.01), finetune(start, forget, lr=0.01, epochs=1)
    for a, b, c in zip(up.parameters(), start.parameters(), down.parameters(), strict=True):
        torch.testing.assert_close(a - b, b - c)
    assert not same_weights(up, start)


@pytest.mark.parametrize("unlearn", [finetune, neggrad])
def test_a_seed_decides_the_result(unlearn, model, samples):
    one, same, other = (unlearn(model, samples, epochs=1, batch_size=16, seed=seed) for seed in (1, 1, 2))
    assert same_weights(one, same) and not same_weights(one, other)


@pytest.mark.parametrize("unlearn", [finetune, neggrad])
def test_partly_frozen_models_stay_as_they_were(unlearn, samples):
    model = half_frozen()
    with untouched(model):
        unlearn(model, samples)


def test_fisher_variances_by_hand():
    hidden = torch.tensor([[1.0, 3.0], [0.0, 1e-9]])
    mean, variance = _posterior(torch.ones(2, 2), hidden, [1], head=False, alpha=0.1)
    small = 1 / (1 + 1e-8), 1 / (3 + 1e-8)
    assert torch.equal(mean, torch.ones(2, 2))
    torch.testing.assert_close(variance, 0.1 * torch.tensor([[sum(small) / 2] * 2, [1e3] * 2]))

    _, vector = _posterior(torch.ones(3), torch.tensor([0.5, 2.0, 0.0]), [1], head=False, alpha=0.1)
    torch.testing.assert_close(vector, 10 * 0.1 * torch.tensor([2.0, 0.5, 1e3]))


@pytest.mark.parametrize("shape", [(4, 2), (4,)])
def test_fisher_replaces_the_forget_rows_of_the_output_layer(shape):
    mean, variance = _posterior(torch.full(shape, 7.0), torch.full(shape, 1e-4), [1, 3], head=True, alpha=1e-6)
    expected = torch.full(shape, 10 * 1e-6 * 1e2)
    expected[[1, 3]] = 10 * 1e-4
    torch.testing.assert_close(variance, expected)
    assert (mean[[1, 3]] == 0).all() and (mean[[0, 2]] == 7).all()


def test_fisher_forgetting_spreads_the_weights_by_their_variance(float32):
    retain = floats((6,), 40).without([2])
    model = fitted(nn.Linear(6, K), retain, 10)
    information = fisher_information(model, retain)["weight"]
    mean, variance = _posterior(model.weight.detach(), information, [2], head=True, alpha=1e-3)
    with untouched(model):
        drawn = torch.stack([fisher_forgetting(model, retain, [2], alpha=1e-3, seed=s).weight for s in range(200)])
    drawn = drawn.detach()
    torch.testing.assert_close(drawn.var(0), variance, rtol=0.6, atol=0)
    assert ((drawn.mean(0) - mean).abs() < 5 * (variance / 200).sqrt()).all()


def test_fisher_takes_no_hidden_layer_for_the_output_layer():
    """A hidden layer as wide as there are classes."""
    with seeded(0):
        model = nn.Sequential(nn.Linear(6, K), nn.ReLU(), nn.Linear(K, K))
    noisy = fisher_forgetting(model, floats((6,)).without([1]), [1])
    assert (noisy[0].weight[1] - model[0].weight[1]).abs().max() < 0.05
    assert (noisy[2].weight[1] - model[2].weight[1]).abs().max() > 0.05


def test_fisher_finds_an_output_layer_that_is_declared_first():
    model = HeadFirst()
    noisy = fisher_forgetting(model, floats((6,)).without([1]), [1])
    assert (noisy.head.bias[1] - model.head.bias[1]).abs() > 0.05 > (noisy.body.bias[1] - model.body.bias[1]).abs()


def test_fisher_takes_image_by_image_what_has_a_layer_without_a_rule():
    with seeded(0):
        model = nn.Sequential(nn.Linear(6, 5), nn.LayerNorm(5), nn.Linear(5, K))
    retain = floats((6,)).without([1])
    by_image = fisher_information(model, retain, method="loop")
    assert same_weights(fisher_forgetting(model, retain, [1]), fisher_forgetting(model, retain, [1], information=by_image))


def test_fisher_leaves_what_is_frozen():
    model = half_frozen()
    noisy = fisher_forgetting(model, floats((3, 8, 8)).without([1]), [1])
    assert torch.equal(noisy[0].weight, model[0].weight) and not torch.equal(noisy[5].weight, model[5].weight)


CALLS = {
    "finetune": lambda m, s: finetune(m, s, epochs=1),
    "neggrad": neggrad,
    "fisher": lambda m, s: fisher_forgetting(m, s.without([1]), [1]),
}
EVERY_CALL = pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)


@EVERY_CALL
@pytest.mark.parametrize("caller", [torch.no_grad, torch.inference_mode])
def test_baselines_train_whatever_the_caller_does(call, caller, samples):
    expected = call(convnet(), samples)
    with caller():
        found = call(convnet(), samples)
    assert same_weights(found, expected) and not same_weights(found, convnet())


@EVERY_CALL
def test_frozen_models_and_odd_outputs_are_refused(call):
    with pytest.raises(ValueError, match="requires a gradient"):
        call(mlp().requires_grad_(False), floats((6,)))
    with pytest.raises(ValueError, match="the model returns a tuple"):
        call(Returns(lambda z: (z, z), always=call is CALLS["fisher"]), floats((6,)))


@EVERY_CALL
def test_torchs_default_type_changes_nothing(call, samples):
    model, expected = convnet(), call(convnet(), samples)
    try:
        torch.set_default_dtype(torch.float64)
        found = call(model, samples)
    finally:
        torch.set_default_dtype(torch.float32)
    assert same_weights(found, expected)


def test_neggrad_takes_one_image_in_eval_mode_alone():
    model = nn.Sequential(nn.Linear(6, 5), nn.BatchNorm1d(5), nn.Linear(5, K))
    assert not same_weights(neggrad(model, floats((6,))[:1], batchnorm="eval"), model)
    with pytest.raises(ValueError, match="the model does not train on.*more than one image in a batch"):
        neggrad(model, floats((6,))[:1])


@pytest.mark.parametrize("forget", [1, "1", [-1], [0.5]])
def test_a_mask_names_bad_classes(forget):
    with pytest.raises(ValueError, match="forget class"):
        MaskedLogits(mlp(), forget)


def test_a_mask_takes_the_logits_out_of_what_the_network_returns():
    masked, samples = MaskedLogits(Returns(lambda z: {"logits": z}, always=True), [1]), floats((6,))
    assert retain_forget_accuracy(masked, samples, [1])[1] == 0


def test_fisher_forgetting_is_the_same_for_a_seed_and_for_information_at_hand(model, samples):
    retain = samples.without([1])
    one, same, other = (fisher_forgetting(model, retain, [1], seed=seed) for seed in (1, 1, 2))
    assert same_weights(one, same) and not same_weights(one, other)
    at_hand = fisher_information(model, retain)
    assert not same_weights(fisher_forgetting(model, retain[:-1], [1], seed=1), one)
    assert same_weights(fisher_forgetting(model, retain[:-1], [1], information=at_hand, seed=1), one)


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda m, s: finetune(m, s[:0]), "retain data is empty"),
        (lambda m, s: finetune(m, s, epochs=0), "epochs is 0"),
        (lambda m, s: neggrad(m, s[:0]), "forget data is empty"),
        (lambda m, s: neggrad(m, s, lr=-1.0), "lr is -1"),
        (lambda m, s: fisher_forgetting(m, s, [1]), r"contains forget classes \[1\]"),
        (lambda m, s: fisher_forgetting(m, s, [K]), "forget class 4"),
        (lambda m, s: fisher_forgetting(m, s.without([1]), [1], alpha=0.0), "alpha is 0"),
    ],
)
def test_bad_input_is_named(call, message, model, samples):
    with pytest.raises(ValueError, match=message):
        call(model, samples)
