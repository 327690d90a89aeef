"""Images in folders, one folder a class: anyone's own data."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from .raw import Labelled, Raw

if TYPE_CHECKING:
    from PIL.Image import Image as PillowImage

ROLES = {"train": "train", "training": "train", "val": "validation", "valid": "validation", "validation": "validation"}
ROLES |= {"test": "test", "testing": "test"}  # what a folder of this name, in any case, holds of a split
LITTER = {"__macosx", "thumbs.db", "desktop.ini", "@eadir", "$recycle.bin", "lost+found"}  # and what begins with a dot
NO_IMAGE = {"EPS", "WMF", "MPEG", "BUFR", "GRIB", "HDF5"}  # Pillow knows their names, but needs more to read them
WHITE = {"I": 65535, "F": 1.0}  # of Pillow's modes with more than 8 bits a channel


def folder_at(path: str) -> Path:
    return Path(path).expanduser().resolve()


def read_folder(path: str, size: int, names: Sequence[str] = ()) -> Raw:
    """names: of all classes, in the order of their numbers, where some have no images any more; else the sub-folders'."""
    top = folder_at(path)
    if not top.is_dir():
        raise FileNotFoundError(f"no folder {top}: folder:PATH wants a folder with one sub-folder of images a class")
    split = _split(top)
    if not split:
        classes = _named(names, [top]) if names else _classes(top)
        return Raw(_read(top, classes, size, bool(names)), classes)
    classes = _named(names, [*split.values()]) if names else _common_classes([*split.values()])
    parts = {role: _read(part, classes, size, bool(names)) for role, part in split.items()}
    test = parts.pop("test" if "test" in parts else "validation")
    return Raw(parts["train"], classes, test, parts.get("validation"))


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


def _named(names: Sequence[str], parts: list[Path]) -> list[str]:
    """The names. Raises ValueError where a part has a sub-folder of another name."""
    for part in parts:
        if strangers := [folder.name for folder in _subfolders(part) if folder.name not in names]:
            raise ValueError(
                f"{part} holds {', '.join(strangers)}, not among the names {', '.join(names)}: name all classes"
            )
    return [*names]


def _common_classes(parts: list[Path]) -> list[str]:
    found = [set(_classes(part)) for part in parts]
    everywhere = set.union(*found)
    lacks = {part: sorted(everywhere - classes) for part, classes in zip(parts, found, strict=True)}
    lacking = [f"{part} lacks {', '.join(classes)}" for part, classes in lacks.items() if classes]
    if lacking:
        raise ValueError(f"different classes in the parts of a split ({'; '.join(lacking)}): give all the same sub-folders")
    return sorted(everywhere)


def _read(top: Path, classes: list[str], size: int, may_lack: bool) -> Labelled:
    """The images of every class, class after class. may_lack: whether a class may have none."""
    suffixes = _image_suffixes()
    files = [list(_files(top / name)) if (top / name).is_dir() or not may_lack else [] for name in classes]
    found = [[f for f in of_class if f.suffix.lower() in suffixes] for of_class in files]
    for name, of_class, images in zip(classes, files, found, strict=True):
        if not images and not may_lack:
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
