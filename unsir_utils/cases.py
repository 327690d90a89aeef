"""Independent cases (model x classes x method x seed): a plain function of plain arguments that returns plain records.

Each finished case is kept, so that an interrupted notebook goes on where it stopped; a change of the code, of the
arguments or of the libraries makes it a new case.
"""

from __future__ import annotations

import dis
import hashlib
import inspect
import json
from collections.abc import Callable, Iterable
from pathlib import Path
from types import CodeType

import pandas as pd
import torch

from .forward import cpu_has_bfloat16
from .paths import results_root
from .progress import progress
from .store import ASKED_FOR

PRESENTATION = {
    "__init__.py",
    "check.py",
    "paths.py",
    "plots.py",
    "progress.py",
    "readme.py",
    "report.py",
    "results.py",
    "run.py",
    "summary.py",
}  # no record depends on these
SOURCES = [p for p in sorted(Path(__file__).parent.glob("*.py")) if p.name not in PRESENTATION]


def run_cases(function: Callable[..., list[dict]], cases: Iterable[dict], label: str = "cases") -> pd.DataFrame:
    """One row a record of `function(**case)`, the case's arguments in front, in the order of the cases.

    function: takes and returns what json can hold. Its source and that of the notebook's functions that it calls, this
        package's, and torch's version name the kept result. Raises ValueError if it reads a notebook's variable: what it
        depends on must be an argument.
    """
    source, rows = _source(function), []
    for case in progress(list(cases), label):
        path = _kept(source, case)
        if not path.exists():
            before = set(ASKED_FOR)
            records = function(**case)
            trained = {name: seconds for name, seconds in ASKED_FOR.items() if name not in before}
            path.parent.mkdir(parents=True, exist_ok=True)
            temporary = path.with_suffix(".tmp")
            temporary.write_text(json.dumps({"records": records, "models": trained}))
            temporary.replace(path)
        shown = {k: v for k, v in case.items() if not isinstance(v, (list, dict))}
        kept = json.loads(path.read_text())
        ASKED_FOR.update(kept["models"])
        rows += [{**shown, **record} for record in kept["records"]]
    return pd.DataFrame(rows)


def drop_cases(function: Callable[..., list[dict]], cases: Iterable[dict]) -> None:
    """Removes what `run_cases` kept of these, for what is to be measured anew the next time."""
    source = _source(function)
    for case in cases:
        _kept(source, case).unlink(missing_ok=True)


def _kept(source: str, case: dict) -> Path:
    return results_root() / "checkpoints" / "cases" / f"{_fingerprint(source, case)}.json"


def _fingerprint(code: str, case: dict) -> str:
    digest = hashlib.blake2b(digest_size=12)
    for source in SOURCES:
        digest.update(source.read_bytes())
    digest.update(code.encode())
    cpu = f"cpu {cpu_has_bfloat16()} {torch.get_num_threads()}"
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else cpu
    digest.update(json.dumps([case, torch.__version__, device], sort_keys=True).encode())
    return digest.hexdigest()


def _source(function: Callable, seen: frozenset[str] = frozenset()) -> str:
    """The source and default arguments of a function and of the functions of its own module that it calls."""
    text = inspect.getsource(function) + repr((function.__defaults__, function.__kwdefaults__))
    seen |= {function.__name__}
    if function.__closure__:
        raise ValueError(f"{function.__name__} closes over variables: pass them as arguments of each case")
    for name in sorted(_globals_read(function.__code__) & function.__globals__.keys()):
        value = function.__globals__[name]
        if inspect.isfunction(value) and value.__module__ == function.__module__:
            text += "" if name in seen else _source(value, seen)
        elif function.__module__ == "__main__" and not _is_imported(value):
            raise ValueError(f"{function.__name__} reads {name}, which the notebook defines: pass it as an argument")
    return text


def _globals_read(code: CodeType) -> set[str]:
    """The global names that a function reads, in its comprehensions, lambdas and inner functions, too."""
    names = {i.argval for i in dis.get_instructions(code) if i.opname == "LOAD_GLOBAL"}
    return names.union(*(_globals_read(c) for c in code.co_consts if isinstance(c, CodeType)))


def _is_imported(value: object) -> bool:
    return inspect.ismodule(value) or (callable(value) and getattr(value, "__module__", None) != "__main__")
