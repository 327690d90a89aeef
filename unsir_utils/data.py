"""The data sets, each as three `Samples`: train, validation (cut from the training data) and test.

`digits`, `shapes` and `faces` need no network; `cifar10` and `cifar100` come through torchvision; `folder:PATH` is
anyone's own.
"""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from types import ModuleType

import numpy as np
import torch
from filelock import FileLock
from torch import Tensor
from torch.nn import functional as F

from . import faces, forward, shapes
from .paths import data_root
from .samples import Samples

VALIDATION_SHARE = 0.1
CIFAR10_MEAN, CIFAR10_STD = (0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010)  # the released notebook's
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of torchvision's weights
IMAGE_FILES = {".jpg", ".jpeg", ".png", ".bmp", ".webp"}


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
        """Name, size and fingerprint of all that training may read: a model trained on other data gets another name."""
        digest = hashlib.blake2b(str((self.train.mean, self.train.std)).encode(), digest_size=4)
        for part in (self.train, self.test):
            digest.update(part.images.cpu().numpy().tobytes())
            digest.update(part.labels.cpu().numpy().tobytes())
        return f"{self.name}-{len(self.train)}-{digest.hexdigest()}"


Raw = tuple[Tensor, Tensor, Tensor, Tensor, list[str]]  # train images, train labels, test images, test labels, names


def load(
    name: str,
    *,
    n_classes: int = 10,
    per_class: int | None = None,
    image_size: int = 32,
    imagenet_statistics: bool = False,
    root: str | Path | None = None,
    device: torch.device | str | None = None,
) -> Data:
    """A data set as uint8 [n, 3, H, W] on `device`.

    name: digits, shapes, faces, cifar10, cifar100, or folder:PATH (one sub-folder a class; with PATH/train and PATH/test
        where the split is given, else a fifth of each class is held out).
    n_classes: of shapes and faces only; the others bring their own.
    per_class: at most so many training images a class (before the validation part is cut), drawn at random but
        the same in every run; None takes all (of shapes: 300, of faces: 150).
    image_size: in pixels; a folder's images are resized and centre-cropped to it, CIFAR's enlarged (224 is what ImageNet
        weights expect, and takes 50 times the memory of 32); the drawn sets and digits stay at 32.
    imagenet_statistics: normalise by ImageNet's mean and std, as ImageNet weights expect, instead of the data set's own.
    device: default: the environment variable UNSIR_DEVICE, else the GPU where there is one, else the CPU.
    root: folder of the CIFAR files; default: the environment variable UNSIR_DATA, else data/.

    Raises ValueError for an unknown name, FileNotFoundError for absent files, RuntimeError for damaged ones.
    """
    device = forward.device(device)
    if per_class is not None and per_class < 2:
        raise ValueError(f"per_class is {per_class}: at least 2 are needed, one to train on and one to validate on")
    kind, _, path = name.partition(":")
    loaders: dict[str, Callable[[], Raw]] = {
        "digits": _digits,
        "shapes": partial(_drawn, shapes, n_classes, per_class or 300, 100),
        "faces": partial(_drawn, faces, n_classes, per_class or 150, 50),
        "cifar10": partial(_cifar, "CIFAR10", root),
        "cifar100": partial(_cifar, "CIFAR100", root),
        "folder": partial(_folder, path, image_size),
    }
    if kind not in loaders or (kind == "folder") != bool(path):
        raise ValueError(f"unknown data set {name!r}: choose digits, shapes, faces, cifar10, cifar100 or folder:PATH")
    images, labels, test_images, test_labels, classes = loaders[kind]()
    if kind in ("cifar10", "cifar100") and image_size != images.shape[-1]:
        images, test_images = _enlarged(images, image_size), _enlarged(test_images, image_size)
    if imagenet_statistics:
        mean, std = IMAGENET_MEAN, IMAGENET_STD
    elif kind == "cifar10":
        mean, std = CIFAR10_MEAN, CIFAR10_STD
    else:
        mean, std = _channel_statistics(images)
    whole = Samples(images, labels, len(classes), mean, std)
    if per_class is not None:
        whole = whole.draw(per_class)
    train, validation = _cut(whole, VALIDATION_SHARE)
    test = Samples(test_images, test_labels, len(classes), mean, std)
    lacking = sorted(set(range(len(classes))) - set(train.labels.tolist()))
    if lacking:
        raise ValueError(f"too few images to train and validate on in {', '.join(classes[c] for c in lacking)}: add some")
    of_size = f"{kind}{n_classes}"
    label = {"shapes": of_size, "faces": of_size, "folder": f"folder-{Path(path).name}"}.get(kind, name)
    return Data(label, tuple(classes), train.to(device), validation.to(device), test.to(device))


def _cut(samples: Samples, share: float, seed: int = 0) -> tuple[Samples, Samples]:
    """(kept, held out): a stratified random `share` of each class, at least one sample, is held out."""
    order = torch.randperm(len(samples), generator=torch.Generator().manual_seed(seed))
    held = torch.zeros(len(samples), dtype=torch.bool)
    for c in samples.labels.unique():
        of_class = order[samples.labels[order] == c]
        held[of_class[: max(1, round(share * len(of_class)))]] = True
    return samples[~held], samples[held]


def _enlarged(images: Tensor, size: int) -> Tensor:
    parts = (F.interpolate(part.float(), size=size, mode="bilinear", antialias=True) for part in images.split(1000))
    return torch.cat([part.round().clamp(0, 255).to(torch.uint8) for part in parts])


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
    whole = Samples(images, torch.from_numpy(digits.target).long(), 10)
    train, test = _cut(whole, 0.2)
    return train.images, train.labels, test.images, test.labels, [str(d) for d in range(10)]


def _drawn(kind: ModuleType, n_classes: int, per_class: int, per_test_class: int) -> Raw:
    """From `shapes` or `faces`."""
    images, labels = kind.draw(n_classes, per_class, seed=0)
    test_images, test_labels = kind.draw(n_classes, per_test_class, seed=1)
    return images, labels, test_images, test_labels, kind.class_names(n_classes)


def _cifar(kind: str, root: str | Path | None) -> Raw:
    import torchvision.datasets

    source = getattr(torchvision.datasets, kind)
    folder = Path(root or data_root()).expanduser()
    _ensure_cifar(source, folder)
    train, test = source(folder, train=True), source(folder, train=False)

    def tensors(part) -> tuple[Tensor, Tensor]:
        return torch.from_numpy(part.data).permute(0, 3, 1, 2).contiguous(), torch.tensor(part.targets)

    return *tensors(train), *tensors(test), list(train.classes)


def _ensure_cifar(source: type, folder: Path) -> None:
    """Downloads the files where none is there; says what is wrong with those that are."""
    base = folder / source.base_folder
    wanted = [*source.train_list, *source.test_list, [source.meta["filename"], source.meta["md5"]]]
    by_hand = (
        f"Delete {base} to have it downloaded anew, or download {source.url} (md5 {source.tgz_md5}) and unpack it so "
        f"that {base}/{wanted[0][0]} exists, or name a folder that holds {source.base_folder}/ in the environment "
        "variable UNSIR_DATA."
    )
    lock = folder / f"{source.base_folder}.lock"  # notebooks that start together download once
    if not base.exists() or lock.exists():
        folder.mkdir(parents=True, exist_ok=True)
        with FileLock(lock):
            if not base.exists():
                _download(source, folder, by_hand)
    for file, md5 in wanted:
        path = base / file
        if not path.exists():
            raise FileNotFoundError(f"{path} is missing (md5 {md5}). {by_hand}")
        found = hashlib.md5(path.read_bytes()).hexdigest()
        if found != md5:
            raise RuntimeError(
                f"{path} is damaged or truncated: its md5 is {found}, expected {md5} "
                f"({path.stat().st_size} bytes). Delete it. {by_hand}"
            )


def _download(source: type, folder: Path, by_hand: str) -> None:
    print(f"{source.__name__} is not in {folder}: downloading {source.url}", file=sys.stderr)
    try:
        source(folder, download=True)
    except Exception as error:  # torchvision raises whatever its network layer does
        raise FileNotFoundError(
            f"{source.__name__} is not in {folder} and could not be downloaded ({error}). {by_hand}"
        ) from error


def _folder(path: str, size: int) -> Raw:
    top = Path(path).expanduser()
    if not top.is_dir():
        raise FileNotFoundError(f"no folder {top}: folder:PATH wants a folder with one sub-folder of images a class")
    if (top / "train").is_dir() and (top / "test").is_dir():
        classes = _subfolders(top / "train")
        if classes != _subfolders(top / "test"):
            raise ValueError(f"{top}/train and {top}/test hold different classes: give both the same sub-folders")
        return *_read(top / "train", classes, size), *_read(top / "test", classes, size), classes
    classes = _subfolders(top)
    images, labels = _read(top, classes, size)
    train, test = _cut(Samples(images, labels, len(classes)), 0.2)
    return train.images, train.labels, test.images, test.labels, classes


def _subfolders(top: Path) -> list[str]:
    classes = sorted(p.name for p in top.iterdir() if p.is_dir() and not p.name.startswith("."))
    if len(classes) < 2:
        raise ValueError(f"{top} holds {len(classes)} sub-folders: at least two classes are needed, one sub-folder each")
    return classes


def _read(top: Path, classes: list[str], size: int) -> tuple[Tensor, Tensor]:
    images, labels = [], []
    for label, name in enumerate(classes):
        files = sorted(f for f in (top / name).rglob("*") if f.suffix.lower() in IMAGE_FILES)
        if not files:
            raise ValueError(f"{top / name} holds no image ({', '.join(sorted(IMAGE_FILES))}): remove it or fill it")
        images += [_read_image(f, size) for f in files]
        labels += [label] * len(files)
    return torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).contiguous(), torch.tensor(labels)


def _read_image(file: Path, size: int) -> np.ndarray:
    from PIL import Image, ImageOps, UnidentifiedImageError

    try:
        with Image.open(file) as image:
            return np.asarray(ImageOps.fit(image.convert("RGB"), (size, size)))
    except (UnidentifiedImageError, OSError) as error:
        raise RuntimeError(f"{file} cannot be read as an image ({error}): replace or remove it") from error
