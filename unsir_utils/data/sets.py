"""The data sets, each as three `Samples`: train, validation (cut from the training data where none is given) and test.

`digits`, `shapes` and `faces` need no network; `cifar10` and `cifar100` come through torchvision, `olivetti` through
scikit-learn; `folder:PATH` is anyone's own.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from types import ModuleType
from typing import Any, cast

import torch
from torch import Tensor
from torch.nn import functional as F

from ..engine import checks
from ..engine.precision import device as device_of
from ..engine.samples import Samples
from . import faces, shapes
from .cifar import read_cifar
from .folders import folder_at, read_folder
from .olivetti import read_olivetti
from .raw import Labelled, Raw

VALIDATION_SHARE = 0.1
TEST_SHARE = 0.2  # where a data set brings no test part
DRAWN_FOR_TEST = 50  # images a class of what is drawn: half the time of quick is spent on the test set
CIFAR10_MEAN, CIFAR10_STD = (0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010)  # the released notebook's
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of torchvision's weights
KERAS_MEAN, KERAS_STD = (0.5,) * 3, (0.5,) * 3  # brings 0..1 to the -1..1 of Keras' weights
OF_SOME = {  # arguments of `load` that not every data set takes
    "n_classes": ("shapes", "faces"),
    "image_size": ("cifar10", "cifar100", "olivetti", "folder"),
    "fold": ("olivetti",),
    "root": ("cifar10", "cifar100", "olivetti"),
}


@dataclass(frozen=True, eq=False)
class Data:
    name: str
    classes: tuple[str, ...]
    train: Samples
    validation: Samples
    test: Samples

    @property
    def n_classes(self) -> int:
        return len(self.classes)

    @cached_property
    def id(self) -> str:
        """Name, size and fingerprint of all that a number may depend on: another image in any part gives another id.

        It covers the images, labels and normalisation of the three parts in their order, but no class names.
        """
        digest = hashlib.sha1(usedforsecurity=False)  # the fastest: 0.1 s for CIFAR-10
        for part in (self.train, self.validation, self.test):
            facts = part.images.dtype, tuple(part.images.shape), part.n_classes, part.mean, part.std
            digest.update(str(facts).encode())
            for values in (part.images, part.labels):
                digest.update(values.cpu().contiguous().view(torch.uint8).numpy().data)
        return f"{self.name}-{len(self.train)}-{digest.hexdigest()[:12]}"


def load(
    name: str,
    *,
    n_classes: int | None = None,
    per_class: int | None = None,
    image_size: int | None = None,
    fold: int | None = None,
    imagenet_statistics: bool = False,
    keras_inputs: bool = False,
    root: str | Path | None = None,
    device: torch.device | str | None = None,
) -> Data:
    """A data set as uint8 [n, 3, H, W] on `device`.

    The test part is the data set's own; of digits it is a fifth of each class, always the same. The validation part is a
    tenth of each class of the training images, always the same, which `train` then lacks.

    name: digits, shapes, faces, cifar10, cifar100, olivetti, or folder:PATH (see below).
    n_classes: of shapes and faces only (default 10); the others bring their own.
    per_class: at most so many training images a class (before the validation part is cut), drawn at random but
        the same in every run; None takes all (of shapes: 300, of faces: 150).
    image_size: in pixels, of cifar10, cifar100, olivetti and folders only (default 32, which the small networks are made
        for): a folder's images are resized and centre-cropped to it, CIFAR's enlarged (224 is what ImageNet weights expect,
        and takes 50 times the memory of 32), the 64 x 64 pixels of olivetti reduced.
    fold: of olivetti only, 0 to 4 (default 0): which two of each person's ten pictures are the test part. The next fold's
        two are the validation part, the other six the training part; per_class, then, is of these six.
    imagenet_statistics: normalise by ImageNet's mean and std, as ImageNet weights expect, instead of the data set's own.
    keras_inputs: normalise to -1..1, as Keras' weights expect (see `models.mobilenet_v2_keras`).
    device: default: the environment variable UNSIR_DEVICE, else the GPU where there is one, else the CPU.
    root: folder of the CIFAR files, and of olivetti/; default: the environment variable UNSIR_DATA, else data/.

    A folder holds one sub-folder of images a class, at any depth; of each class a fifth is the test part. Or it holds a
    split: train/ and test/, each with one sub-folder a class. A val/ beside both is the validation part, and nothing is cut
    from train/; where only train/ and val/ are there, val/ is the test part. (training, testing, valid and validation
    will do as names, in any case.) Hidden files and what operating systems leave behind are not read. Files that Pillow
    does not read as images are named in a warning. Of an animation the first frame is taken; an image is turned as its
    EXIF tag says; what is transparent becomes white; 65535 is white in 16 bits (other integers beyond 8 bits count as
    such), 1.0 in floats.

    Raises ValueError for an unknown name or an argument that the data set cannot take, FileNotFoundError for absent
    files, RuntimeError for damaged ones.
    """
    device = device_of(device)
    kind, _, path = str(name).partition(":")
    size = 32 if image_size is None else image_size
    drawn = 10 if n_classes is None else n_classes
    loaders: dict[str, Callable[[], Raw]] = {
        "digits": _digits,
        "shapes": partial(_drawn, shapes, drawn, per_class or 300),
        "faces": partial(_drawn, faces, drawn, per_class or 150),
        "cifar10": partial(read_cifar, "CIFAR10", root, size),
        "cifar100": partial(read_cifar, "CIFAR100", root, size),
        "olivetti": partial(read_olivetti, root, size, 0 if fold is None else fold),
        "folder": partial(read_folder, path, size),
    }
    if kind not in loaders or (kind == "folder") != bool(path):
        known = ", ".join(kind for kind in loaders if kind != "folder")
        raise ValueError(f"unknown data set {name!r}: choose {known} or folder:PATH")
    flags = {"imagenet_statistics": imagenet_statistics, "keras_inputs": keras_inputs}
    _check_arguments(kind, per_class, flags, n_classes=n_classes, image_size=image_size, fold=fold, root=root)
    raw = loaders[kind]()
    classes = raw.classes
    if raw.test is None:
        whole, held = cut(Samples(*raw.train, len(classes)), TEST_SHARE)
        raw = raw._replace(train=(whole.images, whole.labels), test=(held.images, held.labels))
    mean: tuple[float, ...]
    std: tuple[float, ...]
    if imagenet_statistics:
        mean, std = IMAGENET_MEAN, IMAGENET_STD
    elif keras_inputs:
        mean, std = KERAS_MEAN, KERAS_STD
    elif kind == "cifar10":
        mean, std = CIFAR10_MEAN, CIFAR10_STD
    else:
        mean, std = _channel_statistics(raw.train[0])
    train, test = (Samples(*part, len(classes), mean, std) for part in (raw.train, cast(Labelled, raw.test)))
    if per_class is not None:
        train = train.draw(per_class)
    if raw.validation:
        validation = Samples(*raw.validation, len(classes), mean, std)
    else:
        train, validation = cut(train, VALIDATION_SHARE)
    lacking = sorted(set(range(len(classes))) - set(train.labels.tolist()))
    if lacking:
        raise ValueError(f"too few images to train and validate on in {', '.join(classes[c] for c in lacking)}: add some")
    if kind in OF_SOME["n_classes"]:
        name = f"{kind}{len(classes)}"
    elif kind == "folder":
        name = f"folder-{folder_at(path).name[:40]}"
    return Data(raw.name or name, tuple(classes), train.to(device), validation.to(device), test.to(device))


def _check_arguments(kind: str, per_class: object, flags: Mapping[str, object], **of_some: Any) -> None:
    for argument, value in of_some.items():
        if value is not None and kind not in OF_SOME[argument]:
            raise ValueError(f"{kind} takes no {argument}, only {', '.join(OF_SOME[argument])} do: leave it out")
    counts = {"per_class": per_class, "image_size": of_some["image_size"]}
    checks.counts(**{argument: value for argument, value in counts.items() if value is not None})
    if per_class == 1:
        raise ValueError("per_class is 1: at least 2 are needed, one to train on and one to validate on")
    for flag, value in flags.items():
        if not isinstance(value, bool):
            raise ValueError(f"{flag} is {value!r}: expected True or False")
    if all(flags.values()):
        raise ValueError(f"{' and '.join(flags)} cannot both be true: choose what the weights expect")
    if not isinstance(of_some["root"], str | Path | None):
        raise ValueError(f"root is {of_some['root']!r}: expected the path of a folder")


def cut(samples: Samples, share: float) -> tuple[Samples, Samples]:
    """(kept, held out): a stratified random `share` of each class, at least one sample, is held out."""
    order = torch.randperm(len(samples), generator=torch.Generator().manual_seed(0))
    held = torch.zeros(len(samples), dtype=torch.bool)
    for c in samples.labels.unique():
        of_class = order[samples.labels[order] == c]
        held[of_class[: max(1, round(share * len(of_class)))]] = True
    return samples[~held], samples[held]


def _channel_statistics(images: Tensor) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation of uint8 images [n, C, H, W], in units of 0..1, from each channel's 256 counts."""
    level = torch.arange(256, dtype=torch.float64) / 255
    count = torch.stack([torch.bincount(channel.flatten(), minlength=256) for channel in images.unbind(1)]).double()
    share = count / count.sum(1, keepdim=True)
    mean = share @ level
    std = (share @ level.square() - mean.square()).clamp(min=1e-6).sqrt()
    return tuple(round(m, 4) for m in mean.tolist()), tuple(round(s, 4) for s in std.tolist())


def _digits() -> Raw:
    """scikit-learn's 1,797 handwritten digits, 8x8 in 17 grey levels, enlarged to 32x32 RGB; a fifth is the test set."""
    from sklearn.datasets import load_digits

    digits = load_digits()
    grey = torch.from_numpy(digits.images).float()[:, None] * (255 / 16)
    images = F.interpolate(grey, size=32, mode="bilinear").round().to(torch.uint8).repeat(1, 3, 1, 1)
    return Raw((images, torch.from_numpy(digits.target).long()), [str(d) for d in range(10)])


def _drawn(kind: ModuleType, n_classes: int, per_class: int) -> Raw:
    """From `shapes` or `faces`."""
    train, test = kind.draw(n_classes, per_class, seed=0), kind.draw(n_classes, DRAWN_FOR_TEST, seed=1)
    return Raw(train, kind.class_names(n_classes), test)
