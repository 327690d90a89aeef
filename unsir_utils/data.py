"""The data sets, each as three `Samples`: train, validation (cut from the training data where none is given) and test.

`digits`, `shapes` and `faces` need no network; `cifar10` and `cifar100` come through torchvision; `folder:PATH` is
anyone's own.
"""

from __future__ import annotations

import hashlib
import sys
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from filelock import FileLock
from torch import Tensor
from torch.nn import functional as F

from . import checks, faces, forward, shapes
from .paths import data_root
from .samples import Samples

if TYPE_CHECKING:
    from PIL.Image import Image as PillowImage

VALIDATION_SHARE = 0.1
TEST_SHARE = 0.2  # where a data set brings no test part
CIFAR10_MEAN, CIFAR10_STD = (0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010)  # the released notebook's
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of torchvision's weights
OF_SOME = {  # arguments of `load` that not every data set takes
    "n_classes": ("shapes", "faces"),
    "image_size": ("cifar10", "cifar100", "folder"),
    "root": ("cifar10", "cifar100"),
}
ROLES = {"train": "train", "training": "train", "val": "validation", "valid": "validation", "validation": "validation"}
ROLES |= {"test": "test", "testing": "test"}  # what a folder of this name, in any case, holds of a split
LITTER = {"__macosx", "thumbs.db", "desktop.ini", "@eadir", "$recycle.bin", "lost+found"}  # and what begins with a dot
NO_IMAGE = {"EPS", "WMF", "MPEG", "BUFR", "GRIB", "HDF5"}  # Pillow knows their names, but needs more to read them
WHITE = {"I": 65535, "F": 1.0}  # of Pillow's modes with more than 8 bits a channel


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
                digest.update(values.cpu().contiguous().view(torch.uint8).numpy())
        return f"{self.name}-{len(self.train)}-{digest.hexdigest()[:12]}"


Labelled = tuple[Tensor, Tensor]  # uint8 [n, 3, H, W] and int64 [n]


class Raw(NamedTuple):
    train: Labelled
    test: Labelled
    classes: list[str]
    validation: Labelled | None = None


def load(
    name: str,
    *,
    n_classes: int | None = None,
    per_class: int | None = None,
    image_size: int | None = None,
    imagenet_statistics: bool = False,
    root: str | Path | None = None,
    device: torch.device | str | None = None,
) -> Data:
    """A data set as uint8 [n, 3, H, W] on `device`.

    The test part is the data set's own; of digits it is a fifth of each class, always the same. The validation part is a
    tenth of each class of the training images, always the same, which `train` then lacks.

    name: digits, shapes, faces, cifar10, cifar100, or folder:PATH (see below).
    n_classes: of shapes and faces only (default 10); the others bring their own.
    per_class: at most so many training images a class (before the validation part is cut), drawn at random but
        the same in every run; None takes all (of shapes: 300, of faces: 150).
    image_size: in pixels, of cifar10, cifar100 and folders only (default 32): a folder's images are resized and
        centre-cropped to it, CIFAR's enlarged (224 is what ImageNet weights expect, and takes 50 times the memory of 32).
    imagenet_statistics: normalise by ImageNet's mean and std, as ImageNet weights expect, instead of the data set's own.
    device: default: the environment variable UNSIR_DEVICE, else the GPU where there is one, else the CPU.
    root: folder of the CIFAR files; default: the environment variable UNSIR_DATA, else data/.

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
    device = forward.device(device)
    kind, _, path = str(name).partition(":")
    size = 32 if image_size is None else image_size
    drawn = 10 if n_classes is None else n_classes
    loaders: dict[str, Callable[[], Raw]] = {
        "digits": _digits,
        "shapes": partial(_drawn, shapes, drawn, per_class or 300, 100),
        "faces": partial(_drawn, faces, drawn, per_class or 150, 50),
        "cifar10": partial(_cifar, "CIFAR10", root, size),
        "cifar100": partial(_cifar, "CIFAR100", root, size),
        "folder": partial(_folder, path, size),
    }
    if kind not in loaders or (kind == "folder") != bool(path):
        raise ValueError(f"unknown data set {name!r}: choose digits, shapes, faces, cifar10, cifar100 or folder:PATH")
    _check_arguments(kind, per_class, imagenet_statistics, n_classes=n_classes, image_size=image_size, root=root)
    raw = loaders[kind]()
    classes = raw.classes
    if imagenet_statistics:
        mean, std = IMAGENET_MEAN, IMAGENET_STD
    elif kind == "cifar10":
        mean, std = CIFAR10_MEAN, CIFAR10_STD
    else:
        mean, std = _channel_statistics(raw.train[0])
    train, test = (Samples(*part, len(classes), mean, std) for part in (raw.train, raw.test))
    if per_class is not None:
        train = train.draw(per_class)
    if raw.validation:
        validation = Samples(*raw.validation, len(classes), mean, std)
    else:
        train, validation = _cut(train, VALIDATION_SHARE)
    lacking = sorted(set(range(len(classes))) - set(train.labels.tolist()))
    if lacking:
        raise ValueError(f"too few images to train and validate on in {', '.join(classes[c] for c in lacking)}: add some")
    if kind in OF_SOME["n_classes"]:
        name = f"{kind}{len(classes)}"
    elif kind == "folder":
        name = f"folder-{_folder_at(path).name[:40]}"
    return Data(name, tuple(classes), train.to(device), validation.to(device), test.to(device))


def _check_arguments(kind: str, per_class: object, imagenet_statistics: object, **of_some: object) -> None:
    for argument, value in of_some.items():
        if value is not None and kind not in OF_SOME[argument]:
            raise ValueError(f"{kind} takes no {argument}, only {', '.join(OF_SOME[argument])} do: leave it out")
    counts = {"per_class": per_class, "image_size": of_some["image_size"]}
    checks.counts(**{argument: value for argument, value in counts.items() if value is not None})
    if per_class == 1:
        raise ValueError("per_class is 1: at least 2 are needed, one to train on and one to validate on")
    if not isinstance(imagenet_statistics, bool):
        raise ValueError(f"imagenet_statistics is {imagenet_statistics!r}: expected True or False")
    if not isinstance(of_some["root"], str | Path | None):
        raise ValueError(f"root is {of_some['root']!r}: expected the path of a folder")


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


def _held_out(whole: Samples, classes: list[str]) -> Raw:
    train, test = _cut(whole, TEST_SHARE)
    return Raw((train.images, train.labels), (test.images, test.labels), classes)


def _digits() -> Raw:
    """scikit-learn's 1,797 handwritten digits, 8x8 in 17 grey levels, enlarged to 32x32 RGB; a fifth is the test set."""
    from sklearn.datasets import load_digits

    digits = load_digits()
    grey = torch.from_numpy(digits.images).float()[:, None] * (255 / 16)
    images = F.interpolate(grey, size=32, mode="bilinear").round().to(torch.uint8).repeat(1, 3, 1, 1)
    whole = Samples(images, torch.from_numpy(digits.target).long(), 10)
    return _held_out(whole, [str(d) for d in range(10)])


def _drawn(kind: ModuleType, n_classes: int, per_class: int, per_test_class: int) -> Raw:
    """From `shapes` or `faces`."""
    train, test = kind.draw(n_classes, per_class, seed=0), kind.draw(n_classes, per_test_class, seed=1)
    return Raw(train, test, kind.class_names(n_classes))


def _cifar(kind: str, root: str | Path | None, size: int) -> Raw:
    import torchvision.datasets  # takes seconds

    source = getattr(torchvision.datasets, kind)
    folder = Path(root or data_root()).expanduser()
    _ensure_cifar(source, folder)
    train, test = source(folder, train=True), source(folder, train=False)

    def tensors(part) -> Labelled:
        images = torch.from_numpy(part.data).permute(0, 3, 1, 2).contiguous()
        return images if size == images.shape[-1] else _enlarged(images, size), torch.tensor(part.targets)

    return Raw(tensors(train), tensors(test), list(train.classes))


def _ensure_cifar(source: type, folder: Path) -> None:
    """Downloads the files where none is there; says what is wrong with those that are. Sound files are only read."""
    base = folder / source.base_folder
    first = source.train_list[0][0]
    by_hand = (
        f"Delete {base} to have it downloaded anew, or download {source.url} (md5 {source.tgz_md5}) and unpack it so "
        f"that {base}/{first} exists, or name a folder that holds {source.base_folder}/ in the environment "
        "variable UNSIR_DATA."
    )
    lock = folder / f"{source.base_folder}.lock"  # notebooks that start together download once
    fault = _fault(source, base)
    if fault and (not base.exists() or lock.exists()):
        try:
            folder.mkdir(parents=True, exist_ok=True)
            waiting = FileLock(lock).acquire()
        except OSError as error:
            raise type(fault)(f"{fault}, and {folder} cannot be written ({error}). {by_hand}") from error
        with waiting:
            if not base.exists():
                _download(source, folder, by_hand)
        fault = _fault(source, base)
    if fault:
        raise type(fault)(f"{fault}. {by_hand}")


def _fault(source: type, base: Path) -> FileNotFoundError | RuntimeError | None:
    """What is wrong with the first of the files that is not as it should be."""
    for file, md5 in [*source.train_list, *source.test_list, [source.meta["filename"], source.meta["md5"]]]:
        path = base / file
        if not path.exists():
            return FileNotFoundError(f"{path} is missing (md5 {md5})")
        content = path.read_bytes()
        found = hashlib.md5(content, usedforsecurity=False).hexdigest()
        if found != md5:
            return RuntimeError(f"{path} is damaged or truncated ({len(content)} bytes): its md5 is {found}, expected {md5}")
    return None


def _download(source: type, folder: Path, by_hand: str) -> None:
    print(f"{source.__name__} is not in {folder}: downloading {source.url}", file=sys.stderr)
    try:
        source(folder, download=True)
    except Exception as error:  # torchvision raises whatever its network layer does
        raise FileNotFoundError(
            f"{source.__name__} is not in {folder} and could not be downloaded ({error}). {by_hand}"
        ) from error


def _folder_at(path: str) -> Path:
    return Path(path).expanduser().resolve()


def _folder(path: str, size: int) -> Raw:
    top = _folder_at(path)
    if not top.is_dir():
        raise FileNotFoundError(f"no folder {top}: folder:PATH wants a folder with one sub-folder of images a class")
    split = _split(top)
    if not split:
        classes = _classes(top)
        return _held_out(Samples(*_read(top, classes, size), len(classes)), classes)
    classes = _common_classes(list(split.values()))
    parts = {role: _read(part, classes, size) for role, part in split.items()}
    test = parts.pop("test" if "test" in parts else "validation")
    return Raw(parts["train"], test, classes, parts.get("validation"))


def _split(top: Path) -> dict[str, Path]:
    """The parts of a split by their role; {} where the sub-folders of `top` are its classes.

    Among other classes there may be one of trains, whose folder holds images. A part holds folders.
    """
    parts = [f for f in _subfolders(top) if f.name.lower() in ROLES]
    others = [f for f in _subfolders(top) if f not in parts]
    if others and not any(map(_subfolders, parts)):
        return {}
    roles = {ROLES[f.name.lower()]: f for f in parts}
    if parts and not (len(roles) == len(parts) > 1 and "train" in roles):
        raise ValueError(
            f"{top} holds {', '.join(f.name for f in parts)}: expected train and test, train and val, or all three. "
            "Add what is missing, or rename what is a class"
        )
    if parts:
        _warn_left_out(top, others + _loose_images(top))
    return roles


def _classes(top: Path) -> list[str]:
    classes = [f.name for f in _subfolders(top)]
    if len(classes) < 2:
        raise ValueError(f"{top} holds {len(classes)} sub-folders: at least two classes are needed, one sub-folder each")
    return classes


def _common_classes(parts: list[Path]) -> list[str]:
    found = [set(_classes(part)) for part in parts]
    everywhere = set.union(*found)
    lacks = {part: sorted(everywhere - classes) for part, classes in zip(parts, found, strict=True)}
    lacking = [f"{part} lacks {', '.join(classes)}" for part, classes in lacks.items() if classes]
    if lacking:
        raise ValueError(f"different classes in the parts of a split ({'; '.join(lacking)}): give all the same sub-folders")
    return sorted(everywhere)


def _read(top: Path, classes: list[str], size: int) -> Labelled:
    """The images of every class, class after class, in the order of their names."""
    suffixes = _image_suffixes()
    files = [list(_files(top / name)) for name in classes]
    found = [[f for f in of_class if f.suffix.lower() in suffixes] for of_class in files]
    for name, of_class, images in zip(classes, files, found, strict=True):
        if not images:
            kinds = ", ".join(sorted({f.suffix or f.name for f in of_class})) or "nothing"
            raise ValueError(f"{top / name} holds no image that Pillow reads, but {kinds}: fill it or remove it")
    _warn_left_out(top, [f for of_class in files for f in of_class if f.suffix.lower() not in suffixes] + _loose_images(top))
    read = torch.empty(sum(map(len, found)), 3, size, size, dtype=torch.uint8)
    for place, file in zip(read, (f for images in found for f in images), strict=True):
        place.copy_(torch.from_numpy(_read_image(file, size)).permute(2, 0, 1))
    return read, torch.arange(len(classes)).repeat_interleave(torch.tensor([len(images) for images in found]))


def _visible(folder: Path) -> list[Path]:
    """What lies in a folder, by name, but for hidden files and what operating systems leave behind."""
    return sorted(f for f in folder.iterdir() if not f.name.startswith(".") and f.name.lower() not in LITTER)


def _subfolders(folder: Path) -> list[Path]:
    return [f for f in _visible(folder) if f.is_dir()]


def _files(folder: Path) -> Iterator[Path]:
    """The files of a folder and of the folders in it."""
    for entry in _visible(folder):
        if entry.is_dir():
            yield from _files(entry)
        else:
            yield entry


def _loose_images(folder: Path) -> list[Path]:
    """Images that lie beside the classes, in none of them."""
    suffixes = _image_suffixes()
    return [f for f in _visible(folder) if f.is_file() and f.suffix.lower() in suffixes]


def _warn_left_out(top: Path, files: list[Path], most: int = 5) -> None:
    if files:
        named = ", ".join(str(f.relative_to(top)) for f in files[:most])
        more = f" and {len(files) - most} more" if len(files) > most else ""
        reason = "only images that Pillow reads, in the folder of a class, are taken"
        warnings.warn(f"left out of {top}: {named}{more}; {reason}", stacklevel=2)


def _image_suffixes() -> set[str]:
    """Of all image files that Pillow reads here; a registered plug-in (of .heic, say) counts."""
    from PIL import Image

    suffixes = Image.registered_extensions()  # loads the plug-ins, which fill Image.OPEN
    return {suffix for suffix, kind in suffixes.items() if kind in Image.OPEN and kind not in NO_IMAGE}


def _read_image(file: Path, size: int) -> np.ndarray:
    """uint8 [size, size, 3]."""
    from PIL import Image, ImageOps

    try:
        # given a path, Pillow maps some TIFF files into memory and scrambles those with an orientation
        bombs_raise = warnings.catch_warnings(action="error", category=Image.DecompressionBombWarning)
        with bombs_raise, file.open("rb") as stream, Image.open(stream) as image:
            return np.array(ImageOps.fit(_rgb(ImageOps.exif_transpose(image)), (size, size)))
    except Exception as error:  # Pillow's decoders raise whatever they stumble on
        raise RuntimeError(f"{file} cannot be read as an image ({error}): replace or remove it") from error


def _rgb(image: PillowImage) -> PillowImage:
    """In three channels of 8 bits. Raises ValueError where it cannot be told which value is white."""
    from PIL import Image

    white = WHITE.get(image.mode.partition(";")[0])
    if white:
        grey = np.asarray(image).astype(np.float64) / white
        low, high = grey.min(), grey.max()
        if not 0 <= low <= high <= 1:
            raise ValueError(f"its values reach from {low * white:g} to {high * white:g}, expected 0 to {white:g}")
        image = Image.fromarray((255 * grey).round().astype(np.uint8))
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return image.convert("RGB")
