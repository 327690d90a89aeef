"""Did a run come to what is published? Verdicts, table cells and figures' data of runs/<profile> and of results/<profile>.

python -m unsir_utils.report.compare --profile quick [NAMES], or `make check`. A number may move by its unit's least step
(UNITS) or by twice its ±. On another machine both sides' ± count. Where neither has one, as of one run, nothing says how far
it may move there: past the step it is counted apart, as too noisy to say, up to what its unit means. --record-spread
FOLDER... (each with the profile's tables/) renews results/<profile>/spread.csv: what moved beyond that in runs of the same
commit on other machines, and so may move 1.5 times as far. Seconds are never compared.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import re
import sys
from collections import Counter
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import pandas as pd

from ..data.paths import of_notebook, published_root, results_root, sentence

STDS, SPREADS = 2.0, 1.5  # a number may move by so many times its ±, and the spread between machines
SHOWN = 40  # lines; all of them are in comparison.csv
GATHERED = "99_report"  # has nothing of its own


@dataclass(frozen=True)
class Unit:
    """What a column's numbers may move by: at least `least` or that share of the number; past `widest`, or ten times that
    share, a tolerance would check nothing. decades: all in powers of ten."""

    least: float
    widest: float
    share: float = 0.0
    decades: bool = False

    def distance(self, one: float, other: float) -> float:
        if not self.decades or one == other:
            return abs(one - other)
        return abs(math.log10(one / other)) if one * other > 0 else math.inf


POINTS, PROBABILITY, RELATIVE, PASSES = Unit(2, 20), Unit(0.03, 0.3), Unit(0, 0, 0.1), Unit(1, 5, 0.1)
EXACT, RATE = Unit(0, 0), Unit(0, 1, decades=True)
KEY, IGNORED = "key", "ignored"
UNITS = [  # the first that fits a column's name, or a number's; a column of words is a key
    (r"^(seed|trained|step|passes|image|layer|share|penalty|alpha|λ|class|claim|tested|network|#forget|n_forget)$", KEY),
    (r"^(retain_per_class|noise_per_class|copies|batch_size|pictured|candidate|round|against|asked|alone|at)$", KEY),
    (r"^(rates|pair|after request)$", KEY),
    (r"^(paper\b|answer$|options$|source$|seconds|controls$|measured$|noise$|forgotten$|margin$)", IGNORED),
    (r"^(relearned|linear probe|nearest class mean|logit recovered|row from)\b", POINTS),  # recalls, in %
    (r"relearn", PASSES),
    (r"\(%\)|, %$|\(points\)|A_D[rf]|^class \d|accuracy|^belief|^ours$|^difference$", POINTS),
    (r"\blr$|_lr$|\brate\b|pair(?!s)", RATE),
    (r"times", RELATIVE),
    (r"passes$|passes, |^steps$|images$|^seeds|replicates|^rounds?$|^chosen$|^pairs$", EXACT),
    (r"share|entropy|cosine|, -?[01]\.\.1$|, bits$|, 95 %$|^distance from|^TV|^tv_|^differ_|^p\b|^empty", PROBABILITY),
    (r"true class|predicted class|^to Retrain's|^told by|^members by|AUC|^Jensen|CKA|^position$", PROBABILITY),
    (r"", RELATIVE),
]
NUMBER = r"[-+]?(?:\d[\d,]*\.?\d*|\.\d+)(?:[eE][-+]?\d+)?"
CELL = re.compile(rf"^\s*(>?)({NUMBER})(?: ± ({NUMBER}))?\s*%?(?: to ({NUMBER}))?((?: [([].*[])])?)$")
INTERVAL = re.compile(rf"\[({NUMBER}), ({NUMBER})\]$")
OF_UNIT = {"value", "floor", "ceiling", "bound"}  # columns in the unit that the row's own column "unit" names
OVER = {"seed", "trained", "image", "against"}  # over these, a figure's data are averaged
KINDS = {"verdict": "verdicts", "cell": "table cells", "figure": "cells of figures' data", "number": "quoted numbers"}


@dataclass(frozen=True)
class Difference:
    """A cell that is not what is published, of one of KINDS; by: how far it moved, in its unit."""

    kind: str
    table: str
    row: str
    column: str
    published: str
    here: str
    by: float = math.inf
    step: float = 0.0  # what the unit alone allows
    allowed: float = 0.0
    widest: float = math.inf
    unknown: bool = False  # how far it may move: on another machine, without a ±

    @property
    def noisy(self) -> bool:
        """Whether it may move so far, by its spread, that the comparison would say nothing; or has none to go by."""
        return self.by > self.step and (self.allowed > self.widest or (self.unknown and self.by <= self.widest))

    @property
    def moved(self) -> bool:
        return self.by > self.allowed and not self.noisy

    @property
    def outcome(self) -> str:
        return "moved" if self.moved else "noisy" if self.noisy else "within tolerance"

    @property
    def turned(self) -> bool:
        """Whether "holds" became "does not hold", or the other way round."""
        return {self.published.split(",")[0], self.here.split(",")[0]} == {"holds", "does not hold"}

    @property
    def rank(self) -> tuple:
        """Verdicts that turned round first, then the other verdicts, then what moved farthest for its tolerance."""
        return not self.turned, self.kind != "verdict", -self.by / (self.allowed or 1e-9)

    def __str__(self) -> str:
        where = ", ".join(part for part in (self.table, self.row, self.column) if part)
        further = f" (moved by {self.by:.3g}, may by {self.allowed:.3g})" if math.isfinite(self.by) else ""
        loud = "TURNED ROUND: " if self.turned else ""
        return f"{loud}{where}: published {self.published!r}, here {self.here!r}{further}"


def compare(published: Path, here: Path, names: list[str], spreads: dict | None = None) -> tuple[Counter, list[Difference]]:
    """How many cells of each kind were compared, and which are not what is published, moved or not.

    published, here: folders of one profile; spreads: by (table, row, column).
    """
    counts: Counter = Counter()
    different: list[Difference] = []
    for name in names:
        elsewhere = _environment(published, name) != _environment(here, name)
        for kind, table, old, new in _pairs(published, here, name):
            n, found = _table(kind, table, old, new, spreads or {}, elsewhere)
            counts[kind] += n
            different += found
    return counts, different


def unit(column: str) -> Any:
    """What a column of this name is measured in: a Unit, or KEY or IGNORED."""
    return next(unit for pattern, unit in UNITS if re.search(pattern, column))


def cells(table: pd.DataFrame, columns: list[str], keys: list[str]) -> dict[tuple[str, str], str]:
    """Each cell by row and column; see `row_names`."""
    rows = zip(row_names(table, keys), table[columns].to_dict("records"), strict=True)
    return {(name, column): str(row[column]) for name, row in rows for column in columns if column not in keys}


def row_names(table: pd.DataFrame, keys: list[str]) -> list[str]:
    """A row is named by its keys, and by a counter where several have the same."""
    seen: Counter = Counter()
    names = []
    for row in table.to_dict("records"):
        name = " | ".join(str(row[key]) for key in keys)
        seen[name] += 1
        names.append(f"{name} #{seen[name]}" if seen[name] > 1 else name)
    return names


def _columns(kind: str, old: pd.DataFrame, new: pd.DataFrame) -> tuple[list[str], list[str]]:
    """Those that both tables have and that are compared, and those among them that name a row."""
    follow = {"position", "verdict"} if OF_UNIT <= {*old.columns} else {}  # of the audit's tests, from what is compared
    shared = [c for c in old.columns if c in new.columns and unit(c) != IGNORED and c not in follow]
    return shared, [c for c in shared if c != "verdict" and _is_key(old[c], kind)]


def moved_by(old: str, new: str, unit: Unit) -> float:
    """How far a cell moved, in its unit: infinitely where only one is a number, is capped or has undefined parts."""
    before, after = CELL.match(old), CELL.match(new)
    if not (before and after) or _form(before) != _form(after):
        return math.inf
    return max(unit.distance(_float(before[i]), _float(after[i])) for i in (2, 4) if before[i])


def _form(cell: re.Match) -> tuple[str, bool, bool]:
    """Whether it is capped, a range, and undefined in parts."""
    return cell[1], bool(cell[4]), "undefined" in cell[5]


def tolerance(cell: str, stds: list[float], unit: Unit, spread: float = 0.0) -> tuple[float, float, float]:
    """How far a cell may move: by its unit, by its ± and the spread between machines, too, and by what its unit means."""
    number = CELL.match(cell)
    if not number:
        return 0.0, SPREADS * spread, 0.0
    value, decimals = abs(_float(number[2])), len(number[2].partition(".")[2])
    digit = 1.01 * 10.0**-decimals if decimals and (unit.least or unit.share) else 0.0  # the last that it shows
    step = max(unit.least, unit.share * value, digit)
    pooled = math.sqrt(sum(std**2 for std in stds) / max(len(stds), 1))
    allowed = max(step, STDS * pooled, SPREADS * spread)
    return step, allowed, max(unit.widest, 10 * unit.share * value, digit)


def _stds(*cells: str) -> list[float]:
    """The ± of those that have one, or a quarter of their 95 % interval."""
    numbers = [number for cell in cells if (number := CELL.match(cell))]
    intervals = [ends for number in numbers if (ends := INTERVAL.search(number[5]))]
    return [_float(n[3]) for n in numbers if n[3]] + [(_float(ends[2]) - _float(ends[1])) / 4 for ends in intervals]


def _float(text: str) -> float:
    return float(text.replace(",", ""))


def _table(
    kind: str, name: str, old: pd.DataFrame, new: pd.DataFrame, spreads: dict, elsewhere: bool = False
) -> tuple[int, list[Difference]]:
    """Compares two tables of text cells. What only one of them has is named, a column or a row once. elsewhere: whether they
    are of two machines."""
    shared, keys = _columns(kind, old, new)
    alone = sorted(set(old) ^ set(new), key=lambda column: (column in new, column))
    found = [Difference(kind, name, "", column, *_only("a column", column in old)) for column in alone]
    before, after = cells(old, shared, keys), cells(new, shared, keys)
    of_row = dict(zip(row_names(old, keys), old.get("unit", []), strict=False))
    rows, present = (dict.fromkeys(row for row, _ in side) for side in (before, after))
    for row in [row for row in rows | present if (row in rows) != (row in present)]:
        found.append(_judged(Difference(kind, name, row, "", *_only("a row", row in rows)), None, spreads))
    for (row, column), value in before.items():
        now = after.get((row, column), value)
        if now != value:
            measured = unit(f"{column}, {of_row[row]}" if column in OF_UNIT and row in of_row else column)
            found.append(_judged(Difference(kind, name, row, column, value, now), measured, spreads, elsewhere))
    return len(before), found


def _only(what: str, published: bool) -> tuple[str, str]:
    """How both sides are shown of what one of them lacks."""
    return (what, "none") if published else ("none", what)


def _judged(found: Difference, unit: Unit | None, spreads: dict, elsewhere: bool = False) -> Difference:
    spread = spreads.get((found.table, found.row, found.column), 0.0)
    stds = _stds(found.published, found.here) if elsewhere else _stds(found.published)
    step, allowed, widest = tolerance(found.published, stds, unit or EXACT, spread)
    by = moved_by(found.published, found.here, unit) if unit else math.inf
    unknown = elsewhere and step > 0 and not (spread or stds)  # what may not move at all needs none
    return replace(found, by=by, step=step, allowed=allowed, widest=widest, unknown=unknown)


def _is_key(column: pd.Series, kind: str) -> bool:
    """Whether it names rows, by its unit or its words. A figure's rates are its grid, those of a table were chosen."""
    return unit(column.name) == KEY or (kind == "figure" and unit(column.name) == RATE) or _is_words(column)


def _is_words(column: pd.Series) -> bool:
    filled = [cell for cell in column if cell not in ("", "undefined")]
    return bool(filled) and sum(not CELL.match(cell) for cell in filled) > len(filled) / 2


def _pairs(published: Path, here: Path, name: str) -> list[tuple[str, str, pd.DataFrame, pd.DataFrame]]:
    """Kind, name, published and own version of each table of a notebook; an absent one is empty."""
    pairs, empty = [], pd.DataFrame()
    for pattern in (f"tables/{name}*.csv", f"seconds/{name}*_findings.csv"):
        files = {f.name: f for root in (here, published) for f in root.glob(pattern) if of_notebook(f.stem, name)}
        for _, path in sorted(files.items()):
            verdicts, table = path.stem.endswith("_findings"), path.with_suffix(".md").exists()
            kind = "verdict" if verdicts else "cell" if table else "figure"
            old, new = (_read(root / path.parent.name / path.name) for root in (published, here))
            if verdicts:
                old, new = (t.reindex(columns=["claim", "tested", "verdict"]) if len(t) else t for t in (old, new))
            elif not table:
                old, new = averaged(old), averaged(new)
            pairs.append((kind, path.stem, old, new))
    old, new = (_numbers(root / "numbers" / f"{name}.json") for root in (published, here))
    for key in {**old, **new}:  # one table each, as each has a unit of its own
        frames = (pd.DataFrame({key: [side[key]]}) if key in side else empty for side in (old, new))
        pairs.append(("number", f"{name}.json", *frames))
    return pairs


def averaged(records: pd.DataFrame) -> pd.DataFrame:
    """What a figure shows of records: mean ± standard deviation over seeds of each column of numbers, as text cells.

    A missing one, as a relearn time past its cap, is left out and told.
    """
    if records.empty:
        return records
    records = records.replace({"True": "1", "False": "0"})
    keys = [c for c in records if c not in OVER and _is_key(records[c], "figure")]
    values = [c for c in records if c not in OVER and c not in keys and unit(c) != IGNORED]
    numbers = records[values].apply(pd.to_numeric, errors="coerce").assign(**records[keys], _="")
    by, seed = ["_", *keys], [records["seed"]] if "seed" in records else []  # "_": there may be no key
    means = numbers.groupby([*by, *seed], sort=False)[values].mean()
    return means.groupby(by, sort=False).agg(_mean_std).reset_index()[[*keys, *values]]


def _mean_std(values: pd.Series) -> str:
    there = values.dropna()
    if there.empty:
        return "undefined"
    told = f" ({len(values) - len(there)} undefined)" if len(there) < len(values) else ""
    return f"{there.mean():.6g}" + (f" ± {there.std():.3g}" if len(there) > 1 else "") + told


def _numbers(path: Path) -> dict[str, str]:
    """The numbers of a notebook's json by name, those of a list or dict one by one; its words are settings."""
    found = {}

    def add(name: str, value: object) -> None:
        if isinstance(value, dict | list):
            for key, part in value.items() if isinstance(value, dict) else enumerate(value):
                add(f"{name}, {key}" if name else str(key), part)
        elif value is None or isinstance(value, int | float):
            found[name] = "undefined" if value is None else repr(float(value)).removesuffix(".0")

    add("", {k: v for k, v in _saved(path).items() if k not in ("environment", "parameters")})
    return found


def _environment(root: Path, name: str) -> dict:
    """What a notebook ran on, as `provenance.environment` wrote it."""
    return _saved(root / "numbers" / f"{name}.json").get("environment", {})


def _saved(path: Path) -> dict:
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}


def _read(path: Path) -> pd.DataFrame:
    try:
        return pd.read_csv(path, dtype=str, keep_default_na=False)
    except (FileNotFoundError, pd.errors.EmptyDataError):
        return pd.DataFrame()


def read_spreads(profile: Path) -> tuple[dict[tuple[str, str, str], float], int]:
    """By table, row and column, and the number of runs that it rests on."""
    recorded = _read(profile / "spread.csv")
    runs = int(recorded.runs.iloc[0]) if len(recorded) else 0
    return {(r.table, r.row, r.column): float(r.spread) for r in recorded.itertuples()}, runs


def record_spreads(profile: str, others: list[Path]) -> Path:
    """Writes results/<profile>/spread.csv: by how much those cells moved that would count as moved without it.

    Raises ValueError for a folder that holds no run.
    """
    published = published_root() / profile
    found: dict[tuple[str, str, str], float] = {}
    for other in others:
        if not (other / "tables").is_dir():
            raise ValueError(f"{other} holds no run: expected a folder with tables/ in it, such as runs/{profile}")
        for d in compare(published, other, _notebooks(published))[1]:
            cell = d.table, d.row, d.column
            if d.kind != "verdict" and d.moved:
                found[cell] = max(found.get(cell, 0.0), d.by)
    rows = [(*cell, f"{by:.4g}", len(others)) for cell, by in sorted(found.items())]
    path = published / "spread.csv"
    pd.DataFrame(rows, columns=["table", "row", "column", "spread", "runs"]).to_csv(path, index=False, lineterminator="\n")
    return path


def beside(published: Path, here: Path, name: str) -> str:
    """A notebook's tables as it made them, in Markdown: "4.0 (3.9)" is 4.0 here and 3.9 published, bold what moved.

    published, here: folders of one profile. Raises ValueError where there is nothing to compare.
    """
    spreads, _ = read_spreads(published)
    shown = [pair for pair in _pairs(published, here, name) if pair[0] in ("verdict", "cell")]
    both = [(kind, table, old, new) for kind, table, old, new in shown if len(old) and len(new)]
    if not both:
        raise ValueError(f"no table of {name} is both in {published} and in {here}: run the notebook to its end first")
    return "\n\n".join(f"**{table}**\n\n{_marked(kind, table, old, new, spreads)}" for kind, table, old, new in both)


def _marked(kind: str, name: str, old: pd.DataFrame, new: pd.DataFrame, spreads: dict) -> str:
    found = {(d.row, d.column): d for d in _table(kind, name, old, new, spreads)[1]}
    shown = new.to_dict("records")
    for row, place in zip(shown, row_names(new, _columns(kind, old, new)[1]), strict=True):
        for d in (found[place, column] for column in row if (place, column) in found):
            told = f"{d.here} ({d.published or 'none'})"
            row[d.column] = f"**{told}**" if d.moved else told
    return pd.DataFrame(shown, columns=new.columns).to_markdown(index=False, disable_numparse=True)


def _notebooks(profile: Path) -> list[str]:
    return sorted(p.stem for p in profile.glob("*.ipynb") if p.stem != GATHERED)


def report(profile: str, names: list[str] | None = None) -> tuple[str, int]:
    """What `make check` prints, and how many cells moved; all that differ are written to runs/<profile>/comparison.csv.

    names: default all that are published and were run. Raises ValueError where there is nothing to compare.
    """
    published, here = published_root() / profile, results_root() / profile
    there = [name for name in _notebooks(published) if (here / f"{name}.ipynb").exists()]
    if not _notebooks(published):
        return f"nothing is published of profile {profile}: nothing to compare with", 0
    names = there if names is None else [name for name in names if name != GATHERED]
    if names and not {*names} & {*_notebooks(published)}:
        return f"nothing is published of {', '.join(names)}: nothing to compare with", 0
    absent = [f"{name} is not {what}" for name in names for folder, what in ((published, "published"), (here, f"in {here}"))
              if not (folder / f"{name}.ipynb").exists()]  # fmt: skip
    names = [name for name in names if name in there]
    if not names:
        raise ValueError(f"{here} has nothing to compare with {published}: make reproduce PROFILE={profile} first")
    spreads, runs = read_spreads(published)
    lines: list[str] = []
    every: list[Difference] = []
    totals: Counter = Counter()
    for name in names:
        counts, different = compare(published, here, [name], spreads)
        moved, noisy = _moved_and_noisy(different)
        told = f"{moved} of {sum(counts.values())} moved" if moved else f"as published ({sum(counts.values())})"
        lines.append(f"{name:<27} {told}{noisy}")
        every, totals = every + different, totals + counts
    farthest = sorted((d for d in every if d.moved), key=lambda d: d.rank)
    outcomes = [{**asdict(d), "outcome": d.outcome} for d in every]
    pd.DataFrame(outcomes).to_csv(here / "comparison.csv", index=False, lineterminator="\n")
    more = [f"  and {len(farthest) - SHOWN} more"] if len(farthest) > SHOWN else []
    sums = [_sum(words, totals[kind], [d for d in every if d.kind == kind]) for kind, words in KINDS.items() if totals[kind]]
    rests = f"runs that the spread between machines is from: {runs}" if runs else "no spread between machines is recorded"
    about = [f"{rests}; every cell that differs: {os.path.relpath(here / 'comparison.csv')}"]
    first = [f"  {d}" for d in farthest[:SHOWN]]
    parts = [[f"compared with results/{profile}:"], lines, absent, first, more, sums, about]
    return "\n".join(line for part in parts for line in part), len(farthest)


def _sum(words: str, n: int, different: list[Difference]) -> str:
    moved, noisy = _moved_and_noisy(different)
    same = n - len({(d.table, d.row, d.column) for d in different if d.moved or d.noisy})
    return f"{max(same, 0)} of {n} {words} as published or within tolerance, {moved} moved{noisy}"


def _moved_and_noisy(different: list[Difference]) -> tuple[int, str]:
    """How many moved, and how many are too noisy to say, as words."""
    outcomes = Counter(d.outcome for d in different)
    return outcomes["moved"], f", {outcomes['noisy']} too noisy to say" if outcomes["noisy"] else ""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("notebooks", nargs="*", help="default: all that were run")
    parser.add_argument("--profile", default="quick")
    parser.add_argument("--record-spread", nargs="+", type=Path, metavar="FOLDER", help="renew spread.csv from these runs")
    arguments = parser.parse_args()
    try:
        if arguments.record_spread:
            print(record_spreads(arguments.profile, arguments.record_spread))
            return
        text, moved = report(arguments.profile, arguments.notebooks or None)
    except (ValueError, OSError) as error:
        sys.exit(sentence(error))
    print(text)
    sys.exit(bool(moved))


if __name__ == "__main__":
    main()
