"""The rows of the paper's tables, each a network and what it is to forget: their settings, their methods and their cases."""

from __future__ import annotations

from dataclasses import dataclass, replace

import pandas as pd

from ..settings import PAPER_RATES
from . import cases
from .study import Method, Scenario, by_seed, check_learned, choose, scenario, train, trial, trials, with_and_without_noise


@dataclass(frozen=True)
class Row:
    """A trained network and a forget request. request: arguments of `study.scenario`; trained: which of the network's
    trainings, a seed of the recipe or a fold of the data; seeds: of the unlearning."""

    network: str
    trained: int
    seeds: list[int]
    request: dict

    @property
    def intact(self) -> Scenario:
        return scenario(**self.request)

    @property
    def setting(self) -> dict:
        """What names the row in its records."""
        return {"network": self.network, "n_forget": len(self.request["forget"]), "trained": self.trained}


def table_rows(
    requests: dict[str, list[list[int]]],
    data: dict,
    recipes: dict[str, dict],
    replicates: list[list[int]] | dict[str, list[list[int]]],
    *,
    folded: bool = False,
    **settings: int,
) -> list[Row]:
    """The rows of each network, request by request, one for each of its trainings.

    requests: network -> a list of forget classes a row. data: arguments of `sets.load`, of all networks or by network;
    recipes: network -> arguments of `store.Recipe`, its architecture being the network's name unless it says another;
    replicates: pairs, a training and a seed of the unlearning, of all networks or by network; folded: whether a training is
    a fold of the data (see `sets.load`) instead of a seed of the recipe; settings: other arguments of `study.scenario`.
    Raises ValueError for a network of `recipes` that has no request.
    """
    if missing := [network for network in recipes if not requests.get(network)]:
        raise ValueError(f"{', '.join(missing)}: a recipe, but nothing to forget; give a request, or leave the recipe out")
    found = []
    for network, recipe in recipes.items():
        own = replicates[network] if isinstance(replicates, dict) else replicates
        for forget in requests[network]:
            for n in dict.fromkeys(n for n, _ in own):
                on = _training(data.get(network, data), {"architecture": network, **recipe}, n, folded)
                seeds = [seed for training, seed in own if training == n]
                found.append(Row(network, n, seeds, {**on, **settings, "forget": forget}))
    return found


def _training(data: dict, recipe: dict, n: int, folded: bool) -> dict[str, dict]:
    return {"data": {**data, "fold": n}, "recipe": recipe} if folded else {"data": data, "recipe": {**recipe, "seed": n}}


def first_rows(rows: list[Row]) -> dict[str, Row]:
    """The first row of each network."""
    found: dict[str, Row] = {}
    for row in rows:
        found.setdefault(row.network, row)
    return found


def originals_of(rows: list[Row]) -> dict[str, Scenario]:
    """The intact model of each network, as its first row has it. Raises ValueError where one has learned nothing.

    Then trains, row by row, all that the rows will ask for, retrained models, too: so each is complete as soon as it can be.
    """
    found = {network: row.intact for network, row in first_rows(rows).items()}
    check_learned(found)
    intact = [row.intact for row in rows]
    train((s.data, replace(s.recipe, left_out=without)) for s in intact for without in ((), s.forget))
    return found


def tries_of(rows: list[Row], method: str, candidates: list | dict[str, list], options: dict) -> pd.DataFrame:
    """Every candidate on every row: A_Dr and A_Df on validation data, `chosen` marking the row's best, and how many `images`
    of the forget classes A_Df rests on.

    candidates: of all networks or by network; they and the other arguments: see `study.trials`, which get the first seed of
    all. The records come with the row's own setting.
    """
    seed = rows[0].seeds[0]
    own = [candidates if isinstance(candidates, list) else candidates[row.network] for row in rows]
    each = [(n, row, candidate) for n, row in enumerate(rows) for candidate in own[n]]
    asked = [case for _, row, one in each for case in trials(method, [one], options, **row.request, seed=seed)]
    settings = pd.DataFrame([{**row.setting, "images": _behind(row)} for _, row, _ in each])
    row_of = pd.Series([n for n, _, _ in each])
    return pd.concat([choose(cases.run_cases(trial, asked, f"{method}, trials"), row_of), settings], axis=1)


def _behind(row: Row) -> int:
    return len(row.intact.loaded.validation.only(row.request["forget"]))


def chosen_of(tried: pd.DataFrame, *settings: str) -> list[dict]:
    """The named settings of the candidate that was chosen for each row, row by row; tried: from `tries_of`."""
    return tried.loc[tried.chosen, list(settings)].to_dict("records")


def with_controls(own_rates: dict, options: dict, **baselines: Method) -> dict[str, Method]:
    """The methods of a row, in the table's order: UNSIR, the paper's baselines, and what keeps both honest.

    Retrain is the yardstick, masked logits the trivial method, and no noise runs UNSIR's passes without its noise. UNSIR and
    no noise come at the paper's rates and at the row's own. options: of UNSIR, but for its rates.
    """
    return {
        "Original": Method("Original"),
        "Retrain": Method("Retrain"),
        **baselines,
        "Masked logits": Method("Masked logits"),
        **with_and_without_noise({"paper's rates": PAPER_RATES, "chosen rates": own_rates}, **options),
    }


def cases_of(rows: list[Row], methods: list[dict[str, Method]], relearning: dict) -> list[dict]:
    """Cases of `study.outcomes`: each method of every row, with each of the row's seeds.

    methods: label -> method, of each row. relearning: arguments of `study.relearn`.
    """
    return [
        {**case, "methods": {label: method}, "relearning": relearning, "setting": row.setting}
        for row, own in zip(rows, methods, strict=True)
        for case in by_seed(own, row.seeds, **row.request)
        for label, method in case["methods"].items()
    ]
