"""A finished run becomes what is published: from runs/<profile>/ to results/<profile>/, then the README's parts.

python -m unsir_utils.report.publish --profile quick [NAMES]; for maintainers, `make publish`.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
from pathlib import Path

from ..data.paths import check_apart, experiments, of_notebook, published_root, results_root, sentence
from ..workshop.profiles import changed
from . import readme

KINDS = ("tables", "figures", "numbers", "seconds")


def publish(profile: str, names: list[str]) -> None:
    """Replaces what is published of these notebooks, and removes what is left of notebooks that are no more.

    names: none for all that the run tried. Raises ValueError, before anything is touched, where one did not end or
    ran with values that are not the profile's.
    """
    check_apart()
    run, published = results_root() / profile, published_root() / profile
    names = names or sorted({p.stem for folder in (run, run / "failed") for p in folder.glob("*.ipynb")})
    failed = [name for name in names if not (run / f"{name}.ipynb").exists() or (run / f"failed/{name}.ipynb").exists()]
    if failed or not names:
        what = f"did not run to their end: {', '.join(failed)}" if failed else "nothing was run"
        raise ValueError(f"{run}: {what}; make reproduce PROFILE={profile} first")
    if tweaked := [f"{name} ({', '.join(own)})" for name in names if (own := _tweaks(run, name))]:
        raise ValueError(f"{'; '.join(tweaked)} ran with other values than the profile's: run it anew without them")
    known = [p.stem for p in experiments()]
    for file in files(published):
        gone = not any(of_notebook(file.stem, name) for name in known)
        if gone or any(of_notebook(file.stem, name) for name in names):
            file.unlink()
    for file in files(run):
        if any(of_notebook(file.stem, name) for name in names):
            target = published / file.relative_to(run)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, target)


def _tweaks(run: Path, name: str) -> list[str]:
    """The parameters of a run that are not the profile's, or not any more."""
    return [*changed(name, json.loads((run / f"numbers/{name}.json").read_text())["parameters"])]


def files(profile: Path) -> list[Path]:
    """The executed copies of a profile and what they made."""
    return [p for pattern in ("*.ipynb", *(f"{kind}/*" for kind in KINDS)) for p in sorted(profile.glob(pattern))]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("notebooks", nargs="*", help="default: all that were run")
    parser.add_argument("--profile", default="quick")
    arguments = parser.parse_args()
    try:
        publish(arguments.profile, arguments.notebooks)
        readme.main()
    except (ValueError, OSError) as error:
        sys.exit(sentence(error))


if __name__ == "__main__":
    main()
