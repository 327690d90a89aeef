"""Samples from what other libraries hand out."""

from collections import Counter

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader, Dataset, IterableDataset, Subset, TensorDataset

from unsir_utils.engine.samples import Samples

LABELS = [2, 0, 1, 1, 0, 2, 0, 0]
NAMES = ["ant", "bee", "cat"]


def image(i: int) -> torch.Tensor:
    return torch.full((1, 2, 2), float(i))


class Pairs(Dataset):
    """(image, label) by index; torchvision's `classes` and `targets`, where asked for. It counts what is read."""

    def __init__(self, n=8, classes=NAMES, targets=True, make=image) -> None:
        self.n, self.make, self.read = n, make, []
        if classes:
            self.classes = classes
        if targets:
            self.targets = [LABELS[i % 8] for i in range(n)]

    def __len__(self) -> int:
        return self.n

    def __getitem__(self, i: int):
        self.read.append(i)
        return self.make(i), LABELS[i % 8]


class Rows(Pairs):
    """Hugging Face's column form."""

    def __init__(self, keys=("img", "label"), **options) -> None:
        super().__init__(classes=None, targets=False, **options)
        self.column_names = [*keys]
        self.features = {keys[1]: type("ClassLabel", (), {"names": NAMES})}

    def __getitem__(self, i):
        if i == self.column_names[1]:
            return [LABELS[j % 8] for j in range(self.n)]
        return dict(zip(self.column_names, super().__getitem__(i), strict=True))


class Stream(IterableDataset):
    def __iter__(self):
        return ((image(i), LABELS[i]) for i in range(8))


def places(samples: Samples) -> list[int]:
    return samples.images[:, 0, 0, 0].int().tolist()


EVERY_FORM = pytest.mark.parametrize(
    "dataset",
    [
        Pairs(),
        Pairs(targets=False),
        Rows(("image", "label")),
        Rows(("img", "label")),
        Rows(("pixel_values", "labels")),
        Stream(),
        TensorDataset(torch.stack([*map(image, range(8))]), torch.tensor(LABELS)),
    ],
    ids=["targets", "pairs", "image", "img", "pixel_values", "iterable", "tensors"],
)


@EVERY_FORM
def test_every_form_gives_the_same_samples(dataset):
    samples = Samples.from_dataset(dataset, 3)
    assert places(samples) == [*range(8)] and samples.labels.tolist() == LABELS and samples.n_classes == 3
    assert places(Samples.from_dataset(dataset, 3, without=[0])) == [0, 2, 3, 5]


@EVERY_FORM
def test_a_loader_gives_what_its_dataset_does(dataset):
    samples = Samples.from_loader(DataLoader(dataset, batch_size=3), 3, without=[1])
    assert places(samples) == [0, 1, 4, 5, 6, 7]


def test_a_generator_is_read_once():
    rows = ((image(i), LABELS[i]) for i in range(8))
    assert places(Samples.from_dataset(rows, 3, per_class=2, seed=1)) == places(
        Samples.from_dataset(Pairs(targets=False), per_class=2, seed=1)
    )


@pytest.mark.parametrize(
    "dataset", [Pairs(4000), Pairs(4000, targets=False), Rows(n=4000)], ids=["targets", "pairs", "columns"]
)
def test_the_draw_is_even_over_the_stream(dataset):
    drawn = [place for seed in range(20) for place in places(Samples.from_dataset(dataset, per_class=40, seed=seed))]
    assert len(drawn) == 20 * 3 * 40
    quarters = Counter(place // 1000 for place in drawn)
    assert all(500 < quarters[q] < 700 for q in range(4))  # 600 expected, standard deviation 21


def test_no_image_is_read_that_is_not_kept():
    dataset = Pairs(800)
    samples = Samples.from_dataset(dataset, without=["ant"], per_class=5)
    assert len(dataset.read) == len(samples) == 10
    assert all(LABELS[i % 8] != 0 for i in dataset.read)


def test_the_labels_of_a_subset_are_known():
    dataset = Pairs(80)
    samples = Samples.from_dataset(Subset(dataset, range(8, 16)), without=[0])
    assert sorted(dataset.read) == sorted(places(samples)) == [8, 10, 11, 13]
    assert samples.names == tuple(NAMES)


def test_labels_that_a_transform_changes_are_read_from_the_rows():
    dataset = Pairs()
    dataset.targets, dataset.target_transform = [0] * 8, int
    assert Samples.from_dataset(dataset).labels.tolist() == LABELS


def test_names_come_along_and_stay():
    samples = Samples.from_dataset(Rows(), per_class=1)
    assert samples.names == samples.only([1]).names == tuple(NAMES) and samples.n_classes == 3


def test_labels_by_name():
    rows = [(image(i), NAMES[label]) for i, label in enumerate(LABELS)]
    assert Samples.from_dataset(rows, names=NAMES).labels.tolist() == LABELS


def test_pil_images_need_a_transform():
    dataset = Pairs(make=lambda i: Image.new("L", (2, 2), i))
    with pytest.raises(ValueError, match="transform=..."):
        Samples.from_dataset(dataset)
    samples = Samples.from_dataset(dataset, transform=lambda im: torch.from_numpy(np.array(im))[None])
    assert places(samples) == [*range(8)] and samples.images.dtype == torch.uint8


def test_the_transform_gets_arrays_too():
    samples = Samples.from_dataset(Pairs(make=lambda i: image(i).numpy()), transform=lambda a: torch.from_numpy(a) + 1)
    assert places(samples) == [*range(1, 9)]


@pytest.mark.parametrize(
    "rows, options, message",
    [
        (Pairs(classes=None), {}, "pass n_classes"),
        (Pairs(), {"per_class": 0}, "per_class is 0"),
        (Pairs(), {"names": ["a"], "n_classes": 3}, "1 names but n_classes is 3"),
        (Pairs(), {"without": "cat"}, "expected a list"),
        (Pairs(), {"without": ["dog"]}, "'dog': choose among ant, bee, cat"),
        (Pairs(), {"without": [7]}, "class 7 is out of range"),
        (Pairs(classes=None), {"n_classes": 2}, "label 2 is out of range"),
        (Pairs(), {"without": [0, 1, 2]}, "no image but of the classes left out"),
        ([], {"n_classes": 3}, "no image"),
        ([(image(0), "cat")], {"n_classes": 3}, "pass names"),
        ([(image(0), torch.tensor([0, 1, 0]))], {"n_classes": 3}, "argmax"),
        ([(image(0), 0.5)], {"n_classes": 3}, "a whole number"),
        ([(image(0), None)], {"n_classes": 3}, "a label is None: expected a whole number"),
        ([(image(0), float("nan"))], {"n_classes": 3}, "a label is nan: expected a whole number"),
        ([(image(0), float("inf"))], {"n_classes": 3}, "a label is inf: expected a whole number"),
        ([image(0)], {"n_classes": 3}, "a row is a Tensor"),
        ([(image(0), 0), (torch.zeros(1, 3, 3), 0)], {"n_classes": 3}, r"image 1 is torch.float32 \[1, 3, 3\]"),
        ([{"pixels": 0, "label": 0}], {"n_classes": 3}, "a row has pixels, label"),
        ({"train": Pairs(), "test": Pairs()}, {"n_classes": 3}, r"dataset\['train'\]"),
        (7, {"n_classes": 3}, "a int is no dataset"),
    ],
)
def test_what_cannot_be_read_is_named(rows, options, message):
    with pytest.raises(ValueError, match=message):
        Samples.from_dataset(rows, **options)


@pytest.mark.parametrize(
    "batches, message",
    [([(torch.zeros(2, 3), torch.zeros(3))], "as many labels"), ([torch.zeros(2, 3)], "a row is a Tensor")],
)
def test_batches_that_hold_no_pairs_are_named(batches, message):
    with pytest.raises(ValueError, match=message):
        Samples.from_loader(batches, 3)


LEFT = ["bee", "cat"]  # the folder of the ants is gone, and torchvision numbers the others from 0


class OfTwo(Pairs):
    def __init__(self) -> None:
        super().__init__(classes=LEFT)
        self.targets = [0, 1] * 4

    def __getitem__(self, i: int):
        return image(i), self.targets[i]


def test_labels_follow_their_names_where_a_class_is_gone():
    dataset = OfTwo()
    assert Samples.from_dataset(dataset, names=NAMES).labels.tolist() == [1, 2] * 4
    assert Samples.from_dataset(dataset, names=NAMES, without=["cat"]).labels.tolist() == [1] * 4
    assert Samples.from_loader(DataLoader(dataset, 3), names=NAMES).labels.tolist() == [1, 2] * 4
    assert Samples.from_dataset(Subset(dataset, [1, 2]), names=NAMES).labels.tolist() == [2, 1]
    with pytest.raises(ValueError, match="has 2 classes, the network 3: pass names="):
        Samples.from_dataset(dataset, 3)
    with pytest.raises(ValueError, match="has the classes bee, which are not among the names: choose among cow, cat"):
        Samples.from_dataset(dataset, names=["cow", "cat"])


@pytest.mark.parametrize("hidden", [-1, 2])
def test_a_label_beyond_the_datasets_names_is_refused(hidden):
    dataset = OfTwo()
    dataset.targets[3] = hidden
    with pytest.raises(ValueError, match=f"label {hidden} is out of range"):
        Samples.from_dataset(dataset, names=["cat", "bee"])


def test_other_words_for_as_many_classes_keep_their_numbers():
    with pytest.warns(UserWarning, match="taken in the same order: bee as Biene, cat as Katze"):
        assert Samples.from_dataset(OfTwo(), names=["Biene", "Katze"]).labels.tolist() == [0, 1] * 4


def test_capitals_make_no_other_name():
    assert Samples.from_dataset(OfTwo(), names=["Cat", "Bee"]).labels.tolist() == [1, 0] * 4
    assert Samples.from_dataset(OfTwo(), names=["Bee", "Cat", "cow"], without=["Cat"]).labels.tolist() == [0] * 4
    both_cases = Pairs(classes=["A", "B", "a"])
    assert Samples.from_dataset(both_cases, names=["B", "A", "a", "b"]).labels.tolist() == [2, 1, 0, 0, 1, 2, 1, 1]
    upper = Pairs(classes=["C", "A", "B"])  # names that only capitals tell apart are the network's
    assert Samples.from_dataset(upper, names=["c", "b", "a", "A", "B", "C"]).labels.tolist() == [4, 5, 3, 3, 5, 4, 5, 5]


class Renumbering(Dataset):
    """Hands the labels of another dataset on as the network numbers them, without saying so."""

    def __init__(self, dataset: Dataset) -> None:
        self.dataset = dataset

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, i: int):
        row, label = self.dataset[i]
        return row, label + 1


def test_a_wrapper_may_have_numbered_the_labels_already():
    for read in (Samples.from_dataset, lambda data, **options: Samples.from_loader(DataLoader(data, 3), **options)):
        wrapper = Renumbering(OfTwo())
        with pytest.raises(ValueError, match="wraps one with the classes bee, cat, .* give it `classes`"):
            read(wrapper, names=NAMES)
        with pytest.raises(ValueError, match="pass n_classes, .* or give the wrapper `classes`"):
            read(wrapper)
        assert read(wrapper, n_classes=3).labels.tolist() == [1, 2] * 4
        wrapper.classes = NAMES
        assert read(wrapper, names=NAMES, without=["cat"]).labels.tolist() == [1] * 4
        assert read(Subset(wrapper, [1, 2])).labels.tolist() == [2, 1]


def test_a_stream_may_know_its_length():
    class Stream(IterableDataset):
        def __iter__(self):
            return ((image(i), LABELS[i]) for i in range(8))

        def __len__(self) -> int:
            return 8

    assert Samples.from_dataset(Stream(), 3).labels.tolist() == LABELS


def test_labels_that_were_renumbered_on_the_way_out_are_the_networks():
    shifted = Pairs(classes=LEFT, targets=False)
    shifted.target_transform = lambda label: label
    assert Samples.from_dataset(shifted, names=NAMES).labels.tolist() == LABELS


def test_a_row_whose_label_is_not_the_listed_one_is_refused():
    dataset = Pairs()
    dataset.targets = [(label + 1) % 3 for label in LABELS]
    with pytest.raises(ValueError, match=r"row 0 has the label 2, but the dataset lists it as 0: pass \(row for row"):
        Samples.from_dataset(dataset)
    assert Samples.from_dataset((dataset[i] for i in range(8)), 3).labels.tolist() == LABELS
