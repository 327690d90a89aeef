"""Progress for people: bars in a notebook or a terminal; under make a line a minute, which `run` passes on."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterable, Iterator, Sized
from pathlib import Path
from typing import Any, TypeVar

from tqdm.std import tqdm

T = TypeVar("T")
EVERY_S = 60.0
SHORT_S = 1.0  # what is done sooner needs no bar
REDRAWN_S = 0.3


def progress(items: Iterable[T], label: str, total: int | None = None, initial: int = 0) -> Iterable[T]:
    """The items, counted. total: how many there are in all, where they do not say; initial: how many were done before,
    which count as done and not for the estimate."""
    total = total or (len(items) if isinstance(items, Sized) else 0)
    if watched():
        return _drawn(items, label, total, initial)
    if "TQDM_DISABLE" not in os.environ and sys.stderr.isatty():
        return tqdm(items, desc=label, leave=False, total=total or None, initial=initial)
    return _told(items, label, total, initial, log) if (log := os.environ.get("UNSIR_PROGRESS")) else items


def within(case: dict) -> dict:
    """The case, its lists and dicts counted while the case's own loop goes through them: the inner bar of a long case."""
    if not watched() and ("TQDM_DISABLE" in os.environ or not sys.stderr.isatty()):
        return case
    kinds: dict[type, Any] = {list: _List, dict: _Dict}
    return {name: kinds[type(v)](name, v) if type(v) in kinds and len(v) > 1 else v for name, v in case.items()}


class _List(list):
    def __init__(self, name: str, items: list) -> None:
        super().__init__(items)
        self.name = name

    def __iter__(self) -> Iterator:
        return iter(progress([*super().__iter__()], self.name))


class _Dict(dict):
    def __init__(self, name: str, items: dict) -> None:
        super().__init__(items)
        self.name = name

    def items(self) -> Any:
        return progress([*super().items()], self.name)


def watched() -> bool:
    """Whether someone sits before a live notebook."""
    return "ipykernel" in sys.modules and "TQDM_DISABLE" not in os.environ


def _drawn(items: Iterable[T], label: str, total: int, initial: int) -> Iterator[T]:
    bar = _Bar(label, total, initial)
    try:
        for bar.done, item in enumerate(items, initial):
            bar.draw()
            yield item
        bar.done = total
    finally:
        bar.close()


class _Bar:
    """A line of plain HTML, no widget, and the bars within it below: one output, of which a saved notebook keeps a line
    that says how it ended."""

    open: list[_Bar] = []  # the outermost first
    display: Any = None
    drawn = 0.0

    def __init__(self, label: str, total: int, initial: int) -> None:
        self.label, self.total, self.initial, self.done, self.start = label, total, initial, initial, time.monotonic()
        self.open.append(self)

    def draw(self) -> None:
        now = time.monotonic()
        if now - self.open[0].start > SHORT_S and now - _Bar.drawn > REDRAWN_S:
            _Bar.drawn = now
            show("<br>".join(bar.line(now) for bar in self.open))

    def line(self, now: float) -> str:
        new = self.done - self.initial
        left = f", about {_spelled((now - self.start) / new * (self.total - self.done))} left" if new else ""
        bar = f'<progress value="{self.done}" max="{self.total}"></progress>'
        return f"{self.label}: {bar} {self.done} of {self.total}{left}"

    def close(self) -> None:
        _Bar.open = [bar for bar in _Bar.open if bar is not self]
        if not _Bar.open and _Bar.display:
            broken = "" if self.done == self.total else ", interrupted"
            show(f"{self.label}: {self.done} of {self.total} in {_spelled(time.monotonic() - self.start)}{broken}")
            _Bar.display = None


def show(line: str) -> None:
    """In place of the open bars' last lines; a line of its own where no bar is open."""
    from IPython.display import HTML, display

    page = HTML(f"<code>{line}</code>")
    if _Bar.display:
        _Bar.display.update(page)
    else:
        found = display(page, display_id=True)
        _Bar.display = found if _Bar.open else None


def announce(sentence: str) -> None:
    """Said to who watches; it is no part of a published copy."""
    if watched():
        show(sentence)


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
    return f"{seconds:.0f} s" if seconds < 90 else f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
