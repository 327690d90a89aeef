import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tiny import K, floats, pixels

from unsir_utils.engine.samples import Samples, augmented, chunks
from unsir_utils.engine.state import seeded


def numbered(labels) -> Samples:
    """Samples whose image is their place."""
    labels = torch.tensor(labels, dtype=torch.int64)
    return Samples(torch.arange(len(labels)).float()[:, None], labels, K)


def places(samples: Samples) -> list[int]:
    return samples.images[:, 0].int().tolist()


LABELS = [3, 0, 1, 0, 3, 1, 0, 0]


@pytest.mark.parametrize("classes, only", [([0], [1, 3, 6, 7]), ([3, 1], [0, 2, 4, 5]), ([2], []), ([], [])], ids=str)
def test_only_and_without_part_the_samples(classes, only):
    samples = numbered(LABELS)
    assert places(samples.only(classes)) == only
    assert places(samples.without(classes)) == [i for i in range(len(LABELS)) if i not in only]
    assert samples.only(classes).n_classes == K


def test_first_takes_them_as_they_stand():
    assert places(numbered(LABELS).first(2)) == [0, 1, 2, 3, 4, 5]
    assert places(numbered(LABELS).first(1)) == [0, 1, 2]


@given(st.lists(st.integers(0, K - 1), max_size=40), st.integers(1, 9), st.integers(0, 5))
def test_draw_takes_the_same_number_of_each_class_and_none_twice(labels, per_class, seed):
    samples = numbered(labels)
    drawn = samples.draw(per_class, seed)
    assert drawn.labels.bincount(minlength=K).tolist() == [min(per_class, labels.count(c)) for c in range(K)]
    assert len(set(places(drawn))) == len(drawn)
    assert all(labels[place] == label for place, label in zip(places(drawn), drawn.labels, strict=True))
    assert places(samples.draw(per_class, seed)) == places(drawn)


def test_draw_depends_on_its_seed_alone():
    samples = numbered(LABELS * 9)
    random = torch.get_rng_state()
    assert len({tuple(places(samples.draw(3, seed))) for seed in range(5)}) > 1
    assert torch.equal(torch.get_rng_state(), random)


@given(st.integers(0, 60), st.integers(2, 9))
def test_chunks_hold_everything_once_and_none_holds_one(n, size):
    pieces = chunks(torch.arange(n), size)
    assert torch.cat(list(pieces)).tolist() == list(range(n))
    assert all(len(piece) == size for piece in pieces[:-1])
    assert n < 2 or 1 < len(pieces[-1]) <= size + 1


def test_pixels_arrive_normalised_and_stay_bytes():
    samples = Samples(torch.tensor([0, 51, 255], dtype=torch.uint8).view(1, 3, 1, 1), torch.zeros(1).long(), 2,
                      (0.5, 0.1, 0.5), (0.5, 0.1, 0.25))  # fmt: skip
    for _ in range(2):
        torch.testing.assert_close(samples.inputs().flatten(), torch.tensor([-1.0, 1.0, 2.0]))
    assert samples.images.dtype == torch.uint8


def test_pixels_without_statistics_are_brought_to_0_1():
    samples = Samples(torch.tensor([[0, 51, 255]], dtype=torch.uint8), torch.zeros(1).long(), 2)
    torch.testing.assert_close(samples.inputs(), torch.tensor([[0.0, 0.2, 1.0]]))


def test_floats_are_taken_as_they_are():
    samples = floats((2, 5))
    assert torch.equal(samples.inputs(torch.tensor([3, 1])), samples.images[[3, 1]])


def test_images_are_channels_last():
    assert pixels().inputs(slice(0, 2)).is_contiguous(memory_format=torch.channels_last)


def test_batches_keep_the_order_and_the_rest():
    samples = pixels(10)
    x, y = (torch.cat(parts) for parts in zip(*samples.batches(4), strict=True))
    assert torch.equal(x, samples.inputs()) and torch.equal(y, samples.labels)
    assert [len(y) for _, y in samples.batches(4)] == [4, 4, 2]


def test_shuffled_pairs_every_image_with_its_label_once():
    samples = numbered(LABELS + [2])
    torch.manual_seed(0)
    first, second = ([(x[:, 0].int().tolist(), y.tolist()) for x, y in samples.shuffled(4)] for _ in range(2))
    assert [len(y) for _, y in first] == [4, 5] and first != second
    pairs = [pair for x, y in first for pair in zip(x, y, strict=True)]
    assert sorted(pairs) == list(enumerate(LABELS + [2]))


IMAGES = torch.arange(24.0).view(3, 2, 2, 2)


@pytest.mark.parametrize(
    "labels",
    [
        torch.tensor([[2], [0], [1]]),
        torch.tensor([2, 0, 1], dtype=torch.int32),
        torch.tensor([2.0, 0.0, 1.0]),
        [2, 0, 1],
        np.array([2, 0, 1], dtype=np.uint8),
        np.array([[2.0], [0.0], [1.0]]),
    ],
    ids=["[n, 1]", "int32", "float", "list", "numpy", "numpy [n, 1]"],
)
def test_labels_become_int64_of_one_axis(labels):
    samples = Samples(IMAGES, labels, K)
    assert samples.labels.dtype == torch.int64 and samples.labels.tolist() == [2, 0, 1]
    assert samples.only([2]).shape == (2, 2, 2) and torch.equal(samples.only([0]).images, IMAGES[1:2])


@pytest.mark.parametrize(
    "images, dtype",
    [
        (IMAGES.double(), torch.float32),
        (IMAGES.bfloat16(), torch.float32),
        (IMAGES.numpy().astype(np.float64), torch.float32),
        (IMAGES.numpy().astype(np.uint8), torch.uint8),
        (list(IMAGES), torch.float32),
        (list(IMAGES.numpy()), torch.float32),
        (IMAGES.tolist(), torch.float32),
    ],
    ids=["float64", "bfloat16", "numpy", "bytes", "tensors", "arrays", "lists"],
)
def test_images_become_one_tensor_of_bytes_or_float32(images, dtype):
    samples = Samples(images, [0, 1, 2], K)
    assert samples.images.dtype == dtype and torch.equal(samples.images.float(), IMAGES)


@pytest.mark.parametrize(
    "images, labels, message",
    [
        (IMAGES, torch.zeros(4).long(), "3 images but 4 labels"),
        (IMAGES, torch.eye(3), r"labels are torch.float32 \[3, 3\]"),
        (IMAGES, [0.5, 1, 2], r"labels are torch.float32 \[3\]"),
        (IMAGES, [float("nan"), 1, 2], r"labels are torch.float32 \[3\]"),
        (IMAGES.int(), [0, 1, 2], r"images are torch.int32 \[3, 2, 2, 2\]: expected"),
        (IMAGES.bool(), [0, 1, 2], "images are torch.bool"),
        (torch.zeros(3), [0, 1, 2], r"images are torch.float32 \[3\]"),
    ],
)
def test_what_are_no_samples_is_named(images, labels, message):
    with pytest.raises(ValueError, match=message):
        Samples(images, labels, K)


@pytest.mark.parametrize(
    "ask, message",
    [
        (lambda s: s.draw(-1), "per_class is -1"),
        (lambda s: s.draw(2.5), "per_class is 2.5"),
        (lambda s: s.first(0), "per_class is 0"),
        (lambda s: next(s.batches(-1)), "size is -1"),
        (lambda s: next(s.shuffled(0)), "size is 0"),
        (lambda s: s.only(3), "class is given as 3: expected a list"),
        (lambda s: s.without("cat"), "class is given as 'cat'"),
        (lambda s: s.without([K]), f"class {K} is out of range"),
        (lambda s: s[0], r"expected \[n, ...\]"),
    ],
)
def test_what_cannot_be_asked_for_is_named(ask, message):
    with pytest.raises(ValueError, match=message):
        ask(numbered(LABELS))


def test_samples_are_told_in_a_line():
    assert repr(pixels(7)) == "Samples(7 images of shape (3, 8, 8), 4 classes)"


def test_length_shape_and_index():
    samples = pixels(7)
    assert len(samples) == 7 and samples.shape == (3, 8, 8) and samples.device.type == "cpu"
    part = samples[torch.tensor([6, 0])]
    assert torch.equal(part.images, samples.images[[6, 0]]) and part.labels.tolist() == [2, 0]
    assert (part.mean, part.std, part.n_classes) == (samples.mean, samples.std, K)


def test_augmented_images_are_shifted_and_mirrored_each_by_itself():
    x = torch.arange(1, 2 * 300 * 20 + 1).float().view(300, 2, 4, 5)
    with seeded(0):
        ((moved, labels),) = augmented([(x, torch.arange(300))], padding=1)
    assert labels.tolist() == list(range(300)) and moved.is_contiguous(memory_format=torch.channels_last)
    padded, found = torch.nn.functional.pad(x, (1, 1, 1, 1)), []
    for image, source in zip(moved, padded, strict=True):
        crops = {(i, j, m): source[:, i : i + 4, j : j + 5] for i in range(3) for j in range(3) for m in (False, True)}
        (how,) = [key for key, crop in crops.items() if torch.equal(image, crop.flip(2) if key[2] else crop)]
        found.append(how)
    assert len(set(found)) == 18
    assert 120 < sum(mirrored for *_, mirrored in found) < 180


def test_a_seed_decides_how_images_are_augmented():
    batch = pixels().inputs(), pixels().labels
    moved = []
    for seed in (1, 1, 2):
        with seeded(seed):
            moved.append(next(augmented([batch]))[0])
    assert torch.equal(moved[0], moved[1]) and not torch.equal(moved[0], moved[2])


def test_vectors_cannot_be_augmented():
    with pytest.raises(ValueError, match=r"a batch is \[21, 6\]: only maps"):
        next(augmented([(floats((6,)).inputs(), floats((6,)).labels)]))


U8 = torch.zeros(2, 3, 4, 4, dtype=torch.uint8)


@pytest.mark.parametrize(
    "images, options, message",
    [
        (U8.float(), {"mean": (0.5,) * 3, "std": (0.5,) * 3}, "floats, which the model takes as they are"),
        (U8, {"mean": (0.5,) * 3}, "hold 3 and 0 numbers, the images have 3 channels"),
        (U8, {"std": (0.5,) * 3}, "hold 0 and 3 numbers, the images have 3 channels"),
        (U8[:, :1], {"mean": (0.5,) * 3, "std": (0.5,) * 3}, "hold 3 and 3 numbers, the images have 1 channels"),
        (U8, {"names": ("ant", "bee")}, f"expected {K} strings"),
        (U8, {"names": tuple(range(K))}, f"expected {K} strings"),
    ],
)
def test_statistics_and_names_fit_the_images(images, options, message):
    with pytest.raises(ValueError, match=message):
        Samples(images, torch.tensor([0, 1]), K, **options)


def test_classes_go_by_name_too():
    samples = Samples(torch.arange(8.0)[:, None], torch.tensor(LABELS), K, names=("ant", "bee", "cat", "dog"))
    assert places(samples.only(["dog", 1])) == [0, 2, 4, 5] and places(samples.without(["ant"])) == [0, 2, 4, 5]
    with pytest.raises(ValueError, match="unknown class 'emu': choose among ant, bee, cat, dog"):
        samples.only(["emu"])
    for no_list in ("ant", 3, torch.tensor(3), np.array([[3]])):
        with pytest.raises(ValueError, match="expected a list, such as"):
            samples.only(no_list)
