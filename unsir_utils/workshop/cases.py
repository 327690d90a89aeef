"""Independent cases (model x classes x method x seed): a plain function of plain arguments that returns plain records.

Each finished case is kept, so that an interrupted notebook goes on where it stopped. Other code, other arguments, another
device or precision make it a new case; other data or other trained networks under the same names make it run anew.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path

import pandas as pd
import torch
from filelock import FileLock

from .identity import identity
from .progress import announce, within
from .provenance import kept_at, listening, load_once, machine, tell
from .store import checksum, write
from .workers import each


def run_cases(function: Callable[..., list[dict]], cases: Iterable[dict], label: str = "cases") -> pd.DataFrame:
    """One row a record of `function(**case)`, the case's arguments in front, in the order of the cases.

    function: takes and returns what json can hold (nan, too). The code that it reaches, the arguments, the versions, the
        device and the precision name the kept result (see `identity` and `provenance`); with it stand the fingerprints of
        the data and the networks that it used, and it is taken only while these are the same. Two processes that want one
        case compute it once; `workers` says where the missing ones run. Raises ValueError if the function reads a
        notebook's variable: what it depends on must be an argument.
    """
    code, cases, rows = identity(function), list(cases), []
    found = [_kept(_place(code, case)) for case in cases]
    missing = [case for case, kept in zip(cases, found, strict=True) if kept is None]
    n_kept = len(cases) - len(missing)  # told, and no part of the time that is left
    if n_kept and not missing:
        announce(f"{label}: all {n_kept} kept from before")
    told = f"{label} ({n_kept} more kept from before)" if n_kept else label
    try:
        made = iter(each(partial(_once, function, code), missing, told))
    except KeyboardInterrupt:
        print(f"Interrupted: finished {label} are kept; the same cell goes on after them.", file=sys.stderr)
        raise
    for case, there in zip(cases, found, strict=True):
        kept = there or next(made)
        shown = {k: v for k, v in case.items() if not isinstance(v, (list, tuple, dict))}
        for name, network in kept["made_from"]["networks"].items():
            tell("networks", name, network)
        rows += [{**shown, **record} for record in kept["records"]]
    return pd.DataFrame(rows)


def drop_cases(function: Callable[..., list[dict]], cases: Iterable[dict]) -> None:
    """Removes what `run_cases` kept of these, for what is to be measured anew the next time."""
    code = identity(function)
    for case in cases:
        _place(code, case).unlink(missing_ok=True)


def _once(function: Callable[..., list[dict]], code: str, case: dict) -> dict:
    """What is kept of the case, which runs now unless another process finished it meanwhile."""
    place = _place(code, case)
    place.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(place.with_suffix(".lock")):
        if kept := _kept(place):
            return kept
        with listening() as heard:
            records = function(**within(case))
        about = {"machine": machine(), "threads": torch.get_num_threads(), "function": function.__qualname__, "case": case}
        text = json.dumps({"records": records, "made_from": heard, **about})
        write(place, lambda to: to.write_text(text))
        return json.loads(text)


def _kept(place: Path) -> dict | None:
    """What is kept there, if the data and the networks that it was made from are still the same."""
    try:
        kept = json.loads(place.read_text())
        data, networks = kept["made_from"]["data"], kept["made_from"]["networks"]
    except (FileNotFoundError, json.JSONDecodeError, KeyError):
        return None
    same = all(checksum(name) == network["sha256"] for name, network in networks.items())
    same = same and all(load_once(**json.loads(arguments)).id == known for arguments, known in data.items())
    return kept if same else None


def _place(code: str, case: dict) -> Path:
    return kept_at("cases", ".json", code, machine(), case)
