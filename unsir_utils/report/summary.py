"""The end of a run: seconds of each notebook, how it compares with what is published, what to open, what is missing."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

import nbformat

from ..data.paths import results_root, seconds_of, sentence
from ..workshop.run import one_line
from . import compare


def line(profile: Path, name: str) -> str:
    """One notebook of a run: its seconds and its executed copy, or why there is none."""
    copy, failed = profile / f"{name}.ipynb", profile / "failed" / f"{name}.ipynb"
    if ended(profile, name):
        seconds = seconds_of(copy) or 0
        return f"{name:<27} {seconds:7.1f} s   {os.path.relpath(copy)}"
    if failed.exists():
        return f"{name:<27}    FAILED   open {os.path.relpath(failed)}\n{'':<31}{why(failed)}"
    return f"{name:<27}   MISSING   it was not run to its end"


def ended(profile: Path, name: str) -> bool:
    return (profile / ".done" / name).exists() and (profile / f"{name}.ipynb").exists()


def why(failed: Path) -> str:
    """The error that a failed copy ends with."""
    outputs = [o for cell in nbformat.read(failed, as_version=4).cells for o in cell.get("outputs", [])]
    errors = [one_line(o.ename, o.evalue) for o in outputs if o.output_type == "error"]
    return errors[-1] if errors else "it was interrupted, or its kernel was killed, as for want of memory"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("notebooks", nargs="+")
    parser.add_argument("--profile", default="quick")
    parser.add_argument("--compare", action="store_true", help="with what is published")
    arguments = parser.parse_args()
    profile = results_root() / arguments.profile
    missing = [name for name in arguments.notebooks if not ended(profile, name)]
    there = [name for name in arguments.notebooks if name not in missing]
    print("\n".join(line(profile, name) for name in there))
    if arguments.compare and set(there) - {compare.GATHERED}:
        try:
            print(compare.report(arguments.profile, there)[0])
        except OSError as error:  # a full disk costs the comparison only
            print(f"not compared: {sentence(error)}")
    if there:
        print(f"open {os.path.relpath(profile / there[-1 if arguments.compare else 0])}.ipynb")
    if missing:
        print(f"{len(missing)} of {len(arguments.notebooks)} notebooks did not end:")
        sys.exit("\n".join(line(profile, name) for name in missing))


if __name__ == "__main__":
    main()
