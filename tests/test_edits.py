"""Every notebook's "edits to try", read from its text and run to the notebook's end on small networks."""

import ast
import re
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace

import nbformat
import pytest
from replay import Kept, defaults, replay, smoke
from test_hostile_records import findings

from unsir_utils.data.paths import REPOSITORY
from unsir_utils.report.claims import claims
from unsir_utils.report.judge import UNDEFINED
from unsir_utils.report.tables import GRIDS
from unsir_utils.workshop import models
from unsir_utils.workshop.parameters import ParameterError, checked
from unsir_utils.workshop.profiles import changed

# An edit is meant for the notebook's own data and requests where smoke's are too small for it; all else is as in smoke.
OWN = ("data", "many_data", "recipe", "recipes", "replicates", "rates", "requests", "n_forget", "forget", "released_request")
IN_WORDS = {"99_report": 2}  # edits of a file, and of another notebook
VOIDED = {  # the claims whose verdicts speak of a list's best, most or every entry
    "rates": ["K"],  # and those at chosen rates
    "neggrad_rates": [3],
    "fisher_alphas": [3],
    "impair_rates": [9, "E", "K"],
    "repair_rates": [9, "E", "K"],
    "numbers": [7],
    "shares": ["G"],
    "passes": ["I", "K"],
    "changes": ["K"],
    "n_candidates": ["K"],
    "dearest": ["K"],
    "candidates": ["M"],
}


@dataclass(frozen=True)
class Edit:
    """A point of a notebook's list: `name = value`, or `name` with `"key": value`, before its first colon."""

    path: Path
    text: str

    @property
    def change(self) -> str:
        return re.split(r":(?=(?:[^`]*`[^`]*`)*[^`]*$)", self.text, maxsplit=1)[0]

    def values(self, before: dict) -> dict:
        set_to = dict(re.findall(r"`(\w+) = ([^`]+)`", self.change))
        put_in = re.findall(r'`(\w+)` with `(".+?)`', self.change)
        found = {name: ast.literal_eval(value) for name, value in set_to.items()}
        return found | {name: before[name] | ast.literal_eval(f"{{{items}}}") for name, items in put_in}


def edits(path: Path) -> list[Edit]:
    (text,) = (cell.source for cell in nbformat.read(path, as_version=4).cells if "edits to try**" in cell.source)
    listed = re.search(r"edits to try\*\*\n\n((?:- .*(?:\n|$))+)", text)
    return [Edit(path, line) for line in re.findall(r"^- (.*)$", listed[1], re.MULTILINE)]


PATHS = sorted((REPOSITORY / "notebooks").glob("*.ipynb"))
EDITS = [edit for path in PATHS for edit in edits(path) if edit.values(defaults(path))]


def test_every_notebook_has_three_that_can_be_read():
    for path in PATHS:
        assert len(edits(path)) - IN_WORDS.get(path.stem, 0) == sum(e.path == path for e in EDITS), path.stem
        assert len(edits(path)) >= 3, path.stem


@pytest.fixture(scope="module")
def measured(request):
    """name -> what was measured for a notebook's edits: one edit changes a few of its cases."""
    folder, known = request.config.cache.mkdir("replay"), {}
    return lambda name: replace(known.setdefault(name, Kept(folder)))


def claim_test(line: dict) -> SimpleNamespace:
    claim = line["claim"]
    return SimpleNamespace(claim=int(claim) if claim.isdigit() else claim, tested=line["tested"])


@pytest.mark.parametrize("words, by_rates", [("paper's rates", VOIDED["rates"]), ("chosen rates", [*claims()])])
def test_a_replaced_list_voids_the_claims_that_speak_of_it(words, by_rates):
    found = {name: [c for c in claims() if of(SimpleNamespace(claim=c, tested=f"({words})"))] for name, of in GRIDS.items()}
    assert found == {**VOIDED, "rates": by_rates}


def fits(name: str, parameters: dict) -> bool:
    """Whether the edit can be made to smoke's parameters, which know fewer classes and other networks."""
    try:
        checked(name, parameters | {"profile": "smoke"})
    except ParameterError:
        return False
    return set(parameters.get("n_forget", {})) <= set(parameters.get("recipes", {}))


@pytest.mark.parametrize("edit", EDITS, ids=lambda edit: f"{edit.path.stem}: {edit.change}")
def test_an_edit_runs_to_its_end(edit, measured, tmp_path):
    name, own, base = edit.path.stem, defaults(edit.path), smoke(edit.path)
    values = edit.values(own)
    assert all(own[k] != value for k, value in values.items()), "it changes nothing"
    checked(name, own | values | {"profile": "mine"})
    if "layer" in values:  # the networks of a replay have other layers
        assert values["layer"] in dict(models.build(own["recipe"]["architecture"], 4).named_modules())
        return
    if not fits(name, base | edit.values(base)):
        base |= {k: own[k] for k in OWN if k in own}
    ran = base | edit.values(base) | {"profile": "smoke"}
    assert replay(edit.path, ran, measured(name), tmp_path)
    replaced = [k for k in GRIDS if k in changed(name, ran)]
    lines = findings(tmp_path)
    voided = [line for line in lines if any(GRIDS[k](claim_test(line)) for k in replaced)]
    assert voided or not (lines and replaced)
    assert all(line["verdict"] == UNDEFINED and "replaced" in line["measured"] for line in voided)
