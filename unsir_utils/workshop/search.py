"""The search of 15_how_little, which chose FAST and BEST of `settings`: its candidates, its rounds and its two rules.

Settings are a dict: retain_per_class and arguments of `unsir`. Candidate 0 is the settings that the search starts from; they
set the bar.
"""

from __future__ import annotations

import itertools
import random
import re
from collections.abc import Sequence
from typing import Any

import pandas as pd

from ..settings import FORGOTTEN
from ..unsir import Unlearned, unsir
from . import cases
from .study import Scenario, scenario, validate
from .timing import unsir_passes

NEAR = 1.0  # points of A_Dr that the cheapest may have less than the start


def passes_of(settings: dict, n_classes: int, n_forget: int, noise: bool = True) -> int:
    """Image passes (see `timing`) of these settings. noise: False for the same two passes without it."""
    subset = settings["retain_per_class"] * (n_classes - n_forget)
    images = settings["noise_per_class"] * n_forget if noise else 0
    return sum(unsir_passes(subset, images, settings["copies"], settings["noise_steps"]).values())


def combinations(changes: Sequence[dict]) -> list[dict]:
    """At least two changes at once, in every way. Changes of the same settings are alternatives.

    Raises ValueError for two changes that share a setting, but not all of them.
    """
    things: dict[frozenset, list[dict]] = {}
    for change in changes:
        things.setdefault(frozenset(change), [{}]).append(change)
    for one, other in itertools.combinations(things, 2):
        if one & other:
            raise ValueError(f"changes of {sorted(one)} and of {sorted(other)} overlap: name the same settings in both")
    taken = [parts for parts in itertools.product(*things.values()) if sum(map(bool, parts)) > 1]
    return [{name: value for part in parts for name, value in part.items()} for parts in taken]


def candidates(
    start: dict, changes: Sequence[dict], n: int, n_classes: int, n_forget: int, dearest: float
) -> tuple[list[dict], list[dict]]:
    """Every change alone, and `n` less these and the start drawn from their combinations; whole settings.

    dearest: of both, those that take more than so many times the image passes of `start` are left out after the draw.
    Raises ValueError where `n` has no room for every change.
    """
    if n < 1 + len(changes):
        raise ValueError(f"n_candidates must be at least {1 + len(changes)}: the start and every change alone")
    combined = combinations(changes)
    drawn = random.Random(0).sample(combined, min(len(combined), n - 1 - len(changes)))
    limit = dearest * passes_of(start, n_classes, n_forget)

    def affordable(part: Sequence[dict]) -> list[dict]:
        whole = [{**start, **change} for change in part]
        return [settings for settings in whole if passes_of(settings, n_classes, n_forget) <= limit]

    return affordable(changes), affordable(drawn)


def changed(settings: dict, start: dict) -> str:
    """What differs from the start: "retain images 50, noise steps 5"; of nothing, "the paper's settings"."""
    text = ", ".join(f"{name} {value:g}" for name, value in settings.items() if value != start[name])
    return re.sub("_lr|_factor", "", text.replace("per_class", "images")).replace("_", " ") or "the paper's settings"


def unlearned(s: Scenario, settings: dict) -> Unlearned:
    """UNSIR with these settings; the scenario has the retain subset that they name."""
    own = {name: value for name, value in settings.items() if name != "retain_per_class"}
    return unsir(s.original, s.forget, s.retain_subset, seed=s.seed, **own)


def try_out(candidate: int, settings: dict, **request: Any) -> list[dict]:
    """A case: a candidate's accuracy on the validation part and its cost. request: arguments of `scenario`."""
    s = scenario(**request, retain_per_class=settings["retain_per_class"])
    done = unlearned(s, settings)
    cost = {"image_passes": sum(done.samples.values()), "seconds": sum(done.seconds.values())}
    return [{**validate(done.model, s), **cost}]


def in_rounds(tried: Sequence[dict], requests: Sequence[dict]) -> tuple[pd.DataFrame, list[int]]:
    """(a line a run, the candidates that stayed to the end). A round is a request; who leaves one runs in none after it.

    tried: candidates; requests: arguments of `scenario`. Columns candidate, seed, A_Dr, A_Df, image_passes, seconds, round,
    network (its recipe's seed), forget.
    """
    left, judged = list(range(len(tried))), []
    for n, request in enumerate(requests, 1):
        runs = [dict(candidate=i, settings=tried[i], **request) for i in left]
        found = cases.run_cases(try_out, runs, f"round {n} of {len(requests)}")
        judged.append(found.assign(round=n, network=request["recipe"]["seed"], forget=str(request["forget"])))
        left = staying(found)
    return pd.concat(judged), left


def staying(runs: pd.DataFrame) -> list[int]:
    """The candidates of a round with A_Df at most FORGOTTEN or, if it is higher, at most the start's. The start stays.

    Where the start's A_Df is undefined, FORGOTTEN is the bar. An undefined A_Df does not stay.
    """
    start = runs.candidate == 0
    bar = max(FORGOTTEN, runs.A_Df[start].fillna(FORGOTTEN).max())
    return runs.candidate[(runs.A_Df <= bar) | start].tolist()


def totals(judged: pd.DataFrame) -> pd.DataFrame:
    """By candidate: image_passes, rounds that it ran, mean A_Dr and highest A_Df of these."""
    return judged.groupby("candidate").agg(
        image_passes=("image_passes", "first"), rounds=("round", "max"), A_Dr=("A_Dr", "mean"), A_Df=("A_Df", "max")
    )


def choice(stayed: pd.DataFrame, batch_sizes: Sequence[int]) -> dict[str, int]:
    """The candidates that the rules take: "paper's" (the start), "fast" and "best".

    stayed: lines of `totals`, of candidates that stayed; batch_sizes: of every candidate.
    fast: of those with the start's batch size (smaller ones take more seconds an image) and A_Dr at most NEAR below the
    start's, the fewest image passes; of equals the highest A_Dr. best: the highest A_Dr; of equals the fewest image passes.
    An undefined A_Dr counts as 0.
    """
    stayed = stayed.assign(A_Dr=stayed.A_Dr.fillna(0.0))
    near = stayed[stayed.A_Dr >= stayed.A_Dr[0] - NEAR]
    near = near[[batch_sizes[i] == batch_sizes[0] for i in near.index]]
    cheapest = near.sort_values(["image_passes", "A_Dr"], ascending=[True, False])
    highest = stayed.sort_values(["A_Dr", "image_passes"], ascending=[False, True])
    return {"paper's": 0, "fast": int(cheapest.index[0]), "best": int(highest.index[0])}


def check_apart(requests: list, search_models: list, search_seeds: list, elsewhere: list, confirm_seeds: list) -> None:
    """Raises ValueError where requests of the search differ in size, or where what is to confirm a choice has chosen."""
    if len({len(forget) for forget in requests}) > 1:
        raise ValueError(f"requests {requests} must forget equally many classes, as their image passes are compared")
    if both := set(search_seeds) & set(confirm_seeds):
        raise ValueError(f"seeds {sorted(both)} search and confirm: the seeds that confirm must not have chosen")
    if both := set(search_models) & {place["recipe_seed"] for place in elsewhere}:
        raise ValueError(f"networks of seeds {sorted(both)} search and confirm: those that confirm must not have chosen")
