"""The classifiers of the paper, randomly initialised."""

from __future__ import annotations

from collections.abc import Callable

import torchvision
from torch import nn

from .training import seeded


def resnet18(n_classes: int) -> nn.Module:
    """torchvision's ResNet18 with its ImageNet stem, as the released notebook builds it, also for 32x32 images."""
    return torchvision.models.resnet18(num_classes=n_classes)


class AllCNN(nn.Module):
    """All-CNN-C (Springenberg et al. 2015), with BatchNorm and a linear head as in the unlearning literature.

    width: scales the channels; 1 is the paper's 96 and 192.
    """

    def __init__(self, n_classes: int, width: float = 1.0) -> None:
        super().__init__()
        narrow, wide = round(96 * width), round(192 * width)
        self.features = nn.Sequential(
            _block(3, narrow),
            _block(narrow, narrow),
            _block(narrow, narrow, stride=2),
            _block(narrow, wide),
            _block(wide, wide),
            _block(wide, wide, stride=2),
            _block(wide, wide),
            _block(wide, wide, kernel=1),
        )
        self.head = nn.Linear(wide, n_classes)

    def forward(self, x):
        return self.head(self.features(x).mean(dim=(2, 3)))


def _block(n_in: int, n_out: int, kernel: int = 3, stride: int = 1) -> nn.Sequential:
    conv = nn.Conv2d(n_in, n_out, kernel, stride, padding=kernel // 2, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(n_out), nn.ReLU(inplace=True))


ARCHITECTURES: dict[str, Callable[[int], nn.Module]] = {
    "ResNet18": resnet18,
    "AllCNN": AllCNN,
    "AllCNN-0.5": lambda n_classes: AllCNN(n_classes, width=0.5),
    "AllCNN-0.25": lambda n_classes: AllCNN(n_classes, width=0.25),
    "AllCNN-0.125": lambda n_classes: AllCNN(n_classes, width=0.125),
}


def build(architecture: str, n_classes: int, seed: int = 0) -> nn.Module:
    """A new model of this architecture (a key of ARCHITECTURES), initialised from `seed`."""
    if architecture not in ARCHITECTURES:
        raise ValueError(f"unknown architecture {architecture!r}: choose one of {', '.join(ARCHITECTURES)}")
    with seeded(seed):
        return ARCHITECTURES[architecture](n_classes)


def n_parameters(model: nn.Module) -> int:
    return sum(p.numel() for p in model.parameters())
