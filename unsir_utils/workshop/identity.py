"""Which code a function runs: its own and all that it reaches, as this process imported it, not as the files read now.

Comments, docstrings and places in a file are no part of it.
"""

from __future__ import annotations

import builtins
import dis
import functools
import hashlib
import importlib
import inspect
import re
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import MISSING, is_dataclass
from importlib.util import resolve_name
from pathlib import Path
from types import BuiltinFunctionType, CodeType, FunctionType, ModuleType
from typing import Any

import torch

from ..engine.samples import Samples
from . import models

PACKAGE = __package__.partition(".")[0]
# Data and trained networks are known by their fingerprints; the others only keep, place or show.
UNSEEN = [f"{PACKAGE}.data.", f"{PACKAGE}.engine.datasets"] + [
    f"{PACKAGE}.workshop.{name}"
    for name in "cases checkpoints identity noise_store progress provenance store workers".split()
]
UNBOUNDED = ("eval", "exec", "globals", "vars", "__import__")  # they reach what no one can foresee
PLAIN = (type(None), bool, int, float, complex, str, bytes, range, slice, type(...), re.Pattern, torch.dtype, torch.device)
NO_CODE = {"__module__", "__qualname__", "__doc__", "__dict__", "__weakref__", "__annotations__", "__match_args__"}
NO_CODE |= {"__dataclass_params__", "__firstlineno__", "__static_attributes__", "__abstractmethods__", "_abc_impl"}


def identity(function: Callable) -> str:
    """A fingerprint of the function's code and of that of every function and class that it reaches.

    It may reach functions and classes, its notebook's and this package's, and installed libraries, which count by their
    version. Raises ValueError if it reads anything else, above all a variable: what it depends on must be an argument.
    """
    if not inspect.isfunction(function):
        raise ValueError(
            f"a case must be a function, not a {type(function).__name__}: give its settings as arguments of each case"
        )
    reached = _Reached()
    reached.function(function)
    reached.value([models.build, Samples], "the package")  # the code of what the store and the data sets hand out
    return hashlib.blake2b("\n".join(reached.parts).encode(), digest_size=12).hexdigest()


class _Reached:
    def __init__(self) -> None:
        self.parts: list[str] = []
        self.seen: dict[int, object] = {}

    def function(self, function: FunctionType) -> None:
        module = function.__globals__["__name__"]  # of the code: a wrapper's __module__ is what it wraps
        if self._is_known(function, module):
            return
        if not _is_installed(module):
            self._body(function, own=_is_own(module))
        if hasattr(function, "__wrapped__"):
            self.value(function.__wrapped__, function.__qualname__)

    def _body(self, function: FunctionType, own: bool) -> None:
        code, name = function.__code__, function.__qualname__
        if own and set(code.co_freevars) - {"__class__"}:
            raise ValueError(f"{name} closes over variables: pass them as arguments of each case")
        self.parts.append(_steps(code))
        self.value([function.__defaults__, function.__kwdefaults__], name)
        for cell in function.__closure__ or ():
            self.value(cell.cell_contents, name)
        for read, value, home in sorted(_reads(code, function.__globals__, name), key=lambda read: read[0]):
            if _is_own(home):
                self._own_may_read(value, name, read)
            self.value(value, f"{name}: {read}")

    def _own_may_read(self, value: object, reader: str, name: str) -> None:
        named = inspect.isfunction(value) or inspect.isclass(value) or inspect.ismodule(value)
        if not (named or isinstance(value, functools._lru_cache_wrapper) or _is_of_library(value)):
            raise ValueError(f"{reader} reads {name}, which the notebook defines: pass it as an argument")
        if f"{getattr(value, '__module__', '')}.{getattr(value, '__name__', '')}" == f"{PACKAGE}.data.sets.load":
            raise ValueError(
                f"{reader} reads {name}: use study.load_once, so that the case is kept with its data's fingerprint"
            )

    def value(self, value: object, what: str) -> None:
        """A function, a class, or a constant as a global of this package, a default argument or a class's attribute."""
        if isinstance(value, (functools._lru_cache_wrapper, staticmethod, classmethod)):
            value = value.__wrapped__
        if inspect.isfunction(value):
            self.function(value)
        elif inspect.isclass(value):
            self._class(value)
        elif isinstance(value, PLAIN):
            self.parts.append(repr(value))
        elif isinstance(value, (tuple, list)):
            self._each(value, what, "[")
        elif isinstance(value, (set, frozenset)):
            self._each(sorted(value, key=repr), what, "{")
        elif isinstance(value, Mapping):
            self._each([part for key in sorted(value, key=repr) for part in (key, value[key])], what, "dict")
        elif is_dataclass(value):
            self.value([type(value), vars(value)], what)
        elif isinstance(value, property):
            self.value([value.fget, value.fset], what)
        elif isinstance(value, functools.cached_property):
            self.value(value.func, what)
        elif inspect.ismodule(value) and _is_installed(value.__name__) or _is_of_library(value):
            self.parts.append(_library_name(value))
        elif isinstance(value, Path):  # where things lie changes no number; the settings in a file may
            self.parts.append(hashlib.sha256(value.read_bytes()).hexdigest() if value.is_file() else "")
        else:
            kind = "module" if inspect.ismodule(value) else type(value).__qualname__
            raise ValueError(
                f"{what} is a {kind}, of which no one can tell what it does: read functions and classes by name"
            )

    def _each(self, values: list | tuple, what: str, kind: str) -> None:
        self.parts.append(f"{kind} {len(values)}")
        for value in values:
            self.value(value, what)

    def _class(self, kind: type) -> None:
        if self._is_known(kind, kind.__module__) or _is_installed(kind.__module__):
            return
        self._each(kind.__bases__, kind.__qualname__, "bases")
        for name, value in sorted(vars(kind).items()):
            if name == "__dataclass_fields__":
                value = [(n, type(None) if f.default is MISSING else f.default) for n, f in value.items()]
            if name not in NO_CODE and not _is_generated(value):
                self.value([name, value], f"{kind.__qualname__}.{name}")

    def _is_known(self, value: FunctionType | type, module: str) -> bool:
        """Notes its name; whether there is no more to say of it."""
        known = id(value) in self.seen or module.startswith(tuple(UNSEEN))
        self.seen[id(value)] = value
        self.parts.append(_library_name(value) if _is_installed(module) else f"{module}.{value.__qualname__}")
        return known


@functools.cache
def _instructions(code: CodeType) -> tuple[dis.Instruction, ...]:
    return tuple(dis.get_instructions(code))


@functools.cache
def _steps(code: CodeType) -> str:
    """The compiled code without line numbers, file name and docstring."""
    n_arguments = code.co_argcount + code.co_kwonlyargcount
    arguments = code.co_posonlyargcount, code.co_kwonlyargcount, code.co_varnames[:n_arguments]
    steps = []
    for step in _instructions(code):
        in_python_3_11 = step.opname == "KW_NAMES"  # whose names dis does not know there
        steps.append(f"{step.opname} {_constant(code.co_consts[step.arg or 0] if in_python_3_11 else step.argval)}")
    return f"{arguments} {steps} {code.co_exceptiontable!r}"


def _constant(value: object) -> str:
    if isinstance(value, CodeType):
        return _steps(value)
    if isinstance(value, (tuple, frozenset)):  # a set's order differs from process to process
        parts = [_constant(v) for v in value]
        return f"{type(value).__name__} {sorted(parts) if isinstance(value, frozenset) else parts}"
    return repr(value)


def _reads(code: CodeType, names: dict, reader: str) -> Iterator[tuple[str, object, str]]:
    """The globals that some code reads, in its comprehensions and inner functions, too: name, value, whose module it is of.

    `module.attribute` is one name.
    """
    steps = _instructions(code)
    for i, step in enumerate(steps):
        if step.opname == "IMPORT_NAME":
            yield from _imported(step.argval, steps[i - 2].argval, steps[i - 1].argval, names, reader)
        elif step.opname in ("LOAD_GLOBAL", "LOAD_NAME") and step.argval in names:
            yield _attribute(step.argval, names[step.argval], names["__name__"], steps[i + 1 :])
        elif step.opname in ("LOAD_GLOBAL", "LOAD_NAME") and step.argval in UNBOUNDED and hasattr(builtins, step.argval):
            if _is_own(names["__name__"]):
                raise ValueError(f"{reader} calls {step.argval}, which may read anything: pass what it needs as arguments")
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _reads(constant, names, reader)


def _attribute(name: str, value: Any, home: str, following: tuple[dis.Instruction, ...]) -> tuple[str, object, str]:
    """What stands at module.module.attribute. A library is not entered."""
    for step in following:
        enters = inspect.ismodule(value) and not _is_installed(value.__name__)
        if not enters or step.opname not in ("LOAD_ATTR", "LOAD_METHOD") or not hasattr(value, step.argval):
            break
        name, value, home = f"{name}.{step.argval}", getattr(value, step.argval), value.__name__
    return name, value, home


def _imported(name: str, level: int, parts: tuple | None, names: dict, reader: str) -> Iterator[tuple[str, object, str]]:
    """What a function imports inside itself."""
    name = resolve_name("." * level + name, names.get("__package__"))
    if _is_installed(name):
        return
    if not parts:
        raise ValueError(
            f"{reader} imports {name} inside itself: import it in a cell, or the functions that it needs by name"
        )
    module = importlib.import_module(name)
    for part in parts:
        yield f"{name}.{part}", getattr(module, part), name


def _is_own(module: str) -> bool:
    """Of the notebook, or of a file beside it."""
    return module.partition(".")[0] != PACKAGE and not _is_installed(module)


@functools.cache
def _is_installed(name: str) -> bool:
    """A library's module, or Python's own."""
    top = name.partition(".")[0]
    if top in (PACKAGE, "__main__"):
        return False
    if top in sys.stdlib_module_names:
        return True
    module = sys.modules.get(top) or importlib.import_module(top)
    places = [str(module.__file__)] if getattr(module, "__file__", None) else list(getattr(module, "__path__", []))
    return any({"site-packages", "dist-packages"} & set(Path(place).parts) for place in places)


def _is_of_library(value: object) -> bool:
    """Whether an installed library defines this very object under its own name; a variable has none."""
    if isinstance(value, BuiltinFunctionType):
        home = value.__self__
        return home is None or inspect.ismodule(home) or inspect.isclass(home)
    module, name = _home(value), getattr(value, "__qualname__", getattr(value, "__name__", None))
    if not isinstance(name, str) or not _is_installed(module):
        return False
    found: object = sys.modules.get(module)
    for part in name.split("."):
        found = getattr(found, part, None)
    return found is value


def _home(value: object) -> str:
    return getattr(value, "__module__", None) or type(value).__module__


def _library_name(value: object) -> str:
    module = value.__name__ if isinstance(value, ModuleType) else _home(value)
    version = getattr(sys.modules.get(module.partition(".")[0]), "__version__", "")
    return f"{module} {getattr(value, '__qualname__', '')} {version}"


def _is_generated(value: object) -> bool:
    """The methods that dataclasses write; what they do stands in the fields."""
    return inspect.isfunction(value) and value.__code__.co_filename == "<string>"
