"""The audit in one call: every test of what is left of a class, read against retrained networks and the original."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TypedDict

import pandas as pd
from scipy import stats
from torch import nn

from ..engine import checks
from ..engine.samples import Samples
from .features import AtHead, read
from .membership import by_entropy, by_loss
from .probe import linear_probe, nearest_mean
from .recovered import LOST, logit_recovered, prototype_recovered
from .relearning import relearned
from .row import row
from .told_apart import by_classifier, cka, jensen_shannon

PER_CLASS = 200  # images of each class that are looked at, unless `Look` is told otherwise
ALPHA = 0.05  # chance that a further retrained network fails a test
PASSES, FAILS, SILENT, UNDEFINED = "passes", "fails", "cannot tell", "undefined"


@dataclass(frozen=True, eq=False)
class Read:
    """A network on the training and the test images, and once more on the test images after relearning."""

    train: AtHead
    test: AtHead
    relearned: AtHead
    forget: Sequence[int]
    lost: float


@dataclass(frozen=True, eq=False)
class Test:
    """asks: its question. of: what it looks at, "features", "head", "images" or "likeness". unit: of its number.

    measure: that number of a network; some tests hold it against each of the given retrained networks. A network of which
    the head alone was changed must fail every test of features.
    """

    asks: str
    of: str
    unit: str
    measure: Callable[[Read, Sequence[Read]], float]

    @property
    def step(self) -> float:
        """What the spread of retrained networks counts as at least: a few equal values prove no equal next one."""
        return 1.0 if self.unit == "%" else 0.01

    def spread(self, floors: Sequence[float]) -> float:
        """Standard deviation of retrained networks, from their values.

        Of likeness a value is the mean distance to the n - 1 others. Where each network adds its own part to each of its
        distances, sharing them draws the values together by (n - 2) / (n - 1), which is undone here. Two networks have one
        distance between them, and so no spread: nan.
        """
        n = len(floors)
        if self.of != "likeness":
            return statistics.stdev(floors)
        return statistics.stdev(floors) * (n - 1) / (n - 2) if n > 2 else math.nan


def _rebuilt(images: int) -> Test:
    def measure(n: Read, _: Sequence[Read]) -> float:
        return prototype_recovered(n.train, n.test, n.forget, images, n.lost)

    return Test("how many images bring it back?", "features", "%", measure)


def _mean(distance: Callable[[AtHead, AtHead, Sequence[int]], float]) -> Callable[[Read, Sequence[Read]], float]:
    """On the forget images of the test part, over the retrained networks."""

    def measure(n: Read, retrained: Sequence[Read]) -> float:
        own = n.test.only(n.forget)
        return sum(distance(own, other.test.only(n.forget), n.forget) for other in retrained) / len(retrained)

    return measure


TESTS: dict[str, Test] = {
    "linear probe": Test(
        "are the features still there?", "features", "%", lambda n, _: linear_probe(n.train, n.test, n.forget)
    ),
    "nearest class mean": Test(
        "are they, without training anything?", "features", "%", lambda n, _: nearest_mean(n.train, n.test, n.forget)
    ),
    "logit recovered": Test(
        "was only its logit pushed down?", "features", "%", lambda n, _: logit_recovered(n.test, n.forget, n.lost)
    ),
    "row from 1 image": _rebuilt(1),
    "row from 5 images": _rebuilt(5),
    "row from 50 images": _rebuilt(50),
    "relearned": Test(
        "how far does it come back in a few steps?", "features", "%",
        lambda n, _: logit_recovered(n.relearned, n.forget, n.lost),
    ),
    "norm of its row": Test("is it shorter than the others?", "head", "times", lambda n, _: row(n.train, n.forget)["norm"]),
    "bias of its row": Test("is it lower than the others?", "head", "logits", lambda n, _: row(n.train, n.forget)["bias"]),
    "cosine of its row": Test("does it point at the class?", "head", "-1..1", lambda n, _: row(n.train, n.forget)["cosine"]),
    "members by loss": Test(
        "is there a trace of the very images?", "images", "AUC", lambda n, _: by_loss(n.train, n.test, n.forget)
    ),
    "members by entropy": Test(
        "is there a trace of the very images?", "images", "AUC", lambda n, _: by_entropy(n.train, n.test, n.forget)
    ),
    "told by a classifier": Test("do answers tell it from a retrained one?", "likeness", "AUC", _mean(by_classifier)),
    "Jensen-Shannon": Test("how far are answers from a retrained one's?", "likeness", "bits", _mean(jensen_shannon)),
    "1 - CKA": Test("how far are features from its features?", "likeness", "0..1", _mean(lambda x, y, _: 1 - cka(x, y))),
}  # fmt: skip
# Where room is short: a test for each place in which a class may survive, the features, the head, the weights, the answers.
TELLING = ("linear probe", "logit recovered", "relearned", "told by a classifier")


class Placed(TypedDict):
    """A network between retrained networks and the original, in one test.

    value: of the audited network. floor: the retrained networks' mean. ceiling: the original's.
    bound: 95 % of further retrained networks lie before it on the way from floor to ceiling, by Student's prediction
        interval of the retrained networks' values (`Test.spread`); nan where they have no spread.
    position: 0 at the floor, 1 at the ceiling, or beyond either. nan where the test cannot tell.
    verdict: "passes" up to the bound, as a retrained network does; "fails" beyond it; "cannot tell" where the original
        passes as well, as where the test finds less of the class in it than in retrained networks, or where there is no
        bound; "undefined" where a network has diverged.
    """

    value: float
    floor: float
    ceiling: float
    bound: float
    position: float
    verdict: str


class Record(Placed):
    """test, asks, of, unit: which test, see `Test`."""

    test: str
    asks: str
    of: str
    unit: str


@dataclass(frozen=True, eq=False)
class Audit:
    """What `audit` found: a table in Jupyter and in a terminal. records: one a test, in the order of TESTS."""

    records: list[Record]

    def __getitem__(self, test: str) -> Record:
        """The record of a test."""
        return next(record for record in self.records if record["test"] == test)

    @property
    def _table(self) -> pd.DataFrame:
        shown = ["of", "test", "value", "floor", "ceiling", "unit", "position", "verdict"]
        return pd.DataFrame(self.records)[shown].rename(columns={"floor": "retrained", "ceiling": "original"})

    def __repr__(self) -> str:
        return self._table.to_string(index=False, float_format="{:.2f}".format, na_rep="")

    def _repr_markdown_(self) -> str:
        return self._table.to_markdown(index=False, floatfmt=".2f", missingval="")


def audit(
    model: nn.Module,
    original: nn.Module,
    retrained: Sequence[nn.Module],
    train: Samples,
    test: Samples,
    forget: Iterable[int],
    **settings: float,
) -> Audit:
    """What is left of the forget classes in `model`. Every network is left as it was.

    original: the network before unlearning. retrained: two or more networks that never saw the classes, otherwise trained as
        the original was; `model` is none of them. The more, the sharper: of two, hardly anything is beyond the bound, and
        tests of likeness, which see the one distance between them, cannot tell.
    train, test: samples of all classes, those to forget included. settings: see `Look`. To audit many: `Yardstick`.

    Raises ValueError, before any work, for fewer than two retrained networks, and for samples that have no image of a forget
    class or of the others, or that these networks do not fit; when its turn comes, for a `model` that does not fit them or
    a network without a single head.
    """
    return Yardstick(original, retrained, train, test, forget, **settings).audit(model)


def recall(network: nn.Module, train: Samples, test: Samples, forget: Iterable[int]) -> dict[str, float]:
    """Recall of the forget classes in %, by those tests of features that hold a network against no other.

    How much of it a network that never saw the classes has, these numbers do not say: measure one beside it, or `audit`.
    Of PER_CLASS images a class at most. nan for a network that diverged. Arguments and errors: as for `audit`.
    """
    named = checks.forget_classes(forget, train.n_classes)
    for what, samples in {"training data": train, "test data": test}.items():
        checks.samples_for(network, samples, what)
        _check(samples, named, what)
    seen, unseen = (read(network, samples.draw(PER_CLASS)) for samples in (train, test))
    once = Read(seen, unseen, unseen, named, LOST)  # none of these tests looks at the relearned network
    return measured(once, [], ("linear probe", "nearest class mean", "logit recovered"))


def _check(samples: Samples, forget: Sequence[int], what: str) -> None:
    present = set(samples.labels.tolist())
    if absent := sorted(set(forget) - present):
        raise ValueError(f"the {what} has no image of the forget classes {absent}: the audit needs them, as train and test")
    if present <= set(forget):
        raise ValueError(f"the {what} has images of the forget classes alone: the audit needs those of the others, too")


class Look:
    """The images that every network is asked about, drawn once.

    per_class: images of each class, of `train` and of `test`, that are looked at, or all where there are fewer.
    lost: share of the retain images that may go to a recovered class, between 0 and 1.
    shots, steps, lr: of relearning, see `relearning.relearned`; shots are images a class. seed: of draws and relearning.
    """

    def __init__(
        self,
        train: Samples,
        test: Samples,
        forget: Iterable[int],
        *,
        per_class: int = PER_CLASS,
        lost: float = LOST,
        shots: int = 10,
        steps: int = 30,
        lr: float = 0.01,
        seed: int = 0,
    ) -> None:
        self.forget = checks.forget_classes(forget, train.n_classes)
        checks.counts(per_class=per_class, shots=shots, steps=steps)
        checks.positive(lost=lost, lr=lr)
        if lost >= 1:
            raise ValueError(f"lost is {lost}: expected a share of the retain images below 1")
        for what, samples in {"training data": train, "test data": test}.items():
            _check(samples, self.forget, what)
        self.train, self.test, self.few = train.draw(per_class, seed), test.draw(per_class, seed), train.draw(shots, seed)
        self.lost, self.steps, self.lr, self.seed = lost, steps, lr, seed

    def read(self, network: nn.Module) -> Read:
        """The network is left as it was. Raises ValueError if it does not fit the images."""
        again = relearned(network, self.few, self.forget, lost=self.lost, steps=self.steps, lr=self.lr, seed=self.seed)
        return Read(read(network, self.train), read(network, self.test), read(again, self.test), self.forget, self.lost)


def measured(network: Read, retrained: Sequence[Read], tests: Iterable[str] = tuple(TESTS)) -> dict[str, float]:
    """The value of each test; nan for a network that diverged. retrained: what tests of likeness hold it against."""
    defined = all(part.defined for read in (network, *retrained) for part in (read.train, read.test))
    return {name: TESTS[name].measure(network, retrained) if defined else math.nan for name in tests}


class Yardstick:
    """The original and the retrained networks, measured once, to audit any number of networks against. See `audit`.

    settings: of `Look`.
    """

    def __init__(
        self,
        original: nn.Module,
        retrained: Sequence[nn.Module],
        train: Samples,
        test: Samples,
        forget: Iterable[int],
        **settings: float,
    ) -> None:
        self.look = Look(train, test, forget, **settings)  # type: ignore[arg-type]
        if len(retrained) < 2:
            raise ValueError(f"{len(retrained)} retrained networks are given: give two or more, as they differ, too")
        for what, samples in {"training data": train, "test data": test}.items():
            for network in (original, *retrained):
                checks.samples_for(network, samples, what)
        self.retrained = [self.look.read(network) for network in retrained]
        self.ceilings = measured(self.look.read(original), self.retrained)
        self.floors = [measured(own, [r for r in self.retrained if r is not own]) for own in self.retrained]

    def audit(self, model: nn.Module) -> Audit:
        """`model` held against this yardstick. Raises ValueError if it does not fit the samples."""
        values = measured(self.look.read(model), self.retrained)
        return Audit([self._record(name, value) for name, value in values.items()])

    def _record(self, name: str, value: float) -> Record:
        test = TESTS[name]
        found = placed(value, [floors[name] for floors in self.floors], self.ceilings[name], test)
        return {"test": name, "asks": test.asks, "of": test.of, "unit": test.unit, **found}


def placed(value: float, floors: Sequence[float], ceiling: float, test: Test) -> Placed:
    """The numbers and the verdict of a record. floors: of the retrained networks."""
    n, floor, spread = len(floors), sum(floors) / len(floors), test.spread(floors)
    towards = 1.0 if test.of == "features" else math.copysign(1, ceiling - floor)  # more recall is more of the class
    room = math.nan if math.isnan(spread) else max(spread, test.step)
    reach = stats.t.ppf(1 - ALPHA, n - 1) * room * math.sqrt(1 + 1 / n)
    tells = towards * (ceiling - floor) > reach
    verdict = FAILS if towards * (value - floor) > reach else PASSES
    if math.isnan(value + floor + ceiling):
        verdict = UNDEFINED
    elif not tells:
        verdict = SILENT
    return {
        "value": value,
        "floor": floor,
        "ceiling": ceiling,
        "bound": floor + towards * reach,
        "position": (value - floor) / (ceiling - floor) if tells else math.nan,
        "verdict": verdict,
    }
