"""What 99_report and the README gather from all notebooks of a profile."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import nbformat
import pandas as pd
from matplotlib.axes import Axes

from ..data.paths import (
    YAML,
    experiments,
    profile_file,
    profile_files,
    published_root,
    read_yaml,
    results_root,
    seconds_of,
)
from .claims import claims
from .judge import FAILS, HOLDS, NOT_THE_NOISE, UNDECIDED, UNDEFINED, Finding
from .paper import PAPER
from .pictures import alternative

UNTESTED = "not tested in this profile"
VERDICTS = {  # from best to worst for a claim, each with its colour; its column in the figure says the same
    HOLDS: "#009E73",
    NOT_THE_NOISE: "#B38600",
    UNDECIDED: "#888888",
    FAILS: "#D55E00",
    UNDEFINED: "#EEEEEE",
    UNTESTED: "#FFFFFF",
}
WHY = "why they may differ"
BENCH = "bench"  # the profile of 17_benchmark alone: linked, not gathered
COLUMNS = ["claim", "notebook", *[name for name in Finding.__annotations__ if name != "claim"], "seconds"]


def findings(profile: str) -> pd.DataFrame:
    """Every line of every findings table of a profile, in the claims' order; a claim without any gets a line that says so.

    seconds: whether the finding rests on seconds.
    """
    found, order = _gathered(profile, "findings"), [str(claim) for claim in claims()]
    known = {claim for lines in found for claim in lines.claim}
    untested = [{"claim": claim, "verdict": UNTESTED, "seconds": False} for claim in order if claim not in known]
    parts = [lines for lines in (*found, pd.DataFrame(untested)) if len(lines)]
    gathered = pd.concat(parts).reindex(columns=COLUMNS).fillna("").sort_values(["notebook", "seconds"])
    return gathered.sort_values("claim", kind="stable", key=lambda claim: claim.map(order.index), ignore_index=True)


def _gathered(profile: str, what: str) -> list[pd.DataFrame]:
    """The notebooks' tables of this name as text cells, with the notebook and whether they are of seconds."""
    files = profile_files(profile, f"*/[!9]*_{what}.csv")  # but not 99_report's own
    return [
        pd.read_csv(file, dtype=str, keep_default_na=False).assign(
            notebook=file.stem.removesuffix(f"_{what}"), seconds=file.parent.name == "seconds"
        )
        for file in files
    ]


PARTS = {  # what the README shows of the findings that do not rest on seconds
    "decided": ["claim", "tested", "measured", "holds if", "replicates", "the noise adds", "noise needed", "verdict"],
    "undecided": ["claim", "tested", "measured", "holds if", "replicates", "would decide", "verdict"],
}


def part(findings: pd.DataFrame, name: str) -> pd.DataFrame:
    """The findings that are decided, or those that are not, by a name of PARTS."""
    open_ones = findings.verdict.isin([UNDECIDED, UNDEFINED])
    tested = (findings.verdict != UNTESTED) & ~findings.seconds
    return findings[tested & (~open_ones if name == "decided" else open_ones)]


def beside_paper(profile: str) -> pd.DataFrame:
    """Every known cell of the tables that a profile ran, ours beside it, and why it may differ; as text cells."""
    parts = _gathered(profile, "paper")
    if not parts:
        return pd.DataFrame()
    cells = pd.concat(parts, ignore_index=True).drop(columns="seconds")
    causes = read_yaml(PAPER)["causes"]
    cells[WHY] = [causes[c.table].get(c.method, causes[c.table]["all"]) for c in cells.itertuples()]
    return cells


def causes(beside: pd.DataFrame) -> pd.DataFrame:
    """Each cause of `beside_paper` once, with the cells that it is for; one that was not measured differs in nothing."""
    measured = beside[beside.ours != ""]
    cells = (measured.table + ": " + measured.method).groupby(measured[WHY], sort=False)
    return cells.agg(lambda names: ", ".join(dict.fromkeys(names))).rename("cells").reset_index()[["cells", WHY]]


def verdicts(findings: pd.DataFrame) -> pd.DataFrame:
    """One row a claim: its words, and how many tests came to which verdict, as text cells."""
    words = {str(claim): stated["claim"] for claim, stated in claims().items()}
    by_claim = findings.groupby("claim", sort=False)
    return pd.DataFrame([{"claim": c, "as stated": words[c], "verdicts": counted(lines)} for c, lines in by_claim])


def counted(lines: pd.DataFrame) -> str:
    """ "holds (3), does not hold (1)": the verdicts of these lines from best to worst."""
    count = lines.verdict.value_counts()
    return ", ".join(v if v == UNTESTED else f"{v} ({count[v]})" for v in VERDICTS if v in count)


def verdict_squares(axis: Axes, findings: pd.DataFrame) -> None:
    """One row a claim, one column a verdict that occurs, in each square the number of tests."""
    order = list(dict.fromkeys(findings.claim))
    columns = [verdict for verdict in VERDICTS if (findings.verdict == verdict).any()]
    for (claim, verdict), lines in findings.groupby(["claim", "verdict"]):
        x, y = columns.index(verdict), order.index(claim)
        axis.scatter(x, y, marker="s", s=130, color=VERDICTS[verdict], edgecolor="0.3", linewidth=0.5)
        axis.annotate("" if verdict == UNTESTED else str(len(lines)), (x, y), ha="center", va="center", fontsize=7)
    labels = [verdict.replace(", but", ",\nbut").replace("because of", "because\nof") for verdict in columns]
    labels = [label.replace("not tested in", "not tested\nin") for label in labels]
    axis.set_xticks(range(len(columns)), labels, fontsize=7)
    axis.set_yticks(range(len(order)), order, fontsize=8)
    axis.set(xlim=(-0.6, len(columns) - 0.4), ylim=(len(order) - 0.4, -0.6), ylabel="claim")
    axis.grid(color="0.93", linewidth=0.6)
    axis.set_axisbelow(True)
    axis.xaxis.tick_top()
    axis.tick_params(length=0)
    axis.spines[:].set_visible(False)


def _notebooks() -> dict[str, str]:
    """Name and title of every notebook, in order."""
    first = {path.stem: nbformat.read(path, as_version=4).cells[0].source for path in experiments()}
    return {name: source.splitlines()[0].removeprefix("# ") for name, source in first.items()}


def _seconds(profile: str, name: str) -> str:
    path = profile_file(profile, f"{name}.ipynb")
    seconds = seconds_of(path) if path.exists() else None
    return f"{seconds:.0f}" if seconds else ""


def taken_over(profile: str) -> list[str]:
    """The notebooks that did not run to their end here, and whose published results stand for them."""
    copies = [p for p in profile_files(profile, "*.ipynb") if p.is_relative_to(published_root())]
    return [] if results_root() == published_root() else [p.stem for p in copies if p.stem != "99_report"]


def failed(profile: str) -> dict[str, Path]:
    """The notebooks whose last run here failed, and where the copy with the error lies. What is shown of them is older."""
    copies = (results_root() / profile / "failed").glob("*.ipynb")
    return {p.stem: p for p in sorted(copies) if p.stem != "99_report"}  # this one is running


def cost(profile: str) -> pd.DataFrame:
    """Seconds of each notebook's last run, as text cells; empty where it never ran in this profile."""
    rows = [{"notebook": name, "shows": title, "seconds": _seconds(profile, name)} for name, title in _notebooks().items()]
    return pd.DataFrame(rows)


def groups() -> str:
    """The README's index: the notebooks by what they are for, each with its title and where it stands executed. Links are
    from results/.

    Raises ValueError for a notebook that is in no group, or in two.
    """
    titles, lines = _notebooks(), ["| | notebook | executed |", "|---|---|---|"]
    groups: dict[str, list[str]] = read_yaml(YAML / "readme.yaml")["groups"]
    grouped = [number for numbers in groups.values() for number in numbers]
    if sorted(grouped) != sorted(name[:2] for name in titles):
        held = ", ".join(grouped)
        raise ValueError(f"the notebooks are {', '.join(titles)}, readme.yaml's `groups` hold {held}: name each once there")
    for group, numbers in groups.items():
        for name in sorted((name for name in titles if name[:2] in numbers), key=lambda name: numbers.index(name[:2])):
            copies = [p.parent.name for p in sorted(published_root().glob(f"*/{name}.ipynb"))]
            executed = ", ".join(f"[{profile}]({profile}/{name}.ipynb)" for profile in copies)
            lines.append(f"| {group} | [{name}](../notebooks/{name}.ipynb)<br>{titles[name]} | {executed} |")
            group = ""
    return "\n".join(lines)


def overview(profiles: Sequence[str]) -> str:
    """The results page's table of notebooks: what each shows, a picture, its findings, the seconds of the last profile.

    profiles: the picture is that of the first that ran the notebook. Links are from results/.
    """
    found = {profile: findings(profile) for profile in profiles}
    columns = ["notebook", "picture", *(f"{p}: found" for p in profiles), f"{profiles[-1]}: seconds"]
    lines = [f"| {' | '.join(columns)} |", "|---" * len(columns) + "|"]
    for name, title in _notebooks().items():
        ran = [p for p in (profiles[0], BENCH, *profiles[1:]) if (results_root() / p / f"{name}.ipynb").exists()]
        executed = ", ".join(f"[{p}]({p}/{name}.ipynb)" for p in ran)
        shows = f"[{name}](../notebooks/{name}.ipynb)<br>{title.replace('|', '')}"
        shows += f"<br>executed: {executed}" if ran else ""
        told = [_found(found[p][found[p].notebook == name]) for p in profiles]
        cells = [shows, _picture(ran[0], name) if ran else "", *told, _seconds(profiles[-1], name)]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _picture(profile: str, name: str) -> str:
    pictures = sorted((results_root() / profile / "figures").glob(f"{name}*.png"))
    if not pictures:
        return ""
    return f'<img src="{profile}/figures/{pictures[0].name}" width="360" alt="{alternative(pictures[0])}">'


def _found(findings: pd.DataFrame) -> str:
    return "<br>".join(f"{claim}: {counted(lines)}" for claim, lines in findings.groupby("claim", sort=False))
