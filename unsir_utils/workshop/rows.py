"""The rows of the paper's tables, each a network and what it is to forget: their settings, their methods and their cases."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import pandas as pd

from ..settings import PAPER_RATES
from . import cases
from .study import Method, Scenario, by_seed, check_learned, choose, scenario, train, trial, trials, with_and_without_noise


@dataclass(frozen=True)
class Row:
    """A trained network and a forget request. request: arguments of `study.scenario`; trained: which of the network's
    trainings, a fold of the data or a seed of the recipe."""

    network: str
    trained: int
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
    *,
    folds: Sequence[int] = (),
    trained: Mapping[str, int] | None = None,
    **settings: int,
) -> list[Row]:
    """The rows of each network, request by request. With folds every request has one a fold; without, the first request has
    one for each trained network, alike but for their seed, and the others have one.

    requests: network -> a list of forget classes a row. data: arguments of `data.load`, of all networks or by network;
    recipes: network -> arguments of `store.Recipe`, its architecture being the network's name unless it says another;
    folds: of the data, see `data.load`; trained: network -> how many there are, 1 where it does not say; settings: other
    arguments of `study.scenario`. Raises ValueError for a network of `recipes` that has no request.
    """
    if missing := [network for network in recipes if not requests.get(network)]:
        raise ValueError(f"{', '.join(missing)}: a recipe, but nothing to forget; give a request, or leave the recipe out")
    found = []
    for network, recipe in recipes.items():
        seeds = range((trained or {}).get(network, 1))
        each = _trainings(data.get(network, data), {"architecture": network, **recipe}, folds, seeds)
        for forget in requests[network]:
            for n, on in each.items() if folds or forget == requests[network][0] else [(0, each[0])]:
                found.append(Row(network, n, {**on, **settings, "forget": forget}))
    return found


def _trainings(data: dict, recipe: dict, folds: Sequence[int], seeds: Sequence[int]) -> dict[int, dict]:
    """Which training -> its data and recipe."""
    if folds:
        return {fold: {"data": {**data, "fold": fold}, "recipe": recipe} for fold in folds}
    return {seed: {"data": data, "recipe": {**recipe, "seed": seed} if seed else recipe} for seed in seeds}


def first_rows(rows: list[Row]) -> dict[str, Row]:
    """The first row of each network."""
    found: dict[str, Row] = {}
    for row in rows:
        found.setdefault(row.network, row)
    return found


def of_first_requests(rows: list[Row]) -> list[Row]:
    """The rows of each network's first request, whichever training they have."""
    first = {network: row.request["forget"] for network, row in first_rows(rows).items()}
    return [row for row in rows if row.request["forget"] == first[row.network]]


def originals_of(rows: list[Row]) -> dict[str, Scenario]:
    """The intact model of each network, as its first row has it. Raises ValueError where one has learned nothing.

    Then trains, row by row, all that the rows will ask for, retrained models, too: so each is complete as soon as it can be.
    """
    found = {network: row.intact for network, row in first_rows(rows).items()}
    check_learned(found)
    intact = [row.intact for row in rows]
    train((s.data, replace(s.recipe, left_out=without)) for s in intact for without in ((), s.forget))
    return found


def tries_of(rows: list[Row], method: str, candidates: list | dict[str, list], options: dict, seed: int) -> pd.DataFrame:
    """Every candidate on every row: A_Dr and A_Df on validation data, `chosen` marking the row's best, and how many `images`
    of the forget classes A_Df rests on.

    candidates: of all networks or by network; they and the other arguments: see `study.trials`. The records of these come
    with the row's own setting.
    """
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


def cases_of(
    rows: list[Row],
    methods: list[dict[str, Method]],
    seeds: list[int],
    seeds_elsewhere: int,
    relearning: dict,
) -> list[dict]:
    """Cases of `study.outcomes`: each method of every row, with each seed.

    methods: label -> method, of each row. A network's first request gets all seeds, the others the first `seeds_elsewhere`.
    relearning: arguments of `study.relearn`.
    """
    in_full = of_first_requests(rows)
    return [
        {**case, "methods": {label: method}, "relearning": relearning, "setting": row.setting}
        for row, own in zip(rows, methods, strict=True)
        for case in by_seed(own, seeds if row in in_full else seeds[:seeds_elsewhere], **row.request)
        for label, method in case["methods"].items()
    ]
