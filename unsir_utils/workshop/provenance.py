"""What a result was made from: data sets and trained networks say so where they are handed out, and `cases` listens."""

from __future__ import annotations

import hashlib
import json
import os
import platform
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
import torchvision

from ..data.paths import results_root
from ..data.sets import Data, load
from ..engine import precision_setting
from ..engine.precision import device, uses_bfloat16

# Those that listen, the innermost last: what each has heard; and folder -> its files, which it looks through once.
LISTENING: list[tuple[dict[str, dict], dict[str, str]]] = []
ASKED_FOR: dict[str, float] = {}  # name -> seconds of training, of the networks that this process was handed


@contextmanager
def listening() -> Iterator[dict[str, dict]]:
    """Collects what is handed out meanwhile. data: arguments of `load` -> Data.id; networks: name -> checksum, seconds."""
    heard: dict[str, dict] = {"data": {}, "networks": {}}
    LISTENING.append((heard, {}))
    try:
        yield heard
    finally:
        LISTENING.pop()


def tell(kind: str, name: str, value: Any) -> None:
    if kind == "networks":
        ASKED_FOR[name] = value["seconds"]
    for heard, _ in LISTENING:
        heard[kind][name] = value


def load_once(name: str, **options: object) -> Data:
    """`sets.load`, kept for the next call. A folder whose files changed is read again."""
    arguments = {"name": name, **options}
    found = _load(tuple(sorted(arguments.items())), state(name))
    tell("data", json.dumps(arguments, sort_keys=True, default=str), found.id)
    return found


@lru_cache(maxsize=2)
def _load(arguments: tuple[tuple, ...], state: str) -> Data:
    return load(**dict(arguments))


def state(name: str) -> str:
    """What else a data set of this name depends on in this process: the machine, and the files of a folder.

    A case asks often, and looks through a folder once.
    """
    kind, _, path = str(name).partition(":")
    if kind != "folder":
        return machine()
    known = LISTENING[-1][1] if LISTENING else {}
    if path not in known:
        known[path] = _files(Path(path).expanduser())
    return f"{machine()} {known[path]}"


def _files(folder: Path) -> str:
    """Their names, sizes and times, as a checksum."""
    stamps = [(str(f), f.stat().st_size, f.stat().st_mtime_ns) for f in sorted(folder.rglob("*")) if f.is_file()]
    return hashlib.blake2b(repr(stamps).encode()).hexdigest()


def kept_at(kind: str, suffix: str, *asked: object) -> Path:
    """The file of a kept result: what it depends on names it."""
    named = json.dumps(asked, sort_keys=True)
    name = hashlib.blake2b(named.encode(), digest_size=12).hexdigest()
    return results_root() / "checkpoints" / kind / f"{name}{suffix}"


def machine() -> str:
    """What numbers depend on besides code, arguments, data and networks: versions, the device really used, precision.

    Not the number of threads, which reaches only the order of summation.
    """
    used = device()
    instructions = [torch.backends.cpu.get_cpu_capability(), os.environ.get("ONEDNN_MAX_CPU_ISA", "")]
    on = torch.cuda.get_device_name(used) if used.type == "cuda" else f"{used.type} {instructions}"
    precision = f"precision {precision_setting()}, bfloat16 {uses_bfloat16(used)}"
    return f"torch {torch.__version__}, torchvision {torchvision.__version__}, {on}, {precision}"


def environment() -> dict[str, str | int]:
    """What the numbers depend on besides the code."""
    used = device()
    return {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "torchvision": torchvision.__version__,
        "device": torch.cuda.get_device_name(used) if used.type == "cuda" else f"CPU, {platform.machine()}",
        "precision": precision_setting(),
        "bfloat16": str(uses_bfloat16(used)).lower(),
        "threads": torch.get_num_threads(),
    }
