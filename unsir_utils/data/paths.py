"""Where things lie, and how the project's YAML files are read."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any

import yaml

REPOSITORY = Path(__file__).resolve().parents[2]
YAML = Path(__file__).parent  # the project's YAML files


def results_root() -> Path:
    """Where runs write; the environment variable UNSIR_RESULTS names another folder."""
    return _folder("UNSIR_RESULTS", REPOSITORY / "runs")


def published_root() -> Path:
    """The results that are committed, which no run changes."""
    return REPOSITORY / "results"


def check_apart() -> None:
    """Raises ValueError where runs would write over what is published."""
    if results_root().resolve().is_relative_to(published_root().resolve()):
        raise ValueError("UNSIR_RESULTS names results/, where what is published lies: name another folder, or unset it")


def models_root() -> Path:
    """Where trained models are kept; the environment variable UNSIR_MODELS names another folder."""
    return _folder("UNSIR_MODELS", results_root() / "checkpoints")


def data_root() -> Path:
    """Where data sets and weights are looked for; the environment variable UNSIR_DATA names another folder."""
    return _folder("UNSIR_DATA", REPOSITORY / "data")


def experiments(folder: Path = REPOSITORY / "notebooks") -> list[Path]:
    """The project's notebooks, as their names tell: what a reader adds (Untitled, 11_retain_share-Copy1) is none."""
    return sorted(p for p in folder.glob("*.ipynb") if re.fullmatch(r"\d\d_\w+", p.stem))


def profile_file(profile: str, relative: str | Path) -> Path:
    """A file of a profile, such as "tables/01_cifar10.csv": this machine's, or what is published where there is no run."""
    name = Path(relative).stem
    notebooks = [p.stem for p in experiments() if of_notebook(name, p.stem)]
    copy, run, published = f"{(notebooks or [name])[0]}.ipynb", results_root() / profile, published_root() / profile
    return (published if (published / copy).exists() and not (run / copy).exists() else run) / relative


def profile_files(profile: str, pattern: str) -> list[Path]:
    """The files of a profile that fit a pattern, such as "tables/*_paper.csv", each from where `profile_file` says."""
    roots = results_root() / profile, published_root() / profile
    files = {profile_file(profile, f.relative_to(root)) for root in roots for f in root.glob(pattern)}
    return sorted((f for f in files if f.exists()), key=lambda f: (f.name, str(f)))


def of_notebook(stem: str, notebook: str) -> bool:
    """Whether a file of this name, without its ending, belongs to the notebook."""
    return stem == notebook or stem.startswith(f"{notebook}_")


def seconds_of(copy: Path) -> float | None:
    """How long the run took that an executed copy is of, where it says so."""
    return json.loads(copy.read_text(encoding="utf-8"))["metadata"].get("unsir", {}).get("seconds")


def read_yaml(file: Path) -> Any:
    """What a YAML file of the project holds. Raises FileNotFoundError that says where the project's files come from."""
    if not file.exists():
        raise FileNotFoundError(
            f"{file} is not there: the notebooks and their profiles are no part of an installed package; clone the "
            "repository, then make env (or pip install -e . in it)"
        )
    return parse_yaml(file.read_text(encoding="utf-8"))


def sentence(error: Exception) -> str:
    """What went wrong, and with which file; an error of this project says so itself."""
    if isinstance(error, OSError) and error.errno is not None:
        return f"{error.strerror}: {error.filename or results_root()}"
    return str(error)


def parse_yaml(text: str) -> Any:
    """As `yaml.safe_load`, but 1e-3 and 1E5 are numbers, as YAML 1.2 says, and not words."""
    return yaml.load(text, Loader=_Loader)


# Compiled where yaml has it, and then several times as fast.
_Loader: Any = type("_Loader", (getattr(yaml, "CSafeLoader", yaml.SafeLoader),), {})
FLOAT = re.compile(r"^[-+]?(\d+\.?\d*|\.\d+)[eE][-+]?\d+$")
_Loader.add_implicit_resolver("tag:yaml.org,2002:float", FLOAT, list("-+.0123456789"))


def _folder(variable: str, default: Path) -> Path:
    """A relative folder is meant from the repository, wherever the kernel that asks was started."""
    return (REPOSITORY / Path(os.environ.get(variable) or default).expanduser()).resolve()
