"""One call for anyone's own network: forget classes at rates that it chooses within a budget."""

from __future__ import annotations

import math
import time
import warnings
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from .. import metrics
from ..engine import checks
from ..engine.forward import forward
from ..engine.samples import Samples, at_once
from ..engine.state import mode, with_gradients
from ..noise import Noise, learn_noise
from ..settings import best_record
from ..unsir import Unlearned, two_passes
from .choose import FORGOTTEN, RATES, REPAIR, TOLERATED, Try, highest, margin, margins, next_try, stand_ins
from .networks import in_precision_of, of_log_probabilities, ready, unwrapped
from .report import Report
from .request import Request, request_of

# Of learn_noise; its defaults cost more passes than all tries of a small retain set.
NOISE: dict[str, Any] = {"per_class": 16, "steps": 20}
LEARNED_ANEW = 10.0  # points of A_Dr that two passes on a few images do not add to what a network knows already


@dataclass(frozen=True, eq=False)
class Forgotten:
    """model: the network, unlearned, a copy; tried: a record a try; report: prints in a terminal and renders in Jupyter."""

    model: nn.Module
    tried: list[dict[str, Any]]
    report: Report


@with_gradients
def forget(
    model: nn.Module,
    classes: Iterable[int | str],
    retain: Samples,
    validation: Samples,
    *,
    forgotten: Iterable[int | str] = (),
    held_out_forget: Samples | None = None,
    look: bool = False,
    noise: bool | None = None,
    budget: float = 5.0,
    retain_per_class: int = 300,
    batch_size: int | None = None,
    seed: int = 0,
) -> Forgotten:
    """Erases classes from a copy of `model`, without any image of them, at rates chosen on held-out images of the others.

    classes: by number, or by name where `retain` has names.
    retain: training images of the other classes, of which `retain_per_class` of each are drawn for the passes.
    validation: images of the other classes that the network never saw; they choose and measure.
    forgotten: classes that were forgotten before, of which `retain` has none either.
    held_out_forget: images of the forget classes, to report A_Df. With look=True they decide, too, by the class of which
        most is left.
    noise: with UNSIR's noise, without it (its two passes alone), or (None) whichever keeps more.
    budget: image passes in all, in runs of UNSIR on the retain subset; the measuring at the end is not counted.

    Rates are tried on a ladder, and of those that forget the ones with the highest A_Dr on `validation` taken
    (`settings.best_record`). A class counts as forgotten where the network is sure that stand-ins are not of it: images
    made so that the original is sure that they are (`choose.stand_ins`).

    What came of such choices in trials stands in `choose`. 20_your_own_model measures it, in laptop on real CIFAR-10.

    Any nn.Module classifier with at least two outputs will do; frozen parameters stay, while BatchNorm's running statistics
    move wherever it stands. The copy is taken out of DataParallel and torch.compile. Weights in half precision are brought
    to float32 and back. The data goes where the model is. A LogSoftmax at the end may stay. The paper's claims are about
    A_Dr and A_Df, and so is the choice: an A_Df of 0 does not say that the weights hold nothing of the class.

    Raises ValueError before any work, as `unsir` does; and for TorchScript, a single output unit, a network without
    gradients by its input, a budget too small for a try. Raises it before any try where the network, as it is, counts as one
    that has forgotten a class, unless look=True. Warns where the goal is missed (A_Df of at most 1 % at most 1.5 points of
    A_Dr below the original) and where the network does not seem to know the data. Where every try diverged, a copy comes
    back as it was.
    """
    copied = ready(model)
    with warnings.catch_warnings(record=True) as heard:
        warnings.simplefilter("always")
        request = request_of(
            copied, classes, retain, validation, forgotten, held_out_forget, look, retain_per_class, batch_size, seed
        )
    told = {str(warning.message): warning.category for warning in heard}
    for text, category in told.items():
        warnings.warn(text, category, stacklevel=3)  # past the decorator
    said = [text for text, category in told.items() if category is UserWarning]  # other kinds are other libraries'
    if noise not in (None, True, False):
        raise ValueError(f"noise is {noise!r}: expected True, False, or None for whichever keeps more")
    checks.positive(budget=budget)
    with warnings.catch_warnings(action="ignore", category=UserWarning):  # each try would say the same again
        search = _Search(request, budget)
        search.run(noise)
        report = _report(search, said)
    for text in report.warnings[len(said) :]:
        warnings.warn(text, stacklevel=3)
    assert search.best is not None
    return Forgotten(in_precision_of(unwrapped(model), search.best[1].model), report.tried, report)


class _Search:
    """The tries, as they are made: what each costs, what came of it, and the best network so far."""

    def __init__(self, request: Request, budget: float) -> None:
        self.request = request
        self.noise: Noise | None = None
        self.tries: list[Try] = []
        self.records: list[dict[str, Any]] = []
        self.best: tuple[dict[str, Any], Unlearned] | None = None
        self.passes, self.seconds = dict[str, int](), dict[str, float]()
        subset, n_noise = request.subset, NOISE["per_class"] * len(request.forget)
        self.copies = max(1, round(len(subset) / len(subset.labels.unique()) / NOISE["per_class"]))  # as many as of a class
        self.of_learning, self.of_noise = n_noise * NOISE["steps"], n_noise * self.copies
        self.allowed = budget * (2 * len(subset) + self.of_noise + self.of_learning)
        start = time.perf_counter()
        self.signs = stand_ins(request.model, request.forget, request.watched, request.seed)
        self.n_signs = sum(map(len, self.signs))
        self.before = self._before()
        self._count("stand-ins", sum(s.samples for s in self.signs) + self.n_signs, time.perf_counter() - start)

    def _before(self) -> float:
        """The original's margin. Raises ValueError where a class counts as forgotten by it, unless real images decide."""
        of_class = margins(self.request.model, self.signs)
        doubtful = [self.request.names[c] for c, odds in of_class.items() if odds <= FORGOTTEN]
        if doubtful and not self.request.look:
            raise ValueError(
                f"no image could be made that the network takes for {', '.join(doubtful)} (are its outputs bounded, or "
                "probabilities?), so that without images of it nothing tells whether it is forgotten: pass some as "
                "held_out_forget, with look=True (in a terminal --look)"
            )
        return highest(of_class.values())

    def run(self, noise: bool | None) -> None:
        while (step := next_try(self.tries, noise)) and self._affordable(step[0]):
            self._try(*step)
        if self.best is None:
            least = (sum(self.passes.values()) + self._cost(bool(noise))) / self.allowed
            raise ValueError(
                f"the budget is too small for one try: {least:.2g} times as much is needed, or more retain data"
            )
        if math.isnan(self.best[0]["margin"]):
            self.best = self.best[0], replace(self.best[1], model=self.request.model)

    def _cost(self, noise: bool) -> int:
        request = self.request
        measured = len(request.watched) + self.n_signs + (len(request.held_out_forget or ()) if request.look else 0)
        learned = self.of_learning if noise and self.noise is None else 0
        return 2 * len(request.subset) + measured + (self.of_noise if noise else 0) + learned

    def _affordable(self, noise: bool) -> bool:
        return sum(self.passes.values()) + self._cost(noise) <= self.allowed

    def _count(self, step: str, passes: int, seconds: float) -> None:
        self.passes[step] = self.passes.get(step, 0) + passes
        self.seconds[step] = self.seconds.get(step, 0.0) + seconds

    def _try(self, noise: bool, rung: int) -> None:
        request = self.request
        rates: dict[str, Any] = {"impair_lr": RATES[rung], "repair_lr": RATES[rung] * REPAIR}
        passes, start = self._cost(noise), time.perf_counter()
        found = two_passes(request.model, request.subset, self._noise() if noise else None, **rates, **self.common)
        record = {"noise": noise, **rates, **self._measured(found.model)}
        seconds = time.perf_counter() - start
        self._count("tries", passes, seconds)
        self.tries.append(Try(noise, rung, record["forgotten"] or math.isnan(record["margin"])))  # diverged: lower, too
        self.records.append({**record, "passes": passes, "seconds": seconds})
        if self.best is None or _better(record, self.best[0]):
            self.best = record, found

    @property
    def common(self) -> dict[str, Any]:
        request = self.request
        return dict(copies=self.copies, batch_size=request.batch_size, head_factor=request.head_factor, seed=request.seed)

    def _noise(self) -> Noise:
        request = self.request
        if self.noise is None:
            self.noise = learn_noise(request.model, request.forget, request.subset.shape, seed=request.seed, **NOISE)
        return self.noise

    def _measured(self, model: nn.Module) -> dict[str, Any]:
        """What a try is judged by."""
        request = self.request
        found = {"A_Dr": _accuracy(model, request.watched), "margin": margin(model, self.signs)}
        if request.look and request.held_out_forget is not None:
            found["A_Df"] = _most_left(model, request.held_out_forget)
            return {**found, "forgotten": found["A_Df"] <= 1}
        return {**found, "forgotten": found["margin"] <= FORGOTTEN}


def _accuracy(model: nn.Module, samples: Samples) -> float:
    """In %; nan for a diverged network, which has forgotten nothing."""
    predicted = metrics.predictions(model, samples)
    return math.nan if (predicted < 0).any() else 100 * (predicted == samples.labels).double().mean().item()


def _most_left(model: nn.Module, forget: Samples) -> float:
    """The accuracy on the class of which most is left, in %; nan for a diverged network."""
    return highest(_accuracy(model, forget.only([c])) for c in forget.labels.unique().tolist())


def _better(one: dict[str, Any], other: dict[str, Any]) -> bool:
    """By the project's rule; where no A_Df is to be had, the margin takes its place. Of equals the gentler."""
    gentle, strong = sorted((other, one), key=lambda record: record["impair_lr"])
    ranked = [{"A_Dr": r["A_Dr"], "A_Df": r.get("A_Df", r["margin"])} for r in (gentle, strong)]
    best = best_record(ranked, tolerance=1.0 if "A_Df" in one else FORGOTTEN)
    return one is (gentle if best is ranked[0] else strong)


def _report(search: _Search, said: list[str]) -> Report:
    request = search.request
    assert search.best is not None
    record, found = search.best
    start = time.perf_counter()
    parts = {"A_Dr": request.validation, "A_Df": request.held_out_forget}
    measured = {
        name: [metrics.per_class_accuracy(model, part) for model in (request.model, found.model)]
        for name, part in parts.items()
        if part is not None
    }
    mean = {name: (_over_all(both[0], parts[name]), _over_all(both[1], parts[name])) for name, both in measured.items()}
    seconds = {**search.seconds, "measuring": time.perf_counter() - start}
    looked_at = sum(2 * len(part) for part in parts.values() if part is not None)
    used = {"noise_per_class": NOISE["per_class"], "noise_steps": NOISE["steps"]} if record["noise"] else {}
    rates = {name: record[name] for name in ("noise", "impair_lr", "repair_lr")}
    return Report(
        forget=tuple(request.names[c] for c in request.forget),
        A_Dr=mean["A_Dr"],
        A_Df=mean.get("A_Df"),
        left=(search.before, record["margin"]),
        by_class=_by_class(request, measured),
        tried=[{**r, "chosen": {**r, **rates} == r} for r in search.records],
        settings={**rates, **search.common, **used, "retain_images": len(request.subset)},
        passes={**search.passes, "measuring": looked_at},
        seconds=seconds,
        warnings=said
        + _unknown_data(request, *mean["A_Dr"])
        + _warnings(search.records, record, mean, _left(request, measured)),
        notes=_notes(request, search.records, record),
    )


def _over_all(of_class: Tensor, samples: Samples | None) -> float:
    """The accuracy over all samples, from that on each class."""
    assert samples is not None
    share = samples.labels.bincount(minlength=samples.n_classes).double() / len(samples)
    return (of_class.nan_to_num() * share).sum().item()


def _by_class(request: Request, measured: dict[str, list[Tensor]]) -> list[dict[str, Any]]:
    rows = []
    for c, name in enumerate(request.names):
        samples = request.held_out_forget if c in request.forget else request.validation
        both = measured.get("A_Df" if c in request.forget else "A_Dr", [torch.full((len(request.names),), math.nan)] * 2)
        images = 0 if samples is None else int((samples.labels == c).sum())
        rows.append({"class": name, "images": images, "before": both[0][c].item(), "after": both[1][c].item()})
    return rows


def _left(request: Request, measured: dict[str, list[Tensor]]) -> dict[str, float]:
    """The accuracy on each forget class after, in %, by name; nan where it has no image, none where nothing was measured."""
    after = measured["A_Df"][1].tolist() if "A_Df" in measured else []
    return {request.names[c]: after[c] for c in request.forget if after}


@torch.no_grad()
def _masked_accuracy(request: Request) -> float:
    """A_Dr of the original with the logits of the forget classes at minus infinity, in %."""
    model, samples, right = request.model, request.validation, 0
    gone = torch.tensor(request.forget, device=samples.device)
    with mode(model, False):
        for x, y in samples.batches(at_once(samples.shape, metrics.EVALUATION_BATCH)):
            right += int((forward(model, x).index_fill(1, gone, -math.inf).argmax(1) == y).sum())
    return 100 * right / len(samples)


def _unknown_data(request: Request, before: float, after: float) -> list[str]:
    """Whether the network, as it came, seems to have been trained on other data than these.

    Fewer classes to tell apart raise A_Dr, too, so what it gains is held against the original with masked logits.
    """
    hardly = 1.5 * 100 / request.validation.n_classes
    if before > hardly and after - before <= LEARNED_ANEW:
        return []
    if before > hardly and after - _masked_accuracy(request) <= LEARNED_ANEW:
        return []
    return [
        f"A_Dr was {before:.1f} % before and is {after:.1f} % now, as if the network had not known these data: are the "
        "labels in the order of its outputs, the images normalised as in its training?"
    ]


def _warnings(
    records: list[dict[str, Any]],
    record: dict[str, Any],
    mean: dict[str, tuple[float, float]],
    left: dict[str, float],
) -> list[str]:
    """Where the goal was missed. left: of `_left`."""
    found, lost = [], mean["A_Dr"][0] - mean["A_Dr"][1]
    more = "give more retain images or a larger budget"
    still = {name: a_df for name, a_df in left.items() if a_df > 1}
    if math.isnan(record["margin"]):
        found.append(f"every try diverged, so that the network is returned as it was: {more}")
    elif not record["forgotten"]:
        highest = any(r["impair_lr"] == RATES[-1] for r in records)
        where, what = ("up to the highest rate", "give more retain images") if highest else ("within the budget", more)
        if left and all(a_df <= 1 for a_df in left.values()):
            what = "the stand-ins still show the class, but the held-out images do not, so let look=True decide"
        found.append(f"no try {where} forgot; of all tries this one is nearest to it: {what}")
    elif still:
        told = ", ".join(f"{a_df:.1f} % of {name}" for name, a_df in still.items())
        found.append(f"A_Df is above 1 % ({told}), though the stand-ins say forgotten: let look=True decide")
    if lost > TOLERATED:
        found.append(f"A_Dr fell by {lost:.1f} points on the held-out images, more than {TOLERATED}: {more}")
    return found


def _notes(request: Request, records: list[dict[str, Any]], record: dict[str, Any]) -> list[str]:
    notes = []
    if not record["noise"]:
        notes.append(f"What was run is UNSIR's two passes, without the noise that is its idea. {_with_noise(records)}")
    if request.held_out_forget is None:
        notes.append("A_Df was not measured. The margin on stand-ins orders settings as A_Df does, but is no accuracy.")
    if request.head_factor == 1:
        notes.append("No single layer yields the logits, so that the head learned at the rate of the rest.")
    if of_log_probabilities(request.model, request.subset):
        notes.append("The network gives log-probabilities, which is as good as logits here.")
    notes.append("That the class is no longer named does not say that the weights hold nothing of it.")
    return notes


def _with_noise(records: list[dict[str, Any]]) -> str:
    with_noise = [r for r in records if r["noise"]]
    if not with_noise:
        return "With noise nothing was tried."
    if any(r["forgotten"] for r in with_noise):
        return "With noise A_Dr was no higher."
    return f"With noise, tried at {', '.join(str(r['impair_lr']) for r in with_noise)}, the class was not forgotten."
