"""Every image carries its number, and the network notes which ones pass through it."""

from collections import Counter

import pytest
import torch
from tiny import K, convnet, forget_all
from torch import Tensor, nn

from unsir_utils.data.sets import Data
from unsir_utils.engine.samples import Samples
from unsir_utils.workshop import models, noise_store, store, study
from unsir_utils.workshop.study import METHODS, scenario

FORGET = [1]
SEEN: list[tuple[bool, Tensor]] = []  # whether gradients were asked for, and the images


class Watching(nn.Sequential):
    def forward(self, x):
        SEEN.append((torch.is_grad_enabled(), x.detach().clone()))
        return super().forward(x)


def numbered(first: int, n: int) -> Samples:
    """Images of one value each, their number in hundredths."""
    number = torch.arange(first, first + n)
    return Samples((number / 100).view(n, 1, 1, 1).expand(n, 3, 8, 8).clone(), number % K, K)


def numbers(images: Tensor) -> list[int]:
    """Of the images that carry one: noise has many values, a blank image is zero."""
    flat = images.flatten(1)
    plain = flat[(flat == flat[:, :1]).all(1) & (flat[:, 0] != 0)]
    return (100 * plain[:, 0]).round().int().tolist()


DATA = Data("numbered", tuple("abcd"), numbered(1, 33), numbered(101, 8), numbered(201, 12))
TRAIN = set(range(1, 34))
D_F = {i for i in TRAIN if i % K in FORGET}
D_R = TRAIN - D_F


def seen(trained_on: bool = False) -> Counter:
    """How often each image went through; trained_on: with gradients."""
    return Counter(i for gradients, images in SEEN if gradients or not trained_on for i in numbers(images))


@pytest.fixture(autouse=True)
def s(monkeypatch, tmp_path):
    monkeypatch.setitem(models.ARCHITECTURES, "tiny", lambda n: Watching(*convnet(n)))
    monkeypatch.setattr(store, "FOLDER", tmp_path)
    monkeypatch.setattr(study, "load_once", lambda **_: DATA)
    monkeypatch.setattr(noise_store, "_code", lambda learn: "")  # of networks that note things there is no fingerprint
    forget_all()
    recipe = {"architecture": "tiny", "epochs": 1, "batch_size": 8}
    s = scenario({"name": "numbered"}, recipe, FORGET, retain_per_class=3, seed=5)
    assert s.original is s.original  # trained now
    yield s
    forget_all()
    SEEN.clear()


def test_the_original_is_trained_on_every_training_image_once():
    assert seen() == Counter(TRAIN)


QUICK = {"noise_per_class": 2, "copies": 3, "batch_size": 8}
OPTIONS = {
    "FineTune": {"epochs": 2, "batch_size": 8},
    "NegGrad": {"epochs": 3, "batch_size": 4},
    "Fisher": {"per_class": 2},
    "UNSIR": QUICK | {"noise_steps": 2},
    "Gradients pile up": QUICK,
    "Released": {"per_class": 2, "learned": 4},
    "NegGrad+": {"epochs": 2, "batch_size": 6},
    "SCRUB": {"epochs": 3, "forget_epochs": 2},
    "Boundary Shrink": {"epochs": 2},
    **{name: {"epochs": 2} for name in ("NoT", "NoT (subset)", "l1-sparse", "l1-sparse (subset)", "DELETE")},
    **{name: {"epochs": 2} for name in ("Random labels", "SalUn", "Bad Teacher")},
    **dict.fromkeys(study.CONTROLS, QUICK),
}


def d_r_sub(s) -> set[int]:
    return set(numbers(s.retain_subset.images))


def by_access(method, s) -> set[int]:
    """The images that the method says it may see."""
    accesses = {
        "none": set(),
        "retain subset": d_r_sub(s),
        "all retain": D_R,
        "forget set": D_F,
        "forget set and all retain": TRAIN,
    }
    return accesses[METHODS[method].access]


# What each method trains on: the images it may see, and how often.
EXPECTED = {
    "Original": lambda s: (set(), 0),
    "Retrain": lambda s: (D_R, 1),
    "FineTune": lambda s: (D_R, 2),
    "NegGrad": lambda s: (D_F, 3),
    "Fisher": lambda s: (set(numbers(s.retain.draw(2, seed=5).images)), 1),
    "Masked logits": lambda s: (set(), 0),
    "UNSIR": lambda s: (d_r_sub(s), 2),  # impair and repair
    "Gradients pile up": lambda s: (d_r_sub(s), 2),
    "Released": lambda s: (set(numbers(s.retain.first(2).images)), 2),
    "No noise": lambda s: (d_r_sub(s), 2),
    "Unlearned noise": lambda s: (d_r_sub(s), 2),
    "Blank images": lambda s: (d_r_sub(s), 2),
    "Bias shift": lambda s: (set(), 0),
    "Head projection": lambda s: (set(), 0),
    "NoT": lambda s: (D_R, 2),
    "NoT (subset)": lambda s: (d_r_sub(s), 2),
    "l1-sparse": lambda s: (D_R, 2),
    "l1-sparse (subset)": lambda s: (d_r_sub(s), 2),
    "DELETE": lambda s: (D_F, 2),
}
# The same of those that see both kinds: how often each image of D_r and of D_f is trained on.
TWO_KINDS = {
    "Random labels": (2, 2),
    "SalUn": (2, 3),  # the mask, too
    "SCRUB": (3, 2),
    "SSD": (1, 2),
    "SVD projection": (0, 0),  # no gradient
}


def test_every_method_is_looked_at():
    apart = {"More retain", "NegGrad+", "Bad Teacher", "Boundary Shrink"}
    assert {*EXPECTED, *TWO_KINDS, *apart} == set(METHODS)


@pytest.mark.parametrize("method", EXPECTED)
def test_a_method_trains_on_all_the_images_that_it_may_see_and_sees_no_other(method, s):
    SEEN.clear()
    study.apply(method, s, **OPTIONS.get(method, {}))
    may_see, times = EXPECTED[method](s)
    found = seen(trained_on=True)
    probes = sum(found.values()) - times * len(may_see)  # Fisher looks for the head on two of its images first
    assert (
        set(found) == may_see and min(found.values(), default=times) == times and probes == (3 if method == "Fisher" else 0)
    )
    assert set(seen()) == may_see
    assert by_access(method, s) == {"Fisher": D_R, "Released": d_r_sub(s)}.get(method, may_see)  # these take fewer


@pytest.mark.parametrize("method", TWO_KINDS)
def test_a_method_of_both_kinds_trains_so_often_on_each(method, s):
    SEEN.clear()
    study.apply(method, s, **OPTIONS.get(method, {}))
    retained, forgotten = TWO_KINDS[method]
    assert seen(trained_on=True) == +Counter(dict.fromkeys(D_R, retained) | dict.fromkeys(D_F, forgotten))
    assert set(seen()) == by_access(method, s) == TRAIN


def test_neggrad_plus_meets_each_retain_batch_with_a_forget_batch(s):
    SEEN.clear()
    study.apply("NegGrad+", s, **OPTIONS["NegGrad+"])
    assert seen(trained_on=True) == Counter(dict.fromkeys(D_R, 2) | dict.fromkeys(D_F, 4))  # four batches of D_r, two of D_f
    sizes = [len(images) for gradients, images in SEEN if gradients]
    assert sizes[::2] == [6] * 8 and sizes[1::2] == [6, 3] * 4
    assert by_access("NegGrad+", s) == TRAIN


def test_bad_teacher_sees_the_forget_set_and_three_tenths_of_the_retain_set(s):
    SEEN.clear()
    study.apply("Bad Teacher", s, **OPTIONS["Bad Teacher"])
    found = seen(trained_on=True)
    assert D_F < set(found) < TRAIN and set(found.values()) == {2}
    assert len(set(found) - D_F) == int(0.3 * len(D_R))
    assert by_access("Bad Teacher", s) == TRAIN


def test_boundary_shrink_trains_on_the_forget_set_and_steps_from_it(s):
    SEEN.clear()
    study.apply("Boundary Shrink", s, **OPTIONS["Boundary Shrink"])
    assert seen(trained_on=True) == Counter(dict.fromkeys(D_F, 3))  # the step, too
    assert set(seen()) == by_access("Boundary Shrink", s) == D_F


def test_more_retain_draws_from_the_retain_subset_alone(s):
    SEEN.clear()
    study.apply("More retain", s, **QUICK)
    subset = d_r_sub(s)
    assert set(seen()) == by_access("More retain", s) == subset
    assert seen(trained_on=True).total() == 2 * len(subset) + 2 * 3  # both passes, and two images three times


def test_the_retain_subset_is_a_draw_from_the_retain_set(s):
    assert len(d_r_sub(s)) == 3 * (K - len(FORGET)) and d_r_sub(s) < D_R


def test_relearning_draws_from_the_whole_training_set_and_watches_forget_images(s):
    model, watched = models.build("tiny", K, 9), 6
    with torch.no_grad():
        model[5].bias[1], s.original[5].bias[1] = -50, 50  # all is lost, and nothing was
    SEEN.clear()
    study.relearn(model, s, watched=watched, steps_cap=5, per_epoch=400, cap=2, lr=1e-9)
    assert set(seen()) == set(seen(trained_on=True)) == TRAIN
    assert seen(trained_on=True).total() == 2 * 400 + 5 * len(TRAIN)
    looked_at = {i for gradients, images in SEEN if not gradients and len(images) == watched for i in numbers(images)}
    assert looked_at < D_F and len(looked_at) == watched


@pytest.mark.parametrize("measure, part", [(study.measure, "test"), (study.validate, "validation")])
def test_measuring_trains_on_nothing_and_sees_its_own_part_alone(measure, part, s):
    SEEN.clear()
    measure(s.original, s)
    assert not seen(trained_on=True)
    assert set(seen()) == set(numbers(getattr(DATA, part).images))
