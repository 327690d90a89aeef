"""Every notebook's "edits to try", as its text has them, run to the end on small networks."""

import ast
import re
from dataclasses import dataclass
from pathlib import Path

import nbformat
import pytest
from replay import Kept, defaults, replay, smoke
from test_hostile_records import findings

from unsir_utils.data.paths import REPOSITORY
from unsir_utils.report.judge import UNDEFINED

# An edit is meant for the notebook's own data and requests; all else is as small as in smoke.
OWN = ("data", "many_data", "recipe", "recipes", "requests", "n_forget", "forget", "released_request")


@dataclass(frozen=True)
class Edit:
    """A point of a notebook's list: `name = value` and `name` with `"key": value`, before its first colon."""

    path: Path
    text: str

    @property
    def change(self) -> str:
        return re.split(r":(?=(?:[^`]*`[^`]*`)*[^`]*$)", self.text, maxsplit=1)[0]

    def values(self, before: dict) -> dict:
        set_to = dict(re.findall(r"`(\w+) = ([^`]+)`", self.change))
        put_in = re.findall(r'`(\w+)` with `(".+?)`', self.change)
        changed = {name: ast.literal_eval(value) for name, value in set_to.items()}
        return changed | {name: before[name] | ast.literal_eval(f"{{{items}}}") for name, items in put_in}


def edits(path: Path) -> list[Edit]:
    (text,) = (cell.source for cell in nbformat.read(path, as_version=4).cells if "edits to try**" in cell.source)
    listed = re.search(r"edits to try\*\*\n\n((?:- .*(?:\n|$))+)", text)
    return [Edit(path, line) for line in re.findall(r"^- (.*)$", listed[1], re.MULTILINE)]


EDITS = [edit for path in sorted((REPOSITORY / "notebooks").glob("*.ipynb")) for edit in edits(path)]


@pytest.mark.parametrize("edit", EDITS, ids=lambda edit: f"{edit.path.stem}: {edit.change}")
def test_an_edit_runs_to_its_end(edit, request, tmp_path):
    own, base = defaults(edit.path), smoke(edit.path)
    base |= {name: own[name] for name in OWN if name in own}
    changed = edit.values(base)
    assert changed and all(name in own and value != own[name] for name, value in changed.items())
    shown = replay(edit.path, base | changed, Kept(request.config.cache.mkdir("replay")), tmp_path)
    assert shown
    for line in findings(tmp_path):
        replaced = []
        assert not replaced or line["verdict"] == UNDEFINED
