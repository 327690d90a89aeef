"""Step 1 of UNSIR: noise that stands in for the images to forget."""

from __future__ import annotations

import copy
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .engine import checks
from .engine.forward import forward
from .engine.precision import exact_cuda
from .engine.samples import Samples, at_once, channels_last, in_parts
from .engine.state import mode, seeded, with_gradients
from .settings import PAPER

CHUNK = 512  # noise images that go through the model at once, see `at_once`; bounds the memory, not the result


@dataclass(frozen=True, eq=False)
class Noise:
    """images: float32 [n, *shape]; labels: int64 [n]; losses: the objective at each step; seconds; samples: image passes."""

    images: Tensor
    labels: Tensor
    losses: list[float]
    seconds: float
    samples: int

    def __len__(self) -> int:
        return len(self.labels)

    def __repr__(self) -> str:
        of = sorted(set(self.labels.tolist()))
        return f"Noise({len(self)} images of shape {tuple(self.images.shape[1:])} for classes {of})"

    def labelled(self, label: int) -> Noise:
        return replace(self, labels=torch.full_like(self.labels, label))


@exact_cuda()
@with_gradients
def learn_noise(
    model: nn.Module,
    forget: Iterable[int],
    shape: Sequence[int],
    *,
    per_class: int = PAPER.noise_per_class,
    total: int | None = None,
    steps: int = PAPER.noise_steps,
    lr: float = PAPER.noise_lr,
    penalty: float = PAPER.penalty,
    batchnorm: str = PAPER.batchnorm,
    seed: int = 0,
    in_place: bool = False,
) -> Noise:
    """Error-maximising noise for every forget class, learned together against the frozen model.

    Minimises -CE(f(N), y) + penalty * mean over images of (sum over pixels of N^2), starting from N(0, 1), with Adam.
    Each class contributes its own mean, so that a class's noise does not depend on how many others are learned with it.

    shape: of one image, e.g. (3, 32, 32).
    per_class: noise images a forget class; `total`, when given, is the number in all instead, shared out evenly.
    steps, lr, penalty: of Adam; lambda of the paper.
    batchnorm: "eval" uses the model's running statistics; "train" those of the noise batch, as the released notebook does.
        in_place then leaves the running statistics overwritten by the noise's, as there.

    Source: the paper's method (reported in a published summary); numbers from the authors' released notebook.
    """
    checks.counts(per_class=per_class, total=1 if total is None else total, steps=steps)
    checks.positive(lr=lr)
    checks.not_negative(penalty=penalty)
    checks.batchnorm(batchnorm)
    device = next((p.device for p in model.parameters()), torch.device("cpu"))
    probe = torch.zeros(2, *shape, dtype=torch.float32, device=device)
    forget = checks.forget_classes(forget, checks.output_width(model, probe))
    if batchnorm == "train":
        checks.output_width(model, probe, training=True)
    if total is not None and total < len(forget):
        raise ValueError(f"total is {total} for {len(forget)} forget classes: at least one noise image a class is needed")

    labels = _share_out(forget, per_class * len(forget) if total is None else total).to(device)
    weight = torch.bincount(labels)[labels].float().reciprocal()  # the mean over a class, written as a weighted sum
    with seeded(seed):
        images = torch.randn(len(labels), *shape, dtype=torch.float32).to(device).requires_grad_()
    optimiser = torch.optim.Adam([images], lr=lr, fused=True)
    chunk = len(labels) if batchnorm == "train" else at_once(shape, CHUNK)
    start, losses = time.perf_counter(), []
    if not in_place:
        model = copy.deepcopy(model)
    with frozen(model), mode(model, batchnorm == "train"), seeded(seed, device):
        for _ in range(steps):
            optimiser.zero_grad(set_to_none=True)
            parts = [accumulate_gradient(model, x, y, w, penalty) for x, y, w in in_parts(chunk, images, labels, weight)]
            losses.append(torch.stack(parts).sum())
            optimiser.step()
    return Noise(images.detach(), labels, torch.stack(losses).tolist(), time.perf_counter() - start, steps * len(labels))


def accumulate_gradient(model: nn.Module, images: Tensor, labels: Tensor, weight: Tensor, penalty: float) -> Tensor:
    """Adds the gradient of the noise objective to images.grad; returns the objective.

    images [n, *shape]; labels [n]; weight [n], 1 / (number of images of the label).
    """
    x = channels_last(images.clone())  # a model may work in place, which a leaf of the graph does not allow
    error = F.cross_entropy(forward(model, x), labels, reduction="none")
    size = images.square().flatten(1).sum(1)
    loss = (weight * (penalty * size - error)).sum()
    loss.backward()
    return loss.detach()


def unlearned_noise(
    forget: Iterable[int], shape: Sequence[int], *, per_class: int = PAPER.noise_per_class, seed: int = 0
) -> Noise:
    """The control: the N(0, 1) images that `learn_noise` starts from, not learned."""
    forget = checks.classes(forget, what="forget class")
    checks.counts(per_class=per_class, forget=len(forget))
    labels = _share_out(forget, per_class * len(forget))
    with seeded(seed):
        return Noise(torch.randn(len(labels), *shape, dtype=torch.float32), labels, [], 0.0, 0)


def blank_images(forget: Iterable[int], shape: Sequence[int], *, per_class: int = PAPER.noise_per_class) -> Noise:
    """The control: images of zeros (the data's mean colour), labelled as forget classes."""
    forget = checks.classes(forget, what="forget class")
    checks.counts(per_class=per_class, forget=len(forget))
    labels = _share_out(forget, per_class * len(forget))
    return Noise(torch.zeros(len(labels), *shape, dtype=torch.float32), labels, [], 0.0, 0)


def more_retain(retain: Samples, n: int, seed: int = 0) -> Noise:
    """The control for the number of steps: `n` images of the retain subset again, with their own labels, in the noise's
    place."""
    checks.counts(n=n, retain=len(retain))
    with seeded(seed):
        index = torch.randint(len(retain), (n,)).to(retain.device)
    return Noise(retain.inputs(index), retain.labels[index], [], 0.0, 0)


def _share_out(forget: list[int], total: int) -> Tensor:
    """int64 [total]: labels, class after class, counts as even as they can be."""
    return torch.tensor(sorted((forget * (total // len(forget) + 1))[:total], key=forget.index))


@contextmanager
def frozen(model: nn.Module) -> Iterator[None]:
    """No gradients for the model's parameters; each parameter's requires_grad is as it was afterwards."""
    before = [(p, p.requires_grad) for p in model.parameters()]
    model.requires_grad_(False)
    try:
        yield
    finally:
        for p, was in before:
            p.requires_grad_(was)
