"""The paper's known cells, from paper.yaml, and the claims that are judged, from claims.yaml."""

from __future__ import annotations

from functools import lru_cache

import pandas as pd

from ..data.paths import YAML, read_yaml

PAPER, CLAIMS = YAML / "paper.yaml", YAML / "claims.yaml"
AT_PAPERS_RATES = "UNSIR (paper's rates)"  # as the tables' notebooks name it


@lru_cache(maxsize=1)
def claims() -> dict[int | str, dict]:
    """What decides each claim, by its id."""
    return {claim["id"]: claim for claim in read_yaml(CLAIMS)}


def paper_cells(table: str) -> pd.DataFrame:
    """The known cells of one of the paper's tables: model, row, method, metric, value, source. Unknown cells are absent.

    Raises ValueError for a table that unsir_utils/data/paper.yaml does not hold.
    """
    tables = read_yaml(PAPER)["tables"]
    if table not in tables:
        raise ValueError(f"{PAPER.name} has no table {table!r}: choose one of {', '.join(tables)}")
    return pd.DataFrame(tables[table], columns=["model", "row", "method", "metric", "value", "source"])


SPEED = {  # rows of 06_efficiency, and what unsir_utils/data/paper.yaml calls them
    "Retrain": "speed-up over Retrain",
    "Fisher (loop)": "speed-up over Fisher forgetting",
    "UNSIR: noise": "noise",
    "UNSIR: impair": "impair",
}


def rows_elsewhere() -> pd.DataFrame:
    """What others report of UNSIR, from paper.yaml: whose row, on what, at which settings, A_Dr and A_Df in % as printed."""
    columns = {"of": "reported by", "A_Dr": "A_Dr (%)", "A_Df": "A_Df (%)"}
    return pd.DataFrame(read_yaml(PAPER)["elsewhere"]).rename(columns=columns)


def paper_speed() -> pd.DataFrame:
    """What the paper reports of speed: what, value, unit, source, by the rows of SPEED."""
    told = pd.DataFrame(read_yaml(PAPER)["efficiency"]).set_index("what", drop=False)
    return told.loc[[*SPEED.values()]].set_axis([*SPEED])
