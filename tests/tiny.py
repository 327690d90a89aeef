"""Models and samples small enough that a test trains them in milliseconds, and what a caller can see of a model."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pandas as pd
import torch
from torch import Tensor, nn

from unsir_utils.audit.features import AtHead
from unsir_utils.engine.samples import Samples
from unsir_utils.engine.state import seeded
from unsir_utils.report.judge import Criterion
from unsir_utils.report.judge import Test as ClaimTest
from unsir_utils.workshop import provenance, study

K = 4


def convnet(n_classes: int = K, batchnorm: bool = True, seed: int = 0) -> nn.Module:
    """For images [n, 3, 8, 8]."""
    with seeded(seed):
        return nn.Sequential(
            nn.Conv2d(3, 6, 3, stride=2, padding=1, bias=not batchnorm),
            nn.BatchNorm2d(6) if batchnorm else nn.Identity(),
            nn.ReLU(inplace=True),
            nn.AdaptiveAvgPool2d(2),
            nn.Flatten(),
            nn.Linear(24, n_classes),
        )


def forget_all() -> None:
    """Nothing that the study keeps in memory outlives a test."""
    for cached in (study._trained_once, study._learned, study.information_of, provenance._load):
        cached.cache_clear()


def plain(n_classes: int = K, seed: int = 0) -> nn.Module:
    return convnet(n_classes, batchnorm=False, seed=seed)


def mlp(n_classes: int = K, seed: int = 0) -> nn.Module:
    """For vectors [n, 6]."""
    with seeded(seed):
        return nn.Sequential(nn.Linear(6, 16), nn.ReLU(), nn.Linear(16, n_classes))


def sequence_net() -> nn.Module:
    """For sequences [n, 2, 5]."""
    with seeded(0):
        return nn.Sequential(nn.Conv1d(2, 4, 3), nn.BatchNorm1d(4), nn.ReLU(), nn.Flatten(), nn.Linear(12, K))


def half_frozen(n_classes: int = K) -> nn.Module:
    """In train mode, but for its BatchNorm; its first layer takes no gradient."""
    model = convnet(n_classes).train()
    model[1].eval()
    model[0].requires_grad_(False)
    return model


class HeadFirst(nn.Module):
    """For vectors [n, 6]. Its head is declared first, and what is declared last never runs."""

    def __init__(self) -> None:
        super().__init__()
        with seeded(0):
            self.head, self.body, self.spare = nn.Linear(5, K), nn.Linear(6, 5), nn.Linear(5, K)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.body(x).relu())


class Returns(nn.Module):
    """A network for vectors [n, 6] whose logits z are handed out as make(z), in eval mode as they are unless `always`."""

    def __init__(self, make: Callable[[Tensor], object], always: bool = False) -> None:
        super().__init__()
        self.net, self.make, self.always = mlp(), make, always

    def forward(self, x: Tensor) -> object:
        z = self.net(x)
        return self.make(z) if self.training or self.always else z


SHAPES = {convnet: (3, 8, 8), plain: (3, 8, 8), mlp: (6,), sequence_net: (2, 5), half_frozen: (3, 8, 8)}


def floats(shape: tuple[int, ...], n: int = 21, n_classes: int = K, seed: int = 0) -> Samples:
    """Random images that stand around one prototype a class: learnable, and labelled in turn."""
    with seeded(seed):
        labels = torch.arange(n) % n_classes
        return Samples(2 * torch.randn(n_classes, *shape)[labels] + torch.randn(n, *shape), labels, n_classes)


def pixels(n: int = 21, seed: int = 0) -> Samples:
    with seeded(seed):
        images = torch.randint(0, 256, (n, 3, 8, 8), dtype=torch.uint8)
    return Samples(images, torch.arange(n) % K, K, (0.5, 0.4, 0.3), (0.2, 0.25, 0.3))


def fitted(model: nn.Module, samples: Samples, steps: int = 60) -> nn.Module:
    optimiser = torch.optim.Adam(model.parameters(), lr=0.02)
    for _ in range(steps):
        optimiser.zero_grad()
        nn.functional.cross_entropy(model(samples.inputs()), samples.labels).backward()
        optimiser.step()
    model.zero_grad()
    return model


def at_head(features: Tensor | list, labels: list[int], weight: Tensor | list, bias: list[float] | None = None) -> AtHead:
    """What a Linear head of this weight and bias gives for these features."""
    x, w = (torch.as_tensor(v, dtype=torch.float64) for v in (features, weight))
    b = torch.zeros(len(w), dtype=torch.float64) if bias is None else torch.tensor(bias, dtype=torch.float64)
    return AtHead(x, x @ w.T + b, torch.tensor(labels), w, b)


def snapshot(model: nn.Module) -> tuple:
    return (
        {name: value.clone() for name, value in model.state_dict().items()},
        [module.training for module in model.modules()],
        [p.requires_grad for p in model.parameters()],
        [p.grad is None for p in model.parameters()],
    )


def same_weights(one: nn.Module | dict[str, Tensor], other: nn.Module | dict[str, Tensor]) -> bool:
    one, other = (m.state_dict() if isinstance(m, nn.Module) else m for m in (one, other))
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


@contextmanager
def untouched(model: nn.Module) -> Iterator[None]:
    """The caller's model and torch's global random state are afterwards as they were."""
    random, (weights, *flags) = torch.get_rng_state(), snapshot(model)
    yield
    assert same_weights(model, weights)
    assert list(snapshot(model)[1:]) == flags
    assert torch.equal(torch.get_rng_state(), random)


def settings_of_cuda() -> list:
    """Precision of matrix products, convolutions and recurrent layers; cuDNN's deterministic and benchmark."""
    cuda, cudnn = torch.backends.cuda, torch.backends.cudnn
    return [*(k.fp32_precision for k in (cuda.matmul, cudnn.conv, cudnn.rnn)), cudnn.deterministic, cudnn.benchmark]


def set_cuda(matmul: str, conv: str, rnn: str, deterministic: bool, benchmark: bool) -> None:
    cuda, cudnn = torch.backends.cuda, torch.backends.cudnn
    cuda.matmul.fp32_precision, cudnn.conv.fp32_precision, cudnn.rnn.fp32_precision = matmul, conv, rnn
    cudnn.deterministic, cudnn.benchmark = deterministic, benchmark


def claim_test(claim: int | str, tested: str, *values: float, without: tuple[float, ...] | None = None) -> ClaimTest:
    """A test of a claim: that these values, one a seed, are at most 1 %."""

    def by_seed(numbers: tuple[float, ...]) -> pd.Series:
        index = pd.MultiIndex.from_product([[0], range(len(numbers))], names=["trained", "seed"])
        return pd.Series(numbers, index, dtype=float)

    controls = {} if without is None else {"without": by_seed(without)}
    return ClaimTest(claim, tested, [Criterion("A_Df", by_seed(values), "at most", 1, **controls)])
