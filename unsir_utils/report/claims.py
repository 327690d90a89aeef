"""Which effects decide which claim of claims.yaml: from a notebook's records to the tests that `judge` decides.

Records are the long tables that the notebooks save: one row a method, setting and seed (and, where there are several,
`trained`: which network), with nan where a run is undefined. What they lack is undefined, never "does not hold".
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pandas as pd

from ..settings import FORGOTTEN, best_record
from .judge import Criterion, Test, added_by_noise
from .paper import claims

if TYPE_CHECKING:  # it imports torch, for which make's small helpers do not wait
    from ..engine.samples import Samples

RATES = ("paper's rates", "chosen rates")
BOTH = {rate: (f"UNSIR ({rate})", f"No noise ({rate})") for rate in RATES}  # with and without the noise, as records say
BASELINES = ("FineTune", "NegGrad", "Fisher")
OTHER_IMAGES = ("Unlearned noise", "Blank images", "More retain")


class Step(NamedTuple):
    """The least by which each accuracy can move, in %, see `judge.interval`."""

    A_Dr: float = 0.0
    A_Df: float = 0.0


NO_STEP = Step()


def one_image(test: Samples, forget: Sequence[int]) -> Step:
    """What one test image weighs in the accuracy that it is part of."""
    gone = len(test.only(forget))
    return Step(100 / (len(test) - gone), 100 / gone)


def one_image_of(images: int, classes: int, n_forget: int) -> Step:
    """`one_image` where only the counts are at hand. images: test images a class."""
    return Step(100 / (images * (classes - n_forget)), 100 / (images * n_forget))


def values(records: pd.DataFrame, metric: str, **where: object) -> pd.Series:
    """The metric of the records that match, by `trained` and `seed`; empty where none does."""
    for column, wanted in where.items():
        records = records[records[column] == wanted]
    trained = records["trained"] if "trained" in records else [0] * len(records)
    index = pd.MultiIndex.from_arrays([trained, records["seed"]], names=["trained", "seed"])
    return pd.Series(records[metric].to_numpy(dtype=float), index)


def at(reference: pd.Series, replicates: pd.Series) -> pd.Series:
    """`reference` at each replicate: its own value, or its network's only one where no seed changes it; else nan."""
    by_network = reference.groupby(level="trained")
    only = by_network.first(skipna=False)[by_network.size() == 1]
    spread = only.reindex(replicates.index.get_level_values("trained")).to_numpy()
    return reference.reindex(replicates.index).fillna(pd.Series(spread, replicates.index))


def lost(records: pd.DataFrame, method: str | float, of: str | float = "Original") -> pd.Series:
    """Points of A_Dr that a method has less than another, by replicate."""
    after = values(records, "A_Dr", method=method)
    return at(values(records, "A_Dr", method=of), after) - after


def by_method(records: pd.DataFrame, metric: str) -> Callable[..., pd.Series]:
    """The metric of a method, as `values` gives it."""
    return lambda method: values(records, metric, method=method)


def compared(
    what: str,
    number: Callable[..., pd.Series],
    methods: Sequence[str | float],
    sense: str,
    bound: float,
    unit: str = "points",
    step: float = 0.0,
    images: Sequence[str] = (),
    told: Sequence[str] = (),
) -> Criterion:
    """A number of UNSIR, held against a threshold, and the same number of its controls, by their names in the records.

    methods: UNSIR and, where there are any, the passes without noise; images, told: `Criterion`'s images and beside.
    """
    own, *bare = map(number, methods)
    others = {m: number(m) for m in images}
    # no seed changes a masked logit; Retrain would be another network, and one of it proves nothing
    beside = {m: number(m) if m == "Retrain" else at(number(m), own) for m in told}
    return Criterion(what, own, sense, bound, unit, None, bare[0] if bare else None, others, beside, step)


def forgets(
    what: str, records: pd.DataFrame, *methods: str | float, step: float = 0.0, told: Sequence[str] = ()
) -> Criterion:
    """A_Df of a method is about 0."""
    gone = by_method(records, "A_Df")
    return compared(f"A_Df{what}", gone, methods, "at most", FORGOTTEN, "%", step, told=told)


def keeps(
    what: str, records: pd.DataFrame, *methods: str, claim: int | str = 2, step: float = 0.0, told: Sequence[str] = ()
) -> Criterion:
    """A_Dr of a method stays as near the original's as the claim says."""
    loss, bound = partial(lost, records), claims()[claim]["threshold"]
    return compared(f"A_Dr lost{what}", loss, methods, "at most", bound, step=step, told=told)


# The tables


Size = int | dict[str, int]  # of every network's data, or by network


def tables(records: pd.DataFrame, cap: int, images: Size, classes: Size) -> list[Test]:
    """Claims 1 and 2 on one of the paper's tables, and 3 where its baselines are there.

    records: network (its name), n_forget, method ("UNSIR (paper's rates)"), A_Dr, A_Df, relearn_epochs (nan past
        `cap`). images: test images a class, of `classes`.
    """
    tests, parts, networks = [], _rows(records, images, classes), records.groupby("network", sort=False)
    coarsest = {f.network: f.step.A_Dr for f in sorted(parts, key=lambda f: f.n_forget)}
    for rate, both in BOTH.items():
        places = [(f", {f.network}{f.place}", f) for f in parts]
        one = [forgets(place, f.part, *both, step=f.step.A_Df, told=["Masked logits"]) for place, f in places]
        two = [keeps(place, f.part, *both, step=f.step.A_Dr) for place, f in places]
        three = [c for place, f in places for c in relearning(place, f.part, *both, cap)]
        nearer = [c for name, part in networks for c in trend(name, part, both, coarsest[name])]
        tests += [Test(1, f"A_Df is about 0 ({rate})", one), Test(2, f"A_Dr stays near the original's ({rate})", two)]
        tests += [Test(2, f"the more classes, the nearer ({rate})", nearer)] if nearer else []
        tests += [Test(3, f"relearning takes longer than after each baseline ({rate})", three)] if three else []
    return tests


class _Row(NamedTuple):
    """A row of a table, and its records."""

    network: str
    n_forget: int
    place: str
    part: pd.DataFrame
    step: Step


def _rows(records: pd.DataFrame, images: Size, classes: Size) -> list[_Row]:
    found = []
    for (name, n), part in records.groupby(["network", "n_forget"], sort=False):
        each, of = (size[name] if isinstance(size, dict) else size for size in (images, classes))
        found.append(_Row(name, n, f", {n} of {of}", part, one_image_of(each, of, n)))
    return found


def noise_adds(records: pd.DataFrame, images: Size, classes: Size) -> pd.DataFrame:
    """What the noise adds to the same passes without it, in each row of a table: points, paired by seed, as text.

    Arguments: as for `tables`. More A_Dr and less A_Df speak for the noise.
    """
    lines = []
    for rate, both in BOTH.items():
        for f in _rows(records, images, classes):
            line = {"network": f.network, "#forget": str(f.n_forget), "rates": rate}
            for metric, step in f.step._asdict().items():
                criterion = compared(metric, by_method(f.part, metric), both, "at most", 0, step=step)
                line[metric] = added_by_noise(criterion)
            lines.append(line)
    return pd.DataFrame(lines)


def trend(name: str, records: pd.DataFrame, methods: Sequence[str], step: float) -> list[Criterion]:
    """The loss with the most forget classes minus that with the fewest; none for a network with fewer than three rows."""
    sizes = sorted(records.n_forget.unique())
    if len(sizes) < 3:
        return []
    few, many = (records[records.n_forget == n] for n in (sizes[0], sizes[-1]))

    def change(method: str) -> pd.Series:
        return lost(many, method) - at(lost(few, method), lost(many, method))

    what = f"more A_Dr lost with {sizes[-1]} classes than with {sizes[0]}, {name}"
    return [compared(what, change, methods, "at most", claims()[2]["trend"], step=step, told=["Masked logits"])]


def relearning(what: str, records: pd.DataFrame, unsir: str, bare: str, cap: int) -> list[Criterion]:
    """UNSIR's relearn time minus twice each baseline's: from what to what it may be, as times past the cap are unknown."""
    bound, times = claims()[3]["threshold"], claims()[3]["times"]

    def ends(method: str) -> tuple[pd.Series, pd.Series]:
        epochs, undefined = values(records, "relearn_epochs", method=method), values(records, "A_Dr", method=method).isna()
        return epochs.fillna(cap + 1).mask(undefined), epochs.fillna(np.inf).mask(undefined)

    def longer(method: str, baseline: str) -> tuple[pd.Series, pd.Series]:
        (low, high), (their_low, their_high) = ends(method), ends(baseline)
        return low - times * at(their_high, low), high - times * at(their_low, high)

    found = []
    for baseline in [b for b in BASELINES if (records.method == b).any()]:
        low, high = longer(unsir, baseline)
        what_for = f"relearn epochs minus {times} times those of {baseline}{what}"
        found.append(
            Criterion(what_for, low, "at least", bound, "epochs", highest=high, without=longer(bare, baseline), step=1.0)
        )
    return found


def works_on_each(
    records: pd.DataFrame, accuracies: dict[str, float], images: dict[str, int], classes: dict[str, int]
) -> list[Test]:
    """Claim 8 on each network of a table: claims 1 and 2 in its rows, if its original works.

    accuracies: the originals', in %. They, images and classes: by network; the rest as for `tables`.
    """
    wanted, rows, tests = claims()[8]["workable"], _rows(records, images, classes), []
    for name, accuracy in accuracies.items():
        why_not = "" if accuracy >= wanted else f"the original gets {accuracy:.1f} % right, {wanted} % are needed"
        own = [f for f in rows if f.network == name]
        for rate, both in BOTH.items():
            found = [forgets(f.place, f.part, *both, step=f.step.A_Df) for f in own]
            found += [keeps(f.place, f.part, *both, step=f.step.A_Dr) for f in own]
            tests.append(Test(8, f"works on {name} ({rate})", found, why_not=why_not))
    return tests


# The analyses, in the paper's order


def gains(
    what: str, more: pd.DataFrame, less: pd.DataFrame, sense: str, claim: str, step: float, methods: Sequence[str]
) -> Criterion:
    """A_Dr of UNSIR in some records minus that in others, in points, held against the claim's threshold."""

    def points(method: str) -> pd.Series:
        return values(more, "A_Dr", method=method) - values(less, "A_Dr", method=method)

    return compared(what, points, methods, sense, claims()[claim]["threshold"], step=step)


def spread(records: pd.DataFrame, images: int) -> list[Test]:
    """Claim 4. records: method, largest_share (of 1). images: forget test images."""
    bound, above = claims()[4]["threshold"], claims()[4]["above_retrain"]
    share, tests, step = by_method(records, "largest_share"), [], 1 / images

    def more(method: str) -> pd.Series:
        return share(method) - at(share("Retrain"), share(method))

    for rate, both in BOTH.items():
        dominates = compared("largest share", share, both, "at most", bound, "of 1", step, told=["Retrain"])
        over = compared("largest share above Retrain's", more, both, "at most", above, "of all", step)
        tests.append(Test(4, f"no class dominates ({rate})", [dominates, over]))
    return tests


def off_retrain(distances: pd.DataFrame, yardstick: str = "Retrain") -> pd.DataFrame:
    """Median over layers of |log10(distance / the yardstick's)| by method, trained and seed; nan where a layer did not move.

    distances: method, trained, seed, layer, distance. Each is held against the yardstick of its own network.
    """
    wide = distances.set_index(["method", "trained", "seed", "layer"]).distance.unstack("layer", sort=False)
    own = wide[wide.index.get_level_values("method") == yardstick].groupby("trained").agg(lambda d: d.mean(skipna=False))
    with np.errstate(divide="ignore", invalid="ignore"):
        off = np.abs(np.log10(wide / own.reindex(wide.index.get_level_values("trained")).to_numpy()))
    return off.where(np.isfinite(off)).median(axis=1, skipna=False).rename("off").reset_index()


def distance(distances: pd.DataFrame) -> list[Test]:
    """Claim 5. distances: method, trained, seed, layer, distance to the original."""
    off, bound, tests = by_method(off_retrain(distances), "off"), claims()[5]["threshold"], []
    told = ("FineTune", "Retrain, other start", "Second original")
    for rate, both in BOTH.items():
        criterion = compared("median absolute log10 ratio", off, both, "at most", bound, "decades", told=told)
        tests.append(Test(5, f"layers as far as Retrain's ({rate})", [criterion]))
    return tests


def counted(passes: dict[str, float], seconds: dict[str, pd.Series] | None = None) -> list[Test]:
    """Claim 6. passes: image passes of Retrain and "Fisher (loop)" over UNSIR's at the released settings; seconds: the same
    ratios, one a repeat, where they were taken on a GPU. Fisher's passes, each of one image, are told and not judged.
    """
    wanted, tests = claims()[6]["thresholds"], []
    for name, ratio in passes.items():
        bound, alone = wanted[name.split(" (")[0]], name.endswith("(loop)")
        why_not = f"{ratio:.1f} times UNSIR's, but one image a pass takes far longer: seconds must tell" if alone else ""
        once = pd.Series([float(ratio)], pd.MultiIndex.from_tuples([(0, 0)], names=["trained", "seed"]))
        exact = Criterion("times UNSIR's", once, "at least", bound, "times", exact=True)
        tests.append(Test(6, f"{name}: image passes", [exact], why_not=why_not))
        if seconds is not None:
            timed = Criterion("times UNSIR's", seconds[name], "at least", bound, "times")
            tests.append(Test(6, f"{name}: seconds on a GPU", [timed]))
    return tests


def any_number(records: pd.DataFrame, images: int) -> list[Test]:
    """Claim 7. records: method, n_forget, A_Df. images: test images a class."""
    tests, sizes = [], list(records.groupby("n_forget", sort=False))
    for rate, both in BOTH.items():
        found = [forgets(f", {n} class{'es' * (n > 1)}", part, *both, step=100 / (images * n)) for n, part in sizes]
        tests.append(Test(7, f"a fixed total of noise erases any number of classes ({rate})", found))
    return tests


def in_turn(records: pd.DataFrame, n_asked: int, step: Step = NO_STEP) -> list[Test]:
    """Claim C. records: method, order, asked (classes so far), A_Dr, A_Df; n_asked: classes in all."""
    last, tests = records[records.asked == n_asked], []
    turns, once = (last[last.order == order] for order in ("one after another", "all at once"))
    for rate, both in BOTH.items():
        gone = forgets(" after the last request", turns, *both, step=step.A_Df)
        cost = gains("A_Dr less than at once", once, turns, "at most", "C", step.A_Dr, both)
        tests.append(Test("C", f"requests in turn ({rate})", [gone, cost]))
    return tests


def looks_away(records: pd.DataFrame) -> list[Test]:
    """Claim D. records: method, trained, seed, explained, part (forget, retain), cosine (nan where a map is empty or the
    network has diverged), "empty before", "empty after"; one row an image. Two readings: maps that are empty afterwards left
    out, or counted as 0."""
    true, tests = records[records.explained == "true"], []
    before, after = (true[f"empty {when}"].astype(bool) for when in ("before", "after"))
    true = true.assign(cosine=true.cosine.astype(float).mask(after, 0.0))[~before]
    readings = {"empty maps left out": true[~after[~before]], "empty after as 0": true}

    def lower(maps: pd.DataFrame, method: str) -> pd.Series:
        runs = maps.groupby(["method", "part", "trained", "seed"])
        mean = runs.cosine.agg(lambda v: v.mean(skipna=False)).reset_index()
        retain, forget = (values(mean, "cosine", method=method, part=part) for part in ("retain", "forget"))
        run = values(records, "seed", method=method).index.unique()  # none is left out for want of a map
        return retain.reindex(run) - forget.reindex(run)

    what, bound = "lower on forget than on retain images", claims()["D"]["threshold"]
    for rate, both in BOTH.items():
        for reading, maps in readings.items():
            criterion = compared(what, partial(lower, maps), both, "at least", bound, "of cosine", told=["Retrain"])
            tests.append(Test("D", f"looks away from the forget class ({rate}, {reading})", [criterion]))
    return tests


def like_retrained(records: pd.DataFrame) -> list[Test]:
    """Claim F. records: method, trained (recipe seed of the unlearned network, or of the one retrained from its start),
    seed, against (recipe seed of another retrained network), tv_retain, tv_forget.

    On each network UNSIR takes the place of the one retrained from its start: its mean distance from the other retrained
    networks, over that of the one whose place it takes.
    """

    def ratio(part: str, method: str) -> pd.Series:
        runs = records.groupby(["method", "trained", "seed"])[part]
        mean = by_method(runs.agg(lambda v: v.mean(skipna=False)).reset_index(), part)
        ours, own = mean(method), mean("Retrain")
        return ours / at(own.where(own > 0), ours)  # nothing is a multiple of no distance

    bound, tests = claims()["F"]["threshold"], []
    for rate, both in BOTH.items():
        found = []
        for part in ("retain", "forget"):
            what, times = f"distance over that between retrained models, {part} classes", partial(ratio, f"tv_{part}")
            found.append(compared(what, times, both, "at most", bound, "times", told=("Original", "Masked logits")))
        tests.append(Test("F", f"answers like one more retrained model ({rate})", found))
    return tests


def small_share(records: pd.DataFrame, share: float, step: Step = NO_STEP) -> list[Test]:
    """Claim G. records: method, share (of the retain data), A_Dr, A_Df; share: the claim's."""
    small, large = records[records.share == share], records[records.share == records.share.max()]
    little, much = f"{100 * share:g} %", f"{100 * records.share.max():g} %"
    tests = []
    for rate, both in BOTH.items():
        gone = forgets(f" with {little}", small, *both, step=step.A_Df)
        cost = gains(f"A_Dr less than with {much}", large, small, "at most", "G", step.A_Dr, both)
        tests.append(Test("G", f"{little} of the retain data is enough ({rate})", [gone, cost]))
    return tests


def penalty(records: pd.DataFrame, papers: float, step: Step = NO_STEP) -> list[Test]:
    """Claim H. records: rates, penalty (lambda), seed, A_Dr, A_Df; papers: its lambda."""
    tests, bound = [], claims()["H"]["threshold"]
    for rate in RATES:
        part = records[records["rates"] == rate].rename(columns={"penalty": "method"})
        more = -lost(part, papers, of=0.0)
        gain = Criterion(f"A_Dr more at lambda {papers:g} than at 0", more, "at least", bound, "points", step=step.A_Dr)
        gone = forgets(f" at lambda {papers:g}", part, papers, step=step.A_Df)
        tests.append(Test("H", f"lambda {papers:g} helps ({rate})", [gain, gone]))
    return tests


def heals(records: pd.DataFrame, step: Step = NO_STEP) -> list[Test]:
    """Claim I. records: rates, method, passes (of repair), A_Dr, A_Df."""
    most, tests, methods = records.passes.max(), [], ("UNSIR", "No noise")
    for rate in RATES:
        part = records[records["rates"] == rate]
        one, last = part[part.passes == 1], part[part.passes == most]
        gain = gains(f"A_Dr more after {most} repair passes than after 1", last, one, "at least", "I", step.A_Dr, methods)
        gone = forgets(f" after {most}", last, *methods, step=step.A_Df)
        tests.append(Test("I", f"more repair heals further ({rate})", [gain, gone]))
    return tests


NO_SLIP = ("as released", "random draw", "No noise")


def slips(records: pd.DataFrame, images: int, classes: int) -> list[Test]:
    """Question J, a test for each request and pair of rates.

    records: forget (a list, as text), rates, switch, stage, seed, A_Dr, A_Df. images: test images a class, of
    `classes`. What `NO_SLIP` names is no departure from the paper.
    """
    tests, after = [], records[records.stage == "after repair"].rename(columns={"switch": "method"})
    for (forget, rates), part in after.groupby(["forget", "rates"], sort=False):
        found, steps = [], one_image_of(images, classes, len(json.loads(forget)))
        for switch in [s for s in dict.fromkeys(part.method) if s not in NO_SLIP]:
            for metric, step in steps._asdict().items():
                change = values(part, metric, method=switch) - values(part, metric, method="as released")
                what = f"{metric}, {switch}"
                found.append(Criterion(what, change, "beyond", claims()["J"]["threshold"], "points", step=step))
        tests.append(Test("J", f"a slip changes what is reported (forget {forget}, rates {rates})", found, any_of=True))
    return tests


def spared(records: pd.DataFrame, parts: pd.DataFrame, alpha: float, step: Step = NO_STEP) -> list[Test]:
    """Question O, a test for each recipe; undefined where noise that knows nothing takes less than could be spared.

    records: recipe (its name), method, alpha, trained, seed, A_Dr. parts: recipe, part, alone, trained, seed, A_Dr; noise on
    all but everything is none.
    """
    tests, bound, intact = [], claims()["O"]["threshold"], parts[(parts.part == "everything") & ~parts.alone.astype(bool)]
    for recipe, part in records[records.alpha == alpha].groupby("recipe", sort=False):
        informed, shuffled = (values(part, "A_Dr", method=method) for method in ("Fisher", "Fisher, shuffled"))
        taken = (values(intact, "A_Dr", recipe=recipe) - shuffled).mean()
        why_not = f"shuffled, the noise takes {taken:.1f} points of A_Dr: nothing to spare" if taken < bound else ""
        what = "A_Dr more than with the information shuffled"
        found = Criterion(what, informed - shuffled, "at least", bound, "points", step=step.A_Dr)
        tests.append(Test("O", f"what the retain data need is spared ({recipe})", [found], why_not=why_not))
    return tests


# The frontier: what each condition reaches at its own best pair of rates

PAIR = ["impair_lr", "repair_lr"]


def at_pair(records: pd.DataFrame, pair: Sequence[float] | None) -> pd.DataFrame:
    """The records at a pair of rates; none where there is no pair."""
    return records[(records[PAIR] == list(pair)).all(axis=1)] if pair else records[:0]


def best_pairs(records: pd.DataFrame) -> dict[str, tuple[float, float] | None]:
    """By method, the pair that `best_record` takes from the validation means over seeds; None where none gets A_Df to 1 %.

    records: method, impair_lr, repair_lr, validation_A_Dr, validation_A_Df.
    """
    found = {}
    for method, part in records.groupby("method", sort=False):
        mean = part.groupby(PAIR)[["validation_A_Dr", "validation_A_Df"]].agg(lambda v: v.mean(skipna=False)).dropna()
        tried = [{"A_Dr": r.validation_A_Dr, "A_Df": r.validation_A_Df, "pair": pair} for pair, r in mean.iterrows()]
        chosen = best_record(tried) if tried else None
        found[method] = chosen["pair"] if chosen and chosen["A_Df"] <= FORGOTTEN else None
    return found


def at_best(records: pd.DataFrame) -> pd.DataFrame:
    """The records of each method at its own best pair; none of a method that has no such pair."""
    pairs = best_pairs(records)
    return records[[pairs[m] == (i, r) for m, i, r in records[["method", *PAIR]].itertuples(index=False, name=None)]]


def telling_pair(records: pd.DataFrame) -> tuple[float, float] | None:
    """The pair of rates at which, on validation data, the passes without noise leave most A_Df beyond what UNSIR leaves."""
    wide = records.pivot_table("validation_A_Df", PAIR, "method", aggfunc=lambda v: v.mean(skipna=False))
    if not {"UNSIR", "No noise"} <= set(wide.columns):
        return None
    gap = (wide["No noise"] - wide["UNSIR"]).dropna()
    return None if gap.empty else gap.idxmax()


def noise_takes(records: pd.DataFrame, what: str, step: Step = NO_STEP) -> Test:
    """Claim 9 at equal rates: at the pair that validation data name.

    records: as for `best_pairs`, with methods UNSIR, No noise and other images, and seed, A_Df. Only where the passes alone
    leave at least as much of the class as the noise is to take can it be tested.
    """
    bound = claims()[9]["threshold"]
    left = records[records.method == "No noise"].groupby(PAIR).validation_A_Df.mean()
    enough = [pair for pair, a_df in left.items() if a_df >= bound]
    pair = telling_pair(records[[pair in enough for pair in records[PAIR].itertuples(index=False, name=None)]])
    gone = by_method(at_pair(records, pair), "A_Df")
    others = [m for m in OTHER_IMAGES if (records.method == m).any()]
    erased = []
    if pair:
        name = f"A_Df taken beyond the passes alone, at {pair[0]:g} and {pair[1]:g}"
        taken = compared(
            name, lambda m: gone("No noise") - gone(m), ["UNSIR"], "at least", bound, step=step.A_Df, images=others
        )
        erased = [taken]
    most = f"{left.max():.1f} % of the class on validation data"
    nothing = f"the passes alone leave at most {most}: less than {bound} points to take"
    why_not = nothing if left.notna().any() and not enough else ""
    return Test(9, f"the noise erases what the passes alone leave ({what})", erased, why_not=why_not)


def noise_keeps(records: pd.DataFrame, what: str, step: Step = NO_STEP) -> Test:
    """Claim 9, each condition at its own best rates. records: as for `best_pairs`, with seed, A_Dr, A_Df."""
    top, bound = at_best(records), claims()[9]["at_best"]
    rivals = [m for m in ("No noise", *OTHER_IMAGES) if (records.method == m).any()]
    ahead = [
        Criterion(f"A_Dr more than with {m.lower()}", -lost(top, "UNSIR", of=m), "at least", bound, "points", step=step.A_Dr)
        for m in rivals
    ]
    gone = forgets(" of UNSIR", top, "UNSIR", step=step.A_Df)
    return Test(9, f"at its best rates it keeps more than any control ({what})", [*ahead, gone])


def noise_matters(records: pd.DataFrame, images: int, classes: int) -> list[Test]:
    """Claim 9 on each request. records: as for `best_pairs`, with n_forget, seed, A_Dr, A_Df; images: test ones a class."""
    tests = []
    for n, part in records.groupby("n_forget", sort=False):
        what, step = f"{n} forgotten", one_image_of(images, classes, n)
        tests += [noise_takes(part, what, step), noise_keeps(part, what, step)]
    return tests


def stays_near(records: pd.DataFrame, what: str, step: Step = NO_STEP) -> Test:
    """Question K. records: method (UNSIR, No noise, Original, Masked logits), A_Dr, A_Df at the settings under test."""
    both, told = ("UNSIR", "No noise"), ["Masked logits"]
    near = keeps("", records, *both, claim="K", step=step.A_Dr, told=told)
    return Test("K", what, [near, forgets("", records, *both, step=step.A_Df, told=told)])


def keeps_as_much(records: pd.DataFrame, step: Step = NO_STEP) -> list[Test]:
    """Question M, a test a method that sees a subset of the retain data as UNSIR does, whose control no noise is.

    records: method, access, seed, A_Dr, A_Df.
    """
    bound, both = claims()["M"]["threshold"], ("UNSIR", "No noise")
    alike = records.method[records.access == "retain subset"].unique()
    tests, gone = [], forgets("", records, *both, step=step.A_Df)
    for rival in [name for name in alike if name not in (*both, "Released", *OTHER_IMAGES)]:
        less = compared(f"A_Dr less than {rival}", partial(lost, records, of=rival), both, "at most", bound, step=step.A_Dr)
        tests.append(Test("M", f"UNSIR keeps as much as {rival}", [gone, less]))
    return tests


def presets(records: pd.DataFrame, step: Step = NO_STEP) -> list[Test]:
    """Question K for the best and the fast settings, wherever they are confirmed.

    records: method, place, settings (missing for what has none: Original, Masked logits), seed, A_Dr, A_Df.
    """
    untouched, tests = records[records.settings.isna()], []
    for name in ("best", "fast"):
        for place in untouched.place.unique():
            here = records[(records.place == place) & ((records.settings == name) | records.settings.isna())]
            tests.append(stays_near(here, f"the {name} settings, {place}", step))
    return tests


def rates(records: pd.DataFrame, originals: pd.DataFrame, papers: Sequence[float], step: Step = NO_STEP) -> list[Test]:
    """Claim E, and question K at the grid's best pair.

    records: as for `best_pairs`, of UNSIR and No noise, with seed, A_Dr, A_Df; originals: Original and Masked logits;
    papers: the paper's pair, which must be in the grid.
    """
    ours, bound = records[records.method == "UNSIR"], claims()["E"]["threshold"]
    paper, top = at_pair(ours, papers), at_best(ours)
    less = values(top, "A_Dr") - values(paper, "A_Dr") if len(top) else values(paper, "A_Dr") * np.nan
    cost = Criterion("A_Dr less than at the best pair", less, "at most", bound, "points", step=step.A_Dr)
    gone = forgets(" at the paper's pair", paper, "UNSIR", step=step.A_Df)
    near = stays_near(pd.concat([at_best(records), originals]), "the best pair of the grid", step)
    return [Test("E", "impair {:g}, repair {:g}".format(*papers), [gone, cost]), near]


def recoverable(records: pd.DataFrame, step: float) -> list[Test]:
    """Question L. records: of `workshop.audits`, by seed: method, of, test, value, bound, verdict. step: an image in %."""
    features = records[(records.of == "features") & (records.verdict != "cannot tell")]
    features = features.assign(above=features.value - features.bound)
    why_not = "" if len(features) else "no test tells the original from retrained networks"
    tests, bound, told = [], claims()["L"]["threshold"], ("Masked logits", "Bias shift", "Retrain")
    for rate, both in BOTH.items():
        images = ["Unlearned noise"] if rate == "chosen rates" else []
        found = []
        for name, part in features.groupby("test", sort=False):
            what, above = f"{name}, above the bound", by_method(part, "above")
            found.append(compared(what, above, both, "at most", bound, step=step, images=images, told=told))
        tests.append(Test("L", f"UNSIR ({rate})", found, why_not=why_not))
    return tests


def choice_lands(records: pd.DataFrame) -> list[Test]:
    """Question N. records: of `workshop.choices`: network, asked, method, A_Dr, A_Df, images (forget test images)."""
    step = 100 / records.images.min()  # of A_Dr, too: how many images it is over, the records do not say
    by = records.rename(columns={"seed": "drawn", "network": "trained", "asked": "seed"})
    gone = forgets("", by, "forget()", step=step, told=["Masked logits"])
    near = keeps("", by, "forget()", claim="N", step=step, told=["Masked logits"])
    return [Test("N", "chosen without an image of the class", [gone, near])]
