import numpy as np
import pytest
import torch
from by_hand import cross_entropy, moved
from tiny import convnet, fitted, floats, half_frozen, mlp, same_weights
from torch import nn

from unsir_utils.methods.one_shot import _basis, ssd, svd_projection

FORGET = [1]


@pytest.fixture(scope="module")
def samples():
    return floats((6,), 24)


@pytest.fixture
def parts(samples):
    return samples.without(FORGET), samples.only(FORGET)


@pytest.fixture
def model(samples, float32):
    return fitted(mlp(), samples, 20)


def importance(model, samples, size: int) -> list[torch.Tensor]:
    parts = [samples[i : i + size] for i in range(0, len(samples), size)]
    gradients = [torch.autograd.grad(cross_entropy(p)(model), list(model.parameters())) for p in parts]
    return [sum(g**2 for g in each) / len(parts) for each in zip(*gradients, strict=True)]


def test_ssd_dampens_what_matters_more_to_the_forget_data(model, samples, parts):
    in_order = samples[torch.cat([torch.nonzero(samples.labels == c).flatten() for c in (0, 2, 3, 1)])]
    found = ssd(model, *parts, alpha=1.5, dampening=0.8, batch_size=4)
    for after, w, i_all, i_f in zip(
        found.parameters(), model.parameters(), importance(model, in_order, 4), importance(model, parts[1], 4), strict=True
    ):
        chosen = i_f > 1.5 * i_all
        assert chosen.any() and not chosen.all()
        torch.testing.assert_close(after, torch.where(chosen, w * (0.8 * i_all / i_f).clamp(max=1), w))


def test_ssd_never_makes_a_weight_larger(model, parts):
    found = ssd(model, *parts, alpha=0.1, dampening=50.0, batch_size=4)
    assert all((a.abs() <= b.abs()).all() for a, b in zip(found.parameters(), model.parameters(), strict=True))


def test_above_the_inverse_of_the_forget_datas_part_ssd_changes_nothing(model, parts):
    """A quarter of the batches are the forget data's, and none is of two classes."""
    assert same_weights(ssd(model, *parts, alpha=4.01, batch_size=3), model)
    assert not same_weights(ssd(model, *parts, alpha=2.0, batch_size=3), model)


def projector(columns: np.ndarray, alpha: float) -> np.ndarray:
    u, s, _ = np.linalg.svd(columns)
    s = np.pad(s, (0, len(u) - len(s))) ** 2
    s = s / s.sum()
    return u @ np.diag(alpha * s / ((alpha - 1) * s + 1)) @ u.T


def projected(weight: torch.Tensor, retain: torch.Tensor, forget: torch.Tensor) -> np.ndarray:
    """weight [out, d], inputs [n, d] -> W P^T with P = I - (M_f - M_f M_r), as in the paper."""
    m_r, m_f = projector(retain.double().numpy().T, 50.0), projector(forget.double().numpy().T, 5.0)
    p = np.eye(weight.shape[1]) - (m_f - m_f @ m_r)
    return weight.detach().double().numpy() @ p.T


ALPHAS = {"alpha_retain": 50.0, "alpha_forget": 5.0}


def test_the_svd_projection_of_linear_layers(model, parts):
    """The hidden layer has more inputs than there are forget images, the first one fewer."""
    found = svd_projection(model, *parts, **ALPHAS)
    inputs = [s.images for s in parts]
    hidden = [model[:2](x).detach() for x in inputs]
    for layer, (r, f) in ((0, inputs), (2, hidden)):
        expected = projected(model[layer].weight, r, f)
        np.testing.assert_allclose(found[layer].weight.detach().numpy(), expected, rtol=1e-3, atol=1e-5)
        assert torch.equal(found[layer].bias, model[layer].bias)
    assert moved(found, model) > 0.01


def test_the_svd_projection_of_a_convolution(float32):
    samples = floats((3, 8, 8), 24)
    model, parts = convnet(), [samples.without(FORGET), samples.only(FORGET)]
    found = svd_projection(model, *parts, **ALPHAS)

    def patches(x):
        x = nn.functional.pad(x, (1, 1, 1, 1))
        return torch.cat([x[:, :, i : i + 3, j : j + 3].flatten(1) for i in range(0, 8, 2) for j in range(0, 8, 2)])

    expected = projected(model[0].weight.flatten(1), *(patches(s.images) for s in parts))
    np.testing.assert_allclose(found[0].weight.detach().flatten(1).numpy(), expected, rtol=1e-3, atol=1e-5)
    assert all(torch.equal(b, dict(model.named_buffers())[name]) for name, b in found.named_buffers())


def test_a_tiny_alpha_of_the_forget_data_projects_nothing_off(model, parts):
    assert moved(svd_projection(model, *parts, alpha_forget=1e-9), model) < 1e-6


def test_a_basis_is_orthonormal_and_its_shares_are_of_the_squares():
    for n in (4, 9):
        rows = torch.randn(n, 6, generator=torch.Generator().manual_seed(0))
        u, share = _basis(rows)
        torch.testing.assert_close(u.T @ u, torch.eye(min(n, 6)), atol=1e-5, rtol=0)
        torch.testing.assert_close(u * share @ u.T, rows.T @ rows / rows.square().sum(), atol=1e-5, rtol=0)


def test_equal_rows_have_a_basis():
    u, share = _basis(torch.ones(3, 6))
    torch.testing.assert_close(u * share @ u.T, torch.full((6, 6), 1 / 6), atol=1e-5, rtol=0)


def test_the_projection_sees_so_many_images_and_patches(float32, monkeypatch):
    rows = []
    monkeypatch.setattr("unsir_utils.methods.one_shot._basis", lambda r: rows.append(len(r)) or _basis(r))
    samples = floats((3, 8, 8), 200)
    svd_projection(convnet(), samples.without(FORGET), samples.only(FORGET), images=36, patches=72)
    assert rows == [72, 36, 72, 36]  # the convolution's 16 patches an image and the head's one, of retain and forget data


@pytest.mark.parametrize("unlearn", [ssd, svd_projection])
def test_what_is_frozen_stays(unlearn):
    model, samples = half_frozen(), floats((3, 8, 8))
    options = {"alpha": 1.0} if unlearn is ssd else {}
    found = unlearn(model, samples.without(FORGET), samples.only(FORGET), **options)
    assert torch.equal(found[0].weight, model[0].weight) and not torch.equal(found[5].weight, model[5].weight)


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda m, r, f: ssd(m, r, f, alpha=0), "alpha is 0"),
        (lambda m, r, f: ssd(m, r, f, batch_size=0), "batch_size is 0"),
        (lambda m, r, f: ssd(m, f, f), r"contains forget classes \[1\]"),
        (lambda m, r, f: svd_projection(m, r, f[:0]), "forget data is empty"),
        (lambda m, r, f: svd_projection(m, r, f, images=0), "images is 0"),
        (lambda m, r, f: svd_projection(m, r, f, alpha_forget=0), "alpha_forget is 0"),
    ],
)
def test_bad_input_is_named(call, message, parts):
    with pytest.raises(ValueError, match=message):
        call(mlp(), *parts)
