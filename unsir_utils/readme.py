"""Renews the parts of README.md that come from results: each stands between <!-- from PATH --> and <!-- end -->.

python -m unsir_utils.readme          # --check: only say whether they are up to date
"""

from __future__ import annotations

import re
import sys

from .paths import REPOSITORY

PART = re.compile(r"(<!-- from (\S+) -->\n).*?(<!-- end -->)", re.DOTALL)


def renewed(text: str) -> str:
    """`text` with every generated part read anew from its file, given relative to the repository."""
    return PART.sub(lambda part: f"{part[1]}{(REPOSITORY / part[2]).read_text()}{part[3]}", text)


def main() -> None:
    readme = REPOSITORY / "README.md"
    before = readme.read_text()
    after = renewed(before)
    if "--check" in sys.argv[1:]:
        sys.exit("" if after == before else "README.md is out of date: run make readme")
    readme.write_text(after)


if __name__ == "__main__":
    main()
