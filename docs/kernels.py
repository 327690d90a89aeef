"""The page of the kernels: signatures and docstrings of a module, read from its source, so that torch is not needed."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

Documented = ast.FunctionDef | ast.ClassDef
ARGUMENT = re.compile(r"([a-z_]\w*(?:(?:,| and) [a-z_]\w*)*): ")  # a line of a docstring that begins with names


def module(file: Path, name: str) -> str:
    """Markdown: a section with the module's docstring, then its public functions and classes, their sources folded."""
    tree = ast.parse(file.read_text())
    parts = [f"## {name}", f"```{{py:module}} unsir_utils.{name}\n```", ast.get_docstring(tree) or ""]
    return "\n\n".join([*parts, *(entry(thing, file) for thing in documented(tree))])


def documented(node: ast.Module | Documented) -> Iterator[Documented]:
    things = (thing for thing in node.body if isinstance(thing, Documented))
    return (thing for thing in things if ast.get_docstring(thing) and not thing.name.startswith("_"))


def entry(thing: Documented, file: Path) -> str:
    is_class = isinstance(thing, ast.ClassDef)
    methods = "\n\n".join(described(method, "py:method") for method in documented(thing)) if is_class else ""
    code = f"```python\n{ast.get_source_segment(file.read_text(), thing)}\n```"
    folded = f"<details><summary>source of <code>{thing.name}</code></summary>\n\n{code}\n\n</details>"
    return described(thing, "py:class" if is_class else "py:function", methods) + "\n\n" + folded


def described(thing: Documented, kind: str, inner: str = "") -> str:
    fence = ":" * (4 if inner else 3)
    text = as_list(ast.get_docstring(thing) or "")
    options = "".join(f":{d.id}:\n" for d in thing.decorator_list if isinstance(d, ast.Name) and d.id == "classmethod")
    return f"{fence}{{{kind}}} {signature(thing)}\n{options}\n{text}\n\n{inner}\n{fence}"


def signature(thing: Documented) -> str:
    if isinstance(thing, ast.ClassDef):
        return thing.name
    returned = f" -> {ast.unparse(thing.returns)}" if thing.returns else ""
    return f"{thing.name}({ast.unparse(thing.args)}){returned}"


def as_list(docstring: str) -> str:
    """The docstring with a point for each "argument: what it is"; what is indented below it belongs to it."""
    lines, listed = [], False
    for line in docstring.splitlines():
        starts = ARGUMENT.match(line)
        listed = bool(line) and (listed or bool(starts))
        lines.append(f"- **{starts[1]}**: {line[starts.end() :]}" if starts else f"  {line.strip()}" if listed else line)
    return "\n".join(lines)
