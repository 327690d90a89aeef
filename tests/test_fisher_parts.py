import pytest
import torch
from tiny import same_weights
from torch import nn

from unsir_utils.engine.state import seeded
from unsir_utils.methods.baselines import fisher_forgetting
from unsir_utils.methods.fisher import fisher_information
from unsir_utils.workshop import fisher_parts, models
from unsir_utils.workshop.study import scenario

REQUEST = dict(
    data={"name": "shapes", "n_classes": 4, "per_class": 12},
    recipe={"architecture": "AllCNN-0.125", "epochs": 1, "batch_size": 16},
    forget=[0],
    seed=3,
)
ASKED = dict(method="Fisher", alpha=2e-6, per_class=2, factor=3.0, setting={"recipe": "short"})


class Small(nn.Module):
    """Two inner weights at zero, one of them without information, and one without it that is not at zero."""

    def __init__(self) -> None:
        super().__init__()
        self.body, self.norm, self.last = nn.Linear(2, 2), nn.BatchNorm1d(2), nn.Linear(2, 3)
        with torch.no_grad():
            self.body.weight.copy_(torch.tensor([[0.0, 1e-7], [0.5, -0.5]]))

    def forward(self, x):
        return self.last(self.norm(self.body(x)))


SMALL = Small()
INFORMATION = {name: torch.ones_like(p) for name, p in SMALL.named_parameters()}
INFORMATION["body.weight"] = torch.tensor([[0.0, 1.0], [0.0, 1.0]])
NONE, ALL = torch.zeros(2, 2, dtype=torch.bool), torch.ones(2, 2, dtype=torch.bool)


@pytest.mark.parametrize(
    "part, body, others",
    [
        ("everything", ALL, {"body.bias", "norm.weight", "norm.bias", "last.weight", "last.bias"}),
        ("last layer", NONE, {"last.weight", "last.bias"}),
        ("BatchNorm and biases", NONE, {"body.bias", "norm.weight", "norm.bias"}),
        ("inner weights", ALL, set()),
        ("inner weights at zero", torch.tensor([[True, True], [False, False]]), set()),
        ("inner weights without information", torch.tensor([[True, False], [True, False]]), set()),
        ("kernels of quiet channels", NONE, set()),
        ("BatchNorm of quiet channels", NONE, set()),
        ("quiet channels", NONE, set()),
    ],
)
def test_the_parts_of_a_network_by_hand(part, body, others):
    found = fisher_parts.masks(part, SMALL, INFORMATION, torch.randn(2, 2))
    assert torch.equal(found.pop("body.weight"), body)
    assert all(mask.all() if name in others else not mask.any() for name, mask in found.items())


def test_every_part_is_known_by_hand():
    assert len(fisher_parts.PARTS) == 9  # as many as the test above has
    with pytest.raises(ValueError, match="choose one of everything, last layer"):
        fisher_parts.masks("head", SMALL, INFORMATION, torch.randn(2, 2))


def test_quiet_channels_are_those_of_next_to_no_stored_variance():
    body = nn.Sequential(nn.Conv2d(1, 2, 1), nn.BatchNorm2d(2), nn.Conv2d(2, 3, 1), nn.Flatten(), nn.Linear(3, 2))
    body[1].running_var.copy_(torch.tensor([0.9e-3, 1.1e-3]))
    information = {name: torch.ones_like(p) for name, p in body.named_parameters()}

    def found(part):
        masks = fisher_parts.masks(part, body, information, torch.randn(2, 1, 1, 1))
        return {name: mask.flatten().tolist() for name, mask in masks.items() if mask.any()}

    assert found("kernels of quiet channels") == {"0.weight": [True, False]}
    assert found("BatchNorm of quiet channels") == {"1.weight": [True, False], "1.bias": [True, False]}
    assert found("quiet channels") == found("kernels of quiet channels") | found("BatchNorm of quiet channels")


def test_noise_is_confined_to_what_is_reached():
    noisy, original = nn.Linear(2, 1), nn.Linear(2, 1)
    kept = [p.clone() for p in original.parameters()]
    reached = {"weight": torch.tensor([[True, False]]), "bias": torch.tensor([False])}
    mixed = fisher_parts.confined(noisy, original, reached)
    assert mixed.weight[0, 0] == noisy.weight[0, 0] and mixed.weight[0, 1] == original.weight[0, 1]
    assert mixed.bias == original.bias
    assert all(torch.equal(p, k) for p, k in zip(original.parameters(), kept, strict=True))


def test_shuffled_information_is_the_same_in_another_order_and_in_its_own_tensor():
    information = {"a": torch.arange(30.0).view(5, 6), "b": torch.arange(100.0, 110.0)}
    found = fisher_parts.shuffled(information, 0)
    for name, given in information.items():
        assert not torch.equal(found[name], given) and found[name].shape == given.shape
        assert torch.equal(found[name].flatten().sort().values, given.flatten())
    assert all(torch.equal(fisher_parts.shuffled(information, 0)[name], found[name]) for name in information)
    assert not torch.equal(fisher_parts.shuffled(information, 1)["a"], found["a"])


@pytest.mark.parametrize("name", ["ResNet18", "ResNet20", "AllCNN-0.125", "MobileNetV2"])
def test_an_enlarged_network_answers_the_same(name):
    with seeded(0):
        model, x = models.build(name, 4), torch.randn(8, 3, 32, 32)
        model.train()(x)  # statistics as of a trained network
        model.eval()
    large = fisher_parts.enlarged(model, 3.0)
    torch.testing.assert_close(large(x), model(x), rtol=1e-3, atol=1e-4)
    kernels = [(a, b) for a, b in zip(large.parameters(), model.parameters(), strict=True) if b.dim() == 4]
    assert kernels and all(torch.equal(a, 3 * b) for a, b in kernels)
    assert same_weights(fisher_parts.enlarged(model, 1.0), model)


def test_where_no_batchnorm_follows_a_convolution_nothing_is_enlarged():
    with pytest.raises(ValueError, match="take another network"):
        fisher_parts.enlarged(nn.Conv2d(3, 3, 1), 2.0)
    fisher_parts.enlarged(nn.Conv2d(3, 3, 1), 1.0)


@pytest.mark.usefixtures("empty_store")
def test_a_case_is_fisher_forgetting_with_its_noise_in_one_place():
    s = scenario(**REQUEST)

    def left(method="Fisher", part="everything", alone=True):
        """The network that is measured."""
        measured = []
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(fisher_parts, "retain_forget_accuracy", lambda model, *_: measured.append(model) or (50.0, 25.0))
            records = fisher_parts.noised(**ASKED | {"method": method, "part": part, "alone": alone}, **REQUEST)
        assert records == [{"recipe": "short", "A_Dr": 50.0, "A_Df": 25.0}]
        return measured[0]

    sample = s.retain.draw(2, seed=3)
    known = fisher_information(s.original, sample)

    def forgotten(information):
        return fisher_forgetting(s.original, sample, s.forget, alpha=2e-6, information=information, seed=3)

    louder = {name: 100 * f for name, f in known.items()}
    assert same_weights(left(), forgotten(None)) and same_weights(left(alone=False), s.original)
    told = {"": known, ", shuffled": fisher_parts.shuffled(known, 3), ", louder": louder}
    told |= {", louder, shuffled": fisher_parts.shuffled(louder, 3)}
    told |= {", no information": {name: torch.zeros_like(f) for name, f in known.items()}}
    for name, information in told.items():
        assert same_weights(left(f"Fisher{name}"), forgotten(information)), name
    assert not same_weights(left("Fisher, shuffled"), left())
    assert same_weights(left("Fisher, larger weights", alone=False), fisher_parts.enlarged(s.original, 3.0))
    spared = left(part="last layer", alone=False)
    assert torch.equal(spared.head.weight, s.original.head.weight)
    assert not torch.equal(spared.features[0][0].weight, s.original.features[0][0].weight)


@pytest.mark.usefixtures("empty_store")
def test_the_anatomy_of_a_network():
    s = scenario(**REQUEST)
    with torch.no_grad():
        s.original.features[0][0].weight.zero_()
        s.original.features[0][1].running_var.fill_(1e-9)
    fisher_parts._measured.cache_clear()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fisher_parts, "scenario", lambda **_: s)
        (found,) = fisher_parts.anatomy(2, {"recipe": "short"}, **REQUEST)
    fisher_parts._measured.cache_clear()
    known = fisher_information(s.original, s.retain.draw(2, seed=3))
    kernels = {name: p.detach() for name, p in s.original.named_parameters() if p.dim() == 4}
    w, f = (torch.cat([of[name].flatten() for name in kernels]) for of in (kernels, known))
    channels = [m.num_features for m in s.original.modules() if isinstance(m, nn.BatchNorm2d)]
    assert found.pop("recipe") == "short"
    assert found == {
        "accuracy": s.accuracy,
        "at zero": 100 * (w.abs() < 1e-6).double().mean(),
        "without information": 100 * (f == 0).double().mean(),
        "at the cap": 100 * (f <= 1e-3).double().mean(),
        "median size": w[f > 0].abs().median(),
        "quiet channels": pytest.approx(100 * channels[0] / sum(channels)),
    }
    assert 0 < found["at zero"] < 100 and found["without information"] < found["at the cap"]
