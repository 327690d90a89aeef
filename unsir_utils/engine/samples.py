"""Labelled images as one tensor on one device, and the views of them that unlearning needs."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from . import checks


@dataclass(frozen=True, eq=False)
class Samples:
    """n labelled images.

    images: [n, ...]; uint8 in 0..255, normalised per channel when a batch is taken; or floats that the model takes as
        they are (then mean and std stay empty).
    labels: int64 [n], each in 0..n_classes-1.
    mean, std: one number a channel, in units of 0..1.
    names: of the classes, where they have some.

    Arrays and lists become tensors, labels [n, 1] or of another type that hold whole numbers become int64 [n], other floats
    float32. Raises ValueError for what is neither.
    """

    images: Tensor
    labels: Tensor
    n_classes: int
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    names: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        images = _images(self.images)
        object.__setattr__(self, "images", images)
        object.__setattr__(self, "labels", _labels(self.labels, images.device))
        if len(self.images) != len(self.labels):
            raise ValueError(f"there are {len(self.images)} images but {len(self.labels)} labels: each image needs one")
        self._check_statistics()
        object.__setattr__(self, "names", self.names if isinstance(self.names, str) else tuple(self.names or ()))
        if self.names and (len(self.names) != self.n_classes or not all(isinstance(name, str) for name in self.names)):
            raise ValueError(f"names are {[*self.names]}: expected {self.n_classes} strings, one a class, or none")

    def __repr__(self) -> str:
        return f"Samples({len(self)} images of shape {tuple(self.images.shape[1:])}, {self.n_classes} classes)"

    def _check_statistics(self) -> None:
        if not (self.mean or self.std):
            return
        if self.images.dtype != torch.uint8:
            raise ValueError("images are floats, which the model takes as they are: leave out mean and std, or pass uint8")
        channels = self.images.shape[1]
        if not len(self.mean) == len(self.std) == channels:
            found = f"{len(self.mean)} and {len(self.std)}"
            raise ValueError(f"mean and std hold {found} numbers, the images have {channels} channels: give one each")

    @classmethod
    def from_dataset(
        cls,
        dataset: Any,
        n_classes: int | None = None,
        *,
        transform: Callable[[Any], Tensor] | None = None,
        without: Iterable[int | str] = (),
        per_class: int | None = None,
        names: Sequence[str] | None = None,
        seed: int = 0,
    ) -> Samples:
        """A dataset's rows: (image, label), as torchvision's; or dicts with `image` or `img` and `label`, as Hugging Face's.

        An iterable or a generator of such rows, of whatever length, will do as well.

        transform: of an image into the tensor that the network takes; needed where rows hold PIL images. A uint8 tensor
            counts as pixels in 0..255 and is divided by 255.
        without: classes to leave out. Where the dataset knows its labels, no image of theirs is read.
        per_class: a random draw of so many a class by `seed`, each row as likely; no more is held in memory. None: all.
        n_classes: of the network; names: of the classes, in its order. Default: as the dataset says. Where the dataset names
            its classes, too, a label counts by its name: it may have fewer, numbered otherwise. Of datasets in a dataset
            only a Subset's names are looked up: any other may number its labels anew, and has `classes` of its own.

        Raises ValueError where these are not to be had, or rows are not like this.
        """
        from .datasets import read_dataset

        return read_dataset(dataset, n_classes, names, without, per_class, transform, seed)

    @classmethod
    def from_loader(
        cls,
        loader: Iterable,
        n_classes: int | None = None,
        *,
        without: Iterable[int | str] = (),
        per_class: int | None = None,
        names: Sequence[str] | None = None,
        seed: int = 0,
    ) -> Samples:
        """As `from_dataset`, from batches (images [n, ...], labels [n]): a DataLoader, or any iterable. It is read once.

        The loader's own order and augmentation stay: hand in the one that the network is tested with.
        """
        from .datasets import read_loader

        return read_loader(loader, n_classes, names, without, per_class, seed)

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: Tensor | slice) -> Samples:
        return replace(self, images=self.images[index], labels=self.labels[index])

    @property
    def device(self) -> torch.device:
        return self.images.device

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of one image, [C, H, W] as a rule."""
        return tuple(self.images.shape[1:])

    def to(self, device: torch.device | str) -> Samples:
        return replace(self, images=self.images.to(device), labels=self.labels.to(device))

    def only(self, classes: Iterable[int | str]) -> Samples:
        """The samples of these classes, by number or name: the forget set, given the forget classes."""
        return self[self._among(classes)]

    def without(self, classes: Iterable[int | str]) -> Samples:
        """The samples of all other classes: the retain set, given the forget classes."""
        return self[~self._among(classes)]

    def draw(self, per_class: int, seed: int = 0) -> Samples:
        """A stratified random subset: `per_class` samples of each class present, or all where it has fewer."""
        checks.counts(per_class=per_class)
        order = torch.randperm(len(self), generator=torch.Generator().manual_seed(seed)).to(self.device)
        return self[order[_first(self.labels[order], per_class)]]

    def first(self, per_class: int) -> Samples:
        """The first `per_class` samples of each class present, in the order in which they stand."""
        checks.counts(per_class=per_class)
        return self[_first(self.labels, per_class)]

    def inputs(self, index: Tensor | slice = slice(None)) -> Tensor:
        """Images as the model takes them: float32 [m, ...], normalised."""
        x = self.images[index]
        if x.dtype == torch.uint8:
            x = x.float().div_(255)
            if self.mean:
                per_channel = (1, -1) + (1,) * (x.dim() - 2)
                mean, std = (on(x.device, torch.tensor(s, dtype=x.dtype).view(per_channel)) for s in (self.mean, self.std))
                x = x.sub_(mean).div_(std)
        elif isinstance(index, slice):
            x = x.clone()  # a model may work in place; the stored images must not notice
        return channels_last(x)

    def batches(self, size: int) -> Iterator[tuple[Tensor, Tensor]]:
        """(inputs, labels) in the order in which they stand; for measuring."""
        checks.counts(size=size)
        for start in range(0, len(self), size):
            part = slice(start, start + size)
            yield self.inputs(part), self.labels[part]

    def shuffled(self, size: int) -> Iterator[tuple[Tensor, Tensor]]:
        """(inputs, labels) in a new random order from torch's global generator; for training."""
        checks.counts(size=size)
        for index in chunks(torch.randperm(len(self)), size):
            index = on(self.device, index)
            yield self.inputs(index), self.labels[index]

    def endless(self, size: int) -> Iterator[tuple[Tensor, Tensor]]:
        """`shuffled` over and over, each pass in an order of its own."""
        while True:
            yield from self.shuffled(size)

    def _among(self, classes: Iterable[int | str]) -> Tensor:
        among = checks.classes(checks.numbered(classes, self.names), self.n_classes)
        return torch.isin(self.labels, torch.tensor(among, dtype=torch.int64, device=self.device))


def augmented(batches: Iterable[tuple[Tensor, Tensor]], padding: int = 4) -> Iterator[tuple[Tensor, Tensor]]:
    """Batches of maps [n, C, H, W], each image shifted by up to `padding` pixels either way and, half of them, mirrored.

    What comes in at the edges is 0, the mean of normalised images. The draws are torch's global generator's, on the CPU, so
    that a seed moves the images alike on every device. As He et al. (2016) do on CIFAR.
    """
    for x, y in batches:
        yield _moved(x, padding), y


def _moved(x: Tensor, padding: int) -> Tensor:
    if x.dim() != 4:
        raise ValueError(f"a batch is {list(x.shape)}: only maps [n, C, H, W] are shifted and mirrored; leave augment out")
    n, _, height, width = x.shape
    down, right = torch.randint(0, 2 * padding + 1, (2, n, 1))
    mirrored = torch.rand(n, 1) < 0.5
    rows, columns = down + torch.arange(height), right + torch.arange(width)
    columns = torch.where(mirrored, columns.flip(1), columns)
    image, rows, columns = (on(x.device, i) for i in (torch.arange(n)[:, None, None], rows[:, :, None], columns[:, None, :]))
    return F.pad(x, (padding,) * 4)[image, :, rows, columns].permute(0, 3, 1, 2)  # channels last


def _images(given: Tensor | Sequence) -> Tensor:
    images = torch.stack([torch.as_tensor(image) for image in given]) if isinstance(given, (list, tuple)) else given
    images = torch.as_tensor(images)
    images = images.float() if images.is_floating_point() else images
    if images.dtype not in (torch.uint8, torch.float32) or images.dim() < 2:
        raise ValueError(f"images are {images.dtype} {list(images.shape)}: expected [n, ...], uint8 in 0..255 or floats")
    return images


def _labels(given: Tensor | Sequence, device: torch.device) -> Tensor:
    labels = torch.as_tensor(given, device=device)
    labels = labels[:, 0] if labels.dim() == 2 and labels.shape[1] == 1 else labels
    whole = labels.to(torch.int64)
    if labels.dim() != 1 or (labels.is_floating_point() and not (labels == whole).all()):
        raise ValueError(f"labels are {labels.dtype} {list(labels.shape)}: expected a whole number for each image, [n]")
    return whole


def channels_last(x: Tensor) -> Tensor:
    """Maps [n, C, H, W] as they are laid out fastest; anything else as it is."""
    return x.contiguous(memory_format=torch.channels_last) if x.dim() == 4 else x


def at_once(shape: Sequence[int], most: int) -> int:
    """How many images [C, H, W] go through a network together: `most` up to 64 pixels a side, of larger ones fewer, so that
    they take about as much memory."""
    return max(1, min(most, most * 64 * 64 // max(1, math.prod(shape[1:]))))


def in_parts(size: int, *tensors: Tensor) -> Iterator[tuple[Tensor, ...]]:
    """Tensors of as many rows, side by side, `size` rows at a time."""
    return zip(*(tensor.split(size) for tensor in tensors), strict=True)


def on(device: torch.device, small: Tensor) -> Tensor:
    """A small CPU tensor on `device`, without waiting for what a GPU still computes."""
    return small.to(device, non_blocking=True)


def _first(labels: Tensor, n: int) -> Tensor:
    """Where the first n of each label stand, in order."""
    picks = [torch.nonzero(labels == c).flatten()[:n] for c in labels.unique()]
    return torch.cat(picks).sort().values if picks else labels


def chunks(index: Tensor, size: int) -> Sequence[Tensor]:
    """`index` in pieces of `size`; a last piece of one joins the piece before it, as BatchNorm fails on one sample."""
    pieces = list(index.split(size))
    if len(pieces) > 1 and len(pieces[-1]) == 1:
        pieces[-2:] = [torch.cat(pieces[-2:])]
    return pieces
