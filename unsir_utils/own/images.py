"""A folder of images as people have it, read as what the passes see and what is held out; and one made, to try it on."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from ..data.folders import read_folder
from ..data.sets import IMAGENET_MEAN, IMAGENET_STD, TEST_SHARE, Data, cut
from ..engine import checks
from ..engine.samples import Samples


def read_images(
    folder: str | Path,
    image_size: int,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    grey: bool = False,
    names: Sequence[str] = (),
) -> tuple[Samples, Samples]:
    """(train, held out) of a folder that holds one sub-folder of images a class, or train/ and val/ (or test/) that do.

    val/ is held out, else test/, else a fifth of each class, with a warning. image_size: in pixels, images are resized and
    cropped to it. mean, std: of each channel, as the network was trained with; None for ImageNet's. grey: one channel.
    names: of all the network's classes, in its order, where some have no sub-folder any more; else the sub-folders'.
    Raises ValueError or OSError for what cannot be read.
    """
    checks.counts(image_size=image_size)
    mean, std = _statistics(mean, std, 1 if grey else 3)
    raw = read_folder(str(folder), image_size, names)

    def samples(images: Tensor, labels: Tensor) -> Samples:
        return Samples(_grey(images) if grey else images, labels, len(raw.classes), mean, std, tuple(raw.classes))

    train, held = samples(*raw.train), raw.validation or raw.test
    if held is None:
        warnings.warn(
            f"{folder} has no val/ or test/: a fifth of each class is held out, which flatters a network that was "
            "trained on it; give images that it never saw",
            stacklevel=2,
        )
        return cut(train, TEST_SHARE)
    return train, samples(*held)


def _grey(images: Tensor) -> Tensor:
    """[n, 3, height, width] in one channel, as Pillow and torchvision weigh red, green and blue."""
    weights = torch.tensor([19595, 38470, 7471]).view(3, 1, 1)
    return torch.stack([((image * weights).sum(0, keepdim=True) + 2**15 >> 16).to(torch.uint8) for image in images])


def _statistics(
    mean: Sequence[float] | None, std: Sequence[float] | None, channels: int
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    if (mean is None) != (std is None):
        raise ValueError("mean and std belong together: give both, or none for ImageNet's")
    if mean is None or std is None:
        return IMAGENET_MEAN[:channels], IMAGENET_STD[:channels]
    if len(mean) != channels or len(std) != channels or not all(s > 0 for s in std):
        raise ValueError(f"mean {mean} and std {std}: expected {channels} numbers each, std above 0")
    return tuple(mean), tuple(std)


def write_images(data: Data, folder: Path, per_class: int | None = None) -> Path:
    """Writes a data set of maps as such a folder of PNG files, `per_class` of each class and part, or all; returns it.

    train/ gets the training part, val/ the test part. Raises OSError where one of them is there already.
    """
    from PIL import Image

    for part, samples in (("train", data.train), ("val", data.test)):
        kept = samples if per_class is None else samples.first(per_class)
        for name in data.classes:
            (folder / part / name).mkdir(parents=True)
        for i, (image, label) in enumerate(zip(kept.images.cpu(), kept.labels.tolist(), strict=True)):
            Image.fromarray(image.permute(1, 2, 0).numpy()).save(folder / part / data.classes[label] / f"{i:04}.png")
    return folder
