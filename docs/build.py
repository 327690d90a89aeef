"""The site, from what is published: the pages in FOLDER/pages and then, by Sphinx, the site in FOLDER/html.

python docs/build.py [FOLDER]; `make site`. UNSIR_REPOSITORY, the repository's address, adds the buttons that need one.
"""

from __future__ import annotations

import os
import re
import shutil
import sys
from importlib.util import find_spec
from pathlib import Path

import nbformat

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from kernels import module  # noqa: E402

from unsir_utils.data.paths import YAML, read_yaml  # noqa: E402
from unsir_utils.report.links import copies, with_paths  # noqa: E402
from unsir_utils.report.pictures import alternatives  # noqa: E402

DOCUMENTS = {
    "README.md": "index.md",
    "results/README.md": "results.md",
    "REPRODUCING.md": "reproducing.md",
    "CONTRIBUTING.md": "contributing.md",
    "data/README.md": "data.md",
}
OWN_MODEL = "Forget a class of your own model"  # a section of the README, a page here
KERNELS = ["noise", "impair", "repair", "unsir", "metrics", "settings", "engine.samples", "own.forgetting"]
BEFORE, AFTER = (
    ["results", "own_model", "kernels"],
    ["reproducing", "contributing", "data"],
)  # of the notebooks in the sidebar
BRANCH = "site"  # where .github/workflows/site.yml puts the site, notebooks and all
INSTALL = """\
# Where the project is not installed, as on Colab, this fetches it. It takes a minute or two.
import importlib.util, os, subprocess, sys

if importlib.util.find_spec("unsir_utils") is None:
    subprocess.run(["git", "clone", "--quiet", "--depth", "1", "{repository}", "unsir"], check=True)
    subprocess.run([sys.executable, "-m", "pip", "install", "--quiet", "--editable", "unsir"], check=True)
    os.chdir("unsir/notebooks")
    sys.path.insert(0, os.path.abspath(".."))"""


def groups() -> dict[str, list[str]]:
    """The notebooks in reading order, by group."""
    by_number = {path.stem[:2]: path.stem for path in (ROOT / "notebooks").glob("*.ipynb")}
    found = read_yaml(YAML / "readme.yaml")["groups"]
    return {group: [by_number[number] for number in numbers] for group, numbers in found.items()}


def all_pages() -> dict[str, str]:
    """Every page by what it is made from. A notebook's is its executed copy on the most real data, others lie deeper."""
    pages = DOCUMENTS | {"unsir_utils": "kernels.md"}
    for name in sum(groups().values(), []):
        for copy in copies(name):
            main = copy == copies(name)[0]
            pages[copy.relative_to(ROOT).as_posix()] = f"{name}.ipynb" if main else f"{copy.parent.name}/{name}.ipynb"
        pages[f"notebooks/{name}.ipynb"] = f"{name}.ipynb"
    return pages


def write_pages(folder: Path, repository: str) -> None:
    pages = all_pages()
    for source, page in pages.items():
        if source in DOCUMENTS:
            put(folder / page, on_page((ROOT / source).read_text(), source, pages, folder))
        elif source.startswith("results/"):
            put(folder / page, executed_page(source, pages, folder, repository))
        elif source.startswith("notebooks/"):
            put(folder / "made/extra" / source, with_install_cell(source, repository))
    split_readme(folder)
    put(folder / "kernels.md", kernels())


def put(file: Path, text: str) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)


def on_page(text: str, source: str, pages: dict[str, str], folder: Path) -> str:
    """Markdown of a file of the repository, for its page.

    Links lead to pages or to files laid beside them; a number does not break from its ± or %.
    """

    def path_to(path: str) -> str:
        target = os.path.normpath(os.path.join(os.path.dirname(source), path))
        there = pages.get(target) or linked(target, folder)
        return os.path.relpath(there, os.path.dirname(pages[source])) if there else path

    text = re.sub(r"(?<=\.ipynb#)[^)\s\"]+", lambda anchor: anchor[0].lower(), with_paths(text, path_to))
    return re.sub(r" (?=±)|(?<=±) |(?<=\d) (?=%)", "\u00a0", text)


def linked(path: str, folder: Path) -> str | None:
    """Where a file that is no page lies among them, of a table the csv; None where it is no file."""
    path = re.sub(r"(/(?:tables|seconds)/.*)\.md$", r"\1.csv", path)
    if not (ROOT / path).is_file():
        return None
    (folder / "linked" / path).parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(ROOT / path, folder / "linked" / path)
    return f"linked/{path}"


def split_readme(folder: Path) -> None:
    """The README's part on one's own model becomes a page; the rest is the first page, with the order of all."""
    start, own, end = re.split(rf"^(## {OWN_MODEL}\n.*?)(?=^## )", (folder / "index.md").read_text(), flags=re.M | re.S)
    put(folder / "own_model.md", own[1:])
    order = (
        {"Overview": BEFORE}
        | {group[0].upper() + group[1:]: names for group, names in groups().items()}
        | {"Run and add": AFTER}
    )
    trees = [
        f"```{{toctree}}\n:hidden:\n:caption: {caption}\n\n" + "\n".join(names) + "\n```" for caption, names in order.items()
    ]
    put(folder / "index.md", "\n".join([start, f"[{OWN_MODEL}](own_model.md)\n", end, *trees]))


def kernels() -> str:
    package = ROOT / "unsir_utils"
    return "\n\n".join(["# How it works: the kernels", *(module(package / f"{n.replace('.', '/')}.py", n) for n in KERNELS)])


def executed_page(source: str, pages: dict[str, str], folder: Path, repository: str) -> str:
    """An executed copy, with a line on where else it stands, and words for every figure."""
    notebook, file = nbformat.read(ROOT / source, as_version=4), Path(source)
    for cell, words in zip(notebook.cells, alternatives(notebook, file.parent.name, file.stem), strict=True):
        if cell.cell_type == "markdown":
            cell.source = on_page(cell.source, source, pages, folder)
        for output in cell.get("outputs", []):
            if "text/markdown" in output.get("data", {}):
                output.data["text/markdown"] = on_page(output.data["text/markdown"], source, pages, folder)
        if words:
            cell.metadata["mystnb"] = {"image": {"alt": words}}
    title, _, rest = notebook.cells[0].source.partition("\n")
    if "/" in pages[source]:
        title += f" ({file.parent.name})"
        notebook.metadata["orphan"] = True  # the page of the same notebook that is in the order leads here
    notebook.cells[0].source = f"{title}\n\n{{.about}}\n{about(source, pages, repository)}\n{rest}"
    put(folder / "made/extra" / source, (ROOT / source).read_text())
    return nbformat.writes(notebook)


def about(source: str, pages: dict[str, str], repository: str) -> str:
    """The line under the title of an executed copy."""
    name, up = Path(source).stem, "../" * pages[source].count("/")
    others = [p for p in pages if p.startswith("results/") and p.endswith(f"/{name}.ipynb") and p != source]
    said = [f"Executed in profile `{Path(source).parent.name}`"]
    said += [f"in [{Path(other).parent.name}]({up}{pages[other]})" for other in others]
    said += [
        f'<a href="{up}notebooks/{name}.ipynb" download>download to run</a>',
        f'<a href="{up}{source}" download>as executed</a>',
    ]
    return " · ".join(said + [f'<a href="{address}">{where}</a>' for where, address in launch(name, repository).items()])


def launch(name: str, repository: str) -> dict[str, str]:
    """Where a notebook runs in the browser; nothing where the repository has no address, or none that these serve."""
    host, _, path = repository.removeprefix("https://").partition("/")
    if host != "github.com":
        return {}
    found = {"run on Colab": f"https://colab.research.google.com/github/{path}/blob/{BRANCH}/notebooks/{name}.ipynb"}
    if name.startswith("00"):
        found["run on Binder"] = f"https://mybinder.org/v2/gh/{path}/HEAD?labpath=notebooks/{name}.ipynb"
    return found


def with_install_cell(source: str, repository: str) -> str:
    """The notebook to run; where the repository has an address, its first cell installs the project if it is not there."""
    notebook = nbformat.read(ROOT / source, as_version=4)
    if repository:
        notebook.cells.insert(0, nbformat.v4.new_code_cell(INSTALL.format(repository=repository), id="install"))
    return nbformat.writes(notebook)


def mathjax(folder: Path) -> None:
    """MathJax as files of the site: its HTML output with its fonts."""
    package = find_spec("sphinx-mathjax-offline")
    source = Path(package.submodule_search_locations[0]) / "static" / "mathjax"
    (folder / "output/chtml/fonts").mkdir(parents=True)
    shutil.copyfile(source / "tex-chtml.js", folder / "tex-chtml.js")
    shutil.copytree(source / "output/chtml/fonts/woff-v2", folder / "output/chtml/fonts/woff-v2")


def main() -> int:
    from sphinx.cmd.build import main as sphinx

    folder = Path(sys.argv[1] if len(sys.argv) > 1 else ROOT / "runs" / "site").resolve()
    shutil.rmtree(folder, ignore_errors=True)
    write_pages(folder / "pages", os.environ.get("UNSIR_REPOSITORY", "").rstrip("/").removesuffix(".git"))
    mathjax(folder / "pages/made/static/mathjax")
    os.environ["SITE_PAGES"] = str(folder / "pages")  # for conf.py
    options = ["-q", "-W", "--keep-going", "-j", "auto", "-c", str(ROOT / "docs"), "-d", str(folder / "doctrees")]
    failed = sphinx([*options, str(folder / "pages"), str(folder / "html")])
    print(f"{folder}/html has warnings, see above" if failed else f"open {folder}/html/index.html")
    return failed


if __name__ == "__main__":
    sys.exit(main())
