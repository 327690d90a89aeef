"""A notebook's parameters, checked where it starts: what JupyterLab's reader types meets what the command line's does."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Collection, Iterable, Mapping
from functools import partial
from typing import Any

from ..audit.what_is_left import Look
from ..data.sets import Data, load
from ..engine import checks
from ..settings import FISHER_ALPHA, PAPER_RATES, Settings
from . import models
from .fisher_parts import enlarged
from .profiles import NOTEBOOKS, profiles, types
from .provenance import load_once
from .store import Recipe
from .study import METHODS, options_of
from .timing import stand_in


class ParameterError(ValueError):
    """A value that cannot be meant; a notebook shows the sentence alone."""

    def _render_traceback_(self) -> list[str]:
        return [f"{type(self).__name__}: {self}"]


def checked(notebook: str, variables: Mapping[str, Any]) -> dict[str, Any]:
    """The notebook's parameters among its variables. Raises ParameterError for one that is absent or cannot be meant."""
    kinds = types(NOTEBOOKS / f"{notebook}.ipynb")
    if absent := [name for name in kinds if name not in variables]:
        raise ParameterError(f"{', '.join(absent)}: not set; run the parameters cell first")
    values = {name: variables[name] for name in kinds}
    for name, value in values.items():
        _named(name, value, _of_its_type, value, kinds[name])
    loaded = {name: _named(name, values[name], _data, values[name]) for name in ("many_data", "data") if name in values}
    for name, value in values.items():
        _named(name, value, _rule(name, value), value, loaded.get("data", {}))
    for name, rule in TOGETHER.get(notebook, []):
        _named(name, values[name], rule, values)
    return values


def _named(name: str, value: object, rule: Callable, *given: Any) -> Any:
    """What the rule returns. Raises ParameterError: the parameter, its value and what is wrong with it."""
    try:
        return rule(*given)
    except (ValueError, TypeError, FileNotFoundError) as error:
        what_to_do = "Change the parameters cell, run it, then this cell again."
        raise ParameterError(f"{name} = {value!r}: {str(error).rstrip('.')}. {what_to_do}") from None


def _of_its_type(value: object, kind: str) -> None:
    if value is None and kind.endswith(" | None"):
        return
    got, kind = type(value).__name__, kind.removesuffix(" | None")
    if kind in EXAMPLES and got != kind and (got, kind) != ("int", "float"):
        article = "an" if kind[0] in "aeiou" else "a"
        raise ValueError(f"expected {article} {kind}, such as {EXAMPLES[kind]}, and not {got}")


EXAMPLES = {"list": "[3]", "dict": '{"name": "shapes"}', "str": '"digits"', "int": "3", "float": "0.1", "bool": "True"}
Sets = Mapping[str, Data]  # by network; "" where all share one


def _data(value: str | dict) -> Sets:
    """The data that a parameter names."""
    one: dict[str, Any] = {"name": value} if isinstance(value, str) else value
    sets: dict[str, dict[str, Any]] = one if _is_by_network(one) else {"": one}
    for settings in sets.values():
        checks.known("settings of the data", settings, inspect.signature(load).parameters)
        _has("the data", settings, ["name"])
    return {network: load_once(**settings) for network, settings in sets.items()}


def _is_by_network(value: object, kind: type = dict) -> bool:
    """Whether it holds, for each network, what `kind` says, and not one for all."""
    return isinstance(value, dict) and bool(value) and all(isinstance(own, kind) for own in value.values())


def _classes_of(data: Sets) -> int | None:
    return min((found.n_classes for found in data.values()), default=None)


def _forget(value: Iterable[int], data: Sets) -> None:
    checks.forget_classes(value, _classes_of(data))


def _pictured(value: list[int], data: Sets) -> None:
    _some(value)
    checks.classes(value, _classes_of(data))


def _requests(value: list | dict, data: Sets) -> None:
    for requests in value.values() if isinstance(value, dict) else [value]:
        _some(requests)
        for request in requests:
            _forget(request, data)
        if len({frozenset(request) for request in requests}) < len(requests):
            raise ValueError("a request stands there twice: name each once")


def _has(what: str, given: dict, needed: Iterable[str]) -> None:
    if missing := [name for name in needed if name not in given]:
        raise ValueError(f"{what} lacks {' and '.join(missing)}: give it")


def _some(value: Collection) -> None:
    if not value:
        raise ValueError("it is empty: name at least one")


def _n_forget(value: dict[str, list[int]], data: Sets) -> None:
    for network, numbers in value.items():
        of = data.get(network) or data.get("")
        _numbers_of_classes(numbers, {"": of} if of else {})


def _numbers_of_classes(value: list[int], data: Sets) -> None:
    _some(value)
    classes = _classes_of(data)
    for number in value:
        _count("number of forget classes", number, most=classes - 1 if classes else None)


def _count(what: str, value: Any, least: int = 1, most: int | None = None) -> None:
    checks.counts(least=least, **{what: value})
    if most is not None and value > most:
        raise ValueError(f"{what} is {value}: there are {most} at most")


def _retain(value: int, data: Sets) -> None:
    most = min((int(found.train.labels.bincount().min()) for found in data.values()), default=None)
    _count("number of retain images a class", value, most=most)


def _batch(value: int, _: Sets) -> None:
    _count("number of images in a batch", value, least=2)  # BatchNorm needs two


def _shadows(value: int, _: Sets) -> None:
    if value:
        _count("number of networks", value, least=6)  # each is attacked with the other pairs
    if value % 2:
        raise ValueError("expected an even number, as they come in pairs")


def _seeds(value: list[int], _: Sets, none: bool = False) -> None:
    """none: whether there may be none."""
    if not none:
        _some(value)
    for seed in value:
        _count("seed", seed, least=0)
    if len(set(value)) < len(value):
        raise ValueError("a seed stands there twice: name each once")


def _replicates(value: list[list[int]] | dict[str, list[list[int]]], data: Sets) -> None:
    if isinstance(value, dict) and _is_by_network(value, list):
        for own in value.values():
            _replicates(own, data)
        return
    if not isinstance(value, list) or not value or not all(isinstance(pair, list) and len(pair) == 2 for pair in value):
        raise ValueError("expected a list of pairs, each [recipe seed of the network, seed of the unlearning]")
    for pair in value:
        for seed in pair:
            _count("seed", seed, least=0)
    if len({*map(tuple, value)}) < len(value):
        raise ValueError("a pair stands there twice: name each once")


def _numbers(value: list[float], _: Sets, most: float = float("inf"), zero: bool = False) -> None:
    _some(value)
    for number in value:
        fine = isinstance(number, (int, float)) and not isinstance(number, bool)
        if not (fine and (number > 0 or zero and number == 0) and number <= most):
            range_ = f"{'from' if zero else 'above'} 0, {most:g} at most"
            raise ValueError(f"{number!r} is out of range: expected numbers {range_}")


def _pairs(value: list[dict] | dict, data: Sets) -> None:
    if not value:
        raise ValueError("it is empty: name at least one pair of rates")
    if isinstance(value, dict) and _is_by_network(value, list):
        for own in value.values():
            _pairs(own, data)
        return
    for pair in value if isinstance(value, list) else [value]:
        if not isinstance(pair, dict) or not {*PAPER_RATES} <= {*pair}:
            raise ValueError(f"{pair!r} is no pair of rates: expected such as {PAPER_RATES}")
        _numbers(list(pair.values()), data)
        _known_options("UNSIR", pair)


def _known_options(method: str, options: object, known: Collection[str] = ()) -> None:
    if not isinstance(options, dict):
        raise ValueError(f"{options!r} holds no options of {method}: expected a dict")
    checks.known(f"options of {method}", options, known or options_of(method))


def _options(value: dict | list, _: Sets, of: str, known: Collection[str] = (), needed: Iterable[str] = ()) -> None:
    """of: a method, or what is known to have these options. value: one dict of them, one by network, or several."""
    several = value if isinstance(value, list) else value.values() if _is_by_network(value) else [value]
    for options in several:
        _known_options(of, options, known)
        _has(of, options, needed)
        for name, given in options.items():
            for number in given if isinstance(given, list) else [given]:
                _option(name, number)


def _option(name: str, value: Any) -> None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return
    if name == "penalty":  # the one number that may be 0
        checks.not_negative(penalty=value)
    elif isinstance(value, int):
        _count(name, value, least=2 if name == "batch_size" else 1)
    else:
        checks.positive(**{name: value})


def _candidates(value: dict[str, list[dict]], _: Sets) -> None:
    """None at all stand for every method's own grid."""
    for method, given in value.items():
        if method not in WITH_SETTINGS:
            raise ValueError(f"{method!r} has no settings to try: choose among {', '.join(WITH_SETTINGS)}")
        if not isinstance(given, list) or not given:
            raise ValueError(f"{method} has {given!r}: expected a list of its options, [{{}}] for none")
        for options in given:
            _known_options(method, options)


WITH_SETTINGS = sorted(METHODS.keys() - {"Original", "Retrain", "Masked logits"})


def _architectures(value: list[str], data: Sets) -> None:
    _some(value)
    for name in value:
        _recipe({"architecture": name, "epochs": 1}, data)


def _recipe(value: dict, _: Sets) -> None:
    checks.known("settings of the recipe", value, Recipe.__dataclass_fields__)
    _has("the recipe", value, ["architecture", "epochs"])
    models.check(Recipe(**value).architecture)


def _recipes(value: dict[str, dict], data: Sets) -> None:
    _some(value)
    for name, recipe in value.items():
        if not isinstance(recipe, dict):
            raise ValueError(f"{name} has {recipe!r}: expected a recipe, such as {{'epochs': 4, 'lr': 0.05}}")
        _recipe({"architecture": name, **recipe}, data)


def _many_rates(value: dict[str, dict], data: Sets) -> None:
    _has("many_rates", value, ["in all", "a class"])
    _pairs([*value.values()], data)


def _networks(value: list[dict], _: Sets) -> None:
    _some(value)
    for about in value:
        _known_options("a network", about, ["data", "recipe"])
        _has("a network", about, ["data", "recipe"])
        _recipe(about["recipe"], _data(about["data"]))


def _elsewhere(value: list[dict], data: Sets) -> None:
    for place in value:
        _known_options("a place", place, ["recipe_seed", "forget"])
        _has("a place", place, ["recipe_seed", "forget"])
        _count("recipe_seed", place["recipe_seed"], least=0)
        _forget(place["forget"], data)


def _relearning(value: dict[str, Any], _: Sets) -> None:
    checks.known("settings of relearning", value, LEAST)
    _has("relearning", value, ["per_epoch", "cap", "watched"])
    for name, number in value.items():
        checks.positive(lr=number) if name == "lr" else _count(name, number, least=LEAST[name])


LEAST = {"per_epoch": 1, "batch_size": 2, "watched": 1, "cap": 0, "steps_cap": 0, "lr": 0}


def _settings(value: object, _: Sets) -> None:
    """Of anything that has no rule of its own."""
    if isinstance(value, list):
        _some(value)
    _option("number", value)


def _profile(value: str, _: Sets) -> None:
    if value not in profiles():
        raise ValueError(f"there is no such profile: choose one of {', '.join(profiles())}")


def _names(of: Callable, *without: str) -> list[str]:
    """Of what it is called with."""
    return [name for name in inspect.signature(of).parameters if name not in without]


SCALED = ["noise_total", "copies", "batch_size"]
TRAINED = ["epochs", "lr", "batch_size"]
Rule = Callable[[Any, Sets], object]
RULES: list[tuple[str, type, Rule]] = [  # the first whose pattern fits the name, and whose type the value
    (r"profile|gathered", str, _profile),
    (r"forget|several|released_request", list, _forget),
    (r"requests|asked", object, _requests),
    (r"pictured", list, _pictured),
    (r"n_forget", dict, _n_forget),
    (r"numbers", list, _numbers_of_classes),
    (r"retain_per_class|per_class", int, _retain),
    (r"batch_size", int, _batch),
    (r"shadows", int, _shadows),
    (r"\w*seeds|retrainings|originals|search_models", list, _seeds),
    (r"folds", list, partial(_seeds, none=True)),
    (r"relearning", dict, _relearning),
    (r"finetune", dict, partial(_options, of="FineTune")),
    (r"neggrad", dict, partial(_options, of="NegGrad")),
    (r"fisher", dict, partial(_options, of="Fisher", needed=["per_class"])),
    (r"ports", dict, partial(_options, of="UNSIR")),
    (r"passes|reduced", dict, partial(_options, of="UNSIR and its subset", known=_names(Settings))),
    (r"changes", list, partial(_options, of="UNSIR and its subset", known=_names(Settings))),
    (r"base", dict, partial(_options, of="the stand-in", known=_names(stand_in), needed=_names(stand_in))),
    (r"points", dict, partial(_options, of="the stand-in", known=_names(stand_in))),
    (r"scaled", dict, partial(_options, of="the scaling", known=SCALED, needed=SCALED)),
    (r"auditing", dict, partial(_options, of="the audit", known=_names(Look, "train", "test", "forget", "seed"))),
    (r"many_rates", dict, _many_rates),
    (r"training", dict, partial(_options, of="the training", known=TRAINED, needed=TRAINED)),
    (r"networks", list, _networks),
    (r"elsewhere", list, _elsewhere),
    (r"candidates", dict, _candidates),
    (r"architectures", list, _architectures),
    (r"seed", int, lambda value, _: _count("seed", value, least=0)),
    (r"shadow_per_class", int, lambda value, _: _count("number of images", value, least=0)),
    (r"\w*replicates", object, _replicates),
    (r"\w+_(rates|alphas)", list, _numbers),
    (r"shares", list, partial(_numbers, most=1.0)),
    (r"penalties|passes", list, partial(_numbers, zero=True)),
    (r"rates|rates_tried", object, _pairs),
    (r"\w*recipe", dict, _recipe),
    (r"recipes", dict, _recipes),
    (r"\w+", object, _settings),
]


def _rule(name: str, value: object) -> Rule:
    return next(rule for pattern, kind, rule in RULES if isinstance(value, kind) and re.fullmatch(pattern, name))


def _holds(name: str, needed: Callable[[dict], list[float]], why: str) -> Callable[[dict], None]:
    def rule(values: dict) -> None:
        if missing := [f"{number:g}" for number in needed(values) if number not in values[name]]:
            raise ValueError(f"{' and '.join(missing)} must be in it, {why}: add what is missing")

    return rule


def _even(values: dict) -> None:
    total = values["noise_total"]
    if odd := [str(number) for number in values["numbers"] if total % number]:
        raise ValueError(f"the {total} images of noise_total cannot be shared evenly by {' or '.join(odd)} classes")


def _of_each_network(name: str, what: str, kind: type) -> Callable[[dict], None]:
    """Where a parameter is given by network, that it has each."""

    def rule(values: dict) -> None:
        by_network = _is_by_network(values[name], kind)
        if by_network and (missing := [network for network in values["recipes"] if network not in values[name]]):
            raise ValueError(f"it has no {what} for {' and '.join(missing)}, which has a recipe: add some")

    return rule


def _originals(values: dict) -> set[int]:
    return {network for network, _ in values["replicates"]}


def _of_an_original(values: dict) -> None:
    if other := sorted({network for network, _ in values["sweep_replicates"]} - _originals(values)):
        known = sorted(_originals(values))
        raise ValueError(f"network {other[0]} is none of those in replicates, {known}: name one of these")


def _of_no_original(values: dict) -> None:
    if both := sorted(_originals(values) & {*values["retrainings"]}):
        raise ValueError(f"{both[0]} is the seed of an original, which is audited when retrained: leave it out")


def _of_different_sizes(values: dict) -> None:
    """Tables and figures tell rows by their number of classes."""
    requests = values["requests"]
    for of_network in requests.values() if isinstance(requests, dict) else [requests]:
        if len({len(request) for request in of_network}) < len(of_network):
            raise ValueError("two requests have as many classes, and a row is known by their number: run them one at a time")


def _not_all(values: dict) -> None:
    asked = {c for request in values["requests"] for c in request}
    checks.forget_classes(sorted(asked), _classes_of(_data(values["data"])))


def _of_no_rate(values: dict) -> None:
    if twice := sorted({"lr", "batchnorm"} & {*values["neggrad"]}):
        raise ValueError(f"{' and '.join(twice)} come from neggrad_rates, each with both kinds of batchnorm: leave them out")


def _in_steps(values: dict) -> None:
    _has("relearning", values["relearning"], ["steps_cap"])


def _in_epochs(values: dict) -> None:
    checks.known("settings of relearning", values["relearning"], LEAST.keys() - {"steps_cap", "lr"})


def _of_several(values: dict) -> None:
    if len(_originals(values)) < 2:
        raise ValueError("it names one network, but each is held against another: name two or more")


def _enlargeable(values: dict) -> None:
    for name, recipe in values["recipes"].items():
        try:
            enlarged(models.build(recipe.get("architecture", name), 2), 2.0)
        except ValueError as error:
            raise ValueError(f"{name}: {error}") from error


IMPAIR, REPAIR = PAPER_RATES.values()
TOGETHER: dict[str, list[tuple[str, Callable[[dict], None]]]] = {  # what one parameter must be beside the others
    "01_cifar10": [
        ("requests", _of_different_sizes),
        ("finetune", _of_each_network("finetune", "options", dict)),
        ("neggrad", _of_no_rate),
        ("relearning", _in_steps),
    ],
    "02_cifar100": [
        ("rates", _of_each_network("rates", "pairs", list)),
        ("replicates", _of_each_network("replicates", "replicates", list)),
        ("relearning", _in_steps),
    ],
    "03_faces": [("relearning", _in_steps)],
    "05_weight_distance": [("replicates", _of_several)],
    "06_efficiency": [("numbers", _even)],
    "07_sequential": [("requests", _not_all)],
    "09_learning_rates": [
        ("impair_rates", _holds("impair_rates", lambda _: [IMPAIR], "the paper's rate, which the verdict is on")),
        ("repair_rates", _holds("repair_rates", lambda _: [REPAIR], "the paper's rate, which the verdict is on")),
    ],
    "10_gold_standard": [("replicates", _of_several)],
    "11_retain_share": [("shares", _holds("shares", lambda v: [v["share_of_claim"]], "the share that the verdict is on"))],
    "12_noise_penalty": [
        ("penalties", _holds("penalties", lambda v: [0.0, v["paper_penalty"]], "between which the claim is decided"))
    ],
    "13_repair_steps": [("passes", _holds("passes", lambda _: [0, 1, 2], "which the verdict is on"))],
    "15_how_little": [("relearning", _in_steps)],
    "16_does_the_noise_matter": [("requests", _of_different_sizes)],
    "17_benchmark": [("rates", lambda values: _pairs([values["rates"]], {})), ("relearning", _in_epochs)],
    "18_what_is_left": [("sweep_replicates", _of_an_original), ("retrainings", _of_no_original)],
    "21_fisher_forgetting": [
        ("recipes", _enlargeable),
        ("fisher_alphas", _holds("fisher_alphas", lambda _: [FISHER_ALPHA], "its authors' alpha, which the verdict is on")),
    ],
}
