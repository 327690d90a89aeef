"""Renews the parts of README.md that come from results: each stands between <!-- from PATH --> and <!-- end -->.

python -m unsir_utils.report.readme
"""

from __future__ import annotations

import os
import re

from ..data.paths import REPOSITORY, published_root
from .gather import overview

NOTEBOOKS = REPOSITORY / "results" / "notebooks.md"
PROFILES = ["laptop", "quick"]  # of the table of notebooks
PART = re.compile(r"(<!-- from (\S+) -->\n).*?(<!-- end -->)", re.DOTALL)


def renewed(text: str) -> str:
    """`text` with every generated part read anew from its file, given relative to the repository."""
    return PART.sub(lambda part: f"{part[1]}{(REPOSITORY / part[2]).read_text()}{part[3]}", text)


def main() -> None:
    os.environ["UNSIR_RESULTS"] = str(published_root())  # whatever was run here
    NOTEBOOKS.write_text(overview(PROFILES) + "\n")
    readme = REPOSITORY / "README.md"
    readme.write_text(renewed(readme.read_text()))


if __name__ == "__main__":
    main()
