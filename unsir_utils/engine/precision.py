"""On which device and in which precision a batch is computed: one rule, and a setting that overrides it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from . import precision_setting


def precision(model: nn.Module, device: torch.device | str) -> torch.dtype:
    """bfloat16 where the device multiplies it faster and no layer spoils that; else float32.

    The environment variable UNSIR_PRECISION=float32 asks for float32 everywhere; "auto", or none, for this rule. The rule is
    measured: on a CPU with avx512_bf16 it pays 1.3 to 3 times for ordinary convolutions and wide attention, and costs half
    the speed for depthwise convolutions and narrow attention. Raises ValueError for another UNSIR_PRECISION.
    """
    device = torch.device(device)
    fast = uses_bfloat16(device) and not any(_is_narrow(m, device) for m in model.modules())
    return torch.bfloat16 if fast else torch.float32


@contextmanager
def computed_in(setting: str) -> Iterator[None]:
    """UNSIR_PRECISION is `setting` within, and what it was afterwards."""
    before = os.environ.get("UNSIR_PRECISION")
    os.environ["UNSIR_PRECISION"] = setting
    try:
        precision_setting()
        yield
    finally:
        if before is None:
            del os.environ["UNSIR_PRECISION"]
        else:
            os.environ["UNSIR_PRECISION"] = before


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
    cudnn: Any = torch.backends.cudnn
    kinds: list[Any] = [torch.backends.cuda.matmul, cudnn.conv, cudnn.rnn]
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
    capabilities: dict[str, bool] = getattr(torch.cpu, "get_capabilities", dict)()
    return bool(capabilities.get("avx512_bf16") or capabilities.get("amx_bf16"))
