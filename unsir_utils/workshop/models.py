"""The classifiers of the paper, and those usual for CIFAR, which are not torchvision's.

All are initialised at random; ResNet18, MobileNetV2 and ViT-B/16 may start from ImageNet weights instead, and any from a
safetensors file. MACs: multiply-accumulates of one image's forward pass at 32x32, for ten classes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from textwrap import shorten

import torch
import torchvision
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional as F

from ..data.paths import data_root
from ..engine.state import seeded


def resnet18(n_classes: int) -> nn.Module:
    """torchvision's ResNet18 with its ImageNet stem, as the released notebook builds it, also for 32x32 images.

    37 million MACs, as the stem and its pooling leave maps of 8x8 pixels to the first stage and of one to the last.
    """
    return torchvision.models.resnet18(num_classes=n_classes)


def resnet10(n_classes: int) -> nn.Module:
    """ResNet18 with one block a stage instead of two: the stand-in where ResNet18 would cost too long."""
    return torchvision.models.ResNet(torchvision.models.resnet.BasicBlock, [1, 1, 1, 1], num_classes=n_classes)


class CifarResNet(nn.Module):
    """ResNet for 32x32 images (He et al. 2016, section 4.2): a 3x3 stem without pooling, then stages that halve their maps.

    widths: channels of each stage; three stages make the paper's networks for CIFAR. blocks: of two convolutions, a stage; 3
        make ResNet-20 (41 million MACs), 9 ResNet-56 (125 million).
    projection: where a stage halves its maps, the shortcut is a 1x1 convolution (option B); else it takes each second
        pixel and pads channels with zeros, without a weight (option A, that of the paper's CIFAR networks).
    """

    def __init__(
        self, n_classes: int, blocks: int = 3, projection: bool = False, widths: Sequence[int] = (16, 32, 64)
    ) -> None:
        super().__init__()
        self.stem = _block(3, widths[0])
        each = [width for width in widths for _ in range(blocks)]
        pairs = zip([widths[0], *each], each, strict=False)
        self.stages = nn.Sequential(*(_residual(n_in, n_out, projection) for n_in, n_out in pairs))
        self.head = nn.Linear(widths[-1], n_classes)
        for layer in self.modules():
            if isinstance(layer, nn.Conv2d):
                nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, x):
        return self.head(self.stages(self.stem(x)).mean(dim=(2, 3)))


def resnet18_3x3(n_classes: int, width: float = 1.0) -> nn.Module:
    """ResNet18 as it is usual for 32x32 images: 555 million MACs.

    width: scales the channels; 0.5 costs a quarter, which two cores carry ("ResNet18-3x3-0.5").
    """
    return CifarResNet(n_classes, 2, projection=True, widths=[round(n * width) for n in (64, 128, 256, 512)])


def _residual(n_in: int, n_out: int, projection: bool) -> nn.Module:
    if n_in == n_out:
        return torchvision.models.resnet.BasicBlock(n_in, n_out)
    convolution = nn.Sequential(nn.Conv2d(n_in, n_out, 1, 2, bias=False), nn.BatchNorm2d(n_out))
    shortcut = convolution if projection else _HalvedAndPadded(n_out - n_in)
    return torchvision.models.resnet.BasicBlock(n_in, n_out, 2, shortcut)


class _HalvedAndPadded(nn.Module):
    def __init__(self, more: int) -> None:
        super().__init__()
        self.more = more

    def forward(self, x):
        return F.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, self.more // 2, self.more - self.more // 2))


def mobilenet_v2(n_classes: int) -> nn.Module:
    """torchvision's MobileNetV2 with its ImageNet stem, for any image size; at 32x32 its last maps are one pixel."""
    return torchvision.models.mobilenet_v2(num_classes=n_classes)


def mobilenet_v2_keras(n_classes: int) -> nn.Module:
    """MobileNetV2 as Keras computes it, for weights that were trained there; the names of its parts are torchvision's.

    BatchNorm's eps is 1e-3, and convolutions of stride 2 pad an even map at the right and at the bottom only. Inputs are in
    -1..1: `sets.load(..., keras_inputs=True)`.
    """
    model = torchvision.models.mobilenet_v2(num_classes=n_classes)
    for layer in model.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.eps = 1e-3
        elif isinstance(layer, nn.Conv2d) and layer.stride == (2, 2):
            layer.padding = (0, 0)
            layer.register_forward_pre_hook(_pad_as_keras)
    return model


def _pad_as_keras(_: nn.Module, inputs: tuple[Tensor]) -> Tensor:
    height, width = inputs[0].shape[2:]
    return F.pad(inputs[0], (width % 2, 1, height % 2, 1))


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
    "ResNet18-3x3": resnet18_3x3,
    "ResNet18-3x3-0.5": lambda n_classes: resnet18_3x3(n_classes, width=0.5),
    "MobileNetV2-Keras": mobilenet_v2_keras,
    "ResNet10": resnet10,
    "ResNet20": CifarResNet,
    "ResNet20-B": lambda n_classes: CifarResNet(n_classes, projection=True),
    "ResNet56": lambda n_classes: CifarResNet(n_classes, blocks=9),
    "ViT": vit,
    "ViT-B/16": vit_b_16,
    "AllCNN": AllCNN,
    "AllCNN-0.5": lambda n_classes: AllCNN(n_classes, width=0.5),
    "AllCNN-0.25": lambda n_classes: AllCNN(n_classes, width=0.25),
    "AllCNN-0.125": lambda n_classes: AllCNN(n_classes, width=0.125),
}
PRETRAINED = {"ResNet18": "resnet18", "MobileNetV2": "mobilenet_v2", "ViT-B/16": "vit_b_16"}  # torchvision's names
FILE = "file:"  # before the path of a safetensors file


def check(architecture: str) -> None:
    """Raises ValueError for an unknown architecture."""
    if architecture not in ARCHITECTURES:
        raise ValueError(f"unknown architecture {architecture!r}: choose one of {', '.join(ARCHITECTURES)}")


def build(architecture: str, n_classes: int, seed: int = 0, weights: str | None = None) -> nn.Module:
    """A new model of this architecture (a key of ARCHITECTURES), initialised from `seed`.

    weights: a name of torchvision's weights API such as "IMAGENET1K_V1": only the head (the last linear layer) is then
        initialised from `seed` (to zeros in a ViT, as torchvision does), and all else is loaded. These weights expect
        images normalised with ImageNet's channel statistics: `sets.load(..., imagenet_statistics=True)`. Or "file:PATH", a
        safetensors file (see `weights_file`) with all of the model's state but its head; a head in it is left out.

    torchvision's file is looked for, and downloaded to, torch.hub's checkpoint folder. Its hash is checked only at the
    download; one put there by hand is taken as it is, but read as tensors alone (torch.load's weights_only).

    Raises ValueError for an unknown architecture or weights that it does not have, FileNotFoundError where the file is
    absent and cannot be downloaded, RuntimeError where it holds another architecture's weights.
    """
    check(architecture)
    body = {} if weights is None else _pretrained(architecture, weights)
    with seeded(seed):
        model = ARCHITECTURES[architecture](n_classes)
    if weights is not None:
        head = [name for name, module in model.named_modules() if isinstance(module, nn.Linear)][-1]
        own = {name: value for name, value in model.state_dict().items() if name.startswith(f"{head}.")}
        try:
            model.load_state_dict(body | own)
        except RuntimeError as error:  # torch says of every key and shape how it differs
            differing = "; ".join(shorten(line, 160, placeholder=" ...") for line in str(error).splitlines()[1:4])
            raise RuntimeError(f"the weights {weights} are not those of {architecture}: {differing}") from error
    return model


def placed(model: nn.Module, device: torch.device) -> nn.Module:
    """The model as the kernels take it: on the device, channels last, in eval mode."""
    model.to(device)
    return model.to(memory_format=torch.channels_last).eval()  # type: ignore[call-overload]


def weights_file(weights: str | None) -> Path | None:
    """The safetensors file that "file:PATH" names, a relative path being meant from the data folder; None for other weights.

    Raises FileNotFoundError, with what to do, where it is absent.
    """
    if weights is None or not weights.startswith(FILE):
        return None
    path = data_root() / Path(weights.removeprefix(FILE)).expanduser()
    if not path.is_file():
        raise FileNotFoundError(
            f"the weights {weights} are not at {path}: put the safetensors file there, or name it by its whole path "
            "(data/README.md says where those of the profiles come from)"
        )
    return path


def _pretrained(architecture: str, name: str) -> dict[str, Tensor]:
    if file := weights_file(name):
        try:
            return load_file(file)
        except SafetensorError as error:
            raise RuntimeError(f"{file} is no safetensors file, or a damaged one ({error}): replace it") from error
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
