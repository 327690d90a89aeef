"""Which part of the module may import which: arrows go one way, so that a reader of one folder need not know those below."""

import ast
import subprocess
import sys

import pytest

from unsir_utils.data.paths import REPOSITORY

PACKAGE = REPOSITORY / "unsir_utils"
MAY_IMPORT = {
    "engine": {"engine"},
    "the paper": {"engine", "the paper"},  # the files that lie in unsir_utils itself
    "methods": {"engine", "the paper", "methods"},
    "audit": {"engine", "the paper", "audit"},
    "data": {"engine", "data"},
    "own": {"engine", "the paper", "data", "own"},
    "__main__": {"own"},  # the file
    "workshop": {"engine", "the paper", "methods", "audit", "data", "own", "workshop"},
    "report": {"engine", "the paper", "methods", "audit", "data", "workshop", "report"},
}
THE_PAPER = ["__init__", "__main__", "impair", "metrics", "noise", "repair", "settings", "unsir"]
FOLDERS = MAY_IMPORT.keys() - {"the paper", "__main__"}
FILES = sorted(PACKAGE.rglob("*.py"))


def part_of(parts: tuple[str, ...]) -> str:
    """The part that a module belongs to, by its dotted name within the package."""
    return parts[0] if parts and parts[0] in MAY_IMPORT else "the paper"


def imported(file) -> set[str]:
    """The parts that a file imports, but for what only a type checker reads."""
    tree, found = ast.parse(file.read_text()), set()
    for node in tree.body:
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            tree.body.remove(node)
    here = file.relative_to(PACKAGE).parts[:-1]
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.level:
            base = here[: len(here) + 1 - node.level] + tuple((node.module or "").split(".") if node.module else ())
            found |= {part_of(base)} if base else {part_of((name.name,)) for name in node.names}
    return found


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(PACKAGE)))
def test_arrows_go_one_way(file):
    part = part_of(file.relative_to(PACKAGE).with_suffix("").parts)
    assert imported(file) <= MAY_IMPORT[part]


def absolutely(file) -> set[str]:
    """The packages that a file imports by their names."""
    found = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            found |= {name.name.split(".")[0] for name in node.names}
        elif isinstance(node, ast.ImportFrom) and not node.level:
            found.add(node.module.split(".")[0])
    return found


def test_the_package_imports_itself_by_relative_names():
    """The arrows are looked for among these."""
    assert [file for file in FILES if "unsir_utils" in absolutely(file)] == []


def test_one_sees_the_paper_on_opening_the_module():
    assert [file.stem for file in FILES if file.parent == PACKAGE] == THE_PAPER
    assert sum(len((PACKAGE / f"{name}.py").read_text().splitlines()) for name in THE_PAPER) < 850
    folders = {f.name for f in PACKAGE.iterdir() if (f / "__init__.py").exists()}
    assert folders == FOLDERS


def test_a_folder_says_what_belongs_there():
    for folder in FOLDERS:
        said = ast.get_docstring(ast.parse((PACKAGE / folder / "__init__.py").read_text()))
        assert said and "mports" in said


SMALL = "report.readme report.compare workshop.cards workshop.strip workshop.run".split()


@pytest.mark.parametrize("module", ["unsir_utils", *(f"unsir_utils.{name}" for name in SMALL)])
def test_makes_small_helpers_do_not_wait_for_torch(module):
    code = f"import {module}, sys; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY).returncode == 0


def test_the_names_that_people_import_are_functions_whatever_was_imported_before():
    code = (
        "import unsir_utils.impair, unsir_utils.unsir; from unsir_utils import impair, learn_noise, repair, unsir, Samples;"
        "print(*(f.__name__ for f in (impair, learn_noise, repair, unsir, Samples)))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["impair", "learn_noise", "repair", "unsir", "Samples"]


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(ImportError, match="forget_all"):
        from unsir_utils import forget_all  # noqa: F401


def test_every_folder_is_installed():
    """pip install without -e takes the folders that are packages."""
    assert [f.parent for f in FILES if not (f.parent / "__init__.py").exists()] == []
