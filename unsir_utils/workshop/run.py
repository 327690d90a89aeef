"""Runs a notebook in a profile: checks the parameters, executes a copy, keeps it under runs/<profile>/.

python -m unsir_utils.workshop.run notebooks/01_cifar10.ipynb --profile quick
"""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
import tempfile
import textwrap
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import nbformat
import papermill
import yaml
from jupyter_client.kernelspec import KernelSpec
from jupyter_client.manager import AsyncKernelManager
from papermill.exceptions import PapermillExecutionError
from traitlets.config import Config
from zmq import ZMQError

from ..data.paths import REPOSITORY, check_apart, experiments, parse_yaml, seconds_of, sentence
from ..engine import precision_setting
from .cards import own_card, threads, workers
from .profiles import DEFAULT, NOTEBOOKS, check_parameters, defaults, folder_of, profile_values, profiles

KERNEL_SETTINGS = {
    "TQDM_DISABLE": "1",
    "GOMP_SPINCOUNT": "0",  # several kernels share the cores: idle threads must sleep, not spin
    "OMP_WAIT_POLICY": "passive",
    "CUBLAS_WORKSPACE_CONFIG": ":4096:8",
}


def check(notebook: Path, profile: str, overrides: dict | None = None) -> dict:
    """The values that the notebook would run with. Raises ValueError for a bad notebook, profile, parameter or setting."""
    if not notebook.exists():
        known = ", ".join(p.stem for p in experiments(NOTEBOOKS))
        raise ValueError(f"no notebook {notebook}: choose one of {known}")
    precision_setting(), workers(), threads()
    check_apart()
    if "profile" in (overrides or {}):
        raise ValueError("profile is no parameter to change: name one by --profile")
    values = {**profile_values(profile).get(notebook.stem, {}), **(overrides or {}), "profile": profile}
    check_parameters(notebook, values)
    return values


def run(notebook: Path, profile: str = DEFAULT, overrides: dict | None = None) -> Path:
    """Executes a copy of the notebook; returns its path, runs/<profile>/<name>.ipynb; with changes see `folder_of`.

    The copy has another name until it succeeds; one that fails stays in runs/<profile>/failed/. Raises ValueError as
    `check` does before any kernel starts; RuntimeError, one line that names the failed copy, for a cell or kernel that
    fails.
    """
    values = check(notebook, profile, overrides)
    folder = folder_of(notebook.stem, defaults(notebook) | values)
    notebook, done, failed = notebook.resolve(), folder / notebook.name, folder / "failed" / notebook.name
    failed.parent.mkdir(parents=True, exist_ok=True)
    failed.unlink(missing_ok=True)
    os.environ.update({"OMP_NUM_THREADS": str(threads()), **KERNEL_SETTINGS})
    try:
        _execute(notebook, failed, values)
    except PapermillExecutionError as error:
        what = f"{notebook.stem} failed in cell {error.exec_count}: {one_line(error.ename, error.evalue)}"
        raise RuntimeError(f"{what}: open {failed}") from error
    except (RuntimeError, ZMQError) as error:  # the kernel did not start, or was killed, as for want of memory
        place = f": open {failed}" if failed.exists() else ""
        raise RuntimeError(f"{notebook.stem}: its kernel failed: {one_line(type(error).__name__, error)}{place}") from error
    _tidy(failed)
    failed.replace(done)
    return done


def _execute(notebook: Path, copy: Path, values: dict) -> None:
    """Kernels start in the repository; papermill keeps the paths that it is given."""
    with _sockets() as transport, own_card(), _passed_on(notebook.stem), contextlib.chdir(REPOSITORY):
        papermill.execute_notebook(
            os.path.relpath(notebook),
            os.path.relpath(copy.resolve()),
            parameters=values,
            kernel_name="python3",
            progress_bar=False,
            kernel_manager_class=ThisPython,
            # a kernel is interrupted when it is done, and would report that as an error
            config=Config(
                {"KernelManager": transport, "NotebookClient": {"extra_arguments": ["--IPKernelApp.log_level=CRITICAL"]}}
            ),
        )


@contextlib.contextmanager
def _passed_on(name: str) -> Iterator[None]:
    """Prints meanwhile what the kernel and its workers write about their progress, as their own output is the notebook's."""
    with tempfile.NamedTemporaryFile("r", prefix="unsir-") as log:
        os.environ["UNSIR_PROGRESS"], over = log.name, threading.Event()

        def listen() -> None:
            while not over.wait(1.0):
                for line in log:
                    print(f"{name:<27} {line}", end="", flush=True)

        listener = threading.Thread(target=listen)
        listener.start()
        try:
            yield
        finally:
            over.set()
            listener.join()
            os.environ.pop("UNSIR_PROGRESS", None)


class ThisPython(AsyncKernelManager):
    """A kernel of the interpreter that runs this, whatever a kernelspec `python3` of this machine may name."""

    @property
    def kernel_spec(self) -> KernelSpec:
        command = [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"]
        return KernelSpec(argv=command, display_name="Python 3", language="python")


@contextlib.contextmanager
def _sockets() -> Iterator[dict[str, str]]:
    """Where a kernel listens. Kernels that start together race for TCP ports, and for ipc sockets unless each has a folder
    of its own; a socket's path has at most 103 characters."""
    places = [place for place in (tempfile.gettempdir(), "/tmp") if len(os.fsencode(place)) < 70]
    short = [place for place in places if os.access(place, os.W_OK)]
    if not short:
        yield {"transport": "tcp"}
        return
    with tempfile.TemporaryDirectory(prefix="unsir-", dir=short[0]) as folder:
        yield {"transport": "ipc", "ip": f"{folder}/kernel"}


def one_line(name: str, text: object) -> str:
    """ "ValueError: what it says", cut to a line."""
    first = next((line.strip() for line in str(text).splitlines() if line.strip()), "")
    return textwrap.shorten(f"{name}: {first}", 300, placeholder=" ...")


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


def _last_time(notebook: Path, values: dict) -> str:
    copy = folder_of(notebook.stem, defaults(notebook) | values) / notebook.name
    seconds = seconds_of(copy) if copy.exists() else None
    return f"; {seconds:.0f} s the last time" if seconds else ""


def _parsed(pair: str) -> tuple[str, object]:
    name, equals, value = pair.partition("=")
    try:
        if equals:
            return name, parse_yaml(value)
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
    parser.add_argument("--check", action="store_true", help="only check what would run")
    arguments = parser.parse_args()
    try:
        overrides = dict(_parsed(p) for p in arguments.parameter)
        asked = [(notebook, check(notebook, arguments.profile, overrides)) for notebook in arguments.notebooks]
        for notebook, values in asked if not arguments.check else ():
            told = f"running, profile {arguments.profile}{_last_time(notebook, values)}"
            print(f"{notebook.stem:<27} {told}", flush=True)
            start = time.perf_counter()
            done = run(notebook, arguments.profile, overrides)
            print(f"{notebook.stem:<27} {time.perf_counter() - start:7.1f} s   {os.path.relpath(done)}", flush=True)
    except (ValueError, RuntimeError, OSError) as error:
        sys.exit(sentence(error))
    except KeyboardInterrupt:
        print("interrupted: the same command goes on after the last finished case", file=sys.stderr)
        sys.exit(130)


if __name__ == "__main__":
    main()
