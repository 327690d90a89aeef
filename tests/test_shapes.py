import pytest
import torch

from unsir_utils.data import shapes


@pytest.mark.parametrize("n_classes", [2, 10, 23, 100])
def test_every_class_has_its_images_in_order(n_classes):
    images, labels = shapes.draw(n_classes, 2, seed=0)
    assert images.shape == (2 * n_classes, 3, 32, 32) and images.dtype == torch.uint8
    assert labels.dtype == torch.int64
    assert labels.tolist() == [c for c in range(n_classes) for _ in range(2)]


def test_a_seed_decides_the_images():
    random = torch.get_rng_state()
    one, same, other = (shapes.draw(5, 3, seed)[0] for seed in (1, 1, 2))
    assert torch.equal(one, same) and not torch.equal(one, other)
    assert torch.equal(torch.get_rng_state(), random)


def test_no_two_images_are_alike():
    images, _ = shapes.draw(10, 10, seed=0)
    assert len(images.flatten(1).unique(dim=0)) == len(images)


@pytest.mark.parametrize("n_classes", range(2, 101))
def test_classes_are_distinct_and_superclasses_share_a_shape(n_classes):
    names = shapes.class_names(n_classes)
    assert len(set(names)) == len(names) == n_classes
    of_shape = [name.split()[1] for name in names]
    assert max(map(of_shape.count, of_shape)) >= 2


AXIS = torch.linspace(-1, 1, 32)
X, Y = AXIS.expand(32, 32), AXIS[:, None].expand(32, 32)
AT = X, Y, torch.hypot(X, Y), torch.atan2(Y, X)


@pytest.mark.parametrize("shape", shapes.SHAPES)
def test_without_nuisance_a_shape_is_centred_and_fills_part_of_the_image(shape):
    assert 0.1 < (shapes.SHAPES[shape](*AT) > 0).float().mean() < 0.8


def test_textures_differ():
    painted = [paint(*AT) for paint in shapes.TEXTURES.values()]
    assert len(torch.stack(painted).flatten(1).unique(dim=0)) == len(shapes.TEXTURES)


def test_difficulty_scales_the_nuisances():
    easy, middling, hard = (shapes.draw(10, 20, 0, difficulty)[0][:, :, 0].float().std() for difficulty in (0, 0.5, 1))
    assert easy < 1 < middling < hard


@pytest.mark.parametrize("n_classes", [-1, 0, 1, 101, 2.0, "ten", True, None])
def test_a_number_of_classes_that_cannot_be_is_named(n_classes):
    for ask in (lambda: shapes.draw(n_classes, 1, seed=0), lambda: shapes.class_names(n_classes)):
        with pytest.raises(ValueError, match=f"shapes has 2 to 100 classes, not {n_classes!r}"):
            ask()


@pytest.mark.parametrize(
    "bad", [dict(per_class=0), dict(per_class=-3), dict(per_class=1.5), dict(difficulty=-1), dict(difficulty=float("nan"))]
)
def test_what_cannot_be_drawn_is_named(bad):
    ((name, value),) = bad.items()
    with pytest.raises(ValueError, match=f"{name} is {value}"):
        shapes.draw(2, **(dict(per_class=1, seed=0) | bad))
