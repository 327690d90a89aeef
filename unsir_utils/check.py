"""Did a fresh run come to what the README quotes? results/expected.yaml holds that, by profile and notebook.

`make check` runs the notebooks into results/check and calls this; `make readme` calls it with --write.
"""

from __future__ import annotations

import argparse
import re
import shutil
import sys
from pathlib import Path

import pandas as pd
import yaml

from .paths import REPOSITORY, models_root
from .readme import PART, PROFILES

EXPECTED = REPOSITORY / "results" / "expected.yaml"
FRESH = REPOSITORY / "results" / "check"  # where `make check` runs to
ABOUT = """\
# What README.md quotes of each profile, and every verdict. `make readme` makes this file, `make check` compares a
# fresh run with it. A number may move by its tolerance, at least {least:g} of its unit and {spreads} times its spread
# (a standard deviation over seeds); capped: it stands behind a ">"; words must be the same. models: seconds of training,
# where a run finds no trained ones; no other seconds are compared.
"""
NUMBER = re.compile(r"^(>?)([+-]?\d+(?:\.\d+)?)(?: ± (\d+(?:\.\d+)?))?$")
LEAST_TOLERANCE, SPREADS = 2.0, 2


def expectation(folder: Path, text: str) -> dict[str, dict]:
    """By notebook: its models, its verdicts, and the cells of its tables that `text` includes.

    folder: a profile's results. 99_report, which only gathers, is left out.
    """
    found = {path.stem: {} for path in sorted(folder.glob("*.ipynb")) if path.stem != "99_report"}
    quoted = {Path(part[2]).stem for part in PART.finditer(text) if Path(part[2]).parts[1:3] == (folder.name, "tables")}
    for notebook, parts in found.items():
        models, verdicts = (folder / f"{kind}.csv" for kind in (f"seconds/{notebook}_models", f"tables/{notebook}_findings"))
        if models.exists():
            parts["models"] = pd.read_csv(models).set_index("model").seconds.round().astype(int).to_dict()
        if verdicts.exists():
            parts["verdicts"] = _read(verdicts).set_index("tested").verdict.to_dict()
        tables = sorted(t for t in quoted if t.startswith(notebook) and not t.endswith("_findings"))
        parts |= {t: cells(_read(folder / "tables" / f"{t}.csv")) for t in tables}
    return found


def cells(table: pd.DataFrame) -> dict[str, dict]:
    """By row (the columns up to the last that holds words), then by column: a number with its tolerance, if it is ours."""
    worded = [not all(NUMBER.match(cell) or cell == "" for cell in table[column]) for column in table]
    n_keys = max((i + 1 for i, words in enumerate(worded) if words), default=1)
    ours = [i for i, column in enumerate(table.columns) if i >= n_keys and not column.startswith("paper")]
    rows = {}
    for row in table.itertuples(index=False, name=None):
        rows[" | ".join(row[:n_keys])] = {table.columns[i]: with_tolerance(row[i]) for i in ours if row[i]}
    return rows


def with_tolerance(cell: str) -> dict[str, float | bool]:
    """ "68.6 ± 0.8" -> value, spread, tolerance; ">20" -> value, tolerance, capped."""
    capped, value, spread = NUMBER.match(cell).groups()
    known = {"spread": float(spread)} if spread else {}
    tolerance = round(max(LEAST_TOLERANCE, SPREADS * known.get("spread", 0.0)), 2)
    return {"value": float(value), **known, "tolerance": tolerance, **({"capped": True} if capped else {})}


def moved(expected: dict, found: dict) -> list[str]:
    """A line for each expected cell or verdict that is not there, or not within its tolerance."""
    lines = []
    for table, rows in expected.items():
        for row, wanted in rows.items() if table != "models" else ():
            got = found.get(table, {}).get(row)
            if table == "verdicts" and got != wanted:
                lines.append(f"{row}: expected {wanted!r}, found {got!r}")
            elif table != "verdicts":
                lines += [f"{table}, {row}, {line}" for line in _outside(wanted, got)]
    return lines


def _outside(wanted: dict[str, dict], got: dict[str, dict] | None) -> list[str]:
    if got is None:
        return ["the row is absent"]
    lines = []
    for column, cell in wanted.items():
        value, there = cell["value"], got.get(column)
        near = there and abs(there["value"] - value) <= cell["tolerance"] and there.get("capped") == cell.get("capped")
        if not near:
            shown = f"{'>' if cell.get('capped') else ''}{value:g} ± {cell['tolerance']:g}"
            found = f"{'>' if there.get('capped') else ''}{there['value']:g}" if there else "nothing"
            lines.append(f"{column}: expected {shown}, found {found}")
    return lines


def to_train(expected: dict[str, dict], names: list[str]) -> dict[str, int]:
    """Name and seconds of each model that the notebooks need and that is not stored."""
    needed = {model: s for name in names for model, s in expected[name].get("models", {}).items()}
    return {model: s for model, s in needed.items() if not (models_root() / f"{model}.safetensors").exists()}


def write() -> None:
    text = (REPOSITORY / "README.md").read_text()
    profiles = {name: expectation(REPOSITORY / "results" / name, text) for name in PROFILES}
    about = ABOUT.format(least=LEAST_TOLERANCE, spreads=SPREADS)
    dumped = yaml.safe_dump(profiles, sort_keys=False, allow_unicode=True, width=1000, default_flow_style=None)
    EXPECTED.write_text(about + dumped)


def _read(path: Path) -> pd.DataFrame:
    return pd.read_csv(path, dtype=str, keep_default_na=False)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("notebooks", nargs="*", help="default: all that something is expected of")
    parser.add_argument("--profile", default="quick")
    parser.add_argument("--list", action="store_true", help="only name the notebooks that would be compared")
    parser.add_argument("--models", action="store_true", help="only say which models would be trained first")
    parser.add_argument("--write", action="store_true", help="renew results/expected.yaml from the committed results")
    arguments = parser.parse_args()
    if arguments.write:
        return write()
    if not EXPECTED.exists():
        sys.exit(f"{EXPECTED.relative_to(REPOSITORY)} is not there: make readme writes it")
    expected = yaml.safe_load(EXPECTED.read_text())
    if arguments.profile not in expected:
        sys.exit(f"nothing is expected of profile {arguments.profile!r}: choose one of {', '.join(expected)}")
    expected = expected[arguments.profile]
    names = arguments.notebooks or list(expected)
    unknown = [name for name in names if name not in expected]
    if unknown:
        sys.exit(f"nothing is expected of {', '.join(unknown)}: choose among {', '.join(expected)}")
    if arguments.list:
        print(" ".join(names))
    elif arguments.models:
        print(training_needed(to_train(expected, names)))
    else:
        sys.exit(compare(arguments.profile, expected, names))


def training_needed(models: dict[str, int]) -> str:
    if not models:
        return "every trained model is there"
    lines = [f"  {seconds:5d} s  {model}" for model, seconds in models.items()]
    minutes = sum(models.values()) / 60
    return "\n".join([f"to be trained first, {len(models)} of the models (on one core it took {minutes:.0f} min):", *lines])


def compare(profile: str, expected: dict[str, dict], names: list[str]) -> int:
    """Prints what moved; returns 1 if anything did, or did not run.

    What a check computed is not kept beyond it, so that the next is as fresh; an interrupted one goes on.
    """
    ran = [name for name in names if (FRESH / profile / ".done" / name).exists()]
    found = expectation(FRESH / profile, (REPOSITORY / "README.md").read_text())
    moves = {name: moved(expected[name], found[name]) if name in ran else ["it did not run to its end"] for name in names}
    for name, lines in moves.items():
        print(f"{name:<27} {'as expected' if not lines else 'moved:'}")
        print("".join(f"    {line}\n" for line in lines), end="")
    if len(ran) == len(names):
        shutil.rmtree(FRESH / "checkpoints" / "cases", ignore_errors=True)
        for name in names:
            (FRESH / profile / ".done" / name).unlink()
    return int(any(moves.values()))


if __name__ == "__main__":
    main()
