"""Methods that train on the forget set, which UNSIR never sees; all but two on the retain set as well.

Each returns an unlearned copy and leaves the model that it is given as it was. Facts of each are from its paper and its
public code; what these leave open is said to be ours. Where paper and code differ, this is the code.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..engine import checks
from ..engine.forward import forward
from ..engine.precision import exact_cuda
from ..engine.samples import Samples
from ..engine.state import mode, seeded, with_gradients
from ..engine.training import Batches
from ..metrics import predictions
from .passes import (
    Optimiser,
    answers,
    check_training,
    classes_of,
    distillation,
    joined,
    mean_gradients,
    run_passes,
    sgd,
    taught,
    trainable,
)


def neggrad_plus(
    model: nn.Module,
    retain: Samples,
    forget: Samples,
    *,
    alpha: float = 0.95,
    epochs: int = 5,
    lr: float = 0.01,
    batch_size: int = 256,
    seed: int = 0,
) -> nn.Module:
    """Descent on the retain data and ascent on the forget data at once: alpha * CE(D_r) - (1 - alpha) * CE(D_f).

    An epoch is one pass over the retain data; each of its batches meets a batch of forget data, again and again from the
    start. SGD, momentum 0.9, weight decay 5e-4. With alpha = 1 it is fine-tuning.
    Source: Kurmanji et al. (2023) and their public code, which gives no setting for whole classes: all values are ours.
    """
    check_training(model, epochs, lr, batch_size, retain=retain, forget=forget)
    checks.shares(alpha=alpha)

    def passes(student, _):
        beside = forget.endless(batch_size)

        def objective(z: Tensor, y: Tensor) -> Tensor:
            x_f, y_f = next(beside)
            return alpha * F.cross_entropy(z, y) - (1 - alpha) * F.cross_entropy(forward(student, x_f), y_f)

        return [(retain.shuffled(batch_size), objective)]

    return run_passes(model, passes, sgd(lr), epochs=epochs, seed=seed)


def random_labels(
    model: nn.Module,
    retain: Samples,
    forget: Samples,
    *,
    epochs: int = 10,
    lr: float = 0.01,
    batch_size: int = 256,
    seed: int = 0,
) -> nn.Module:
    """Training on the forget data with labels drawn anew in each epoch, then on the retain data with their own.

    Every class may be drawn, the true one, too. SGD, momentum 0.9, weight decay 5e-4.
    Source: SalUn's public code for CIFAR-10 (for CIFAR-100 it shuffles both kinds together; it augments, this does not). Its
    rate is 0.01 by default and 0.013 for a random tenth of the data; it names none for a whole class.
    """
    check_training(model, epochs, lr, batch_size, retain=retain, forget=forget)
    return _relabelled(model, retain, forget, sgd(lr), epochs, batch_size, seed)


@with_gradients
def salun(
    model: nn.Module,
    retain: Samples,
    forget: Samples,
    *,
    share: float = 0.5,
    epochs: int = 10,
    lr: float = 0.01,
    batch_size: int = 256,
    seed: int = 0,
) -> nn.Module:
    """SalUn: `random_labels` on the `share` of all weights whose gradient on the forget data is largest in size.

    The other weights stay as they were, weight decay or not: in the public code they did not until its correction of
    2026-02-28. BatchNorm's running statistics move. With share = 1 it is `random_labels`.
    Source: Fan et al. (2024) and their public code (the mask of half the weights, 10 epochs).
    """
    check_training(model, epochs, lr, batch_size, retain=retain, forget=forget)
    checks.positive(share=share)
    checks.shares(share=share)
    mask = most_salient(model, forget, share, batch_size)
    return _relabelled(model, retain, forget, partial(_masked_sgd, lr, mask), epochs, batch_size, seed)


def _relabelled(model, retain, forget, optimiser: Optimiser, epochs: int, batch_size: int, seed: int) -> nn.Module:
    def passes(*_):
        drawn = taught(forget.shuffled(batch_size), lambda _, y: torch.randint_like(y, forget.n_classes))
        return [(batches, F.cross_entropy) for batches in (drawn, retain.shuffled(batch_size))]

    return run_passes(model, passes, optimiser, epochs=epochs, seed=seed)


def most_salient(model: nn.Module, forget: Samples, share: float, batch_size: int) -> list[Tensor]:
    """A mask for each trainable parameter: the `share` of all weights with the largest mean gradient in size."""
    sizes = [g.abs() for g in mean_gradients(model, forget, batch_size)]
    flat = torch.cat([s.flatten() for s in sizes])
    mask = torch.zeros_like(flat, dtype=torch.bool)
    mask[flat.topk(int(share * len(flat))).indices] = True
    return [part.view_as(s) for part, s in zip(mask.split([s.numel() for s in sizes]), sizes, strict=True)]


def _masked_sgd(lr: float, mask: list[Tensor], parameters: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
    weights = trainable(parameters)
    optimiser, before = sgd(lr)(weights), [w.detach().clone() for w in weights]

    @torch.no_grad()
    def restore(*_) -> None:
        for weight, was, may_move in zip(weights, before, mask, strict=True):
            weight.copy_(torch.where(may_move, weight, was))

    optimiser.register_step_post_hook(restore)
    return optimiser


@with_gradients
def boundary_shrink(
    model: nn.Module,
    forget: Samples,
    *,
    bound: float = 0.1,
    epochs: int = 10,
    lr: float = 1e-5,
    batch_size: int = 64,
    batchnorm: str = "train",
    seed: int = 0,
) -> nn.Module:
    """Training on the forget data alone, each labelled as the original sees it one step across the nearest boundary.

    bound: length of the step against the true label, by the gradient's sign, in units of 0..1 for uint8 images and of the
        inputs for floats. An image that keeps its class keeps its label. batchnorm: as in `neggrad`.
    SGD, momentum 0.9, no weight decay.
    Source: Chen et al. (2023); all values as in an upload of their code, which takes one step as well (its line for several
    is switched off). Bound, step and rounding are SalUn's and DELETE's public code's, too.
    """
    checks.batchnorm(batchnorm)
    check_training(model, epochs, lr, batch_size, batchnorm == "train", forget=forget)
    checks.not_negative(bound=bound)
    relabelled = replace(forget, labels=predictions(model, _stepped(model, forget, bound, batch_size)))
    return _on_forget_set(model, relabelled.shuffled, F.cross_entropy, lr, epochs, batch_size, batchnorm, seed)


@exact_cuda()
@with_gradients
def _stepped(model: nn.Module, samples: Samples, bound: float, batch_size: int) -> Samples:
    """The samples a step of `bound` up their loss, pixels back in their range."""
    signs = []
    with mode(model, False):
        for x, y in samples.batches(batch_size):
            loss = F.cross_entropy(forward(model, x.requires_grad_().clone()), y)
            signs.append(torch.autograd.grad(loss, x)[0].sign())
    images, up = samples.images, torch.cat(signs)
    if images.dtype == torch.uint8:
        moved = (images + 255 * bound * up).round().clamp(0, 255).to(torch.uint8)
    else:
        moved = images + bound * up
    return replace(samples, images=moved)


def delete(
    model: nn.Module,
    forget: Samples,
    *,
    epochs: int = 20,
    lr: float = 1e-3,
    batch_size: int = 128,
    batchnorm: str = "train",
    seed: int = 0,
) -> nn.Module:
    """DELETE: on the forget data alone, distils the original with each sample's own logit at minus infinity.

    batchnorm: as in `neggrad`. SGD, momentum 0.9, no weight decay.
    Source: the paper (arXiv 2503.23751) and its public code (CIFAR-10, ResNet18; BatchNorm frozen for TinyImageNet alone).
    The rate is the one that its scripts recommend; its configuration has 1e-4 for all methods. It augments, this does not.
    """
    checks.batchnorm(batchnorm)
    check_training(model, epochs, lr, batch_size, batchnorm == "train", forget=forget)

    def without_own(x: Tensor, y: Tensor) -> Tensor:
        return answers(model, x).scatter(1, y[:, None], float("-inf"))

    def batches(size: int) -> Batches:
        return taught(forget.shuffled(size), without_own)

    return _on_forget_set(model, batches, distillation, lr, epochs, batch_size, batchnorm, seed)


def _on_forget_set(model, batches, objective, lr, epochs, batch_size, batchnorm, seed) -> nn.Module:
    def passes(*_):
        return [(batches(batch_size), objective)]

    train_mode = batchnorm == "train"
    return run_passes(model, passes, sgd(lr, weight_decay=0), epochs=epochs, seed=seed, train_mode=train_mode)


def scrub(
    model: nn.Module,
    retain: Samples,
    forget: Samples,
    *,
    alpha: float = 0.001,
    gamma: float = 0.99,
    temperature: float = 4.0,
    epochs: int = 3,
    forget_epochs: int = 2,
    lr: float = 5e-4,
    batch_size: int = 256,
    forget_batch_size: int = 512,
    seed: int = 0,
) -> nn.Module:
    """SCRUB: away from the original on the forget data, towards it and the labels on the retain data, by turns.

    The first `forget_epochs` epochs begin with a pass that maximises KL(original || student) on the forget data; every epoch
    ends with one that minimises gamma * CE + alpha * KL on the retain data. `distillation` at `temperature` in both. SGD,
    momentum 0.9, weight decay 5e-4, one optimiser. forget_epochs = 0: distilling the original on the retain data.
    Source: Kurmanji et al. (2023) and their public code's large-scale notebook. Its rate falls only after the third epoch.
    The batches are those that its loaders make; its settings name 128 and 32, which nothing there uses. Forget batches of 32
    take sixteen times as many steps away from the original.
    """
    check_training(model, epochs, lr, batch_size, retain=retain, forget=forget)
    checks.counts(forget_batch_size=forget_batch_size)
    checks.counts(least=0, forget_epochs=forget_epochs)
    checks.positive(temperature=temperature)
    checks.not_negative(alpha=alpha, gamma=gamma)
    teach = partial(answers, model)

    def away(z: Tensor, target: tuple[Tensor, Tensor]) -> Tensor:
        return -distillation(z, target[1], temperature)

    def towards(z: Tensor, target: tuple[Tensor, Tensor]) -> Tensor:
        return gamma * F.cross_entropy(z, target[0]) + alpha * distillation(z, target[1], temperature)

    def passes(_, epoch):
        if epoch < forget_epochs:
            yield taught(forget.shuffled(forget_batch_size), lambda x, y: (y, teach(x))), away
        yield taught(retain.shuffled(batch_size), lambda x, y: (y, teach(x))), towards

    return run_passes(model, passes, sgd(lr), epochs=epochs, seed=seed)


@with_gradients
def bad_teacher(
    model: nn.Module,
    retain: Samples,
    forget: Samples,
    untrained: nn.Module,
    *,
    share: float = 0.3,
    epochs: int = 1,
    lr: float = 1e-4,
    batch_size: int = 256,
    seed: int = 0,
) -> nn.Module:
    """Bad Teacher: distils an untrained network on the forget data and the original on a `share` of the retain data.

    untrained: of the same architecture, initialised at random. Both kinds of data are shuffled together; Adam; the KL is
    divided by the number of classes as well, as the public code's is.
    Source: Chundawat et al. (2023), by UNSIR's authors, and their public code.
    """
    check_training(model, epochs, lr, batch_size, retain=retain, forget=forget)
    checks.shares(share=share)
    checks.samples_for(untrained, forget, "forget data")
    with seeded(seed):
        drawn = torch.randperm(len(retain))[: int(share * len(retain))].to(retain.device)
    both = joined(forget, retain[drawn])
    gone = torch.tensor(classes_of(forget), device=forget.device)

    def teach(x: Tensor, y: Tensor) -> Tensor:
        return torch.where(torch.isin(y, gone)[:, None], answers(untrained, x), answers(model, x))

    def passes(*_):
        return [(taught(both.shuffled(batch_size), teach), lambda z, t: distillation(z, t) / z.shape[1])]

    return run_passes(model, passes, partial(torch.optim.Adam, lr=lr, fused=True), epochs=epochs, seed=seed)
