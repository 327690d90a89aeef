"""Runs a notebook in a profile: checks the parameters, executes a copy, keeps it under results/<profile>/.

python -m unsir_utils.run notebooks/01_cifar10.ipynb --profile quick
"""

from __future__ import annotations

import argparse
import ast
import contextlib
import os
import sys
import tempfile
import time
from pathlib import Path

import nbformat
import papermill
import yaml
from papermill.exceptions import PapermillExecutionError
from traitlets.config import Config

from .paths import REPOSITORY, results_root

NOTEBOOKS = REPOSITORY / "notebooks"
PROFILES = NOTEBOOKS / "profiles"
DEFAULT = "quick"  # the notebooks' own values
MINE = "mine"  # the same, kept apart from the committed results; for changes with -p
KERNEL_SETTINGS = {
    "TQDM_DISABLE": "1",
    "GOMP_SPINCOUNT": "0",  # several kernels share the cores: idle threads must sleep, not spin
    "OMP_WAIT_POLICY": "passive",
    "CUBLAS_WORKSPACE_CONFIG": ":4096:8",
}


def profiles() -> list[str]:
    return [DEFAULT, MINE, *sorted(p.stem for p in PROFILES.glob("*.yaml"))]


def profile_values(profile: str) -> dict[str, dict]:
    """The profile's overrides, by notebook. Raises ValueError for an unknown profile or notebook."""
    if profile not in profiles():
        raise ValueError(f"unknown profile {profile!r}: choose one of {', '.join(profiles())}")
    if profile in (DEFAULT, MINE):
        return {}
    values = yaml.safe_load((PROFILES / f"{profile}.yaml").read_text()) or {}
    unknown = [name for name in values if not (NOTEBOOKS / f"{name}.ipynb").exists()]
    if unknown:
        raise ValueError(f"profile {profile} names notebooks that do not exist: {', '.join(unknown)}")
    return values


def check_parameters(notebook: Path, given: dict) -> None:
    """Raises ValueError for a name that is no parameter of the notebook, or a value of another type than its default.

    An int may stand for a float; None, and anything for a default of None, is always allowed.
    """
    defaults = {name: ast.literal_eval(p["default"]) for name, p in papermill.inspect_notebook(str(notebook)).items()}
    for name, value in given.items():
        if name not in defaults:
            raise ValueError(f"{notebook.name} has no parameter {name!r}: its parameters are {', '.join(defaults)}")
        wanted, got = type(defaults[name]), type(value)
        if defaults[name] is not None and value is not None and got is not wanted and (wanted, got) != (float, int):
            raise ValueError(
                f"parameter {name} of {notebook.name} is {value!r}, a {got.__name__}: expected a {wanted.__name__}, "
                f"like its default {defaults[name]!r}"
            )


def run(notebook: Path, profile: str = DEFAULT, overrides: dict | None = None) -> Path:
    """Executes a copy of the notebook; returns its path, results/<profile>/<name>.ipynb.

    The copy has another name until it succeeds; one that fails stays in results/<profile>/failed/. Raises ValueError for
    a bad notebook, profile or parameter before any kernel starts; RuntimeError, with the failed copy's path, for a
    cell that fails.
    """
    if not notebook.exists():
        known = ", ".join(sorted(p.stem for p in NOTEBOOKS.glob("*.ipynb")))
        raise ValueError(f"no notebook {notebook}: choose one of {known}")
    values = {**profile_values(profile).get(notebook.stem, {}), **(overrides or {}), "profile": profile}
    check_parameters(notebook, values)
    folder = results_root() / profile
    notebook, done, failed = notebook.resolve(), folder / notebook.name, folder / "failed" / notebook.name
    failed.parent.mkdir(parents=True, exist_ok=True)
    failed.unlink(missing_ok=True)
    os.environ.update({"OMP_NUM_THREADS": os.environ.get("UNSIR_THREADS", "1"), **KERNEL_SETTINGS})
    try:
        with tempfile.TemporaryDirectory(prefix="unsir-") as sockets, contextlib.chdir(REPOSITORY):
            # Kernels start in the repository; papermill keeps the paths that it is given. Kernels that start together race
            # for TCP ports, and for ipc sockets, too, unless each has a folder of its own.
            papermill.execute_notebook(
                os.path.relpath(notebook),
                os.path.relpath(failed.resolve()),
                parameters=values,
                kernel_name="python3",
                progress_bar=False,
                config=Config(
                    {
                        "KernelManager": {"transport": "ipc", "ip": f"{sockets}/kernel"},
                        # a kernel is interrupted when it is done, and would report that as an error
                        "NotebookClient": {"extra_arguments": ["--IPKernelApp.log_level=CRITICAL"]},
                    }
                ),  # fmt: skip
            )
    except PapermillExecutionError as error:
        raise RuntimeError(f"{notebook.stem} failed in cell {error.exec_count}: open {failed}\n{error}") from error
    _tidy(failed)
    failed.replace(done)
    return done


def _tidy(path: Path) -> None:
    """Keeps of papermill's records only the duration of the whole run: the rest differs from run to run."""
    notebook = nbformat.read(path, as_version=4)
    seconds = notebook.metadata.pop("papermill", {}).get("duration")
    notebook.metadata["unsir"] = {"seconds": round(seconds, 1) if seconds else None}
    for number, cell in enumerate(notebook.cells):
        cell.id = f"cell-{number}"
        for key in ("papermill", "execution"):
            cell.metadata.pop(key, None)
    nbformat.write(notebook, path)


def _last_time(notebook: Path, profile: str) -> str:
    copy = results_root() / profile / notebook.name
    seconds = nbformat.read(copy, as_version=4).metadata.get("unsir", {}).get("seconds") if copy.exists() else None
    return f"; {seconds:.0f} s the last time" if seconds else ""


def _parsed(pair: str) -> tuple[str, object]:
    name, equals, value = pair.partition("=")
    try:
        if equals:
            return name, yaml.safe_load(value)
    except yaml.YAMLError as error:
        raise ValueError(f"the value of {name} is not YAML: {error}") from error
    raise ValueError(f"{pair!r} is no parameter: write NAME=VALUE")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("notebooks", type=Path, nargs="+")
    parser.add_argument("--profile", default=DEFAULT, help=f"one of {', '.join(profiles())}; default {DEFAULT}")
    parser.add_argument(
        "-p", "--parameter", action="append", default=[], metavar="NAME=VALUE", help="override one parameter"
    )
    arguments = parser.parse_args()
    try:
        overrides = dict(_parsed(p) for p in arguments.parameter)
        for notebook in arguments.notebooks:
            print(
                f"{notebook.stem:<27} running, profile {arguments.profile}{_last_time(notebook, arguments.profile)}",
                flush=True,
            )
            start = time.perf_counter()
            done = run(notebook, arguments.profile, overrides)
            print(f"{notebook.stem:<27} {time.perf_counter() - start:7.1f} s   {os.path.relpath(done)}", flush=True)
    except (ValueError, RuntimeError, FileNotFoundError) as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
