"""The audit of what is left of a class, as cases of the study: every method held against the same retrained networks, and
attacked by shadow networks of its own."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import lru_cache

import pandas as pd
import torch
from torch import Tensor, nn

from ..audit.features import read
from ..audit.membership import margins, u_lira
from ..audit.parts import by_part
from ..audit.what_is_left import TELLING, Look, Read, Yardstick, measured
from ..data.sets import Data
from ..engine.state import Checking
from .provenance import state
from .store import Trained, trained
from .study import Method, Scenario, apply, check_comparison, information_of, measure, noise_and_network, scenario


def audits(
    methods: dict[str, Method],
    retrainings: list[int],
    settings: dict | None = None,
    setting: dict | None = None,
    **request,
) -> list[dict]:
    """A case: one record a method and test of the audit, with the method's A_Dr, A_Df and `audit.parts.by_part`.

    methods, setting and request: as in `study.outcomes`.
    retrainings: recipe seeds of the retrained networks, two or more. Retrain as a method has the original's recipe seed,
        which is not among them, so that it is audited as any other.
    settings: of `audit.what_is_left.Yardstick`. Its images are the same whatever the seed of the unlearning.
    Raises ValueError for an unknown option, or for retrainings that hold the recipe's own seed, before any work.
    """
    s, records = _asked(methods, retrainings, request), []
    yardstick = _yardstick(*_shared(s, retrainings, settings))
    unseen = s.loaded.test.only(s.forget)
    before = read(s.original, unseen)
    for label, (method, options) in methods.items():
        model, _ = apply(method, s, **options)
        found = measure(model, s)
        about = {**(setting or {}), "method": label, "A_Dr": found["A_Dr"], "A_Df": found["A_Df"]}
        about |= by_part(read(model, unseen), before, s.forget)
        records += [{**about, **record} for record in yardstick.audit(model).records]
    return records


def outcomes_audited(
    methods: dict[str, Method],
    retrainings: list[int],
    settings: dict | None = None,
    setting: dict | None = None,
    **request,
) -> list[dict]:
    """A case: one record a method: `study.measure`; the audit's numbers of TELLING; what it cost, seconds and passes.

    passes: images that go through the network or a copy of it, forward and, most of them, back. Of Retrain its epochs'.
    methods, setting and request: as in `study.outcomes`. retrainings and settings: as in `audits`, one network or more: the
    row Retrain is the floor, the row Original the ceiling.
    """
    s, records = _asked(methods, retrainings, request), []
    look, others = _looked(*_shared(s, retrainings, settings))
    for label, (method, options) in methods.items():
        passes, network = _before(s, method, options)
        with _counting(network) as images:
            model, seconds = apply(method, s, **options)
            passes += s.recipe.epochs * len(s.retain) if method == "Retrain" else sum(images)
        told = measured(look.read(model), others, TELLING)
        about = {**(setting or {}), "method": label}
        records.append({**about, **measure(model, s), **told, "passes": passes, "seconds": seconds})
    return records


def _before(s: Scenario, method: str, options: dict) -> tuple[int, nn.Module]:
    """Image passes of what is kept, so that they do not happen again, and the network that the method starts from. Noise is
    learned now if it never was."""
    if method in ("UNSIR", "Gradients pile up"):
        noise, network = noise_and_network(s, options)
        return noise.samples, network
    information_of.cache_clear()  # so that its passes are counted whatever ran before
    return 0, s.original


@contextmanager
def _counting(model: nn.Module) -> Iterator[list[int]]:
    """A list that gets the number of images in each batch that the model is given, or a copy made meanwhile; no checks'."""
    seen: list[int] = []
    with model.register_forward_pre_hook(lambda _, given: None if Checking.depth else seen.append(len(given[0]))):
        yield seen


def _asked(methods: dict[str, Method], retrainings: Sequence[int], request: dict) -> Scenario:
    """The scenario. Raises ValueError for an unknown option, or for retrainings that hold the recipe's own seed."""
    s = scenario(**request)
    check_comparison(methods, None)
    if s.recipe.seed in retrainings:
        raise ValueError(f"retrainings hold {s.recipe.seed}, the recipe's own seed: leave it out, it is audited as Retrain")
    return s


def _networks(s: Scenario, retrainings: Sequence[int]) -> list[nn.Module]:
    """The original and the retrained networks."""
    retrained = [apply("Retrain", replace(s, recipe=replace(s.recipe, seed=seed)))[0] for seed in retrainings]
    return [s.original, *retrained]


def _shared(s: Scenario, retrainings: Sequence[int], settings: dict | None) -> tuple:
    """What the two below depend on, which is the same for all methods and all seeds of the unlearning."""
    _networks(s, retrainings)  # so that a case knows of them where they have been measured already
    return (
        replace(s, seed=0, retain_per_class=1),
        tuple(retrainings),
        tuple((settings or {}).items()),
        state(dict(s.data)["name"]),
    )


@lru_cache(maxsize=1)
def _looked(s: Scenario, retrainings: tuple[int, ...], settings: tuple[tuple, ...], state: str) -> tuple[Look, list[Read]]:
    """The images, and the retrained networks read on them."""
    look = Look(s.loaded.train, s.loaded.test, s.forget, **dict(settings))
    return look, [look.read(network) for network in _networks(s, retrainings)[1:]]


@lru_cache(maxsize=1)
def _yardstick(s: Scenario, retrainings: tuple[int, ...], settings: tuple[tuple, ...], state: str) -> Yardstick:
    original, *retrained = _networks(s, retrainings)
    return Yardstick(original, retrained, s.loaded.train, s.loaded.test, s.forget, **dict(settings))


# U-LiRA, see `membership.u_lira`


class Half(Scenario):
    """A scenario whose original saw half of the forget classes' images only: that of an even seed one half, that of the next
    the other. Retrain is as ever, as it sees none of them."""

    @property
    def member(self) -> Tensor:
        """bool [n]: which of all the training images of the forget classes the original was trained on."""
        n = len(super().loaded.train.only(self.forget))
        order = torch.randperm(n, generator=torch.Generator().manual_seed(self.seed // 2))
        return torch.isin(torch.arange(n), order[: n // 2]) ^ bool(self.seed % 2)

    @property
    def loaded(self) -> Data:
        whole = super().loaded
        kept = ~torch.isin(whole.train.labels.cpu(), torch.tensor(self.forget))
        kept[~kept] = self.member
        return replace(whole, name=f"{whole.name}-half", train=whole.train[kept.to(whole.train.device)])

    @property
    def network(self) -> Trained:
        return trained(self.recipe, self.loaded)


def shadow(methods: dict[str, Method], number: int, **request) -> list[dict]:
    """A case: one record a method, of a network trained on half of the forget classes' images before the method ran.

    number: which network: the seed of its training, of its half (see `Half`) and of the unlearning. methods and request, but
    for `seed`: as in `study.outcomes`.

    margins: of all the forget classes' training images, see `membership.margins`. member: whether it was trained on each.
    """
    s = scenario(**request, seed=number)
    check_comparison(methods, None)
    half = Half(s.data, replace(s.recipe, seed=number), s.forget, s.retain_per_class, number)
    images, member, records = s.forget_set, half.member.tolist(), []
    for label, (method, options) in methods.items():
        model, _ = apply(method, half, **options)
        told = margins(read(model, images), s.forget).tolist()
        records.append({"method": label, "margins": told, "member": member})
    return records


def attacked(shadows: pd.DataFrame) -> pd.DataFrame:
    """One row a method and network: AUC, right, found of `membership.u_lira`. shadows: of `shadow`, numbers from 0 on, or
    nothing."""
    found = list[dict]()
    for method, networks in shadows.sort_values("number").groupby("method", sort=False) if len(shadows) else ():
        told, member = (torch.tensor(networks[column].tolist()) for column in ("margins", "member"))
        found += [{"method": method, "number": i, **record} for i, record in enumerate(u_lira(told, member))]
    return pd.DataFrame(found, columns=["method", "number", "AUC", "right", "found"])
