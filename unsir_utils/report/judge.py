"""The one place that judges: an effect with an interval over replicates, held against a threshold stated beforehand.

A replicate is a trained network or, where there is only one, a seed of the unlearning. Intervals are Student's t: with three
to five replicates a bootstrap is too narrow. `claims` says which effects decide which claim.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TypeAlias, TypedDict

import numpy as np
import pandas as pd
from scipy.stats import t

ALPHA = 0.05  # chance of a wrong decision among all looks at one claim
FEWEST = 3  # replicates that may decide anything: of two, the spread is a guess
MOST = 1000  # replicates beyond which we do not say how many would decide

HOLDS, FAILS, UNDECIDED, UNDEFINED = "holds", "does not hold", "undecided", "undefined"
NOT_THE_NOISE = f"{HOLDS}, but not because of the noise"
VERDICTS = (HOLDS, NOT_THE_NOISE, UNDECIDED, FAILS, UNDEFINED)


@dataclass(frozen=True)
class Interval:
    """mean, and the ends of its confidence interval; n replicates of what (network or seed); sd of one replicate."""

    mean: float
    low: float
    high: float
    n: int
    of: str
    sd: float

    def text(self, digits: int = 1, sign: str = "") -> str:
        """ "72.9 [71.0, 74.8]"; sign: "+" shows it always."""
        if math.isnan(self.mean):
            return UNDEFINED
        mean, low, high = (f"{round(x, digits) + 0.0:{sign}.{digits}f}" for x in (self.mean, self.low, self.high))
        return f"{mean} [{low}, {high}]" if self.n > 1 else mean

    def within(self, least: float, most: float) -> Interval:
        """The same, cut to what the number can be."""
        return replace(self, low=max(self.low, least), high=min(self.high, most))

    @property
    def replicates(self) -> str:
        """ "3 networks", "5 seeds of 1 network" or, of a count, "exact": what the verdict can speak of."""
        many = f"{self.n} {self.of}{'s' if self.n != 1 else ''}"
        return {"exact": "exact", "seed": f"{many} of 1 network"}.get(self.of, many)


def how_many(records: pd.DataFrame) -> str:
    """ "3 networks, 2 seeds each": the trained networks of records, and the most seeds of the unlearning on one of them."""
    own = records.groupby("trained") if "trained" in records else records.groupby(lambda _: 0)
    networks, seeds = own.ngroups, own.seed.nunique().max() if "seed" in records else 1
    each = f"{seeds} seed{'s' if seeds > 1 else ''}"
    return f"{networks} networks, {each} each" if networks > 1 else f"1 network, {each}"


def replicates(values: pd.Series) -> pd.Series:
    """One value a replicate: a network's mean over its seeds where there are several networks, else each seed's.

    values: by `trained` (which network) and `seed`. One undefined value makes its replicate undefined.
    """
    by_network = values.groupby("trained")
    return by_network.agg(lambda v: v.mean(skipna=False)) if by_network.ngroups > 1 else values


def interval(values: pd.Series, alpha: float = ALPHA, step: float = 0.0) -> Interval:
    """The mean of the replicates with its t interval at confidence 1 - alpha; nan where one of them is, or there is none.

    step: the least by which a value can move, such as one test image in %. The spread counts as at least that: equal values
    in a few replicates do not prove that the next would be equal.
    """
    one_each = replicates(values)
    n, of = len(one_each), "network" if one_each.index.names == ["trained"] else "seed"
    mean = one_each.mean(skipna=False) if n else math.nan
    if math.isinf(mean):
        return Interval(mean, mean, mean, n, of, math.nan)
    if n < 2 or math.isnan(mean):
        return Interval(mean, -math.inf, math.inf, n, of, math.nan)
    sd = max(one_each.std(), step)
    reach = t.ppf(1 - alpha / 2, n - 1) * sd / math.sqrt(n)
    return Interval(mean, mean - reach, mean + reach, n, of, sd)


Numbers: TypeAlias = pd.Series | tuple[pd.Series, pd.Series]
RANGES = {"%": (0, 100), "of 1": (0, 1), "times": (0, math.inf), "decades": (0, math.inf)}  # of what has such a unit


@dataclass(frozen=True, eq=False)
class Criterion:
    """One number that a claim is about, and the threshold that it is held against.

    values: the number, by `trained` and `seed`; nan where it is undefined.
    sense: "at least", "at most" or "beyond" (the bound, in either direction).
    highest: where a value is censored, `values` hold how low and `highest` how high it may be; inf is allowed.
    without: the same number for the passes without noise; images: for other images in the noise's place, by name.
    beside: for methods that say nothing about the noise (a masked logit, Retrain), by name.
        Each is a series as `values` or, where it is censored, a pair: how low and how high it may be.
    step: see `interval`. exact: a count that no replicate changes.
    """

    what: str
    values: pd.Series
    sense: str
    bound: float
    unit: str = "%"
    highest: pd.Series | None = None
    without: Numbers | None = None
    images: dict[str, Numbers] = field(default_factory=dict)
    beside: dict[str, Numbers] = field(default_factory=dict)
    step: float = 0.0
    exact: bool = False

    def __post_init__(self) -> None:
        if self.sense not in ("at least", "at most", "beyond"):
            raise ValueError(f"sense is {self.sense!r}: expected 'at least', 'at most' or 'beyond'")

    @property
    def threshold(self) -> str:
        return f"{self.sense} {self.bound:g} {self.unit.removesuffix('s') if self.bound == 1 else self.unit}"

    def of(self, numbers: Numbers) -> Criterion:
        """The same question about a control."""
        low, high = numbers if isinstance(numbers, tuple) else (numbers, None)
        return replace(self, values=low, highest=high, without=None, images={}, beside={})

    def interval(self, alpha: float = ALPHA) -> Interval:
        if self.exact and len(self.values) == 1:
            value = float(self.values.iloc[0])
            return Interval(value, value, value, 1, "exact", 0.0)
        low = interval(self.values, alpha, self.step)
        if self.highest is None:
            return low.within(*RANGES[self.unit]) if self.unit in RANGES else low
        high = interval(self.highest, alpha, self.step)
        mean = low.mean if low.mean == high.mean else math.nan
        return Interval(mean, low.low, high.high, low.n, low.of, low.sd)

    def outcome(self, alpha: float = ALPHA) -> str:
        found = self.interval(alpha)
        if len(self.values) == 0 or self.values.isna().any():
            return UNDEFINED
        if found.n < FEWEST and not self.exact:
            return UNDEFINED if found.n < 2 else UNDECIDED
        above, below = found.low >= self.bound, found.high < self.bound
        if self.sense == "at least":
            return HOLDS if above else FAILS if below else UNDECIDED
        if self.sense == "at most":
            return HOLDS if found.high <= self.bound else FAILS if found.low > self.bound else UNDECIDED
        if above or found.high <= -self.bound:
            return HOLDS
        return FAILS if below and found.low > -self.bound else UNDECIDED

    def headroom(self, alpha: float = ALPHA) -> float:
        """How far the number lies on the right side of the bound, in its unit; of a censored one the worse end."""
        if self.values.empty or self.values.isna().any():
            return -math.inf
        found = self.interval(alpha)
        low, high = (found.low, found.high) if math.isnan(found.mean) else (found.mean, found.mean)
        return {"at least": low - self.bound, "at most": self.bound - high, "beyond": abs(low) - self.bound}[self.sense]

    def would_decide(self, alpha: float = ALPHA) -> str:
        """Roughly how many replicates of this mean and spread would decide; empty where more of them do not help."""
        found = self.interval(alpha)
        if self.outcome(alpha) != UNDECIDED or math.isnan(found.mean) or math.isnan(found.sd):
            return ""
        bounds = (self.bound, -self.bound) if self.sense == "beyond" else (self.bound,)
        margin = min(abs(found.mean - bound) for bound in bounds)
        n = np.arange(max(FEWEST, found.n), MOST + 1)
        enough = n[t.ppf(1 - alpha / 2, n - 1) * found.sd < margin * np.sqrt(n)]
        return f"about {enough[0]} {found.of}s" if len(enough) else f"over {MOST} {found.of}s"


@dataclass(frozen=True, eq=False)
class Test:
    """One test of a claim: it holds where every criterion does (with `any_of`: where one does).

    claim: its id in unsir_utils/data/claims.yaml. why_not: a reason for which it cannot be judged, if there is one.
    """

    claim: int | str
    tested: str
    criteria: Sequence[Criterion]
    any_of: bool = False
    why_not: str = ""


def level(criteria: Iterable[Criterion]) -> float:
    """Holm's level for several looks at one claim: a decision leaves more room for the next. What is undefined is none."""
    criteria = [c for c in criteria if c.outcome() != UNDEFINED]
    decided = 0
    while True:
        alpha = ALPHA / max(1, len(criteria) - decided)
        now = sum(c.outcome(alpha) in (HOLDS, FAILS) for c in criteria)
        if now <= decided:
            return alpha
        decided = now


def combined(outcomes: Sequence[str], any_of: bool = False) -> str:
    """One outcome of several criteria, all of which must hold (`any_of`: one)."""
    decisive, rest = (HOLDS, FAILS) if any_of else (FAILS, HOLDS)
    for found in (decisive, UNDEFINED, UNDECIDED):
        if found in outcomes:
            return found
    return rest if outcomes else UNDEFINED


Finding = TypedDict(
    "Finding",
    {
        "claim": str,  # of claims.yaml
        "tested": str,
        "measured": str,  # of the criterion on which the verdict hangs; of both where a test of two holds
        "holds if": str,
        "criteria": str,  # how many came out how, where there are several
        "replicates": str,  # of all criteria; where they differ, how many have which
        "would decide": str,
        "the noise adds": str,  # to each number of "measured"
        "controls": str,
        "noise needed": str,
        "verdict": str,
    },
)


def judge(tests: Sequence[Test]) -> list[Finding]:
    """A line of text for each test: what was measured, the verdict, and what the noise has to do with it.

    All criteria of all tests of one claim are looks at it, corrected by Holm; controls are judged at the same level.
    """

    def looks(claim: int | str) -> Iterable[Criterion]:
        return (c for test in tests if test.claim == claim and not test.why_not for c in test.criteria)

    return [_finding(test, level(looks(test.claim))) for test in tests]


def _finding(test: Test, alpha: float) -> Finding:
    outcomes = [c.outcome(alpha) for c in test.criteria]
    decided = combined(outcomes, test.any_of)
    verdict = UNDEFINED if test.why_not else decided
    told = _hanging(test, outcomes, decided, alpha)
    c = told[0] if told else None
    controls = _shared([{"No noise": c.without, **c.images} for c in test.criteria])
    same = {name: _comes_to(test, numbers, alpha) for name, numbers in controls.items()}
    others = _shared([c.beside for c in test.criteria])
    beside = {name: _comes_to(test, numbers, alpha) for name, numbers in others.items()}
    worse = [name for name, numbers in controls.items() if same[name] == FAILS or _better(test, numbers, alpha)]
    as_well = [name for name, found in same.items() if found == HOLDS and name not in worse]
    needed = ""
    if same and verdict == HOLDS:
        needed = "no" if as_well else "yes" if len(worse) == len(same) else UNDECIDED
    counts = {o: outcomes.count(o) for o in (HOLDS, FAILS, UNDECIDED, UNDEFINED) if o in outcomes}
    return {
        "claim": str(test.claim),
        "tested": test.tested,
        "measured": test.why_not or "; ".join(f"{c.what}: {shown(c, alpha)}" for c in told) or "nothing was measured",
        "holds if": "; ".join(c.threshold for c in told),
        "criteria": ", ".join(f"{o} {n}" for o, n in counts.items()) if len(outcomes) > 1 else "",
        "replicates": _replicates(test.criteria),
        "would decide": c.would_decide(alpha) if c and not test.why_not else "",
        "the noise adds": "; ".join(filter(None, map(added_by_noise, told))),
        "controls": "; ".join(f"{name} {outcome}" for name, outcome in {**same, **beside}.items()),
        "noise needed": needed,
        "verdict": NOT_THE_NOISE if as_well and verdict == HOLDS else verdict,
    }


def _replicates(criteria: Sequence[Criterion]) -> str:
    counts = Counter(c.interval().replicates for c in criteria)
    return "; ".join(found if len(counts) == 1 else f"{found} ({n} of {len(criteria)})" for found, n in counts.items())


def _hanging(test: Test, outcomes: Sequence[str], decided: str, alpha: float) -> list[Criterion]:
    """What the verdict hangs on: the worst criterion of those that came out as the whole did (`any_of`: the best). Both
    halves of a claim of two that holds, the worse one first."""
    alike = [c for outcome, c in zip(outcomes, test.criteria, strict=True) if outcome == decided]
    ordered = sorted(alike, key=lambda c: c.headroom(alpha), reverse=test.any_of)
    return ordered if decided == HOLDS and len(outcomes) == 2 and not test.any_of else ordered[:1]


def _shared(controls: Sequence[Mapping[str, Numbers | None]]) -> dict[str, list[Numbers]]:
    """The numbers of each control, one a criterion; only of controls that all criteria have."""
    names = controls[0] if controls else ()
    found = {name: [numbers for of in controls if (numbers := of.get(name)) is not None] for name in names}
    return {name: numbers for name, numbers in found.items() if len(numbers) == len(controls)}


def _comes_to(test: Test, control: list[Numbers], alpha: float) -> str:
    """The outcome of a control on the same criteria."""
    pairs = zip(test.criteria, control, strict=True)
    return combined([c.of(numbers).outcome(alpha) for c, numbers in pairs], test.any_of)


def shown(c: Criterion, alpha: float = ALPHA) -> str:
    """A criterion's number with its interval and unit; ends where it is censored."""
    found = c.interval(alpha)
    if c.values.empty or c.values.isna().any():
        missing = int(c.values.isna().sum())
        return f"undefined in {missing} of {len(c.values)} runs" if len(c.values) else "not measured"
    if math.isnan(found.mean) or math.isinf(found.mean):
        return f"known only to lie between {_end(found.low)} and {_end(found.high)} {c.unit} (capped)"
    return f"{found.text(_digits(c))} {c.unit}"


def added_by_noise(c: Criterion) -> str:
    """UNSIR's number minus that of the passes without noise, paired by replicate, with its 95 % interval."""
    if c.without is None or isinstance(c.without, tuple) or c.highest is not None:
        return ""
    unit = "points" if c.unit == "%" else c.unit
    difference = c.values - c.without.reindex(c.values.index)
    if difference.isna().any() or difference.empty:
        return "undefined"
    found = interval(difference, ALPHA, c.step)
    return f"{found.text(_digits(c), '+')} {unit}"


def _better(test: Test, control: list[Numbers], alpha: float) -> bool:
    """Whether the interval of the paired difference lies on UNSIR's side by one of the criteria.

    Where one of the two is censored it does not.
    """
    for c, numbers in zip(test.criteria, control, strict=True):
        if c.sense == "beyond" or c.highest is not None or isinstance(numbers, tuple):
            continue
        difference = c.values - numbers.reindex(c.values.index)
        found = interval(difference if c.sense == "at least" else -difference, alpha, c.step)
        if found.n >= FEWEST and found.low > 0:
            return True
    return False


def _digits(c: Criterion) -> int:
    return 1 if c.unit in ("%", "points", "epochs") or c.unit == "times" and c.bound >= 10 else 2


def _end(value: float) -> str:
    return "minus infinity" if value == -math.inf else "infinity" if value == math.inf else f"{value:.1f}"
