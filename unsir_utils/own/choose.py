"""Which rates, and whether noise is needed: tried in turn, and judged without any image of the class to forget."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import nn

from ..engine.forward import forward
from ..engine.precision import exact_cuda
from ..engine.samples import Samples
from ..engine.state import mode, seeded, with_gradients
from ..noise import Noise, accumulate_gradient

RATES = (1e-5, 3e-5, 1e-4, 3e-4, 1e-3, 3e-3, 1e-2)  # of impair; repair takes half of it, the head HEAD_FACTOR times
HEAD_FACTOR = 30.0
FORGOTTEN = -2.0  # nats: where the margin on stand-ins is no higher, the class counts as forgotten
TOLERATED = 1.5  # points of A_Dr
STAND_INS, STEPS, LEARNING_RATE, PENALTY = 16, 40, 0.1, 1e-4


@exact_cuda()
@with_gradients
def stand_ins(model: nn.Module, forget: Sequence[int], shape: tuple[int, ...], device: torch.device, seed: int) -> Noise:
    """Images that the model is sure are of the forget classes: UNSIR's noise with its objective turned round.

    Minimises CE(f(N), y) + PENALTY * |N|^2 from N(0, 1), with Adam; the model in eval mode. They stand in for real images of
    the class in measuring, never in the passes. Such images are known as class impressions.
    """
    labels = torch.tensor(forget, device=device).repeat_interleave(STAND_INS)
    start = time.perf_counter()
    with seeded(seed):
        images = torch.randn(len(labels), *shape, dtype=torch.float32).to(device).requires_grad_()
    optimiser = torch.optim.Adam([images], lr=LEARNING_RATE)
    weight, losses = torch.full((len(labels),), 1 / STAND_INS, device=device), []
    wanted = [p for p in model.parameters() if p.requires_grad]
    model.requires_grad_(False)
    try:
        with mode(model, False), seeded(seed, device):
            for _ in range(STEPS):
                optimiser.zero_grad(set_to_none=True)
                losses.append(accumulate_gradient(model, images, labels, -weight, -PENALTY))
                optimiser.step()
    finally:
        for p in wanted:
            p.requires_grad_(True)
    return Noise(images.detach(), labels, torch.stack(losses).tolist(), time.perf_counter() - start, STEPS * len(labels))


@torch.no_grad()
def margin(model: nn.Module, images: Noise) -> float:
    """How sure the model is that the images are of their class: the log-odds, in nats; the mean over a class's images, the
    highest over the classes."""
    with mode(model, False):
        z = forward(model, images.images)
    own = torch.nn.functional.one_hot(images.labels, z.shape[1]).bool()
    odds = z[own] - z.masked_fill(own, float("-inf")).logsumexp(1)
    return max(odds[images.labels == c].double().mean().item() for c in images.labels.unique())


@dataclass(frozen=True)
class Try:
    """Passes with or without noise at the impair rate of a rung of RATES, and whether the class was forgotten then."""

    noise: bool
    rung: int
    forgotten: bool


def next_try(tried: Sequence[Try], noise: bool | None) -> tuple[bool, int] | None:
    """(whether with noise, rung) to try after these; None where nothing is left to find out.

    The lowest rate that forgets is sought by halving the ladder; lower ones spare A_Dr. noise: with it, without it, or
    (None) first without it, then with it from one rung lower, at which it may do what the passes alone did not.
    """
    first = bool(noise)
    low, high = _bracket(tried, first)
    if low < high:
        return first, (low + high) // 2
    if noise is not None:
        return None
    start = min(max(high - 1, 0), len(RATES) - 1)
    others = [t for t in tried if t.noise]
    if not others:
        return True, start
    low, high = _bracket(tried, True)
    step = start - 1 if others[0].forgotten else start + 1
    untried = 0 <= step < len(RATES) and all(t.rung != step for t in others)
    return (True, step) if untried else None


def _bracket(tried: Sequence[Try], noise: bool) -> tuple[int, int]:
    """The lowest rung that may still be the lowest that forgets, and the lowest that is known to."""
    mine = [t for t in tried if t.noise == noise]
    high = min((t.rung for t in mine if t.forgotten), default=len(RATES))
    return max((t.rung + 1 for t in mine if not t.forgotten and t.rung < high), default=0), high


def batch_size_for(retain: Samples) -> int:
    """Some thirty steps a pass, in batches of 16 to 128."""
    return next((size for size in (16, 32, 64) if len(retain) <= 30 * size), 128)
