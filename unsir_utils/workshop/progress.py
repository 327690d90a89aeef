"""Progress bars for people: live in a notebook or a terminal, silent in logs and under papermill."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable
from typing import TypeVar

from tqdm.auto import tqdm

T = TypeVar("T")


def progress(items: Iterable[T], label: str, **options: int) -> Iterable[T]:
    live = "ipykernel" in sys.modules or sys.stderr.isatty()
    return tqdm(items, desc=label, leave=False, disable=not live or "TQDM_DISABLE" in os.environ, **options)
