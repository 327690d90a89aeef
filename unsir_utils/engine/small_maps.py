"""Convolutions on maps of a few pixels as matrix products, which a CPU is faster at."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

SMALL_MAP = 4  # positions


class SmallMaps(TorchFunctionMode):
    """On a CPU, convolutions whose output has at most SMALL_MAP positions run as one matrix product a position.

    A 3x3 kernel on a map of one or two pixels mostly meets padding, and a CPU's convolution multiplies that, too, its weight
    gradient above all. The results are the same to rounding. 17_benchmark measures what it pays.
    """

    def __torch_function__(self, function, types, args=(), kwargs=None):
        if function is torch.conv2d and not kwargs and len(args) == 7:
            x, weight, bias, *numbers, groups = args
            stride, padding, dilation = map(_pair, numbers)
            if _is_small(x, weight, bias, stride, padding, dilation, groups):
                return _by_position(x, weight, bias, stride, padding)
        return function(*args, **(kwargs or {}))


def _pair(given):
    """For rows and columns, where one number may stand for both; what is no number, such as "same", as it is."""
    if isinstance(given, int):
        return (given, given)
    return (*given, *given) if isinstance(given, (tuple, list)) and len(given) == 1 else given


def _is_small(x: Tensor, weight: Tensor, bias: Tensor | None, stride, padding, dilation, groups: int) -> bool:
    if x.device.type != "cpu" or x.dim() != 4 or groups != 1 or isinstance(padding, str) or any(d != 1 for d in dilation):
        return False
    kernel = weight.shape[2:]
    small = math.prod(kernel) > 1 and 0 < math.prod(_output_size(x, kernel, stride, padding)) <= SMALL_MAP
    return small and not _recomputed_later()


def _recomputed_later() -> bool:
    """Whether gradient checkpointing saves nothing of this pass and runs it again in the backward pass: outside of this
    mode, where it would save other tensors."""
    return torch._C._autograd._top_saved_tensors_default_hooks(True) is not None


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
