"""How many notebooks run at once, and on which GPU each: one a card; without a GPU as many as the cores can feed.

python -m unsir_utils.workshop.cards prints the number, for make.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator

from filelock import FileLock, Timeout

from ..data.paths import results_root


def cards() -> list[str]:
    """The NVIDIA GPUs that a run may use; none with UNSIR_DEVICE=cpu, one where UNSIR_DEVICE names it."""
    if device := os.environ.get("UNSIR_DEVICE"):
        return [] if device == "cpu" else [device]
    try:
        listed = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, timeout=60).stdout.splitlines()
    except (OSError, subprocess.TimeoutExpired):
        return []
    found = [str(n) for n in range(sum(line.startswith("GPU ") for line in listed))]
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    return found if visible is None or not found else [name for name in visible.split(",") if name not in ("", "-1")]


def workers() -> int:
    """How many processes the cases of a notebook may use. Raises ValueError where UNSIR_WORKERS is no such number."""
    return _number("UNSIR_WORKERS")


def threads() -> int:
    """How many threads a process may use. Raises ValueError where UNSIR_THREADS is no such number."""
    return _number("UNSIR_THREADS")


def _number(variable: str) -> int:
    asked = os.environ.get(variable) or "1"
    if not asked.isdecimal() or int(asked) < 1:
        raise ValueError(f"{variable} is {asked!r}: expected a whole number from 1 on, or leave it unset")
    return int(asked)


def jobs() -> int:
    """One a card; else one for each `threads` times `workers` of the cores that this process may use."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return len(cards()) or max(1, cores // (threads() * workers()))


@contextlib.contextmanager
def own_card() -> Iterator[None]:
    """Kernels started meanwhile see one card, which no other run holds, where there are several and one is free."""
    found = cards()
    for card in found if len(found) > 1 else ():
        results_root().mkdir(parents=True, exist_ok=True)
        lock = FileLock(results_root() / f".card-{card}.lock", timeout=0)
        with contextlib.suppress(Timeout), lock:
            before = os.environ.get("CUDA_VISIBLE_DEVICES")
            os.environ["CUDA_VISIBLE_DEVICES"] = card
            try:
                yield
            finally:
                os.environ.pop("CUDA_VISIBLE_DEVICES", None)
                os.environ.update({"CUDA_VISIBLE_DEVICES": before} if before is not None else {})
            return
    yield


if __name__ == "__main__":
    try:
        print(jobs())
    except ValueError as error:
        print(1)  # a bare -j would start all at once; the runs say what is wrong
        sys.exit(str(error))
