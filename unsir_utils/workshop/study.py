"""What the notebooks compare: one trained model, one forget request, the methods and the measures.

Every argument is plain (it may stand in a parameters cell and in a csv), every result is a plain record.
"""

from __future__ import annotations

import copy
import inspect
import math
import time
from collections.abc import Callable, Hashable, Iterable, Mapping
from dataclasses import asdict, dataclass, fields, replace
from functools import lru_cache, partial
from typing import Any, NamedTuple, TypedDict

import pandas as pd
import torch
from torch import Tensor, nn

from .. import metrics
from ..data.sets import Data, load
from ..engine import checks
from ..engine.samples import Samples
from ..impair import impair
from ..methods.baselines import MaskedLogits, fisher_forgetting
from ..methods.fisher import fisher_information
from ..methods.piled_up import piled_up
from ..noise import Noise, blank_images, learn_noise, more_retain, unlearned_noise
from ..repair import repair
from ..settings import PAPER, best_record
from ..unsir import Unlearned, released, two_passes, unsir
from .cases import run_cases
from .models import weights_file
from .noise_store import noise_against
from .provenance import load_once, machine, state
from .rivals import ALL, NOTHING, RIVALS, SUBSET, Entry, Ready
from .store import Recipe, Trained, handed_out, trained
from .workers import each


@dataclass(frozen=True)
class Scenario:
    """A model, trained by `recipe` on a data set, that is to forget some classes.

    data: keyword arguments of `sets.load`, as sorted pairs (see `scenario`).
    retain_per_class: size of the retain subset D_r_sub; seed: of the subset and of the unlearning.
    """

    data: tuple[tuple, ...]
    recipe: Recipe
    forget: tuple[int, ...]
    retain_per_class: int = PAPER.retain_per_class
    seed: int = 0

    @property
    def loaded(self) -> Data:
        return load_once(**dict(self.data))

    @property
    def network(self) -> Trained:
        """The original as the store has it."""
        _ = self.loaded  # so that a case knows of the data, too
        return handed_out(_trained_once(self.recipe, self.data, state(dict(self.data)["name"])))

    @property
    def original(self) -> nn.Module:
        return self.network.model

    @property
    def accuracy(self) -> float:
        """Of the original, over the whole test set, in %."""
        return metrics.evaluate(self.original, self.loaded.test)[1]

    @property
    def title(self) -> str:
        """For captions: "ResNet10 on shapes10 (4 epochs), forgetting [0]"."""
        return f"{self.recipe.architecture} on {self.loaded.name} ({self.recipe.epochs} epochs), forgetting {[*self.forget]}"

    @property
    def told(self) -> str:
        """The original in a sentence."""
        named, right = f"{self.recipe.architecture} on {self.loaded.name}", f"{self.accuracy:.1f} %"
        return f"The original, {named}, is right on **{right}** of the test set."

    def that_learned(self) -> Scenario:
        """The same. Raises ValueError where the original is at chance: what has learned nothing cannot forget."""
        if not self.accuracy > 1.5 * 100 / self.loaded.n_classes:
            raise ValueError(f"the original is right on {self.accuracy:.1f} %, hardly above chance: train it longer")
        return self

    @property
    def retain(self) -> Samples:
        """D_r: all training samples of the retain classes."""
        return self.loaded.train.without(self.forget)

    @property
    def retain_subset(self) -> Samples:
        """D_r_sub, all that UNSIR sees."""
        return self.retain.draw(self.retain_per_class, seed=self.seed)

    @property
    def forget_set(self) -> Samples:
        """D_f: all training samples of the forget classes."""
        return self.loaded.train.only(self.forget)


def scenario(data: dict, recipe: dict, forget: Iterable[int], **settings: int) -> Scenario:
    """A Scenario from what a parameters cell holds: two dicts and a list. Raises ValueError for a setting that is none."""
    checks.known("settings of the data", data, inspect.signature(load).parameters)
    checks.known("settings of the recipe", recipe, [field.name for field in fields(Recipe)])
    checks.known("settings of the scenario", settings, ["retain_per_class", "seed"])
    named = checks.forget_classes(forget)
    return Scenario(tuple(sorted(data.items())), Recipe(**recipe), tuple(named), **settings)


@lru_cache(maxsize=4)
def _trained_once(recipe: Recipe, data: tuple[tuple, ...], state: str) -> Trained:
    return trained(recipe, load_once(**dict(data)))


def train(networks: Iterable[tuple[tuple[tuple, ...], Recipe]]) -> None:
    """Trains what is not trained yet, side by side where `workers` says so. networks: (Scenario.data, recipe) of each.

    Raises FileNotFoundError, before any work, where one is to start from a file that is absent.
    """
    asked = list(dict.fromkeys(networks))
    for _, recipe in asked:
        weights_file(recipe.weights)
    each(_stored, asked, "networks")


def _stored(network: tuple[tuple[tuple, ...], Recipe]) -> None:
    data, recipe = network
    trained(recipe, load_once(**dict(data)))


CONTROLS: dict[str, Callable[[Scenario, int], Noise | None]] = {
    "No noise": lambda s, n: None,
    "Unlearned noise": lambda s, n: unlearned_noise(s.forget, s.loaded.train.shape, per_class=n, seed=s.seed),
    "Blank images": lambda s, n: blank_images(s.forget, s.loaded.train.shape, per_class=n),
    "More retain": lambda s, n: more_retain(s.retain_subset, n * len(s.forget), seed=s.seed),
}
NOISE_OPTIONS = {
    "noise_per_class": "per_class",
    "noise_total": "total",
    "noise_steps": "steps",
    "noise_lr": "lr",
    "penalty": "penalty",
    "batchnorm": "batchnorm",
}


def learned_noise(s: Scenario, **options: object) -> Noise:
    """What `learn_noise` finds for the scenario, learned now if no notebook has asked for it. options: as of `unsir`."""
    checks.known("options of the noise", options, NOISE_OPTIONS)
    return noise_and_network(s, options)[0]


def noise_and_network(s: Scenario, options: dict) -> tuple[Noise, nn.Module]:
    """UNSIR's noise, and the network as its learning left it. Other options than those of the noise are not looked at."""
    learning = tuple((short, options[long]) for long, short in NOISE_OPTIONS.items() if long in options)
    return _learned(s.network, tuple(s.forget), s.loaded.train.shape, s.seed, learning, machine())


@lru_cache(maxsize=1)
def _learned(
    network: Trained, forget: tuple[int, ...], shape: tuple[int, ...], seed: int, about: tuple[tuple, ...], machine: str
) -> tuple[Noise, nn.Module]:
    """Learned once for all the rates and notebooks that use it; it keeps the seconds that it took."""
    options = dict(about)
    if options.get("batchnorm", PAPER.batchnorm) == "eval":
        return noise_against(learn_noise, network, forget, shape, seed=seed, **options), network.model
    left = copy.deepcopy(network.model)
    return learn_noise(left, forget, shape, seed=seed, in_place=True, **options), left


# What `apply` runs of each method: its kernel with what that gets of the scenario, and the seconds that this took already,
# of the noise's learning or of a training. Data and original are loaded before any clock runs.


def _original(s: Scenario) -> Ready:
    found = s.network
    return lambda: found.model, found.seconds


def _retrain(s: Scenario) -> Ready:
    return _original(Scenario(s.data, replace(s.recipe, left_out=s.forget), s.forget))


def _fisher(s: Scenario, per_class: int) -> Ready:
    sample = s.retain.draw(per_class, seed=s.seed)
    information, seconds = information_of(s, s.network, per_class, machine())
    return partial(fisher_forgetting, s.original, sample, s.forget, information=information, seed=s.seed), seconds


@lru_cache(maxsize=1)
def information_of(s: Scenario, network: Trained, per_class: int, machine: str) -> tuple[dict[str, Tensor], float]:
    """Fisher information, once for every alpha, and the seconds that it took."""
    sample, start = s.retain.draw(per_class, seed=s.seed), time.perf_counter()
    return fisher_information(network.model, sample), time.perf_counter() - start


def _masked(s: Scenario) -> Ready:
    return partial(MaskedLogits, s.original, s.forget), 0.0


def _control(images: Callable[[Scenario, int], Noise | None]) -> Callable[..., Ready]:
    """UNSIR's two passes with other images in the noise's place, as many as the noise has."""

    def ready(s: Scenario, noise_per_class: int = PAPER.noise_per_class) -> Ready:
        return partial(two_passes, s.original, s.retain_subset, images(s, noise_per_class), seed=s.seed), 0.0

    return ready


def _unsir(s: Scenario, **learning) -> Ready:
    noise, model = noise_and_network(s, learning)
    return partial(unsir, model, s.forget, s.retain_subset, noise=noise, seed=s.seed), noise.seconds


def _piled_up(s: Scenario, **learning) -> Ready:
    noise, model = noise_and_network(s, learning)
    return partial(piled_up, model, s.retain_subset, noise, seed=s.seed), noise.seconds


def _released(s: Scenario) -> Ready:
    return partial(released, s.original, s.forget, s.retain, seed=s.seed), 0.0


METHODS: dict[str, Entry] = {
    "Original": Entry(_original, NOTHING, seeded=False),
    "Retrain": Entry(_retrain, ALL, seeded=False),
    "Fisher": Entry(_fisher, ALL, (fisher_forgetting,), ("per_class",)),
    "Masked logits": Entry(_masked, NOTHING, seeded=False),
    **{name: Entry(_control(of), SUBSET, (two_passes,), ("noise_per_class",)) for name, of in CONTROLS.items()},
    "UNSIR": Entry(_unsir, SUBSET, (unsir,), (*NOISE_OPTIONS,)),
    "Gradients pile up": Entry(_piled_up, SUBSET, (piled_up,), ("noise_per_class",)),
    "Released": Entry(_released, SUBSET, (released, two_passes)),
    **RIVALS,
}


class Method(NamedTuple):
    """A method of METHODS and its options: what a comparison runs under a label of its own."""

    name: str
    options: dict = {}


def with_and_without_noise(rates: dict[str, dict], **options: object) -> dict[str, Method]:
    """UNSIR and the same passes without noise at each pair of rates: "UNSIR (paper's rates)", and so on.

    rates: what a pair is called -> {"impair_lr": ..., "repair_lr": ...}. options: of UNSIR; no noise gets those it has.
    """
    pairs = [(name, which, {**options, **pair}) for which, pair in rates.items() for name in ("UNSIR", "No noise")]
    return {f"{name} ({which})": Method(name, _taken(name, own)) for name, which, own in pairs}


def by_seed(methods: dict[str, Method], seeds: list[int], **request: object) -> list[dict]:
    """A case of `outcomes` a seed; a method that no seed changes stands in the first alone."""
    seeded = {label: method for label, method in methods.items() if METHODS[method.name].seeded}
    return [dict(**request, seed=seed, methods=methods if seed == seeds[0] else seeded) for seed in seeds]


def by_replicate(
    methods: dict[int, dict[str, Method]],
    replicates: list[list[int]],
    recipe: dict,
    setting: dict | None = None,
    **request: object,
) -> list[dict]:
    """As `by_seed`, on each network. methods: by its recipe's seed, which its records have as `trained`.

    replicates: pairs, the recipe's seed and the unlearning's. setting: stands in every record, too.
    """
    cases = []
    for network in dict.fromkeys(network for network, _ in replicates):
        seeds = [seed for of, seed in replicates if of == network]
        on = {"recipe": {**recipe, "seed": network}, "setting": {**(setting or {}), "trained": network}}
        cases += by_seed(methods[network], seeds, **request, **on)
    return cases


def intact_of(replicates: list[list[int]], recipe: dict, **request: Any) -> dict[int, Scenario]:
    """The scenario of each network of `replicates`, by its recipe's seed. request: the other arguments of `scenario`.

    Raises ValueError as `check_learned` does.
    """
    found = {n: scenario(recipe={**recipe, "seed": n}, **request) for n, _ in replicates}
    check_learned(found)
    return found


def check_learned(originals: Mapping[Any, Scenario]) -> None:
    """Trains what is not trained yet (see `train`). Raises ValueError, with the name, where one has learned nothing."""
    train((s.data, s.recipe) for s in originals.values())
    for name, s in originals.items():
        try:
            s.that_learned()
        except ValueError as error:
            raise ValueError(f"{name}: {error}") from error


def options_of(method: str) -> set[str]:
    """The options of a method of METHODS. Raises ValueError for another."""
    if method not in METHODS:
        raise ValueError(f"unknown method {method!r}: choose one of {', '.join(METHODS)}")
    return set().union(*map(_options, METHODS[method].kernels)) - {"noise", "information"} | {*METHODS[method].besides}


def _options(kernel: Callable) -> set[str]:
    settings = inspect.signature(kernel).parameters.values()
    return {p.name for p in settings if p.kind is p.KEYWORD_ONLY} - {"seed"}  # the scenario's


def _check_options(method: str, *given: dict) -> None:
    """Raises ValueError for an option that the method has not, or that is given twice."""
    names = [name for options in given for name in options]
    checks.known(f"options of {method}", names, options_of(method))
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise ValueError(f"options of {method} are given twice: {', '.join(twice)}; give each once")


def apply(method: str, s: Scenario, **options) -> tuple[nn.Module, float]:
    """(unlearned model, seconds) of a method of METHODS. Raises ValueError for another, or for an unknown option."""
    _check_options(method, options)
    entry = METHODS[method]
    run, seconds = entry.ready(s, **{name: options.pop(name) for name in entry.besides if name in options})
    start = time.perf_counter()
    made = run(**options)
    seconds += time.perf_counter() - start
    return made.model if isinstance(made, Unlearned) else made, seconds


class Accuracies(TypedDict):
    """In %, see `metrics.retain_forget_accuracy`; nan for a diverged network."""

    A_Dr: float
    A_Df: float


class Measured(Accuracies):
    """How the predictions on the forget samples are spread: normalised entropy, and the share of the class named most."""

    entropy: float
    largest_share: float


class Relearned(TypedDict):
    """Relearn time by both definitions: None past the cap, nan for a diverged network."""

    relearn_epochs: float | None
    relearn_steps: float | None


def measure(model: nn.Module, s: Scenario) -> Measured:
    """On the test set. All nan for a diverged network, one with a nan among its logits: it has not forgotten, it is
    undefined."""
    test = s.loaded.test
    predicted = metrics.predictions(model, test)
    found = accuracies(predicted, test, s.forget)
    if (predicted < 0).any():
        return {**found, "entropy": math.nan, "largest_share": math.nan}
    gone = torch.isin(test.labels, torch.tensor(s.forget, device=test.device))
    counts = predicted[gone].bincount(minlength=test.n_classes).double()
    shares = counts / counts.sum()
    return {**found, "entropy": metrics.normalised_entropy(shares), "largest_share": shares.max().item()}


def validate(model: nn.Module, s: Scenario) -> Accuracies:
    """On the validation part: what settings are chosen by."""
    return accuracies(metrics.predictions(model, s.loaded.validation), s.loaded.validation, s.forget)


def accuracies(predicted: Tensor, samples: Samples, forget: Iterable[int]) -> Accuracies:
    """As `metrics.retain_forget_accuracy`, from predictions that stand already; both nan where one of these is undefined."""
    hit = (predicted == samples.labels).double().masked_fill((predicted < 0).any(), math.nan)
    gone = torch.isin(samples.labels, torch.tensor([*forget], device=samples.device))
    return {"A_Dr": 100 * hit[~gone].mean().item(), "A_Df": 100 * hit[gone].mean().item()}


def relearn(model: nn.Module, s: Scenario, *, watched: int, steps_cap: int, **options) -> Relearned:
    """watched: forget training samples that are looked at.

    Whoever holds a masked model holds its network: the mask is taken off first.
    """
    checks.known("options of relearning", options, RELEARNING)
    model = model.network if isinstance(model, MaskedLogits) else model
    original, train, forget = s.original, s.loaded.train, s.forget_set.draw(-(-watched // len(s.forget)))
    if (metrics.predictions(model, forget) < 0).any():
        return {"relearn_epochs": math.nan, "relearn_steps": math.nan}
    return {
        "relearn_epochs": metrics.relearn_epochs(model, original, train, forget, seed=s.seed, **options),
        "relearn_steps": metrics.relearn_steps(model, original, train, forget, seed=s.seed, cap=steps_cap),
    }


RELEARNING = _options(metrics.relearn_epochs) | _options(relearn)


def outcomes(
    methods: dict[str, Method], relearning: dict | None = None, setting: dict | None = None, **request
) -> list[dict]:
    """A case: one record a method. methods: by the label of their records; request: arguments of `scenario`; setting:
    stands in every record. Raises ValueError for an unknown option before any work."""
    s, records = scenario(**request), []
    check_comparison(methods, relearning)
    for label, (method, options) in methods.items():
        model, seconds = apply(method, s, **options)
        record = {**(setting or {}), "method": label, **measure(model, s)}
        again = relearn(model, s, **relearning) if relearning else None
        records.append(record | (again or {}) | {"seconds": seconds})
    return records


def check_comparison(methods: dict[str, Method], relearning: dict | None) -> None:
    for method, options in methods.values():
        _check_options(method, options)
    checks.known("options of relearning", relearning or {}, RELEARNING)


def sweep(
    settings: list[dict],
    methods: dict[str, Method],
    seeds: list[int],
    relearning: dict | None = None,
    labels: Iterable[str] = (),
    **request,
) -> pd.DataFrame:
    """`outcomes` at every setting and seed: one row a setting, method and seed.

    settings: each overrides arguments of `scenario` (retain_per_class, forget) and options of the methods; a method gets
        those that it takes.
    labels: names in the settings that only stand in the rows. Raises ValueError, before any work, for another name that
        no method takes.
    """
    check_comparison(methods, relearning)
    taken = set().union(*(options_of(method) for method, _ in methods.values()))
    checks.known("arguments of the sweep", request, ASKED)
    cases = []
    for seed in seeds:
        for setting in settings:
            checks.known("settings of the sweep", setting, {*ASKED, *taken, *labels})
            own = {name: [m, {**options, **_taken(m, setting)}] for name, (m, options) in methods.items()}
            asked = {**request, **{k: v for k, v in setting.items() if k in ASKED}, "seed": seed}
            scenario(**asked)
            shown = {k: v for k, v in setting.items() if not isinstance(v, (list, dict))}
            cases.append({**asked, "methods": own, "relearning": relearning, "setting": shown})
    return run_cases(outcomes, cases, "settings")


ASKED = ("data", "recipe", "forget", "retain_per_class")  # what a setting may change of the scenario


def _taken(method: str, setting: dict) -> dict:
    return {k: v for k, v in setting.items() if k in options_of(method)}


def trials(method: str, candidates: list[dict], options: dict, **request) -> list[dict]:
    """The cases of `trial`, one a candidate. Raises ValueError for an unknown option."""
    for candidate in candidates:
        _check_options(method, options, candidate)
    return [dict(**request, method=method, candidate=candidate, options=options) for candidate in candidates]


def trial(method: str, candidate: dict, options: dict, **request) -> list[dict]:
    """A case: a method at one of its candidates (options that vary), with A_Dr and A_Df on the validation part."""
    s = scenario(**request)
    return [{**candidate, **validate(apply(method, s, **options, **candidate)[0], s)}]


def choose(tried: pd.DataFrame, by: Hashable | pd.Series) -> pd.DataFrame:
    """The records of trials with `chosen`, which marks the best of each group (`settings.best_record`). by: see groupby."""
    groups = [group.reset_index().to_dict("records") for _, group in tried.groupby(by, sort=False)]
    return tried.assign(chosen=tried.index.isin([best_record(group)["index"] for group in groups]))


def tuned(candidates: dict[str, list[dict]], common: dict, **request) -> dict[str, Method]:
    """Each method of `candidates` at that one of them which the project's rule takes on the validation part.

    common: options that every method gets that has them and varies them in none of its candidates.
    """
    varied = {name: set().union(*given) for name, given in candidates.items()}
    options = {n: {k: v for k, v in _taken(n, common).items() if k not in varied[n]} for n in candidates}
    cases = [case for n, given in candidates.items() for case in trials(n, given, options[n], **request)]
    tried = choose(run_cases(trial, cases, "trials"), "method").groupby("method", sort=False).chosen
    best = {name: int(chosen.to_numpy().argmax()) for name, chosen in tried}
    return {n: Method(n, {**options[n], **given[best[n]]}) for n, given in candidates.items()}


def chosen_rates(rates: list[dict], seeds: Iterable[int] = (), **choice) -> dict:
    """The pair of `rates` that the project's rule takes on the validation part; arguments of `trials`, for UNSIR.

    seeds: where given, the mean over runs with each of them decides, and not the one run with `seed`.
    """
    asked = [{**choice, "seed": seed} for seed in seeds] or [choice]
    tried = run_cases(trial, [case for of in asked for case in trials("UNSIR", rates, **of)], "rates")
    by_pair = tried.groupby(["impair_lr", "repair_lr"], sort=False)[["A_Dr", "A_Df"]]
    means = by_pair.agg(lambda values: values.mean(skipna=False)).reset_index().to_dict("records")
    best = best_record(means)
    return {"impair_lr": best["impair_lr"], "repair_lr": best["repair_lr"]}


def grid(method: str, impair_rates: list[float], repair_rates: list[float], options: dict, **request) -> list[dict]:
    """A case: every pair of rates for UNSIR or one of CONTROLS, with A_Dr and A_Df on the test set, and on the validation
    part as validation_A_Dr and validation_A_Df; `trained` (the recipe's seed) says which network.

    options: of the method, but for the two rates. Each network is that of `apply` at its pair: the noise is learned once and
    each impair rate run once, as neither depends on what follows. Raises ValueError for an unknown option before any work.
    """
    s, records = scenario(**request), []
    if method != "UNSIR" and method not in CONTROLS:
        raise ValueError(f"{method!r} has no pair of rates: choose one of UNSIR, {', '.join(CONTROLS)}")
    _check_options(method, options, dict.fromkeys(["impair_lr", "repair_lr"]))
    images: Noise | None
    if method == "UNSIR":
        images, start = noise_and_network(s, options)
    else:
        images, start = CONTROLS[method](s, options.get("noise_per_class", PAPER.noise_per_class)), s.original
    passes, subset = asdict(PAPER) | options, s.retain_subset
    common = {"batch_size": passes["batch_size"], "head_factor": passes["head_factor"], "seed": s.seed}
    first = {"epochs": passes["impair_epochs"], "copies": passes["copies"], **common}
    for impair_lr in impair_rates:
        impaired = impair(start, subset, images, lr=impair_lr, **first).model
        for repair_lr in repair_rates:
            model = repair(impaired, subset, lr=repair_lr, epochs=passes["repair_epochs"], **common).model
            held_out = {f"validation_{name}": value for name, value in validate(model, s).items()}
            tested = accuracies(metrics.predictions(model, s.loaded.test), s.loaded.test, s.forget)
            pair = {"trained": s.recipe.seed, "n_forget": len(s.forget), "impair_lr": impair_lr, "repair_lr": repair_lr}
            records.append({**pair, **held_out, **tested})
    return records
