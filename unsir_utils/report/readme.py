"""Renews what README.md and results/README.md take from results, each part between <!-- from PATH --> and <!-- end -->,
leads the links of executed copies to one another, and says below the title of a copy that it is older than the notebook.

python -m unsir_utils.report.readme
"""

from __future__ import annotations

import ast
import json
import os
import re
from collections import defaultdict
from pathlib import Path

import pandas as pd

from ..data.paths import REPOSITORY, YAML, published_root, read_yaml
from .claims import values
from .gather import findings, groups, overview
from .judge import how_many, interval
from .links import relocated, to_copies
from .paper import paper_cells

PROFILES = ["laptop", "quick"]  # of the overview of the notebooks; the sentences and the grid are on the first
PAGES = [Path("README.md"), Path("results/README.md")]
FINDINGS = "_findings"
OLDER = "older-than-the-notebook"  # id of a cell
PART = re.compile(r"(<!-- from (\S+) -->\n).*?(<!-- end -->)", re.DOTALL)


def renewed(text: str, folder: Path = REPOSITORY) -> str:
    """`text`, of a page in `folder`, with every generated part read anew from its file, given relative to the repository."""

    def read(part: re.Match) -> str:
        file = REPOSITORY / part[2]
        return f"{part[1]}{relocated(file.read_text(encoding='utf-8'), file.parent, folder)}{part[3]}"

    return PART.sub(read, text)


def generated() -> dict[str, str]:
    """What is made from several results, by its file in results/; links are from there."""
    found, told = findings(PROFILES[0]), read_yaml(YAML / "readme.yaml")
    said = [sentence(found, **about) if "claim" in about else measured(PROFILES[0], **about) for about in told["findings"]]
    return {
        "notebooks.md": overview(PROFILES),
        "groups.md": groups(),
        "findings.md": "\n".join(f"- {line}" for line in said),
        "stands.md": stands(PROFILES[0]),
        "ran_on.md": ran_on(PROFILES[0]),
    }


def sentence(
    found: pd.DataFrame, claim: str, tested: str, where: str, verdict: str, says: str, beside: dict[str, str] | None = None
) -> str:
    """A sentence of readme.yaml with its number, interval and replicates, from the one finding that it is about.

    where: a part of what was measured, where several findings have the claim and the words of the test. beside: another
    finding, whose number the sentence tells, too. Raises ValueError where there is no such finding, or its verdict is
    another: then the sentence wants rewriting.
    """
    line = _finding(found, claim, tested, where, verdict)
    other = _number(_finding(found, **beside)) if beside else ""
    said = says.format(number=_number(line), adds=line["the noise adds"], beside=other)
    return f"{said} ({line.replicates}; [{line.notebook}](../notebooks/{line.notebook}.ipynb))"


def _finding(found: pd.DataFrame, claim: str, tested: str, where: str, verdict: str) -> pd.Series:
    lines = found[(found.claim == claim) & (found.tested == tested) & found.measured.str.contains(where, regex=False)]
    if len(lines) != 1:
        raise ValueError(f"{len(lines)} findings are claim {claim}, {tested!r} {where}: name one in readme.yaml")
    line = lines.iloc[0]
    if line.verdict != verdict:
        raise ValueError(
            f"claim {claim}, {tested!r} is {line.verdict!r} now, not {verdict!r}: rewrite its sentence in readme.yaml"
        )
    return line


def _number(line: pd.Series) -> str:
    return f"**{line.measured.rpartition(': ')[2]}**"


def measured(profile: str, notebook: str, where: dict[str, str | int], says: str, step: float = 0.0, wide: str = "") -> str:
    """A sentence of readme.yaml with percentages of a notebook's published records, each with its interval.

    where: which records, by column. wide: a column whose entries become columns, with `value` in them. says: "{method;
    column}" stands for such a number, "{paper table: method; metric}" for the paper's, of the same network and number of
    classes. step: see `judge.interval`.
    """
    records = pd.read_csv(published_root() / profile / "tables" / f"{notebook}_records.csv")
    for column, wanted in where.items():
        records = records[records[column] == wanted]
    if wide:
        records = records.pivot(index=["method", "trained", "seed"], columns=wide, values="value").reset_index()

    def papers(of: re.Match) -> str:
        cells = paper_cells(of[1]).set_index(["model", "row", "method", "metric"]).value
        return f"{cells[where['network'], where['n_forget'], of[2], of[3]]:.2f}"

    def number(of: re.Match) -> str:
        return f"**{interval(values(records, of[2], method=of[1]), step=step).within(0, 100).text()}**"

    said = re.sub(r"{paper (\w+): (\w+); (\w+)}", papers, says)
    said = re.sub(r"{(.+?); (.+?)}", number, said)
    return f"{said} ({how_many(records)}; [{notebook}](../notebooks/{notebook}.ipynb))"


def stands(profile: str) -> str:
    """The grid of the paper's parts: which of them a profile has on real data, on how many networks and seeds."""
    lines = ["| of the paper | on real data | notebook |", "|---|---|---|"]
    for part in read_yaml(YAML / "readme.yaml")["parts"]:
        name = part["notebook"]
        lines.append(f"| {part['what']} | {_measured(profile, part)} | [{name}](../notebooks/{name}.ipynb) |")
    return "\n".join(lines)


def _measured(profile: str, part: dict) -> str:
    file = published_root() / profile / "tables" / f"{part['notebook']}_records.csv"
    if not file.exists():
        return "no"
    records = pd.read_csv(file)
    but = f"; {part['but']}" if "but" in part else ""
    if "timed" in part:
        return f"run: {part['timed']}{but}"
    if "rows" not in part:
        return f"run: {how_many(records)}{but}"
    records = records[records.network == part["network"]]
    rows = [n for n in part["rows"] if n in set(records.n_forget)]
    if not rows:
        return "no"
    first, *others = (how_many(records[records.n_forget == n]) for n in rows)
    below = "".join(f"; {each} below the first row" for each in dict.fromkeys(others) if each != first)
    forgetting = f"forgetting {', '.join(map(str, rows))}"
    if "instead" in part:
        return f"no; {part['instead']}, {forgetting}: {first}{below}"
    return f"{len(rows)} of {len(part['rows'])} rows ({forgetting}): {first}{below}{but}"


def ran_on(profile: str) -> str:
    """On what and in which precision the notebooks that judge ran, and whose findings were judged anew since."""
    groups, folder = defaultdict(list), published_root() / profile
    for name in sorted(file.stem.removesuffix(FINDINGS) for file in folder.glob(f"tables/*{FINDINGS}.csv")):
        about = json.loads((folder / "numbers" / f"{name}.json").read_text(encoding="utf-8"))["environment"]
        rounded = about["bfloat16"] == "true" and about.get("precision") != "float32"
        groups[about["device"], "bfloat16" if rounded else "float32"].append(name)
    lines = ["| ran on | in | notebooks | of these, judged anew since |", "|---|---|---|---|"]
    for (device, precision), names in groups.items():
        older = [name for name in names if _judged_anew(folder, name)]
        lines.append(f"| {device} | {precision} | {_numbers(names)} | {_numbers(older)} |")
    return "\n".join(lines)


def _judged_anew(folder: Path, name: str) -> bool:
    """Whether the findings of a notebook were judged anew since its executed copy was made."""
    shown = (folder / f"{name}.ipynb").read_text(encoding="utf-8")
    judged = pd.read_csv(folder / "tables" / f"{name}{FINDINGS}.csv", dtype=str).fillna("")
    told = judged[["measured", "the noise adds", "verdict"]].map(lambda cell: json.dumps(cell)[1:-1]).to_numpy().tolist()
    return not all(any(all(cell in line for cell in row) for line in shown.splitlines()) for row in told)


def marked(text: str, copy: Path) -> str:
    """An executed copy's JSON, with a second cell that says so where its code or its verdicts are older than today's."""
    book = json.loads(text)
    book["cells"] = [cell for cell in book["cells"] if cell.get("id") != OLDER]
    today = REPOSITORY / "notebooks" / copy.name
    judged = (copy.parent / "tables" / f"{copy.stem}{FINDINGS}.csv").exists()
    told = ""
    if _code(book) != _code(json.loads(today.read_text(encoding="utf-8"))):
        told = f"Executed by older code than that of `notebooks/{copy.name}`: its cells may not run any more, "
        told += "and files may have other names now."
    elif judged and _judged_anew(copy.parent, copy.stem):
        told = "Its records were judged anew since it was executed."
    if told:
        table = f"tables/{copy.stem}{FINDINGS}.md"
        told += f" Today's verdicts: [{table}]({table}). Where its text says something else, they count." if judged else ""
        book["cells"].insert(1, {"cell_type": "markdown", "id": OLDER, "metadata": {}, "source": [f"*{told}*"]})
    return json.dumps(book, indent=1, ensure_ascii=False) + "\n"


def _code(book: dict) -> list[str]:
    """The code cells of a notebook or its executed copy, without comments and the parameters that the run put in."""
    code = [cell for cell in book["cells"] if cell["cell_type"] == "code"]
    own = [cell for cell in code if "injected-parameters" not in cell["metadata"].get("tags", [])]
    return [ast.unparse(ast.parse("".join(cell["source"]))) for cell in own]


def _numbers(names: list[str]) -> str:
    """ "01, 02": notebooks by the number that each name begins with."""
    return ", ".join(name[:2] for name in names)


def main() -> None:
    os.environ["UNSIR_RESULTS"] = str(published_root())  # whatever was run here
    for name, text in generated().items():
        (REPOSITORY / "results" / name).write_text(text + "\n", encoding="utf-8")
    for page in (REPOSITORY / page for page in PAGES):
        page.write_text(renewed(page.read_text(encoding="utf-8"), page.parent), encoding="utf-8")
    for copy in published_root().glob("*/*.ipynb"):
        copy.write_text(marked(to_copies(copy.read_text(encoding="utf-8"), copy.parent), copy), encoding="utf-8")


if __name__ == "__main__":
    main()
