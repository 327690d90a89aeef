"""The paper's own baselines, and a masked logit. Each returns an unlearned copy and leaves the given model as it was.

Retrain is `store.trained` with the forget classes left out.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..engine import checks
from ..engine.forward import logits_of
from ..engine.samples import Samples
from ..engine.state import seeded, with_gradients
from ..engine.training import head
from ..settings import FISHER_ALPHA
from .fisher import fisher_information
from .passes import run_passes

MOST, MOST_OF_HEAD = 1e3, 1e2  # Fisher forgetting: the inverse of the information counts as no more than this


def finetune(
    model: nn.Module, retain: Samples, *, epochs: int = 10, lr: float = 0.01, batch_size: int = 256, seed: int = 0
) -> nn.Module:
    """Further training on the retain data alone, by SGD.

    Source: Golatkar et al.'s public code (10 epochs, lr 0.01). There BatchNorm is in eval mode, batches hold 128 images, and
    the weights are pulled back to where they began. Here it is plain training: train mode, no pull; batch size ours.
    """
    checks.counts(epochs=epochs, batch_size=batch_size)
    checks.positive(lr=lr)
    checks.trainable(model, retain, batch_size)
    return _sgd(model, retain, F.cross_entropy, epochs, lr, batch_size, seed)


def neggrad(
    model: nn.Module,
    forget: Samples,
    *,
    epochs: int = 1,
    lr: float = 0.001,
    batch_size: int = 256,
    batchnorm: str = "train",
    seed: int = 0,
) -> nn.Module:
    """Gradient ascent on the forget data, by SGD. Source: Golatkar et al.; rate and epochs are not known, these are ours.

    batchnorm: "train" normalises with the forget batches' statistics and overwrites the running ones by them, "eval" leaves
        the running ones as they are.
    """
    checks.counts(epochs=epochs, batch_size=batch_size)
    checks.positive(lr=lr)
    checks.batchnorm(batchnorm)
    checks.trainable(model, forget, batch_size, "forget data", train_mode=batchnorm == "train")
    return _sgd(model, forget, lambda z, y: -F.cross_entropy(z, y), epochs, lr, batch_size, seed, batchnorm == "train")


def _sgd(model, samples, objective, epochs, lr, batch_size, seed, train_mode=True) -> nn.Module:
    def passes(*_):
        return [(samples.shuffled(batch_size), objective)]

    return run_passes(model, passes, partial(torch.optim.SGD, lr=lr), epochs=epochs, seed=seed, train_mode=train_mode)


@with_gradients
def fisher_forgetting(
    model: nn.Module,
    retain: Samples,
    forget: Iterable[int],
    *,
    alpha: float = FISHER_ALPHA,
    information: Mapping[str, Tensor] | None = None,
    seed: int = 0,
) -> nn.Module:
    """Adds Gaussian noise to every weight that is not frozen, the more the less the retain data need it.

    Variance of a weight: alpha / (F + 1e-8), F its Fisher information on `retain`, or `information` where that is at hand
    already (see `fisher_information`), with 1 / (F + 1e-8) clamped to MOST (MOST_OF_HEAD in the output layer); averaged
    over a weight's inputs; ten times as large in the output layer (`training.head`) and for vectors (biases, BatchNorm). A
    forget class's output row gets mean 0 and variance 1e-4, before that factor of ten.

    Source: Golatkar et al. (2020), as in their public code.
    """
    forget = checks.forget_classes(forget, retain.n_classes)
    checks.positive(alpha=alpha)
    checks.retain_set(retain, forget)
    checks.unfrozen(model)
    checks.samples_for(model, retain)
    model = copy.deepcopy(model)
    output_layer = {id(p) for p in head(model, retain.inputs(slice(0, 2))).parameters()}
    if information is None:
        information = fisher_information(model, retain)
    free = [(name, weight) for name, weight in model.named_parameters() if weight.requires_grad]
    with torch.no_grad(), seeded(seed):
        for name, weight in free:
            mean, variance = _posterior(weight, information[name], forget, id(weight) in output_layer, alpha)
            weight.copy_(mean + variance.sqrt() * torch.randn(weight.shape, dtype=torch.float32).to(weight.device))
    return model


def _posterior(weight: Tensor, information: Tensor, forget: list[int], head: bool, alpha: float) -> tuple[Tensor, Tensor]:
    variance = alpha * (1 / (information + 1e-8)).clamp(max=MOST_OF_HEAD if head else MOST)
    if weight.dim() > 1:
        variance = variance.mean(dim=1, keepdim=True).expand_as(weight).clone()
    mean = weight.clone()
    if head:
        mean[forget], variance[forget] = 0.0, 1e-4
    return mean, variance * 10 if head or weight.dim() == 1 else variance


class MaskedLogits(nn.Module):
    """The trivial baseline: the network as it was, with the logits of the forget classes at minus infinity.

    Costs no time and forgets nothing: `network` still has every weight.
    """

    def __init__(self, network: nn.Module, forget: Iterable[int]) -> None:
        super().__init__()
        self.network, self.forget = network, checks.classes(forget, what="forget class")

    def forward(self, x: Tensor) -> Tensor:
        return logits_of(self.network(x)).index_fill(1, torch.tensor(self.forget, device=x.device), float("-inf"))
