"""Renews what README.md and results/README.md take from results, each part between <!-- from PATH --> and <!-- end -->,
and leads the links of executed copies to one another.

python -m unsir_utils.report.readme
"""

from __future__ import annotations

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

PROFILES = ["laptop", "quick"]  # of the overview of the notebooks; the sentences and the grid are on the first
PAGES = [Path("README.md"), Path("results/README.md")]
FINDINGS = "_findings"
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
    said = [sentence(found, **about) for about in told["findings"]] + [
        measured(PROFILES[0], **about) for about in told["measured"]
    ]
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


def measured(profile: str, notebook: str, where: dict[str, str], says: str) -> str:
    """A sentence of readme.yaml with percentages of a notebook's published records, each with its interval.

    where: which records, by column. says: "{method; column}" stands for such a number.
    """
    records = pd.read_csv(published_root() / profile / "tables" / f"{notebook}_records.csv")
    for column, wanted in where.items():
        records = records[records[column] == wanted]

    def number(of: re.Match) -> str:
        return f"**{interval(values(records, of[2], method=of[1])).within(0, 100).text()}**"

    said = re.sub(r"{(.+?); (.+?)}", number, says)
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
    if "rows" not in part:
        return f"run: {how_many(records)}"
    records = records[records.network == part["network"]]
    rows = [n for n in part["rows"] if n in set(records.n_forget)]
    if not rows:
        return "no"
    first, *others = (how_many(records[records.n_forget == n]) for n in rows)
    below = "".join(f"; {each} below the first row" for each in dict.fromkeys(others) if each != first)
    counted = f"{len(rows)} of {len(part['rows'])} rows (forgetting {', '.join(map(str, rows))}): {first}{below}"
    return f"{counted}; {part['but']}" if "but" in part else counted


def ran_on(profile: str) -> str:
    """On what and in which precision the notebooks that judge ran, and whose executed copies show older verdicts."""
    groups, folder = defaultdict(list), published_root() / profile
    for name in sorted(file.stem.removesuffix(FINDINGS) for file in folder.glob(f"tables/*{FINDINGS}.csv")):
        about = json.loads((folder / "numbers" / f"{name}.json").read_text(encoding="utf-8"))["environment"]
        rounded = about["bfloat16"] == "true" and about.get("precision") != "float32"
        groups[about["device"], "bfloat16" if rounded else "float32"].append(name)
    lines = ["| ran on | in | notebooks | of these, the executed copy shows older verdicts |", "|---|---|---|---|"]
    for (device, precision), names in groups.items():
        older = [name for name in names if _shows_older_verdicts(folder, name)]
        lines.append(f"| {device} | {precision} | {_numbers(names)} | {_numbers(older)} |")
    return "\n".join(lines)


def _shows_older_verdicts(folder: Path, name: str) -> bool:
    """Whether the findings of a notebook were judged anew since its executed copy was made."""
    shown = (folder / f"{name}.ipynb").read_text(encoding="utf-8")
    judged = pd.read_csv(folder / "tables" / f"{name}{FINDINGS}.csv").measured
    return any(json.dumps(line)[1:-1] not in shown for line in judged)


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
        copy.write_text(to_copies(copy.read_text(encoding="utf-8"), copy.parent), encoding="utf-8")


if __name__ == "__main__":
    main()
