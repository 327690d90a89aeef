import pytest
import torch

from unsir_utils.data import faces


@pytest.mark.parametrize("n_classes", [2, 10, 40])
def test_every_class_has_its_images_in_order(n_classes):
    images, labels = faces.draw(n_classes, 2, seed=0)
    assert images.shape == (2 * n_classes, 3, 32, 32) and images.dtype == torch.uint8
    assert images.min() < 50 and images.max() > 200
    assert labels.dtype == torch.int64
    assert labels.tolist() == [c for c in range(n_classes) for _ in range(2)]
    assert len(set(faces.class_names(n_classes))) == n_classes


def test_a_seed_decides_the_images():
    random = torch.get_rng_state()
    one, same, other = (faces.draw(5, 3, seed)[0] for seed in (1, 1, 2))
    assert torch.equal(one, same) and not torch.equal(one, other)
    assert torch.equal(torch.get_rng_state(), random)


def test_no_two_images_are_alike():
    images, _ = faces.draw(10, 10, seed=0)
    assert len(images.flatten(1).unique(dim=0)) == len(images)


def test_without_nuisance_an_identity_has_one_picture_whatever_the_seed_and_no_two_share_it():
    images, other = (faces.draw(40, 2, seed, difficulty=0)[0] for seed in (0, 1))
    assert torch.equal(images[::2], images[1::2]) and torch.equal(images, other)
    x = images[::2].double().flatten(1) / 255
    apart = torch.cdist(x, x) / x.shape[1] ** 0.5  # root mean square over pixels
    assert apart.fill_diagonal_(1).min() > 0.02


def test_an_identity_does_not_depend_on_how_many_are_drawn():
    few, many = (faces.draw(n, 1, seed=0, difficulty=0)[0] for n in (3, 40))
    assert torch.equal(few, many[:3])


def test_difficulty_scales_the_nuisances():
    easy, middling, hard = (faces.draw(10, 20, 0, d)[0].view(10, 20, -1).float().std(1).mean() for d in (0, 0.5, 1))
    assert easy == 0 and 10 < middling < hard


@pytest.mark.parametrize("n_classes", [-1, 0, 1, 41, 2.0, "ten", True, None])
def test_a_number_of_classes_that_cannot_be_is_named(n_classes):
    for ask in (lambda: faces.draw(n_classes, 1, seed=0), lambda: faces.class_names(n_classes)):
        with pytest.raises(ValueError, match=f"faces has 2 to 40 classes, not {n_classes!r}"):
            ask()


@pytest.mark.parametrize(
    "bad", [dict(per_class=0), dict(per_class=-3), dict(per_class=1.5), dict(difficulty=-1), dict(difficulty=float("nan"))]
)
def test_what_cannot_be_drawn_is_named(bad):
    ((name, value),) = bad.items()
    with pytest.raises(ValueError, match=f"{name} is {value}"):
        faces.draw(2, **(dict(per_class=1, seed=0) | bad))
