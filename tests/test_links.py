"""Every relative link, anchor and picture leads somewhere: in documents, notebooks, executed copies and the site."""

import re
from functools import cache
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path

import nbformat
import pytest

from unsir_utils.data.paths import REPOSITORY, YAML, read_yaml
from unsir_utils.report.links import relocated, to_copies

NOTEBOOKS = sorted(REPOSITORY.glob("notebooks/*.ipynb"))
COPIES = sorted(REPOSITORY.glob("results/*/*.ipynb"))
DOCUMENTS = [REPOSITORY / name for name in ("README.md", "CONTRIBUTING.md", "REPRODUCING.md", "data/README.md")]
PAGES = [*DOCUMENTS, *sorted(REPOSITORY.glob("results/*.md")), *NOTEBOOKS, *COPIES]
LINK = re.compile(r'\]\(([^)\s]+)\)|(?:src|href)="([^"]+)"')
NUMBERS = sum(read_yaml(YAML / "readme.yaml")["groups"].values(), [])
ORDER = [path.stem for number in NUMBERS for path in NOTEBOOKS if path.stem.startswith(number)]


@cache
def text(page: Path) -> str:
    """What of a page is Markdown, without blocks of code."""
    parts = [page.read_text()] if page.suffix == ".md" else []
    for cell in [] if parts else nbformat.read(page, as_version=4).cells:
        parts += [cell.source] if cell.cell_type == "markdown" else []
        parts += [output.data.get("text/markdown", "") for output in cell.get("outputs", []) if "data" in output]
    return re.sub(r"^```.*?^```", "", "\n\n".join(parts), flags=re.MULTILINE | re.DOTALL)


@cache
def anchors(page: Path) -> set[str]:
    """Of a document as GitHub makes them, of a notebook as Jupyter does."""
    headings = re.findall(r"^#+ (.*)$", text(page), flags=re.MULTILINE)
    if page.suffix == ".ipynb":
        return {heading.replace(" ", "-") for heading in headings}
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


def dead(page: Path, links: list[str], anchors) -> list[str]:
    found = []
    for link in links:
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        if not target.exists() or anchor and anchor not in anchors(target):
            found.append(link)
    return found


def relative(links: list[str]) -> list[str]:
    return [link for link in links if not re.match(r"[a-z]+:", link)]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(REPOSITORY)))
def test_every_link_of_a_page_leads_somewhere(page):
    assert not dead(page, relative([a or b for a, b in LINK.findall(text(page))]), anchors)


def test_a_text_that_moves_takes_its_links_along():
    moved = relocated('[a](../b.md#c) <img src="d.png"> [e](https://f.g) [h](#i)', Path("/r/results"), Path("/r"))
    assert moved == '[a](b.md#c) <img src="results/d.png"> [e](https://f.g) [h](#i)'


@pytest.mark.parametrize("copy", COPIES, ids=lambda page: str(page.relative_to(REPOSITORY)))
def test_an_executed_copy_links_to_its_own_profile_and_else_to_another(copy):
    assert to_copies(copy.read_text(), copy.parent) == copy.read_text(), "make readme"


@pytest.mark.parametrize("page", [*NOTEBOOKS, *COPIES], ids=lambda page: str(page.relative_to(REPOSITORY)))
def test_next_and_before_follow_the_reading_order(page):
    after, before = dict(pairwise(ORDER)), {b: a for a, b in pairwise(ORDER)}
    said = {what: Path(link).stem for what, link in re.findall(r"(Next|Before): \[\w+\]\(([^)]+)\)", text(page))}
    if page.stem != ORDER[0]:  # which lists all
        assert said.get("Next") == after.get(page.stem)
    assert said.get("Before", before.get(page.stem)) == before.get(page.stem)


def test_the_first_notebook_lists_all_in_the_reading_order():
    rows = [line for line in text(NOTEBOOKS[0]).splitlines() if line.startswith("| ")]
    assert [name for name in re.findall(r"\]\((\w+)\.ipynb\)", "\n".join(rows))] == ORDER[1:]


class Html(HTMLParser):
    """The links, pictures without words, what is asked of the network, and the anchors of a page of the site."""

    def __init__(self, page: Path) -> None:
        super().__init__()
        self.links, self.mute, self.foreign, self.ids = [], [], [], set()
        self.feed(page.read_text())

    def handle_starttag(self, tag, attributes):
        of = dict(attributes)
        self.ids |= {of[name] for name in ("id", "name") if of.get(name)}
        self.links += [of[name].partition("?")[0] for name in ("href", "src") if of.get(name)]
        self.mute += [of["src"]] if tag == "img" and not of.get("alt", "").strip() else []
        asked = of.get("src") if tag in ("script", "img", "iframe") else of.get("href") if tag == "link" else None
        self.foreign += [asked] if asked and re.match("https?:|//", asked) else []
