"""Did a fresh run come to what the README quotes? results/expected.yaml holds that, by profile and notebook.

python -m unsir_utils.check --profile laptop 01_cifar10      compares results/check with what is expected
python -m unsir_utils.check --write                          renews results/expected.yaml from the committed results
"""

from __future__ import annotations

import argparse
import re
import shutil
import sys
from pathlib import Path

import pandas as pd
import yaml

from .paths import REPOSITORY, models_root, results_root
from .readme import PART, PROFILES

EXPECTED = REPOSITORY / "results" / "expected.yaml"
ABOUT = """\
# What README.md quotes of each profile's tables, and every verdict. `make readme` makes this file, `make check` compares a
# fresh run with it. A number may move by its tolerance, at least {least:g} of its unit and {spreads} times its spread
# (a standard deviation over seeds); words must be the same. models: seconds of training, where a run finds no trained
# ones; no other seconds are compared.
"""
NUMBER = re.compile(r"^>?([+-]?\d+(?:\.\d+)?)(?: ± (\d+(?:\.\d+)?))?$")
LEAST_TOLERANCE, SPREADS = 2.0, 3


def expectation(folder: Path, text: str) -> dict[str, dict]:
    """By notebook: its models, its verdicts, and the cells of its tables that `text` includes.

    folder: a profile's results.
    """
    found = {}
    for path in sorted(folder.glob("tables/*_findings.csv")):
        verdicts = _read(path).set_index("tested").verdict.to_dict()
        found.setdefault(path.stem.removesuffix("_findings"), {})["verdicts"] = verdicts
    notebooks = sorted((p.stem for p in folder.glob("*.ipynb")), key=len, reverse=True)
    for included in (Path(part[2]) for part in PART.finditer(text)):
        if included.parts[1:3] != (folder.name, "tables") or included.stem.endswith("_findings"):
            continue
        notebook = next(name for name in notebooks if included.stem.startswith(name))
        found.setdefault(notebook, {})[included.stem] = cells(_read(folder / "tables" / f"{included.stem}.csv"))
    for path in folder.glob("seconds/*_models.csv"):
        seconds = pd.read_csv(path).set_index("model").seconds.round().astype(int).to_dict()
        found.setdefault(path.stem.removesuffix("_models"), {})["models"] = seconds
    return dict(sorted(found.items()))


def cells(table: pd.DataFrame) -> dict[str, dict]:
    """By row (the columns up to the last that holds words), then by column: a number with its tolerance, if it is ours."""
    worded = [not all(NUMBER.match(cell) or cell == "" for cell in table[column]) for column in table]
    n_keys = max((i + 1 for i, words in enumerate(worded) if words), default=1)
    rows = {}
    for row in table.itertuples(index=False, name=None):
        numbers = zip(table.columns[n_keys:], row[n_keys:], strict=True)
        rows[" | ".join(row[:n_keys])] = {
            column: with_tolerance(cell) for column, cell in numbers if cell and not column.startswith("paper")
        }
    return rows


def with_tolerance(cell: str) -> dict[str, float]:
    """ "68.6 ± 0.8" -> value, spread, tolerance; of ">20" the number counts."""
    value, spread = NUMBER.match(cell).groups()
    known = {"spread": float(spread)} if spread else {}
    tolerance = round(max(LEAST_TOLERANCE, SPREADS * known.get("spread", 0.0)), 2)
    return {"value": float(value), **known, "tolerance": tolerance}


def moved(expected: dict, found: dict) -> list[str]:
    """A line for each expected cell or verdict that is not there, or not within its tolerance."""
    lines = []
    for table, rows in expected.items():
        for row, wanted in rows.items() if table != "models" else ():
            got = found.get(table, {}).get(row)
            if table == "verdicts" and got != wanted:
                lines.append(f"{row}: expected {wanted!r}, found {got!r}")
            elif table != "verdicts":
                lines += [f"{table}, {row}, {line}" for line in _outside(wanted, got or {})]
    return lines


def _outside(wanted: dict[str, dict], got: dict[str, dict]) -> list[str]:
    lines = []
    for column, cell in wanted.items():
        value = got.get(column, {}).get("value")
        if value is None or abs(value - cell["value"]) > cell["tolerance"]:
            lines.append(f"{column}: expected {cell['value']:g} ± {cell['tolerance']:g}, found {value}")
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
    return "\n".join([f"{len(models)} models will be trained first: about {minutes:.0f} minutes on one core", *lines])


def compare(profile: str, expected: dict[str, dict], names: list[str]) -> int:
    """Prints what moved; returns 1 if anything did. A finished check leaves no case behind: the next is as fresh."""
    found = expectation(results_root() / profile, (REPOSITORY / "README.md").read_text())
    moves = {name: moved(expected[name], found.get(name, {})) for name in names}
    for name, lines in moves.items():
        print(f"{name:<27} {'as expected' if not lines else f'{len(lines)} moved'}")
        print("".join(f"    {line}\n" for line in lines), end="")
    shutil.rmtree(results_root() / "checkpoints" / "cases", ignore_errors=True)
    shutil.rmtree(results_root() / profile / ".done", ignore_errors=True)
    return int(any(moves.values()))


if __name__ == "__main__":
    main()
