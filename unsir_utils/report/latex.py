"""A table of text cells as LaTeX that needs booktabs alone and fits the pages of an article, however wide or long it is."""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Sequence

import pandas as pd

WIDTH, HEIGHT, GAP = 345.0, 500.0, 6.0  # points: of a page's text, and between two columns
# Of a character, at most.
SIZES = {"small": (5.1, 11.0), "footnotesize": (4.6, 9.5), "scriptsize": (4.3, 8.0), "tiny": (3.7, 6.0)}
COMMANDS = {
    "\\": r"\textbackslash{}", "^": r"\textasciicircum{}", "~": r"\textasciitilde{}", "&": r"\&", "%": r"\%", "_": r"\_",
    "#": r"\#", "$": r"\$", "{": r"\{", "}": r"\}", "<": "$<$", ">": "$>$", "|": "$|$", "±": r"$\pm$", "×": r"$\times$",
    "λ": r"$\lambda$", "µ": r"$\mu$", "μ": r"$\mu$", "≤": r"$\leq$", "≥": r"$\geq$", "−": "$-$", "²": "$^2$",
    "→": r"$\to$", "–": "--", "—": "---", "…": r"\ldots{}", "“": "``", "”": "''", "‘": "`", "’": "'",
    "°": r"$^\circ$", "\n": " ", "[": "{[}", "]": "{]}",  # a row that began with "[" would be taken for a length
}  # fmt: skip


def latex(frame: pd.DataFrame, caption: str, label: str) -> str:
    """The frame as one table, or as several where it is longer or wider than a page; its first column stands in each.
    What does not fit a line is broken at its words."""
    tables: list[str] = []
    for part, size, widths in _parts(frame):
        for page in _pages(part, caption, size, widths):
            tables.append(_table(page, size, widths, caption, label, first=not tables))
    return "\n".join(tables)


def _table(page: pd.DataFrame, size: str, widths: list[float], caption: str, label: str, first: bool) -> str:
    cells = page.map(escape).rename(columns=escape)
    columns = "".join(f"p{{{math.floor(width - GAP)}pt}}" for width in widths) if widths else "l" * page.shape[1]
    about = {"caption": escape(caption), "label": label} if first else {"caption": "(continued)"}
    text = cells.to_latex(index=False, escape=False, column_format=columns, **about)
    set_small = f"\\centering\\{size}\\setlength{{\\tabcolsep}}{{{GAP / 2:g}pt}}\n"
    return text.replace("\\begin{table}\n", f"\\begin{{table}}\n{set_small}", 1)


def escape(text: object) -> str:
    """Text that LaTeX sets as it is, in ASCII: a letter that it has no command for here loses its accent, or becomes "?"."""
    return "".join(COMMANDS.get(c) or _ascii(c) for c in str(text))


def _ascii(character: str) -> str:
    plain = unicodedata.normalize("NFD", character).encode("ascii", "ignore").decode()
    return "".join(COMMANDS.get(c, c) for c in plain) or ("" if unicodedata.combining(character) else "?")


def _parts(frame: pd.DataFrame) -> list[tuple[pd.DataFrame, str, list[float]]]:
    """Columns that fit a page side by side, with the size of their type and their widths in points (none: as wide as they
    are); the first column stands in each part."""
    parts: list[tuple[pd.DataFrame, str, list[float]]] = []
    rest = list(frame.columns[1:])
    while rest or not parts:
        many = len(rest)
        while (layout := _layout(frame[[frame.columns[0], *rest[:many]]])) is None and many > 1:
            many -= 1
        size, widths = layout or ("scriptsize", [])
        parts.append((frame[[frame.columns[0], *rest[:many]]], size, widths))
        rest = rest[many:]
    return parts


def _layout(frame: pd.DataFrame) -> tuple[str, list[float]] | None:
    """The largest type in which no word is wider than its column, and the widths; None where none is small enough."""
    texts = [[str(text) for text in (name, *frame[name])] for name in frame]
    whole = [max(map(len, column)) for column in texts]
    words = [max(len(word) for text in column for word in text.split() or [""]) for column in texts]
    for size, (character, _) in SIZES.items():
        least, wanted = ([n * character + GAP for n in counts] for counts in (words, whole))
        spare, room = WIDTH - sum(least), sum(wanted) - sum(least)
        if room <= spare:
            return size, []
        if spare >= 0:
            return size, [low + spare * (high - low) / room for low, high in zip(least, wanted, strict=True)]
    return None


def _pages(frame: pd.DataFrame, caption: str, size: str, widths: Sequence[float]) -> list[pd.DataFrame]:
    """The rows, cut where the next would not fit the page."""
    character, line = SIZES[size]
    left = first = HEIGHT - 12 * math.ceil(len(caption) * 5 / WIDTH) - line * _lines(frame.columns, character, widths)
    cuts = [0]
    for number, row in enumerate(frame.itertuples(index=False, name=None)):
        height = line * _lines(row, character, widths)
        if height > left and number > cuts[-1]:
            cuts.append(number)
            left = first
        left -= height
    return [frame.iloc[start:end] for start, end in zip(cuts, [*cuts[1:], len(frame)], strict=True)]


def _lines(row: Sequence[object], character: float, widths: Sequence[float]) -> int:
    """How many lines a row takes; broken at words, a cell may need a line more than its letters do."""
    needed = (math.ceil(len(str(text)) * character / (width - GAP)) for text, width in zip(row, widths, strict=False))
    return max((lines + (lines > 1) for lines in needed), default=1)
