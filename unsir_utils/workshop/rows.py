"""The rows of the paper's tables, each a network and what it is to forget: their settings, their methods and their cases."""

from __future__ import annotations

from dataclasses import dataclass, replace

import pandas as pd

from ..settings import PAPER_RATES
from . import cases
from .study import Method, Scenario, by_seed, choose, scenario, train, with_and_without_noise


@dataclass(frozen=True)
class Row:
    """A network, by its name, and a forget request. request: arguments of `study.scenario`."""

    network: str
    request: dict

    @property
    def intact(self) -> Scenario:
        return scenario(**self.request)

    @property
    def setting(self) -> dict:
        """What names the row in its records. trained: the recipe's seed, which tells networks of a kind apart."""
        trained = self.request["recipe"].get("seed", 0)
        return {"network": self.network, "n_forget": len(self.request["forget"]), "trained": trained}


def table_rows(
    requests: dict[str, list[list[int]]], data: dict, recipes: dict[str, dict], trained: int = 1, **settings: int
) -> list[Row]:
    """One row a request, network by network; the first request of each has one for each of the `trained` networks of a kind.

    requests: network -> a list of forget classes a row. data: arguments of `data.load`, of all networks or by network;
    recipes: network -> arguments of `store.Recipe`, its architecture being the network's name; settings: other arguments of
    `study.scenario`. Raises ValueError for a network of `recipes` that has no request.
    """
    if missing := [network for network in recipes if not requests.get(network)]:
        raise ValueError(f"{', '.join(missing)}: a recipe, but nothing to forget; give a request, or leave the recipe out")
    found = []
    for network, recipe in recipes.items():
        common = dict(data=data.get(network, data), **settings)
        for forget in requests[network]:
            for seed in range(trained if forget == requests[network][0] else 1):
                own = {"architecture": network, **recipe, **({"seed": seed} if seed else {})}
                found.append(Row(network, {**common, "recipe": own, "forget": forget}))
    return found


def first_rows(rows: list[Row]) -> dict[str, Row]:
    """The first row of each network, by which its settings are chosen."""
    found: dict[str, Row] = {}
    for row in rows:
        found.setdefault(row.network, row)
    return found


def of_first_requests(rows: list[Row]) -> list[Row]:
    """The rows of each network's first request, whichever trained network they have."""
    first = {network: row.request["forget"] for network, row in first_rows(rows).items()}
    return [row for row in rows if row.request["forget"] == first[row.network]]


def originals_of(rows: list[Row]) -> dict[str, Scenario]:
    """The intact model of each network, as its first row has it. Raises ValueError where one has learned nothing.

    Then trains, row by row, all that the rows will ask for, retrained models, too: so each is complete as soon as it can be.
    """
    found = {network: row.intact for network, row in first_rows(rows).items()}
    train((s.data, s.recipe) for s in found.values())
    for network, s in found.items():
        try:
            s.that_learned()
        except ValueError as error:
            raise ValueError(f"{network}: {error}") from error
    intact = [row.intact for row in rows]
    train((s.data, replace(s.recipe, left_out=without)) for s in intact for without in ((), s.forget))
    return found


def tries_of(rows: list[Row], method: str, candidates: list[dict], options: dict, seed: int) -> pd.DataFrame:
    """Every candidate on the first row of each network: A_Dr and A_Df on validation data, `chosen` marking the best.

    Arguments: see `study.choose`, whose records these are, with the row's network and n_forget.
    """
    found = []
    for network, row in first_rows(rows).items():
        case = dict(**row.request, seed=seed, method=method, candidates=candidates, options=options)
        found.append(cases.run_cases(choose, [case], f"{method}, rates of {network}").assign(**row.setting))
    return pd.concat(found, ignore_index=True)


def chosen_of(tried: pd.DataFrame, *settings: str) -> dict[str, dict]:
    """network -> the named settings of the candidate that was chosen for it; tried: from `tries_of`."""
    best = tried[tried.chosen].set_index("network")
    return {network: best.loc[network, list(settings)].to_dict() for network in best.index}


def with_controls(own_rates: dict, options: dict, **baselines: Method) -> dict[str, Method]:
    """The methods of a row, in the table's order: UNSIR, the paper's baselines, and what keeps both honest.

    Retrain is the yardstick, masked logits the trivial method, and no noise runs UNSIR's passes without its noise. UNSIR and
    no noise come at the paper's rates and at the network's own. options: of UNSIR, but for its rates.
    """
    return {
        "Original": Method("Original"),
        "Retrain": Method("Retrain"),
        **baselines,
        "Masked logits": Method("Masked logits"),
        **with_and_without_noise({"paper's rates": PAPER_RATES, "chosen rates": own_rates}, **options),
    }


def cases_of(
    rows: list[Row],
    methods: dict[str, dict[str, Method]],
    seeds: list[int],
    seeds_elsewhere: int,
    in_full: list[Row],
    relearning: dict,
) -> list[dict]:
    """Cases of `study.outcomes`: every method of its network on every row, with each seed.

    methods: network -> label -> method. in_full: the rows that get all seeds; the others get the first `seeds_elsewhere`.
    relearning: arguments of `study.relearn`.
    """
    return [
        {**case, "relearning": relearning, "setting": row.setting}
        for row in rows
        for case in by_seed(methods[row.network], seeds if row in in_full else seeds[:seeds_elsewhere], **row.request)
    ]
