"""Progress for people: bars in a notebook or a terminal; under make a line a minute, which `run` passes on."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterable, Iterator, Sized
from pathlib import Path
from typing import TypeVar

from tqdm.auto import tqdm

T = TypeVar("T")
EVERY_S = 60.0


def progress(items: Iterable[T], label: str, total: int | None = None, initial: int = 0) -> Iterable[T]:
    """The items, counted. total: how many there are in all, where they do not say; initial: how many were done before."""
    live = "ipykernel" in sys.modules or sys.stderr.isatty()
    if live and "TQDM_DISABLE" not in os.environ:
        return tqdm(items, desc=label, leave=False, total=total, initial=initial)
    total = total or (len(items) if isinstance(items, Sized) else 0)
    return _told(items, label, total, initial, log) if (log := os.environ.get("UNSIR_PROGRESS")) else items


def _told(items: Iterable[T], label: str, total: int, initial: int, log: str) -> Iterator[T]:
    start = told = time.monotonic()
    for done, item in enumerate(items, initial):
        now = time.monotonic()
        if done > initial and now - told > EVERY_S:
            left = (now - start) / (done - initial) * (total - done)
            with Path(log).open("a") as file:
                file.write(f"{label}: {done} of {total}, about {_spelled(left)} left\n")
            told = now
        yield item


def _spelled(seconds: float) -> str:
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
