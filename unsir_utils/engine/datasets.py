"""Labelled images as other libraries hand them out, read into `Samples`: datasets, loaders, streams."""

from __future__ import annotations

import random
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from . import checks
from .samples import Samples

IMAGE_KEYS = ("image", "img", "pixel_values")
LABEL_KEYS = ("label", "labels")


def read_dataset(
    dataset: Any,
    n_classes: int | None,
    names: Sequence[str] | None,
    without: Iterable[int | str],
    per_class: int | None,
    transform: Any,
    seed: int,
) -> Samples:
    """What `Samples.from_dataset` promises."""
    if isinstance(dataset, Mapping):
        raise ValueError(f"the dataset is a dict of {', '.join(map(str, dataset))}: pass one part, as dataset['train']")
    known, n, left_out = _about(dataset, n_classes, names, without, per_class)
    number = _numbering(dataset, known)
    labels = _known_labels(dataset)
    if labels is None or not _has_rows(dataset):
        pairs = (_pair(row) for row in _rows(dataset))
    else:  # no image is read but those that are kept
        kept = _kept(((i, number(label)) for i, label in enumerate(labels)), left_out, per_class, seed)
        pairs, per_class = (_row_as_listed(dataset, i, c, number) for i, c in kept), None
    numbered = ((_tensor(image, transform), number(label)) for image, label in pairs)
    return _collected(numbered, n, known, left_out, per_class, seed)


def read_loader(
    loader: Iterable,
    n_classes: int | None,
    names: Sequence[str] | None,
    without: Iterable[int | str],
    per_class: int | None,
    seed: int,
) -> Samples:
    """What `Samples.from_loader` promises."""
    dataset = getattr(loader, "dataset", loader)
    known, n, left_out = _about(dataset, n_classes, names, without, per_class)
    number = _numbering(dataset, known)
    return _collected(((image, number(label)) for image, label in _of_batches(loader)), n, known, left_out, per_class, seed)


def names_of(dataset: Any) -> tuple[str, ...]:
    """The names of a dataset's classes, in the order of their numbers: torchvision's `classes`, Hugging Face's
    `features`; those of a Subset's dataset; () where it has none. Any other wrapper may number its labels anew."""
    features: Any = getattr(dataset, "features", None)
    for key in LABEL_KEYS if isinstance(features, Mapping) else ():
        if names := getattr(features.get(key), "names", None):
            return tuple(names)
    if names := getattr(dataset, "classes", None):
        return tuple(map(str, names))
    return names_of(dataset.dataset) if _is_subset(dataset) else ()


def _is_subset(dataset: Any) -> bool:
    """As torch's, which leaves the labels as they are."""
    return hasattr(dataset, "dataset") and hasattr(dataset, "indices")


def label_number(label: Any, names: Sequence[str] = ()) -> int:
    """A label as a class number. Raises ValueError where it is neither a whole number nor one of the names."""
    if isinstance(label, str):
        return checks.number_of(label, names)
    try:
        value = torch.as_tensor(label).item()
        if value == int(value):
            return int(value)
    except (TypeError, ValueError, RuntimeError, OverflowError):  # none, several, complex, nan, infinite
        pass
    raise ValueError(f"a label is {label!r}: expected a whole number or a name; take the argmax of one-hot labels")


def _numbering(dataset: Any, known: tuple[str, ...]) -> Callable[[Any], int]:
    """A label as the number of the network's output: by its name, where the dataset numbers these names otherwise.

    Capitals do not matter. As many names that are all others are taken for other words, in the same order, with a warning.
    Raises ValueError where only some are.
    """
    named = () if _target_transform(dataset) is not None else names_of(dataset)
    _check_wrapped(dataset, named, known)
    own, asked = _alike(named, known)
    strangers = [name for name, alike in zip(named, own, strict=True) if alike not in asked]
    if not (own and asked) or own == asked:
        return lambda label: label_number(label, known)
    if len(strangers) == len(own) == len(known):
        told = ", ".join(f"{one} as {other}" for one, other in list(zip(named, known, strict=True))[:5])
        warnings.warn(f"the dataset has other names for its classes, taken in the same order: {told}", stacklevel=4)
        return lambda label: label_number(label, known)
    if strangers:
        told = ", ".join(sorted(strangers))
        raise ValueError(f"the dataset has the classes {told}, which are not among the names: {checks.choices(known)}")
    return lambda label: asked.index(own[checks.classes([label_number(label, named)], len(own), "label")[0]])


def _check_wrapped(dataset: Any, named: tuple[str, ...], known: tuple[str, ...]) -> None:
    """Raises ValueError for a wrapper of a dataset that numbers the classes otherwise: its labels may be those or ours."""
    inner = names_of(dataset.dataset) if hasattr(dataset, "dataset") else ()
    if known and inner and not named and inner != known and _target_transform(dataset) is None:
        raise ValueError(
            f"the dataset wraps one with the classes {', '.join(inner)}, and does not say how it numbers them: give it "
            "`classes`, the names in the order of its labels"
        )


def _alike(one: tuple[str, ...], other: tuple[str, ...]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Both without capitals, where that tells the names of either apart as well."""
    lower = [tuple(name.casefold() for name in names) for names in (one, other)]
    told_apart = all(len(set(names)) == len(names) for names in lower)
    return (lower[0], lower[1]) if told_apart else (one, other)


def _row_as_listed(dataset: Any, i: int, c: int, number: Callable[[Any], int]) -> tuple[Any, Any]:
    """A row. Raises ValueError where its label is another than the dataset's list of labels says."""
    image, label = _pair(dataset[i])
    if number(label) != c:
        raise ValueError(f"row {i} has the label {label!r}, but the dataset lists it as {c}: pass (row for row in dataset)")
    return image, label


def _about(
    dataset: Any,
    n_classes: int | None,
    names: Sequence[str] | None,
    without: Iterable[int | str],
    per_class: int | None,
) -> tuple[tuple[str, ...], int, set[int]]:
    """Names, number of classes, classes to leave out."""
    known = tuple(names) if names is not None else names_of(dataset)
    n = n_classes or len(known)
    if not n:
        told = "the data does not say how many classes it has: pass n_classes, as many as the network has outputs"
        of_wrapper = ", or give the wrapper `classes`, the names in the order of its labels"
        raise ValueError(told + of_wrapper * hasattr(dataset, "dataset"))
    checks.counts(n_classes=n, per_class=1 if per_class is None else per_class)
    if names is not None and len(known) != n:
        raise ValueError(f"there are {len(known)} names but n_classes is {n}: they must agree")
    if known and len(known) != n:
        raise ValueError(
            f"the dataset has {len(known)} classes, the network {n}: pass names=[...], in the order of the network's outputs"
        )
    if isinstance(without, str) or not isinstance(without, Iterable):
        raise ValueError(f"without is {without!r}: expected a list of classes, such as [3]")
    return known, n, set(checks.classes([label_number(c, known) for c in without], n))


def _target_transform(dataset: Any) -> Any:
    """What changes its labels on the way out, or a Subset's dataset's."""
    own = getattr(dataset, "target_transform", None)
    return _target_transform(dataset.dataset) if own is None and _is_subset(dataset) else own


def _known_labels(dataset: Any) -> Sequence | None:
    """The labels, where they can be had without reading an image."""
    if _target_transform(dataset) is not None:
        return None
    if _is_subset(dataset):
        whole = _known_labels(dataset.dataset)
        return None if whole is None else [whole[i] for i in dataset.indices]
    for name in ("targets", "labels", "_labels"):  # of torchvision's
        found: Any = getattr(dataset, name, None)
        if isinstance(found, (list, tuple, Tensor)) or hasattr(found, "__array__"):
            return found if len(found) == len(dataset) else None
    columns: Any = getattr(dataset, "column_names", None)
    for key in LABEL_KEYS if isinstance(columns, list) else ():  # Hugging Face's
        if key in columns:
            return dataset[key]
    return None


def _rows(dataset: Any) -> Iterator[Any]:
    """A dataset of a known length is read by its indices: not every one ends its iteration."""
    if _has_rows(dataset) and hasattr(dataset, "__len__"):
        return (dataset[i] for i in range(len(dataset)))
    if isinstance(dataset, Iterable):
        return iter(dataset)
    raise ValueError(f"a {type(dataset).__name__} is no dataset: expected rows of (image, label), by index or in turn")


def _has_rows(dataset: Any) -> bool:
    """Whether it may be asked for one by its index."""
    return hasattr(dataset, "__getitem__") and not isinstance(dataset, torch.utils.data.IterableDataset)


def _pair(row: Any) -> tuple[Any, Any]:
    """(image, label) of a row, or (images, labels) of a batch."""
    if isinstance(row, Mapping):
        found = [next((row[key] for key in keys if key in row), None) for keys in (IMAGE_KEYS, LABEL_KEYS)]
        if any(value is None for value in found):
            raise ValueError(
                f"a row has {', '.join(map(str, row))}: expected an image ({', '.join(IMAGE_KEYS)}) and its label "
                f"({', '.join(LABEL_KEYS)}); rename the columns"
            )
        return found[0], found[1]
    if isinstance(row, (tuple, list)) and len(row) >= 2:
        return row[0], row[1]
    raise ValueError(f"a row is a {type(row).__name__}: expected (image, label), or a dict of both")


def _tensor(image: Any, transform: Any) -> Tensor:
    """An image as a tensor in memory of its own."""
    image = transform(image) if transform is not None else image
    if not isinstance(image, Tensor) and not hasattr(image, "__array_interface__") or hasattr(image, "convert"):
        if not isinstance(image, (list, tuple)):
            raise ValueError(
                f"an image is a {type(image).__name__}, no tensor: pass transform=..., the one that the network is "
                "tested with (for torchvision: resize, to tensor, normalise)"
            )
    return torch.as_tensor(image).detach().clone()


def _of_batches(loader: Iterable) -> Iterator[tuple[Tensor, Any]]:
    for batch in loader:
        images, labels = _pair(batch)
        if not hasattr(images, "__len__") or not hasattr(labels, "__len__") or len(images) != len(labels):
            raise ValueError("a batch does not hold as many labels as images: expected (images [n, ...], labels [n])")
        for image, label in zip(images, labels, strict=True):
            yield _tensor(image, None), label


def _kept(pairs: Iterable[tuple[Any, int]], left_out: set[int], per_class: int | None, seed: int) -> list[tuple[Any, int]]:
    """A random sample of `per_class` pairs of each class, each as likely as any other, from a stream that is read once
    (Vitter's algorithm R, a class at a time); in the stream's order. Only what is kept takes memory."""
    draw, seen = random.Random(seed), dict[int, int]()
    kept: dict[int, list[tuple[int, Any]]] = {}
    for place, (what, c) in enumerate(pairs):
        if c in left_out:
            continue
        seen[c] = seen.get(c, 0) + 1
        mine = kept.setdefault(c, [])
        if per_class is None or len(mine) < per_class:
            mine.append((place, what))
        elif (slot := draw.randrange(seen[c])) < per_class:
            mine[slot] = (place, what)
    placed = sorted((place, c) for c, mine in kept.items() for place, _ in mine)
    by_place = {place: what for mine in kept.values() for place, what in mine}
    return [(by_place[place], c) for place, c in placed]


def _collected(
    pairs: Iterable[tuple[Tensor, int]],
    n_classes: int,
    names: tuple[str, ...],
    left_out: set[int],
    per_class: int | None,
    seed: int,
) -> Samples:
    checked = ((image, checks.classes([label], n_classes, "label")[0]) for image, label in pairs)
    kept = _kept(_of_one_shape(checked), left_out, per_class, seed)
    if not kept:
        raise ValueError(f"the data holds no image{' but of the classes left out' if left_out else ''}: nothing can be read")
    images, labels = zip(*kept, strict=True)
    return Samples(torch.stack(images), torch.tensor(labels), n_classes, names=names)


def _of_one_shape(pairs: Iterable[tuple[Tensor, int]]) -> Iterator[tuple[Tensor, int]]:
    first = None
    for place, (image, c) in enumerate(pairs):
        first = image if first is None else first
        if image.shape != first.shape or image.dtype != first.dtype:
            raise ValueError(
                f"image {place} is {image.dtype} {list(image.shape)}, the first {first.dtype} {list(first.shape)}: let the "
                "transform make all alike, as by Resize and CenterCrop"
            )
        yield image, c
