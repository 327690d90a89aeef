"""The CIFAR files, through torchvision: downloaded where none is there, checked where they are."""

from __future__ import annotations

import hashlib
import sys
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock

from .paths import data_root
from .raw import Labelled, Raw, resized


def read_cifar(kind: str, root: str | Path | None, size: int) -> Raw:
    import torchvision.datasets  # takes seconds

    source = getattr(torchvision.datasets, kind)
    folder = Path(root or data_root()).expanduser()
    _ensure_cifar(source, folder)
    train, test = source(folder, train=True), source(folder, train=False)

    def tensors(part) -> Labelled:
        images = torch.from_numpy(part.data).permute(0, 3, 1, 2).contiguous()
        return resized(images, size), torch.tensor(part.targets)

    return Raw(tensors(train), list(train.classes), tensors(test))


def _ensure_cifar(source: Any, folder: Path) -> None:
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


def _fault(source: Any, base: Path) -> FileNotFoundError | RuntimeError | None:
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


def _download(source: Any, folder: Path, by_hand: str) -> None:
    print(f"{source.__name__} is not in {folder}: downloading {source.url}", file=sys.stderr)
    try:
        source(folder, download=True)
    except Exception as error:  # torchvision raises whatever its network layer does
        raise FileNotFoundError(
            f"{source.__name__} is not in {folder} and could not be downloaded ({error}). {by_hand}"
        ) from error
