"""One call for anyone's own network."""

import json
import math
import warnings
from collections import OrderedDict

import numpy as np
import pytest
import torch
from tiny import HeadFirst, K, Returns, convnet, fitted, floats, half_frozen, mlp, pixels, same_weights, untouched
from torch import nn
from torchvision import models as M
from torchvision.models.convnext import CNBlockConfig

from unsir_utils import forget
from unsir_utils.engine.samples import Samples
from unsir_utils.engine.state import seeded
from unsir_utils.metrics import evaluate
from unsir_utils.noise import Noise
from unsir_utils.own import choose, forgetting
from unsir_utils.own.choose import RATES, Try, carried, learned, log_odds, margin, next_try, stand_ins
from unsir_utils.own.networks import ready
from unsir_utils.own.report import Report
from unsir_utils.own.request import Request

SHAPE = (3, 8, 8)
ANY = pytest.mark.filterwarnings("ignore:no try:UserWarning", "ignore:A_D:UserWarning")


def parts(n=80, shape=SHAPE, n_classes=K) -> tuple[Samples, Samples, Samples]:
    """Retain, validation and held-out forget images; class 1 is to go."""
    samples, held = (floats(shape, size, n_classes) for size in (n, n // 2))
    return samples.without([1]), held.without([1]), held.only([1])


@pytest.fixture(scope="module")
def trained() -> nn.Module:
    return fitted(convnet(), floats(SHAPE, 80))


@pytest.fixture(scope="module")
def found(trained):
    with warnings.catch_warnings(action="ignore"):
        retain, validation, held = parts()
        return forget(trained, [1], retain, validation, held_out_forget=held, look=True, budget=9)


# --- the stand-ins


def test_log_odds_are_those_of_one_class_against_all_others():
    z = torch.tensor([[0.0, 2.0, 1.0], [3.0, 0.0, 0.0]])
    p = z.softmax(1)
    expected = torch.stack([(p[0, 1] / (1 - p[0, 1])).log(), (p[1, 2] / (1 - p[1, 2])).log()])
    torch.testing.assert_close(log_odds(z, torch.tensor([1, 2])), expected)


def test_the_margin_is_that_of_the_kind_and_class_that_is_surest():
    def noise(first: float, label: int) -> Noise:
        return Noise(torch.tensor([[first, 0.0], [0.0, 0.0]]), torch.tensor([label] * 2), [], 0.0, 0)

    identity = nn.Identity()
    assert margin(identity, [noise(4.0, 0), noise(-6.0, 0)]) == pytest.approx(2.0)
    assert margin(identity, [noise(4.0, 1), noise(6.0, 1)]) == pytest.approx(-2.0)
    assert torch.tensor(margin(identity, [noise(float("nan"), 0), noise(0.0, 1)])).isnan()


def test_stand_ins_are_of_the_class_to_the_model_and_leave_it_alone(trained):
    with untouched(trained):
        signs = stand_ins(trained, [1, 2], parts()[1], seed=0)
    for kind in signs:
        assert kind.labels.tolist() == [1] * choose.STAND_INS + [2] * choose.STAND_INS
        assert (trained.eval()(kind.images).argmax(1) == kind.labels).double().mean() > 0.9


def test_stand_ins_of_many_classes_go_through_in_parts(trained, monkeypatch):
    whole = stand_ins(trained, [1, 2], parts()[1], seed=0)
    monkeypatch.setattr(choose, "CHUNK", 5)
    sizes = []
    with trained.register_forward_pre_hook(lambda _, given: sizes.append(len(given[0]))):
        split = stand_ins(trained, [1, 2], parts()[1], seed=0)
        found = choose.margins(trained, split)
    monkeypatch.undo()
    assert max(sizes) == 5 and found == pytest.approx(choose.margins(trained, split), abs=1e-5)
    for one, other in zip(whole, split, strict=True):
        torch.testing.assert_close(one.images, other.images, atol=1e-3, rtol=0)


def test_what_judges_the_noise_does_not_start_where_the_noise_does(trained, monkeypatch):
    starts = []
    monkeypatch.setattr(choose, "learned", lambda model, images, labels, **_: starts.append(images))
    stand_ins(trained, [1], parts()[1], seed=3)
    with seeded(3):
        assert not torch.equal(starts[0], torch.randn(choose.STAND_INS, *SHAPE))


def test_a_carried_image_stops_where_it_is_sure_enough():
    """One weight a class: log-odds are 2x, a step is 0.05 standard deviations of the images."""
    model = nn.Linear(1, 2, bias=False)
    model.weight.data = torch.tensor([[-1.0], [1.0]])
    images, labels = torch.tensor([[-1.0], [1.0], [3.0]]), torch.tensor([1, 1, 1])
    moved = carried(model, images, labels, steps=3, stride=0.05, target=2.15)
    torch.testing.assert_close(moved.images, images + torch.tensor([[0.3], [0.1], [0.0]]))
    assert moved.samples == 9


def test_a_learned_image_is_noise_turned_round():
    model = nn.Linear(1, 2, bias=False)
    model.weight.data = torch.tensor([[-1.0], [1.0]])
    image = learned(model, torch.zeros(1, 1), torch.tensor([1]), steps=3, lr=0.1, penalty=0.0).images
    assert image.item() == pytest.approx(0.3, abs=0.01)  # Adam's first steps are of its rate


# --- what is tried


def search(forgets: dict[bool, int], noise: bool | None = None) -> list[tuple[bool, int]]:
    """All tries, where the class is forgotten from a rung on."""
    tried: list[Try] = []
    while step := next_try(tried, noise):
        tried.append(Try(*step, forgotten=step[1] >= forgets[step[0]]))
    return [(t.noise, t.rung) for t in tried]


@pytest.mark.parametrize("lowest", range(len(RATES) + 1))
@pytest.mark.parametrize("noise", [True, False])
def test_three_tries_find_the_lowest_rate_that_forgets(lowest, noise):
    tried = search({noise: lowest}, noise)
    assert len(tried) == 3 and all(with_noise == noise for with_noise, _ in tried)
    assert {lowest - 1, lowest} & set(range(len(RATES))) <= {rung for _, rung in tried}


@pytest.mark.parametrize("plain, noisy, rest", [(3, 2, [2, 1]), (3, 9, [2, 3]), (0, 0, [0]), (7, 6, [6, 5]), (7, 9, [6])])
def test_noise_is_tried_a_rung_lower_then_its_neighbour(plain, noisy, rest):
    assert search({False: plain, True: noisy})[3:] == [(True, rung) for rung in rest]


# --- the call


@ANY
def test_it_forgets_what_it_is_asked_to_and_keeps_the_rest(trained, found):
    _, validation, held = parts()
    assert evaluate(trained, held)[1] > 80 and evaluate(found.model, held)[1] <= 1
    assert evaluate(trained, validation)[1] - evaluate(found.model, validation)[1] < 10


@ANY
def test_the_report_tells_the_accuracies_before_and_after_over_all_images_and_by_class(trained):
    retain, validation, held = parts()
    labels = validation.labels.clone()
    labels[(labels == 0).nonzero()[:4]] = 3  # wrong ones, so that classes differ in accuracy and in size
    uneven = Samples(validation.images, labels, K)
    found = forget(trained, [1], retain, uneven, held_out_forget=held, look=True, noise=False)

    def both(samples):
        return pytest.approx([evaluate(model, samples)[1] for model in (trained, found.model)])

    assert found.report.A_Dr == both(uneven) and found.report.A_Df == both(held)
    for row, part in zip(found.report.by_class, (uneven, held, uneven, uneven), strict=True):
        assert [row["before"], row["after"]] == both(part.only([int(row["class"])]))


@ANY
@pytest.mark.parametrize("make", [convnet, half_frozen], ids=lambda make: make.__name__)
def test_the_callers_model_stays_as_it_was(make):
    model = make()
    retain, validation, _ = parts(30)
    with untouched(model):
        one = forget(model, [1], retain, validation, noise=False)
        again = forget(model, [1], retain, validation, noise=False)
    assert same_weights(one.model, again.model)
    if make is half_frozen:
        assert torch.equal(one.model[0].weight, model[0].weight) and not one.model[0].weight.requires_grad
        assert not one.model[1].training and one.model[0].training


@ANY
def test_the_chosen_run_is_unsirs_two_passes_at_the_settings_that_are_told(trained, found):
    from unsir_utils.noise import learn_noise
    from unsir_utils.unsir import two_passes

    told = dict(found.report.settings)
    noise = learn_noise(trained, [1], SHAPE, per_class=16, steps=20) if told.pop("noise") else None
    subset = parts()[0].draw(300)
    assert told.pop("retain_images") == len(subset)
    told = {name: value for name, value in told.items() if not name.startswith("noise_")}
    assert same_weights(two_passes(trained, subset, noise, **told).model, found.model)


@ANY
@pytest.mark.parametrize("budget", [3.0, 5.0])
def test_no_more_passes_than_the_budget_and_as_many_as_are_told(budget):
    (retain, validation, _), model, made = parts(200), fitted(convnet(), floats(SHAPE, 200)), []
    model.register_forward_pre_hook(lambda _, images: made.append(len(images[0])))
    told = forget(model, [1], retain, validation, budget=budget).report.passes
    run = 2 * len(retain) + 16 * 20 + 16 * round(50 / 16)
    assert sum(told.values()) - told["measuring"] <= budget * run
    of_checks = sum(made) - sum(told.values())  # each kernel looks at two images first
    assert 0 <= of_checks < 0.03 * sum(made)


@ANY
def test_the_rule_takes_the_highest_a_dr_of_what_forgets(found):
    chosen = next(r for r in found.tried if r["chosen"])
    assert chosen["forgotten"] and chosen["A_Dr"] == max(r["A_Dr"] for r in found.tried if r["forgotten"])
    assert sum(r["chosen"] for r in found.tried) == 1


@ANY
@pytest.mark.parametrize("look", [True, False])
def test_a_diverged_try_has_forgotten_nothing(look, trained, monkeypatch):
    """Above a rate of 1e-4 the passes give nan; with all of them so the network stays as it was."""
    retain, validation, held = parts()
    passes = forgetting.two_passes

    def diverging(*given, impair_lr, **options):
        found = passes(*given, impair_lr=impair_lr, **options)
        if impair_lr > limit:
            for weight in found.model.parameters():
                weight.data.fill_(float("nan"))
        return found

    monkeypatch.setattr(forgetting, "two_passes", diverging)
    options = dict(held_out_forget=held, look=look, budget=9)
    limit = 1e-4
    found = forget(trained, [1], retain, validation, **options)
    assert found.report.settings["impair_lr"] <= limit and all(p.isfinite().all() for p in found.model.parameters())
    limit = 0.0
    with pytest.warns(UserWarning, match="every try diverged, so that the network is returned as it was"):
        assert same_weights(forget(trained, [1], retain, validation, **options).model, trained)


def test_of_equals_the_gentler_is_taken():
    def record(rate: float, a_dr: float, odds: float) -> dict:
        return {"impair_lr": rate, "A_Dr": a_dr, "margin": odds}

    gentle, strong = record(0.001, 90.0, -5.0), record(0.003, 90.0, -20.0)
    better = forgetting._better
    assert better(gentle, strong) and not better(strong, gentle)
    assert better(record(0.003, 90.1, -5.0), gentle) and better(strong, record(0.001, 95.0, -3.9))


@ANY
def test_forget_images_are_not_looked_at_unless_that_is_allowed(monkeypatch):
    retain, validation, held = parts(40)
    seen = []
    monkeypatch.setattr(forgetting, "_accuracy", lambda model, samples: seen.append(samples) or 50.0)
    forget(convnet(), [1], retain, validation, held_out_forget=held, noise=False)
    assert all(1 not in samples.labels for samples in seen)
    forget(convnet(), [1], retain, validation, held_out_forget=held, look=True, noise=False)
    assert any(1 in samples.labels for samples in seen)


@ANY
def test_the_goal_missed_is_warned_of(monkeypatch):
    retain, validation, held = parts(40)
    monkeypatch.setattr(forgetting, "margin", lambda *_: 3.0)
    with pytest.warns(UserWarning, match="no try up to the highest rate forgot.* nearest to it: give more retain images$"):
        report = forget(convnet(), [1], retain, validation, noise=False).report
    assert "Warning: no try" in str(report)
    with pytest.warns(UserWarning, match="no try within the budget forgot.* or a larger budget$"):
        forget(convnet(), [1], retain, validation, noise=False, budget=3.0)
    monkeypatch.setattr(forgetting, "margin", lambda *_: -9.0)
    model = fitted(convnet(), floats(SHAPE, 40))
    monkeypatch.setattr(forgetting, "RATES", (1e-9,) * 7)
    with pytest.warns(UserWarning, match=r"above 1 % \(100.0 % of 1\), though the stand-ins say forgotten: let look=True"):
        forget(model, [1], retain, validation, held_out_forget=held, noise=False)


def test_where_the_stand_ins_alone_say_that_a_class_is_left_images_are_to_decide():
    record, of_all = {"forgotten": False, "margin": -3.0}, {"A_Dr": (90.0, 90.0)}
    (told,) = forgetting._warnings([], record, of_all, {"bee": 0.5})
    assert "the held-out images do not, so let look=True decide" in told
    for other in (1.5, float("nan")):  # of the latter there was no image
        (told,) = forgetting._warnings([], record, of_all, {"bee": 0.5, "cat": other})
        assert "give more retain images" in told


def test_the_class_of_which_most_is_left_counts(trained):
    """Of five images of one class all are right, of one of another none."""
    images = floats(SHAPE, 80).only([1])[:5]
    wrong = Samples(images.images[:1], torch.tensor([2]), K)
    both = Samples(torch.cat([images.images, wrong.images]), torch.tensor([1] * 5 + [2]), K)
    assert forgetting._most_left(trained, both) == 100.0
    assert forgetting._most_left(trained, wrong) == 0.0
    assert math.isnan(choose.highest([0.0, math.nan])) and math.isnan(choose.highest([math.nan, 0.0]))


@ANY
def test_held_out_images_are_of_every_forget_class(trained):
    _, _, held = parts()
    samples = floats(SHAPE, 80)
    retain, validation = samples.without([1, 2]), floats(SHAPE, 40).without([1, 2])
    with pytest.raises(ValueError, match=r"held_out_forget has no image of the classes \[2\], of which look=True"):
        forget(trained, [1, 2], retain, validation, held_out_forget=held, look=True)
    with pytest.warns(UserWarning, match=r"no image of the classes \[2\]: A_Df says nothing of them"):
        forget(trained, [1, 2], retain, validation, held_out_forget=held, noise=False)


class Rounded(nn.Module):
    """Its gradient by the images is zero, so that none can be carried to a class, and it hardly ever names class 1."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, x):
        return self.net(torch.round(x)) / 100 - torch.tensor([0.0, 9.0, 0.0, 0.0])


@ANY
def test_where_no_stand_in_is_of_its_class_only_images_can_decide(trained):
    retain, validation, held = parts()
    with pytest.raises(ValueError, match="no image could be made that the network takes for 1 .* with look=True"):
        forget(Rounded(trained), [1], retain, validation, held_out_forget=held)
    result = forget(Rounded(trained), [1], retain, validation, held_out_forget=held, look=True, noise=False)
    assert result.tried and all("A_Df" in record for record in result.tried)


@pytest.mark.parametrize(
    "before, after, masked, told",
    [
        (90.0, 92.0, 90.0, False),
        (15.1, 16.0, 15.1, False),  # chance is 10
        (14.9, 16.0, 14.9, True),
        (60.0, 70.1, 60.0, True),
        (60.0, 75.0, 66.0, False),  # so does a mask
    ],
)
def test_a_network_that_does_not_know_the_data_is_warned_of(before, after, masked, told, monkeypatch):
    """Below 1.5 times chance, or much better after two passes than with masked logits."""
    validation = Samples(torch.zeros(4, 1), torch.arange(4), 10)
    request = Request(nn.Identity(), [9], validation, validation, validation, None, False, 2, 1.0, 0)
    monkeypatch.setattr(forgetting, "_masked_accuracy", lambda request: masked)
    found = forgetting._unknown_data(request, before, after)
    assert len(found) == told and all("as if the network had not known these data" in text for text in found)


def test_what_a_mask_gains_is_counted():
    """By its inputs the network takes two of four retain images for class 2, and one of these is of class 1 without it."""
    logits = torch.tensor([[3.0, 0.0, 1.0], [0.0, 3.0, 1.0], [0.0, 1.0, 3.0], [1.0, 0.0, 3.0]])
    validation = Samples(logits, torch.tensor([0, 1, 1, 1]), 3)
    request = Request(nn.Identity(), [2], validation, validation, validation, None, False, 2, 1.0, 0)
    assert forgetting._masked_accuracy(request) == 75.0


class WithoutGradient(nn.Module):
    """A linear probe: the body's outputs are constants to it."""

    def __init__(self) -> None:
        super().__init__()
        self.body, self.last = nn.Flatten(), nn.Linear(192, K)

    def forward(self, x):
        with torch.no_grad():
            x = self.body(x).clone()
        return self.last(x)


def test_a_network_without_gradients_by_its_input_is_refused():
    retain, validation, _ = parts(30)
    with pytest.raises(ValueError, match="no gradient by its input .*: let all of it run with gradients"):
        forget(WithoutGradient(), [1], retain, validation)


class Masking(nn.Module):
    """It makes a buffer with its first images."""

    def __init__(self) -> None:
        super().__init__()
        self.net = convnet()
        self.register_buffer("mask", None)

    def forward(self, x):
        if self.mask is None:
            self.mask = torch.ones_like(x[:1])
        return self.net(x * self.mask)


@ANY
def test_a_buffer_that_comes_with_the_first_images_costs_nothing():
    retain, validation, _ = parts(30)
    model = Masking()
    assert forget(model, [1], retain, validation, noise=False).model.mask is not None and model.mask is None


def test_validation_data_that_lack_a_name_are_named():
    retain, validation, _ = parts(30)
    fewer = Samples(
        validation.images[validation.labels < 3], validation.labels[validation.labels < 3], 3, names=("a", "b", "c")
    )
    more = Samples(retain.images, retain.labels, K, names=["a", "b", "c", "d"])
    assert more.names == ("a", "b", "c", "d")
    with pytest.raises(ValueError, match="the validation data has the class none where the retain data has d"):
        forget(convnet(), [1], more, fewer)


@pytest.mark.parametrize(
    "after, said", [(88.6, []), (88.4, ["A_Dr fell by 1.6 points on the held-out images, more than 1.5"])]
)
def test_a_dr_may_fall_by_one_and_a_half_points(after, said):
    found = forgetting._warnings([], {"forgotten": True, "margin": -5.0}, {"A_Dr": (90.0, after)}, {"bee": 1.0})
    assert [text.partition(":")[0] for text in found] == said


@ANY
def test_classes_may_be_named():
    retain, validation, _ = parts(30)
    names = ("ant", "bee", "cat", "dog")
    named = Samples(retain.images, retain.labels, K, names=names)
    assert forget(convnet(), ["bee"], named, validation, noise=False).report.forget == ("bee",)
    with pytest.raises(ValueError, match="'emu': choose among ant"):
        forget(convnet(), ["emu"], named, validation)


class Wrapped(nn.Module):
    def __init__(self, net: nn.Module, end: nn.Module) -> None:
        super().__init__()
        self.net, self.end = net, end

    def forward(self, x):
        return self.end(self.net(x))


@ANY
@pytest.mark.parametrize(
    "make",
    [
        lambda: nn.DataParallel(convnet()),
        lambda: torch.compile(convnet(), backend="eager"),
        lambda: convnet().half(),
        lambda: convnet().bfloat16(),
        lambda: Wrapped(convnet(), nn.LogSoftmax(1)),
        lambda: Wrapped(convnet(), nn.LayerNorm(K)),
    ],
    ids=["DataParallel", "compiled", "half", "bfloat16", "LogSoftmax", "layer behind the head"],
)
def test_networks_as_people_have_them(make):
    model, (retain, validation, _) = make(), parts(30)
    unlearned = forget(model, [1], retain, validation, noise=False).model
    inner = getattr(model, "module", getattr(model, "_orig_mod", model))
    assert type(unlearned) is type(inner) and not same_weights(unlearned, inner)
    assert {p.dtype for p in unlearned.parameters()} == {p.dtype for p in model.parameters()}


@ANY
@pytest.mark.parametrize("model", [HeadFirst(), mlp(), Returns(lambda z: {"logits": z})], ids=["head first", "mlp", "dict"])
def test_vectors_and_outputs_of_any_form(model):
    retain, validation, _ = parts(30, (6,))
    assert forget(model, [1], retain, validation).report.settings["head_factor"] == choose.HEAD_FACTOR


@ANY
def test_several_classes_at_once():
    retain, validation = (floats(SHAPE, n).without([1, 3]) for n in (40, 20))
    report = forget(convnet(), [3, 1], retain, validation, noise=True, budget=9).report
    assert report.forget == ("3", "1") and report.settings["noise"]
    assert [row["images"] for row in report.by_class] == [5, 0, 5, 0]


@ANY
def test_log_probabilities_are_said_to_be_fine():
    retain, validation, _ = parts(30)
    notes = forget(Wrapped(convnet(), nn.LogSoftmax(1)), [1], retain, validation, noise=False).report.notes
    assert any("log-probabilities" in note for note in notes)


@ANY
def test_pixels_and_a_network_without_one_head():
    retain, validation = pixels(30).without([1]), pixels(20, seed=1).without([1])

    class TwoHeads(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.one, self.other = convnet(), convnet(seed=1)

        def forward(self, x):
            return self.one(x) + self.other(x)

    assert forget(TwoHeads(), [1], retain, validation, noise=False).report.settings["head_factor"] == 1


class Pair(nn.Module):
    def forward(self, z):
        return (z, z) if self.training else z


def diverged(model: nn.Module) -> nn.Module:
    next(model.parameters()).data.fill_(torch.nan)
    return model


REFUSED = {
    "a state dict": (lambda: OrderedDict(), {}, "a OrderedDict: expected a torch.nn.Module"),
    "one output": (lambda: convnet(1), {}, "one output unit for two classes"),
    "frozen": (lambda: convnet().requires_grad_(False), {}, "unfreeze some"),
    "mixed": (lambda: nn.Sequential(convnet(), nn.Linear(K, K).half()), {}, "several types"),
    "a list of names": (convnet, {"classes": "bee"}, "expected a list, such as"),
    "no names": (convnet, {"classes": ["bee"]}, "names no classes"),
    "forget in retain": (convnet, {"retain": floats(SHAPE)}, "the retain data contains forget classes"),
    "forget in validation": (convnet, {"validation": floats(SHAPE)}, r"validation data has images of the classes \[1\]"),
    "no samples": (convnet, {"retain": [1, 2]}, "retain is a list: expected Samples"),
    "no validation": (convnet, {"validation": None}, "validation is a NoneType"),
    "empty validation": (convnet, {"validation": floats(SHAPE).only([])}, "validation data is empty"),
    "wrong images": (convnet, {"held_out_forget": floats(SHAPE)}, r"has images of the classes \[0, 2, 3\]"),
    "nothing to look at": (convnet, {"look": True}, "no images to look at"),
    "budget": (convnet, {"budget": 0}, "budget is 0"),
    "too small a budget": (convnet, {"budget": 0.5}, "too small for one try"),
    "noise": (convnet, {"noise": "yes"}, "noise is 'yes'"),
    "batch": (convnet, {"batch_size": -1}, "batch_size is -1"),
    "out of range": (convnet, {"classes": [K]}, "forget class 4 is out of range: expected whole numbers in 0..3"),
    "empty retain": (convnet, {"retain": floats(SHAPE).only([])}, "the retain data is empty"),
    "draw": (convnet, {"retain_per_class": -1}, "retain_per_class is -1"),
    "seed": (convnet, {"seed": "x"}, "seed is x"),
    "shapes differ": (
        convnet,
        {"validation": floats((3, 6, 6)).without([1])},
        r"validation data has images \[3, 6, 6\], the",
    ),
    "one channel": (convnet, {"retain": floats((1, 8, 8)).without([1])}, r"does not take images of shape \[1, 8, 8\]"),
    "nan images": (convnet, {"retain": Samples(torch.full((2, *SHAPE), torch.nan), [0, 2], K)}, "nan or infinite values"),
    "diverged": (lambda: diverged(convnet()), {}, "gives nan or infinite logits"),
    "a tuple": (lambda: Wrapped(convnet(), Pair()), {}, "the model returns a tuple: expected logits"),
    "maps": (
        lambda: Wrapped(convnet(), nn.Unflatten(1, (K, 1, 1))),
        {},
        r"returns a tensor \[2, 4, 1, 1\]: expected logits",
    ),
    "no weights": (nn.Flatten, {}, "unfreeze some"),
    "classes differ": (lambda: convnet(7), {}, "7 logits but the retain data has 4"),
}


@pytest.mark.parametrize("make, changed, message", REFUSED.values(), ids=REFUSED)
def test_what_cannot_be_done_is_said_before_any_work(make, changed, message, monkeypatch):
    monkeypatch.setattr(forgetting, "two_passes", lambda *_, **__: pytest.fail("work began"))
    retain, validation, _ = parts(30)
    given = {"classes": [1], "retain": retain, "validation": validation, **changed}
    with pytest.raises(ValueError, match=message):
        forget(make(), **given)


def test_what_is_odd_is_said_once_and_stands_in_the_report():
    """Not once a try; and where warnings are off, the report still tells."""
    retain, validation, held = parts(30)
    with warnings.catch_warnings(record=True) as heard:
        warnings.simplefilter("always")
        model, real = Wrapped(convnet(), nn.Softmax(1)), dict(held_out_forget=held, look=True)
        report = forget(model, [1], retain.without([2]), validation, noise=False, **real).report
    for text in ("gives probabilities: take the softmax off", r"has no sample of the classes [2]"):
        assert [text in str(w.message) for w in heard].count(True) == 1
        assert f"Warning: the {'model' if 'soft' in text else 'retain data'} {text}" in str(report)


class InPlace(nn.Module):
    """It changes the images that it is given, and its logits."""

    def __init__(self) -> None:
        super().__init__()
        self.net = convnet()

    def forward(self, x):
        x -= 0.1
        return self.net(x).mul_(1.1)


def normalised(**options) -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4, **options), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, K)
    )


@ANY
@pytest.mark.parametrize(
    "make",
    [
        InPlace,
        lambda: normalised(track_running_stats=False),
        lambda: normalised(momentum=None, affine=False),
        lambda: convnet().double(),
        lambda: Wrapped(convnet(), nn.Identity()).train(),
    ],
    ids=["in place", "no running statistics", "cumulative statistics", "double", "in train mode"],
)
def test_odd_networks_are_forgotten_from_as_well(make):
    retain, validation, held = parts(30)
    model = make()
    with untouched(model), torch.no_grad():
        result = forget(model, [1], retain, validation, held_out_forget=held, look=True, noise=False)
    assert not same_weights(result.model, model)


@ANY
@pytest.mark.parametrize(
    "form",
    [lambda y: y[:, None], lambda y: y.int(), lambda y: y.float(), lambda y: y.tolist(), lambda y: y.numpy()],
    ids=["[n, 1]", "int32", "float", "list", "numpy"],
)
def test_labels_as_people_have_them(form):
    retain, validation, _ = parts(30)
    same, other = (
        forget(convnet(), [1], Samples(retain.images, labels, K), validation, noise=False).model
        for labels in (retain.labels, form(retain.labels))
    )
    assert same_weights(same, other)


@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning", "ignore::FutureWarning")
def test_what_is_compiled_or_cannot_be_copied_is_refused():
    class Scripted(torch.jit.ScriptModule):
        pass

    with_weights = torch.jit.trace(nn.Linear(2, 2), torch.zeros(1, 2))
    for model in (Scripted(), nn.Sequential(nn.Linear(2, 2), with_weights)):
        with pytest.raises(ValueError, match="TorchScript"):
            ready(model)
    ready(nn.Sequential(Scripted(), nn.Linear(2, 2)))
    model = mlp()
    model.kept = model(torch.zeros(1, 6))
    with pytest.raises(ValueError, match="cannot be copied"):
        ready(model)


NETWORKS = {
    "resnet18": lambda: M.resnet18(num_classes=K),
    "mobilenet_v2": lambda: M.mobilenet_v2(num_classes=K, width_mult=0.25),
    "vit_b_16": lambda: M.VisionTransformer(
        image_size=32, patch_size=16, num_layers=1, num_heads=2, hidden_dim=16, mlp_dim=16, num_classes=K
    ),
    "swin_t": lambda: M.SwinTransformer([4, 4], 12, [1, 1], [1, 2], [4, 4], num_classes=K),
    "convnext_tiny": lambda: M.ConvNeXt([CNBlockConfig(8, 16, 1), CNBlockConfig(16, None, 1)], num_classes=K),
    "googlenet": lambda: M.googlenet(num_classes=K, aux_logits=True, init_weights=False),
}


@ANY
@pytest.mark.parametrize("name", NETWORKS)
def test_torchvisions_networks_as_they_are(name, monkeypatch):
    """Of their classes, but as small as their arguments make them; GoogLeNet with its auxiliary heads."""
    monkeypatch.setattr(choose, "STAND_INS", 1)
    monkeypatch.setitem(choose.LEARNED, "steps", 1)
    monkeypatch.setitem(choose.CARRIED, "steps", 1)
    monkeypatch.setattr(forgetting, "next_try", lambda tried, _: None if tried else (True, 3))
    monkeypatch.setitem(forgetting.NOISE, "per_class", 2)
    monkeypatch.setitem(forgetting.NOISE, "steps", 1)
    retain, validation, held = parts(8, (3, 32, 32))
    real = dict(held_out_forget=held, look=True)
    result = forget(NETWORKS[name](), [1], retain, validation, budget=50, retain_per_class=1, **real)
    assert result.report.settings["head_factor"] == choose.HEAD_FACTOR and result.tried[0]["noise"]


# --- the report


@ANY
def test_the_report_prints_renders_and_is_plain(found):
    report = found.report
    assert str(report).startswith("Forgetting 1 by ") and report._repr_markdown_().startswith("**Forgetting 1 by ")
    assert "| A_Df (%), forget classes" in str(report)
    about = json.loads(json.dumps(report.as_dict(), allow_nan=False))
    assert about["by_class"][1]["images"] == 10 and len(about["tried"]) == len(found.tried)
    assert Report(**about).headline == report.headline


def test_of_many_classes_those_that_changed_most_are_shown():
    rows = [{"class": f"c{i}", "images": 9, "before": 90.0, "after": 90.0 - i} for i in range(30)]
    rows.append({"class": "gone", "images": 0, "before": float("nan"), "after": float("nan")})
    text = str(Report(("gone",), (90.0, 75.0), None, (3.0, -4.0), rows, [], {"noise": True}, {}, {}))
    assert "| c29 " in text and "| c3 " not in text and "more classes changed less" in text
    assert "| gone " in text and "A_Df not measured" in text


@ANY
def test_a_second_request_says_what_was_forgotten_before():
    retain, validation = (floats(SHAPE, n).without([1, 2]) for n in (40, 20))
    with pytest.warns(UserWarning, match=r"no sample of the classes \[2\].*say\s+forgotten="):
        forget(convnet(), [1], retain, validation, noise=False)
    report = forget(convnet(), [1], retain, validation, forgotten=[2], noise=False).report
    assert not [text for text in report.warnings if "no sample" in text]


@ANY
def test_a_class_that_no_validation_image_is_of_is_named():
    retain, validation, _ = parts(30)
    with pytest.warns(UserWarning, match=r"no image of the classes \[3\]: A_Dr says nothing of them"):
        forget(convnet(), [1], retain, validation.without([3]), noise=False)


def test_the_same_classes_in_another_order_are_refused():
    retain, validation, _ = parts(30)
    named = [
        Samples(s.images, s.labels, K, names=names)
        for s, names in ((retain, ("ant", "bee", "cat", "dog")), (validation, ("ant", "bee", "dog", "cat")))
    ]
    with pytest.raises(
        ValueError, match="validation data has the class dog where the retain data has cat: pass both the same"
    ):
        forget(convnet(), [1], *named)


@ANY
def test_a_network_that_works_in_place_on_its_input_is_judged_as_its_twin():
    class Normalising(nn.Module):
        def __init__(self, in_place: bool) -> None:
            super().__init__()
            self.net, self.in_place = convnet(), in_place

        def forward(self, x):
            return self.net(x.sub_(0.5).div_(0.25) if self.in_place else x.sub(0.5).div(0.25))

    retain, validation, _ = parts(30)
    one, other = (forget(Normalising(i), [1], retain, validation, noise=False).tried for i in (True, False))
    assert [r["margin"] for r in one] == [r["margin"] for r in other]


@ANY
def test_buffers_keep_a_precision_of_their_own():
    model, (retain, validation, _) = convnet().half(), parts(30)
    model.register_buffer("scale", torch.tensor(1 / 3))
    assert forget(model, [1], retain, validation, noise=False).model.scale.item() == torch.tensor(1 / 3).item()


@ANY
def test_numbers_of_numpy_will_do_and_zero_is_no_batch():
    retain, validation, _ = parts(30)
    options = {"noise": False, "seed": np.int64(3), "batch_size": np.int64(16)}
    plain = {"noise": False, "seed": 3, "batch_size": 16}
    one, other = (forget(convnet(), [1], retain, validation, **given).model for given in (options, plain))
    assert same_weights(one, other)
    with pytest.raises(ValueError, match="batch_size is 0"):
        forget(convnet(), [1], retain, validation, batch_size=0)


@ANY
def test_warnings_of_other_libraries_keep_their_kind_and_are_no_missed_goal():
    class Old(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = convnet()

        def forward(self, x):
            warnings.warn("old", DeprecationWarning, stacklevel=1)
            return self.net(x)

    retain, validation, _ = parts(30)
    with pytest.warns(DeprecationWarning, match="old"):
        report = forget(Old(), [1], retain, validation, noise=False).report
    assert "old" not in report.warnings
