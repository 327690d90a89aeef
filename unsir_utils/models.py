"""The classifiers of the paper. All but AllCNN come from torchvision.

All are initialised at random; ResNet18, MobileNetV2 and ViT-B/16 may start from ImageNet weights instead.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch
import torchvision
from torch import Tensor, nn

from .training import seeded


def resnet18(n_classes: int) -> nn.Module:
    """torchvision's ResNet18 with its ImageNet stem, as the released notebook builds it, also for 32x32 images."""
    return torchvision.models.resnet18(num_classes=n_classes)


def resnet10(n_classes: int) -> nn.Module:
    """ResNet18 with one block a stage instead of two: the stand-in where ResNet18 would cost too long."""
    return torchvision.models.ResNet(torchvision.models.resnet.BasicBlock, [1, 1, 1, 1], num_classes=n_classes)


def mobilenet_v2(n_classes: int) -> nn.Module:
    """torchvision's MobileNetV2 with its ImageNet stem, for any image size; at 32x32 its last maps are one pixel."""
    return torchvision.models.mobilenet_v2(num_classes=n_classes)


def vit(n_classes: int) -> nn.Module:
    """A small Vision Transformer for 32x32 images, without dropout: the stand-in where ViT-B/16 would cost hours."""
    return torchvision.models.VisionTransformer(
        image_size=32, patch_size=8, num_layers=4, num_heads=4, hidden_dim=64, mlp_dim=128, num_classes=n_classes
    )


def vit_b_16(n_classes: int) -> nn.Module:
    """torchvision's ViT-B/16, for 224x224 images."""
    return torchvision.models.vit_b_16(num_classes=n_classes)


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
    "MobileNetV2": mobilenet_v2,
    "ResNet10": resnet10,
    "ViT": vit,
    "ViT-B/16": vit_b_16,
    "AllCNN": AllCNN,
    "AllCNN-0.5": lambda n_classes: AllCNN(n_classes, width=0.5),
    "AllCNN-0.25": lambda n_classes: AllCNN(n_classes, width=0.25),
    "AllCNN-0.125": lambda n_classes: AllCNN(n_classes, width=0.125),
}
PRETRAINED = {"ResNet18": "resnet18", "MobileNetV2": "mobilenet_v2", "ViT-B/16": "vit_b_16"}  # torchvision's names


def build(architecture: str, n_classes: int, seed: int = 0, weights: str | None = None) -> nn.Module:
    """A new model of this architecture (a key of ARCHITECTURES), initialised from `seed`.

    weights: a name of torchvision's weights API such as "IMAGENET1K_V1": only the head (the last linear layer) is then
        initialised from `seed` (to zeros in a ViT, as torchvision does), and all else is loaded. These weights expect
        images normalised with ImageNet's channel statistics: `data.load(..., imagenet_statistics=True)`.

    The file is looked for, and downloaded to, torch.hub's checkpoint folder. Its hash is checked only at the download;
    one put there by hand is taken as it is, but read as tensors alone (torch.load's weights_only).

    Raises ValueError for an unknown architecture or weights that it does not have, FileNotFoundError where the file is
    absent and cannot be downloaded, RuntimeError where it holds another architecture's weights.
    """
    if architecture not in ARCHITECTURES:
        raise ValueError(f"unknown architecture {architecture!r}: choose one of {', '.join(ARCHITECTURES)}")
    body = {} if weights is None else _pretrained(architecture, weights)
    with seeded(seed):
        model = ARCHITECTURES[architecture](n_classes)
    if body:
        head = [name for name, module in model.named_modules() if isinstance(module, nn.Linear)][-1]
        own = {name: value for name, value in model.state_dict().items() if name.startswith(f"{head}.")}
        model.load_state_dict(body | own)
    return model


def _pretrained(architecture: str, name: str) -> dict[str, Tensor]:
    if architecture not in PRETRAINED:
        raise ValueError(f"{architecture} has no pretrained weights: choose one of {', '.join(PRETRAINED)}, or weights=None")
    choices = torchvision.models.get_model_weights(PRETRAINED[architecture])
    choices = {w.name: w for w in choices if max(w.meta["min_size"]) <= 224}  # a larger ViT is another model
    if name not in choices:
        raise ValueError(f"unknown weights {name!r} of {architecture}: choose one of {', '.join(choices)}")
    url = choices[name].url
    try:
        return choices[name].get_state_dict(progress=False, check_hash=True, weights_only=True)
    except OSError as error:  # what urllib raises where there is no network
        path = Path(torch.hub.get_dir(), "checkpoints", url.rsplit("/", 1)[1])
        raise FileNotFoundError(
            f"the weights {name} of {architecture} are not at {path} and could not be downloaded ({error}). "
            f"Download {url} and put it there, or name another folder in the environment variable TORCH_HOME."
        ) from error


def n_parameters(model: nn.Module) -> int:
    return sum(p.numel() for p in model.parameters())
