"""The rows of the paper's tables, each a network and what it is to forget: their settings, their methods and their cases."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import pandas as pd

from ..settings import PAPER_RATES
from . import cases
from .study import Method, Scenario, by_seed, choose, scenario, train, with_and_without_noise


Model = str | tuple[str, int]  # a network or, with folds, a network in a fold: each has settings of its own


@dataclass(frozen=True)
class Row:
    """A network, by its name, and a forget request. request: arguments of `study.scenario`; fold: of data with folds."""

    network: str
    request: dict
    fold: int | None = None

    @property
    def intact(self) -> Scenario:
        return scenario(**self.request)

    @property
    def setting(self) -> dict:
        """What names the row in its records; each fold is a trained network of its own."""
        named = {"network": self.network, "n_forget": len(self.request["forget"])}
        return named if self.fold is None else {**named, "trained": self.fold}

    @property
    def model(self) -> Model:
        """The trained network that the row is about."""
        return self.network if self.fold is None else (self.network, self.fold)


def table_rows(
    requests: dict[str, list[list[int]]], data: dict, recipes: dict[str, dict], folds: Sequence[int] = (), **settings: int
) -> list[Row]:
    """One row a request, network by network; with folds, one a request and fold, fold by fold.

    requests: network -> a list of forget classes a row. data: arguments of `data.load`, of all networks or by network;
    recipes: network -> arguments of `store.Recipe`, its architecture being the network's name; folds: of the data, see
    `data.load`; settings: other arguments of `study.scenario`. Raises ValueError for a network of `recipes` that has no
    request.
    """
    if missing := [network for network in recipes if not requests.get(network)]:
        raise ValueError(f"{', '.join(missing)}: a recipe, but nothing to forget; give a request, or leave the recipe out")
    found = []
    for network, recipe in recipes.items():
        own = data.get(network, data)
        each: Sequence[int | None] = folds or [None]
        for fold in each:
            of_fold = own if fold is None else {**own, "fold": fold}
            common = dict(data=of_fold, recipe={"architecture": network, **recipe}, **settings)
            found += [Row(network, {**common, "forget": forget}, fold) for forget in requests[network]]
    return found


def first_rows(rows: list[Row]) -> dict[str, Row]:
    """The first row of each network, in the first fold."""
    found: dict[str, Row] = {}
    for row in rows:
        found.setdefault(row.network, row)
    return found


def _choosing(rows: list[Row]) -> list[Row]:
    """The first row of each trained network, by which its settings are chosen."""
    return [row for i, row in enumerate(rows) if row.model not in [earlier.model for earlier in rows[:i]]]


def originals_of(rows: list[Row]) -> dict[str, Scenario]:
    """The intact model of each network, as its first row has it. Raises ValueError where one has learned nothing.

    Trains, row by row, all that the rows will ask for, retrained models, too: so each row is complete as soon as it can be.
    """
    intact = [row.intact for row in rows]
    train((s.data, replace(s.recipe, left_out=without)) for s in intact for without in ((), s.forget))
    found = {}
    for network, row in first_rows(rows).items():
        try:
            found[network] = row.intact.that_learned()
        except ValueError as error:
            raise ValueError(f"{network}: {error}") from error
    return found


def tries_of(rows: list[Row], method: str, candidates: list[dict], options: dict, seed: int) -> pd.DataFrame:
    """Every candidate on the first row of each network, in each fold: A_Dr and A_Df on validation data, `chosen` marking
    the best.

    Arguments: see `study.choose`, whose records these are, with the row's own setting.
    """
    found = []
    for row in _choosing(rows):
        case = dict(**row.request, seed=seed, method=method, candidates=candidates, options=options)
        found.append(cases.run_cases(choose, [case], f"{method}, rates of {row.network}").assign(**row.setting))
    return pd.concat(found, ignore_index=True)


def chosen_of(tried: pd.DataFrame, *settings: str) -> dict[Model, dict]:
    """Row.model -> the named settings of the candidate that was chosen for it; tried: from `tries_of`."""
    best = tried[tried.chosen]
    models = list(zip(best.network, best.trained, strict=True)) if "trained" in best else list(best.network)
    return dict(zip(models, best[list(settings)].to_dict("records"), strict=True))


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
    methods: Mapping[Model, dict[str, Method]],
    seeds: list[int],
    seeds_elsewhere: int,
    in_full: list[Row],
    relearning: dict,
) -> list[dict]:
    """Cases of `study.outcomes`: every method of its network on every row, with each seed.

    methods: Row.model -> label -> method. in_full: the rows that get all seeds; the others get the first `seeds_elsewhere`.
    relearning: arguments of `study.relearn`.
    """
    return [
        {**case, "relearning": relearning, "setting": row.setting}
        for row in rows
        for case in by_seed(methods[row.model], seeds if row in in_full else seeds[:seeds_elsewhere], **row.request)
    ]
