"""Prints a line per executed notebook: seconds, where it is; then the page to open."""

from __future__ import annotations

import argparse
import json
import os

from .paths import results_root


def summary(profile: str, names: list[str]) -> str:
    lines = []
    for name in names:
        path = results_root() / profile / f"{name}.ipynb"
        seconds = json.loads(path.read_text())["metadata"]["unsir"]["seconds"]
        lines.append(f"{name:<27} {seconds:7.1f} s   {os.path.relpath(path)}")
    return "\n".join([*lines, f"open {os.path.relpath(results_root() / profile / names[0])}.ipynb"])


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("notebooks", nargs="+")
    parser.add_argument("--profile", default="quick")
    arguments = parser.parse_args()
    print(summary(arguments.profile, arguments.notebooks))
