"""Where the time of a training step goes, what each switch of the kernels pays, and what the machine would allow."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable
from contextlib import nullcontext

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.optim import Adam
from torch.utils.data import DataLoader
from torch.utils.flop_counter import FlopCounterMode

from ..engine.forward import forward
from ..engine.precision import precision
from ..engine.samples import Samples
from ..engine.small_maps import SmallMaps
from ..engine.training import in_memory_order
from ..noise import accumulate_gradient
from . import plain
from .races import Job, race, ratio
from .timing import clock

PARTS = ["data", "forward", "backward", "optimiser"]
SWITCHES = ["bfloat16", "channels_last", "fused", "memory_order", "small_maps"]
WHOLE = "whole step"


def precisions(model: nn.Module) -> dict[str, torch.dtype]:
    """In which precision each side computes this model."""
    return {"plain": torch.float32, "here": precision(model, next(model.parameters()).device)}


def stepping(
    network: nn.Module,
    batches: Callable[[], Iterable[tuple[Tensor, Tensor]]],
    steps: int,
    *,
    bfloat16: bool = True,
    channels_last: bool = True,
    fused: bool = True,
    memory_order: bool = True,
    small_maps: bool = True,
) -> Job:
    """A job: seconds of the PARTS of a step, a mean; all switches on is how `training.one_epoch` steps."""
    layout = torch.channels_last if channels_last else torch.contiguous_format
    model, device = copy.deepcopy(network).to(memory_format=layout).train(), next(network.parameters()).device
    optimiser = Adam(model.parameters(), lr=1e-3, fused=fused or None)
    if memory_order and fused:  # what is not fused copies nothing
        in_memory_order(optimiser)
    kind, small = precisions(network)["here" if bfloat16 else "plain"], SmallMaps if small_maps else nullcontext

    def job(_: int) -> pd.Series:
        ticks, source = [], iter(batches())
        for _ in range(steps):
            ticks.append(clock())
            x, y = next(source)
            x, y = x.to(device, memory_format=layout), y.to(device)
            ticks.append(clock())
            with torch.autocast(device.type, kind, kind != torch.float32), small():
                loss = cross_entropy(model(x).float(), y)
            ticks.append(clock())
            optimiser.zero_grad()
            loss.backward()
            ticks.append(clock())
            optimiser.step()
            ticks.append(clock())
        return pd.Series(np.diff(np.reshape(ticks, (steps, len(PARTS) + 1))).mean(0), PARTS)

    return job


def step_race(original: nn.Module, samples: Samples, batch_size: int, steps: int, rounds: list[int]) -> pd.DataFrame:
    """Seconds of the parts of a step: plain, here, plain on weights nearly zero, and here with one of SWITCHES off.

    The first steps * batch_size of the samples are used. Raises ValueError where there are fewer.
    """
    if steps * batch_size > len(samples):
        raise ValueError(f"{len(samples)} images are too few for {steps} steps of {batch_size}: take more, or fewer steps")
    timed, off = samples[: steps * batch_size], dict.fromkeys(SWITCHES, False)
    pairs = DataLoader(plain.as_list(timed), batch_size, shuffle=True)

    def here(**switches: bool) -> Job:
        return stepping(original, lambda: timed.shuffled(batch_size), steps, **switches)

    sides = {"plain": stepping(original, lambda: pairs, steps, **off), "here": here()}
    sides["nearly zero"] = stepping(_nearly_zero(original), lambda: pairs, steps, **off)
    sides |= {name: here(**{name: False}) for name in SWITCHES}
    return pd.DataFrame(race("a step", sides, rounds))


def _nearly_zero(model: nn.Module) -> nn.Module:
    """A copy with 1e-38 in the place of weights that `store` set to zero, about where they were."""
    model = copy.deepcopy(model)
    for weight in model.parameters():
        weight.data.masked_fill_(weight == 0, 1e-38)
    return model


def noise_race(original: nn.Module, shape: tuple, label: int, n: int, steps: int, rounds: list[int]) -> pd.DataFrame:
    """Seconds of `steps` gradients of the noise objective for n images of `shape`; on: the model is frozen."""

    def learner(frozen: bool) -> Job:
        model, device = copy.deepcopy(original).requires_grad_(not frozen), next(original.parameters()).device
        images = torch.randn(n, *shape).to(device).requires_grad_()
        labels, weight = torch.full((n,), label, device=device), torch.full((n,), 1 / n, device=device)
        return lambda _: [accumulate_gradient(model, images, labels, weight, 0.1) for _ in range(steps)]

    return pd.DataFrame(race("noise", {"on": learner(True), "off": learner(False)}, rounds))


def peak(size: int, kinds: dict[str, torch.dtype], device: torch.device, steps: int, rounds: list[int]) -> pd.Series:
    """Operations a second, by side, of a product of two square matrices of `size` rows, in the precision of `kinds`."""
    square = torch.randn(size, size, device=device)

    def product(kind: torch.dtype) -> Job:
        a = square.to(kind)
        return lambda _: [a @ a for _ in range(steps)]

    records = race("peak", {side: product(kind) for side, kind in kinds.items()}, rounds)
    return 2 * steps * size**3 / pd.DataFrame(records).groupby("side").seconds.median()[list(kinds)]


def operations(model: nn.Module, x: Tensor, y: Tensor) -> int:
    """Of a batch's forward and backward pass, two a multiply-add."""
    with FlopCounterMode(display=False) as counter:
        cross_entropy(forward(copy.deepcopy(model).train(), x), y).backward()
    return counter.get_total_flops()


# What the records say


def parts(taken: pd.DataFrame) -> pd.DataFrame:
    """Milliseconds of each part of a step, plain and here: medians over the rounds of `step_race`; their sum last."""
    found = 1000 * taken.groupby("side")[PARTS].median().loc[["plain", "here"]].T
    found.loc[WHOLE] = found.sum()
    return found


def at_the_peak(parts: pd.DataFrame, peak: pd.Series, operations: int) -> pd.DataFrame:
    """By side: what forward and backward reach of the machine's peak, and the ratio at the peak.

    That is over the plain step, if the products ran at the peak and all else cost nothing.
    """
    reached = 1000 * operations / parts.loc[["forward", "backward"]].sum()
    room = parts.plain[WHOLE] / 1000 * peak / operations
    speeds = {"GFLOP a step": operations / 1e9, "GFLOP/s reached": reached / 1e9, "GFLOP/s, peak": peak / 1e9}
    return pd.DataFrame({**speeds, "share (%)": 100 * reached / peak, "ratio at the peak": room})


def pays(taken: pd.DataFrame, in_noise: pd.DataFrame, steps: int) -> pd.DataFrame:
    """How many times as fast each switch makes a step, on against off, from `step_race` and `noise_race`.

    The data's time is left out. Last: what zeroed weights pay on the plain side.
    """
    whole, noise = _milliseconds(taken, PARTS[1:]), _milliseconds(in_noise, ["seconds"]) / steps
    pairs = {name: (whole.here, whole[name]) for name in SWITCHES} | {"frozen_model": (noise.on, noise.off)}
    pairs["zeroed weights, plain"] = whole.plain, whole["nearly zero"]
    lines = [
        {"switch": name.replace("_", " "), "on (ms)": on.median(), "off (ms)": off.median(), **ratio(off, on)}
        for name, (on, off) in pairs.items()
    ]
    return pd.DataFrame(lines)


def _milliseconds(records: pd.DataFrame, columns: list[str]) -> pd.DataFrame:
    """One row a round, one column a side."""
    return records.assign(each=1000 * records[columns].sum(axis=1)).pivot(index="seed", columns="side", values="each")
