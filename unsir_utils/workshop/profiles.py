"""Profiles: which values the notebooks run with. `quick` is the notebooks' own parameters cells."""

from __future__ import annotations

import ast
import hashlib
import json
import re
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from ..data.paths import REPOSITORY, check_apart, experiments, published_root, read_yaml, results_root

NOTEBOOKS = REPOSITORY / "notebooks"
PROFILES = NOTEBOOKS / "profiles"
DEFAULT = "quick"  # the notebooks' own values
MINE = "mine"  # the same, kept apart: what JupyterLab runs


def profiles() -> list[str]:
    return [DEFAULT, MINE, *sorted(p.stem for p in PROFILES.glob("*.yaml"))]


def profile_values(profile: str) -> dict[str, dict]:
    """The profile's values, by notebook. Raises ValueError for an unknown profile, notebook or part of its file.

    Its file holds values by notebook; `shared`, values for every notebook that has a parameter of the name, behind its own;
    and `as_in_quick`, notebooks that keep the values of their parameters cells.
    """
    if profile not in profiles():
        raise ValueError(f"unknown profile {profile!r}: choose one of {', '.join(profiles())}")
    if profile in (DEFAULT, MINE):
        return {}
    own = _read(PROFILES / f"{profile}.yaml")
    shared, as_in_quick = own.pop("shared", {}), own.pop("as_in_quick", [])
    known = {path.stem: defaults(path) for path in experiments(NOTEBOOKS)}
    if unknown := [name for name in [*own, *as_in_quick] if name not in known]:
        raise ValueError(f"profile {profile} names notebooks that do not exist: {', '.join(unknown)}")
    if unused := [name for name in shared if not any(name in usual for usual in known.values())]:
        raise ValueError(f"profile {profile} shares what is no parameter of any notebook: {', '.join(unused)}")
    taken = {name: {k: v for k, v in shared.items() if k in usual} for name, usual in known.items()}
    return {name: {} if name in as_in_quick else taken[name] | own.get(name, {}) for name in known}


def _read(file: Path) -> dict[str, Any]:
    """Raises ValueError, with the file, where it is no YAML or holds something else than a profile does."""
    try:
        own = read_yaml(file) or {}
    except yaml.YAMLError as error:
        raise ValueError(f"{file} is no YAML: {error}") from error
    if not isinstance(own, dict):
        raise ValueError(f"{file} holds a {type(own).__name__}: expected parameters by notebook")
    for name, values in own.items():
        kind = list if name == "as_in_quick" else dict
        if not isinstance(values, kind):
            raise ValueError(f"{file}: {name} holds {values!r}: expected a {kind.__name__}")
    return own


def defaults(notebook: Path) -> dict[str, Any]:
    """A notebook's parameters, as its parameters cell has them."""
    return {name: ast.literal_eval(line.value) for name, line in _lines(notebook).items()}


def types(notebook: Path) -> dict[str, str]:
    """The type of each parameter as its line names it, whatever a reader has put there as its value."""
    lines = _lines(notebook).items()
    return {name: ast.unparse(line.annotation) if isinstance(line, ast.AnnAssign) else "" for name, line in lines}


def _lines(notebook: Path) -> dict[str, Any]:
    return dict(_parsed(notebook, notebook.stat().st_mtime_ns))


@cache
def _parsed(notebook: Path, changed: int) -> dict[str, ast.AnnAssign | ast.Assign]:
    """The assignments of the parameters cell, by name. Raises ValueError where there is not one such cell."""
    try:
        cells = json.loads(notebook.read_text(encoding="utf-8"))["cells"]
    except (json.JSONDecodeError, KeyError, TypeError) as error:
        raise ValueError(f"{notebook} is no notebook: expected one of notebooks/") from error
    tagged = ["".join(c["source"]) for c in cells if "parameters" in c["metadata"].get("tags", [])]
    if len(tagged) != 1:
        raise ValueError(f"{notebook} has {len(tagged)} cells tagged `parameters`: tag the one that holds the parameters")
    found = {}
    for line in ast.parse(tagged[0]).body:
        if isinstance(line, (ast.AnnAssign, ast.Assign)):
            target = line.target if isinstance(line, ast.AnnAssign) else line.targets[0]
            found[ast.unparse(target)] = line
    return found


def parameters(notebook: str, profile: str) -> dict[str, Any]:
    """All of a notebook's parameters in a profile. In `mine` they lie over those that it was published with, if it ever was:
    what a reader edits in the parameters cell is a change, and no default."""
    published, own = published_root() / DEFAULT / f"{notebook}.ipynb", NOTEBOOKS / f"{notebook}.ipynb"
    base = published if profile == MINE and published.exists() else own
    return defaults(base) | profile_values(profile).get(notebook, {})


def changed(notebook: str, values: dict[str, Any]) -> dict[str, Any]:
    """What of a run's values is not its profile's; `values` holds `profile`, too."""
    usual = parameters(notebook, values["profile"])
    return {k: v for k, v in values.items() if k in usual and k != "profile" and v != usual[k]}


def folder_of(notebook: str, values: dict[str, Any]) -> Path:
    """Where a run of these values writes: runs/<profile>, and there a folder of its own for each set of changes, which no
    report gathers. Raises ValueError where that is in results/."""
    check_apart()
    folder, own = results_root() / values["profile"], changed(notebook, values)
    return folder / _name(own) if own else folder


def _name(changes: dict[str, Any]) -> str:
    """ "copies=4-1f9a2c": readable as far as it goes, and another for any other changes."""
    words = re.sub(r"[^\w.=]+", "-", ",".join(f"{k}={v}" for k, v in changes.items()))[:40].strip("-")
    return f"{words}-{hashlib.blake2b(repr(sorted(changes.items())).encode(), digest_size=3).hexdigest()}"


def check_parameters(notebook: Path, given: dict) -> None:
    """Raises ValueError for a name that is no parameter of the notebook, or a value of another type than its default.

    So it is within lists and dicts, as far as these share names. An int may stand for a float; None, and anything for a
    default of None, is always allowed.
    """
    own = defaults(notebook)
    for name, value in given.items():
        if name not in own:
            raise ValueError(f"{notebook.name} has no parameter {name!r}: its parameters are {', '.join(own)}")
        _check(f"parameter {name} of {notebook.name}", value, own[name])


def _check(what: str, value: object, default: object) -> None:
    if value is None or default is None or (type(value), type(default)) == (int, float):
        return
    if type(value) is not type(default):
        got, wanted = type(value).__name__, type(default).__name__
        raise ValueError(f"{what} is {value!r}, a {got}: expected a {wanted}, like its default {default!r}")
    if isinstance(value, dict) and isinstance(default, dict):
        for key in value.keys() & default.keys():
            _check(f"{key} in {what}", value[key], default[key])
    if isinstance(value, list) and isinstance(default, list) and default:
        for item in value:
            _check(f"an entry of {what}", item, default[0])
