"""How a batch goes through a network: on which device, in which precision, with which convolutions as matrix products."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from .outputs import logits_of

SMALL_MAP = 4  # positions
PRECISIONS = ("auto", "float32")


def forward(model: nn.Module, x: Tensor) -> Tensor:
    """The model's logits, float32 [n, K], by the project's one rule for speed: `precision` and `SmallMaps`."""
    with autocast(model, x.device), SmallMaps(), exact_cuda():
        return logits_of(model(x)).float()


def precision(model: nn.Module, device: torch.device | str) -> torch.dtype:
    """bfloat16 where the device multiplies it faster and no layer spoils that; else float32.

    The environment variable UNSIR_PRECISION=float32 asks for float32 everywhere; "auto", or none, for this rule. The rule is
    measured: on a CPU with avx512_bf16 it pays 1.3 to 3 times for ordinary convolutions and wide attention, and costs half
    the speed for depthwise convolutions and narrow attention. Raises ValueError for another UNSIR_PRECISION.
    """
    device = torch.device(device)
    fast = uses_bfloat16(device) and not any(_is_narrow(m, device) for m in model.modules())
    return torch.bfloat16 if fast else torch.float32


def precision_setting() -> str:
    """UNSIR_PRECISION: "auto" or "float32". Raises ValueError for another."""
    setting = os.environ.get("UNSIR_PRECISION") or "auto"
    if setting not in PRECISIONS:
        raise ValueError(f"UNSIR_PRECISION is {setting!r}: choose one of {', '.join(PRECISIONS)}, or unset it")
    return setting


def uses_bfloat16(device: torch.device | str) -> bool:
    """What the setting comes to: whether ordinary layers run in bfloat16 there.

    They do where the device multiplies it itself. A GPU before Ampere emulates it, slowly, and counts as without.
    """
    device = torch.device(device)
    if precision_setting() == "float32":
        return False
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= (8, 0)
    return device.type == "cpu" and cpu_has_bfloat16()


def _is_narrow(module: nn.Module, device: torch.device) -> bool:
    depthwise = isinstance(module, nn.Conv2d) and module.groups > 1
    attention = isinstance(module, nn.MultiheadAttention) and module.embed_dim < 256 and device.type == "cpu"
    return depthwise or attention


def autocast(model: nn.Module, device: torch.device) -> torch.autocast:
    dtype = precision(model, device)
    return torch.autocast(device.type, dtype=dtype, enabled=dtype != torch.float32)


@contextmanager
def exact_cuda() -> Iterator[None]:
    """On a GPU float32 means float32 (no TF32), and the same seed gives the same bytes on the same GPU and versions.

    cuDNN takes its deterministic algorithms; cuBLAS does where CUBLAS_WORKSPACE_CONFIG is :4096:8, as in the runner's
    kernels. These are settings of the process, which a backward pass reads as it runs: a training loop stands in this as a
    whole. The caller's settings come back. On a CPU nothing changes.
    """
    kinds = (torch.backends.cuda.matmul, torch.backends.cudnn.conv, torch.backends.cudnn.rnn)
    cudnn = torch.backends.cudnn
    before = [kind.fp32_precision for kind in kinds], cudnn.deterministic, cudnn.benchmark
    try:
        for kind in kinds:
            kind.fp32_precision = "ieee"
        cudnn.deterministic, cudnn.benchmark = True, False
        yield
    finally:
        precisions, cudnn.deterministic, cudnn.benchmark = before
        for kind, was in zip(kinds, precisions, strict=True):
            kind.fp32_precision = was


def device(name: torch.device | str | None = None) -> torch.device:
    """Where to compute: `name`, else the environment variable UNSIR_DEVICE, else the GPU where there is one, else the CPU.

    Raises ValueError for a device that is not there, or that the kernels do not run on.
    """
    asked = name or os.environ.get("UNSIR_DEVICE") or ("cuda" if torch.cuda.is_available() else "cpu")
    try:
        found = torch.device(asked)
    except RuntimeError as error:
        raise ValueError(f"unknown device {asked!r}: choose cpu, cuda or cuda:N") from error
    if found.type not in ("cpu", "cuda"):
        raise ValueError(f"device {asked} is not supported (mps has no float64, which metrics count in): choose cpu or cuda")
    if found.type == "cuda" and (found.index or 0) >= torch.cuda.device_count():
        raise ValueError(f"device {asked} is not there: torch finds {torch.cuda.device_count()} CUDA devices; choose cpu")
    return found


def cpu_has_bfloat16() -> bool:
    capabilities = getattr(torch.cpu, "get_capabilities", dict)()
    return bool(capabilities.get("avx512_bf16") or capabilities.get("amx_bf16"))


class SmallMaps(TorchFunctionMode):
    """On a CPU, convolutions whose output has at most SMALL_MAP positions run as one matrix product a position.

    A 3x3 kernel on a map of one or two pixels mostly meets padding, and a CPU's convolution multiplies that, too, its weight
    gradient above all. The results are the same to rounding. 17_benchmark measures what it pays.
    """

    def __torch_function__(self, function, types, args=(), kwargs=None):
        if function is torch.conv2d and not kwargs and len(args) == 7 and _is_small(*args):
            return _by_position(*args[:5])
        return function(*args, **(kwargs or {}))


def _is_small(x: Tensor, weight: Tensor, bias: Tensor | None, stride, padding, dilation, groups: int) -> bool:
    if x.device.type != "cpu" or x.dim() != 4 or groups != 1 or isinstance(padding, str) or any(d != 1 for d in dilation):
        return False
    kernel = weight.shape[2:]
    return math.prod(kernel) > 1 and 0 < math.prod(_output_size(x, kernel, stride, padding)) <= SMALL_MAP


def _output_size(x: Tensor, kernel, stride, padding) -> list[int]:
    return [(n + 2 * p - k) // s + 1 for n, k, s, p in zip(x.shape[2:], kernel, stride, padding, strict=True)]


def _by_position(x: Tensor, weight: Tensor, bias: Tensor | None, stride, padding) -> Tensor:
    kernel = weight.shape[2:]
    height, width = _output_size(x, kernel, stride, padding)
    x, weight = x.permute(0, 2, 3, 1), weight.to(x.dtype).permute(0, 2, 3, 1)  # channels last, as they lie in memory
    products = []
    for i in range(height):
        rows, kernel_rows = _overlap(i * stride[0] - padding[0], kernel[0], x.shape[1])
        for j in range(width):
            columns, kernel_columns = _overlap(j * stride[1] - padding[1], kernel[1], x.shape[2])
            part = weight[:, kernel_rows, kernel_columns].flatten(1)
            products.append(F.linear(x[:, rows, columns].flatten(1), part, bias))
    return torch.stack(products, 1).unflatten(1, (height, width)).permute(0, 3, 1, 2)


def _overlap(start: int, kernel: int, size: int) -> tuple[slice, slice]:
    """Where a kernel at `start` meets a map of `size`: in the map and in the kernel. Empty where it meets padding only."""
    first, last = max(start, 0), max(min(start + kernel, size), 0)
    return slice(first, max(last, first)), slice(first - start, max(last, first) - start)
