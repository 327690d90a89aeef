"""The ORL (AT&T, Olivetti) faces, through scikit-learn: 40 people, ten pictures each; downloaded where none are there."""

from __future__ import annotations

import hashlib
import sys
from contextlib import redirect_stdout
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from filelock import FileLock
from torch import Tensor

from .paths import data_root
from .raw import Raw, resized

PEOPLE, PICTURES, FOLDS = 40, 10, 5
FILE = "olivetti_py3.pkz"  # scikit-learn's name for it
# sha256 of the pixels of a copy that is not scikit-learn's download, see data/README.md
OWN_CROP = "1519918cfb20027986dd5878ef92f7f25c50f48f4913f0aaa3c9da9abc577e2a"


def read_olivetti(root: str | Path | None, size: int, fold: int) -> Raw:
    """Of each person the fold's two pictures are the test part, the next fold's two the validation part."""
    if isinstance(fold, bool) or fold not in range(FOLDS):
        raise ValueError(f"fold is {fold!r}: expected a whole number from 0 to {FOLDS - 1}")
    pixels = _pixels(Path(root or data_root()).expanduser() / "olivetti")
    own = hashlib.sha256(pixels.numpy().tobytes()).hexdigest() == OWN_CROP
    images = resized(pixels[:, None].repeat(1, 3, 1, 1), size)
    labels = torch.arange(PEOPLE).repeat_interleave(PICTURES)
    train, validation, test = ((images[part], labels[part]) for part in _parts(fold))
    classes = [f"person {i + 1}" for i in range(PEOPLE)]
    return Raw(train, classes, test, validation, "ORL-faces-own-crop" if own else "ORL-faces")


def _parts(fold: int) -> tuple[Tensor, Tensor, Tensor]:
    """Where the pictures to train, validate and test on stand. Over the folds each is tested, and validated, once."""
    random = torch.Generator().manual_seed(0)
    pair = torch.stack([torch.randperm(PICTURES, generator=random) % FOLDS for _ in range(PEOPLE)]).flatten()
    tested, validated = pair == fold, pair == (fold + 1) % FOLDS
    return ~(tested | validated), validated, tested


def _pixels(folder: Path) -> Tensor:
    """uint8 [400, 64, 64], person after person."""
    from sklearn.datasets import fetch_olivetti_faces  # takes seconds

    if not (folder / FILE).exists():
        _download(folder)
    try:
        faces = fetch_olivetti_faces(data_home=folder, download_if_missing=False).images  # floats in 0..1
    except Exception as error:  # unpickling raises whatever it stumbles on
        raise RuntimeError(f"{folder / FILE} is damaged ({error}): delete it to have it downloaded anew") from error
    return torch.from_numpy(faces).mul(255).round().to(torch.uint8)


def _download(folder: Path) -> None:
    """Under a temporary name first, so that no half-written file ever carries the real one."""
    from sklearn.datasets import fetch_olivetti_faces

    try:
        folder.mkdir(parents=True, exist_ok=True)
        with FileLock(folder / f"{FILE}.lock"):  # notebooks that start together download once
            if (folder / FILE).exists():
                return
            with TemporaryDirectory(dir=folder) as there, redirect_stdout(sys.stderr):
                fetch_olivetti_faces(data_home=there)
                (Path(there) / FILE).replace(folder / FILE)
    except Exception as error:  # a network raises whatever it likes
        raise FileNotFoundError(
            f"the ORL faces are not at {folder / FILE} and could not be downloaded ({error}). Where there is a network, run "
            "sklearn.datasets.fetch_olivetti_faces(data_home=FOLDER) and put the file that it makes there, or name the "
            "folder that holds olivetti/ in the environment variable UNSIR_DATA"
        ) from error
