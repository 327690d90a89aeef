"""Procedural 32x32 RGB images of textured shapes: real enough to be learned, free of any download.

A class is a shape with a texture; classes with equal shape form a superclass. `difficulty` scales every nuisance: place,
scale, rotation, colour, light, background clutter, occlusion and pixel noise.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from numbers import Integral, Real

import torch
from torch import Tensor

from ..engine import checks

SIZE = 32
# Of each place: x, y, its distance from the centre and its angle there; the object fills -1..1.
# Positive inside the shape, negative outside, about the distance to its edge in between.
SHAPES: dict[str, Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]] = {
    "disc": lambda x, y, r, a: 0.9 - r,
    "square": lambda x, y, r, a: 0.8 - torch.maximum(x.abs(), y.abs()),
    "triangle": lambda x, y, r, a: torch.minimum(0.6 - y, 0.5 * (y + 0.9) - 0.9 * x.abs() + 0.05),
    "ring": lambda x, y, r, a: 0.28 - (r - 0.68).abs(),
    "cross": lambda x, y, r, a: torch.minimum(0.95 - torch.maximum(x.abs(), y.abs()), 0.3 - torch.minimum(x.abs(), y.abs())),
    "star": lambda x, y, r, a: 0.62 + 0.3 * (5 * a).cos() - r,
    "bar": lambda x, y, r, a: torch.minimum(0.95 - x.abs(), 0.32 - y.abs()),
    "crescent": lambda x, y, r, a: torch.minimum(0.9 - r, torch.hypot(x - 0.45, y) - 0.65),
    "heart": lambda x, y, r, a: 0.75 - torch.hypot(x, y + 0.25 - 0.75 * x.abs()),
    "hourglass": lambda x, y, r, a: torch.minimum(0.9 - y.abs(), y.abs() - x.abs() + 0.12),
}
# How much of the light colour, 0..1, the texture shows.
TEXTURES: dict[str, Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]] = {
    "plain": lambda x, y, r, a: torch.ones_like(x),
    "stripes": lambda x, y, r, a: ((x * 9).sin() > 0).float(),
    "checks": lambda x, y, r, a: ((x * 7).sin() * (y * 7).sin() > 0).float(),
    "dots": lambda x, y, r, a: ((x * 10).sin() * (y * 10).sin() > 0.3).float(),
    "gradient": lambda x, y, r, a: ((x + 1) / 2).clamp(0, 1),
    "waves": lambda x, y, r, a: ((y * 8 + 2 * (x * 5).sin()).sin() > 0).float(),
    "rim": lambda x, y, r, a: (r > 0.55).float(),
    "halves": lambda x, y, r, a: (y > 0).float(),
    "quarters": lambda x, y, r, a: (x * y > 0).float(),
    "rays": lambda x, y, r, a: ((8 * a).sin() > 0).float(),
}


def class_names(n_classes: int) -> list[str]:
    return [f"{texture} {shape}" for shape, texture in _pairs(n_classes)]


def draw(n_classes: int, per_class: int, seed: int, difficulty: float = 0.8) -> tuple[Tensor, Tensor]:
    """`per_class` images of each class: uint8 [n, 3, 32, 32] and int64 [n], class after class."""
    check_drawing(per_class, difficulty)
    random = torch.Generator().manual_seed(seed)
    images = [_draw_class(*pair, per_class, difficulty, random) for pair in _pairs(n_classes)]
    return torch.cat(images), torch.arange(n_classes).repeat_interleave(per_class)


def check_classes(kind: str, n_classes: int, most: int) -> None:
    """Raises ValueError unless n_classes is a whole number of 2 to `most`."""
    if not (isinstance(n_classes, Integral) and 2 <= n_classes <= most):
        raise ValueError(f"{kind} has 2 to {most} classes, not {n_classes!r}")


def check_drawing(per_class: int, difficulty: float) -> None:
    """Raises ValueError unless there is an image to draw, and the nuisances have a size."""
    checks.counts(per_class=per_class)
    if not (isinstance(difficulty, Real) and 0 <= difficulty < math.inf):
        raise ValueError(f"difficulty is {difficulty!r}: expected a finite number of at least 0")


def _pairs(n_classes: int) -> list[tuple[str, str]]:
    """(shape, texture) of each class; at least two textures share a shape, so that superclasses exist."""
    check_classes("shapes", n_classes, len(SHAPES) * len(TEXTURES))
    textures = max(2, math.ceil(n_classes / len(SHAPES)))
    return [*itertools.product(SHAPES, [*TEXTURES][:textures])][:n_classes]


def _draw_class(shape: str, texture: str, n: int, difficulty: float, random: torch.Generator) -> Tensor:
    def uniform(low: float, high: float, *size: int) -> Tensor:
        return low + (high - low) * torch.rand(n, *size, generator=random)

    d = difficulty
    turn = uniform(-0.6, 0.6, 1, 1) * d
    scale = 0.62 + uniform(-0.14, 0.14, 1, 1) * d
    x, y = _grid(uniform(-0.22, 0.22, 1, 1) * d, uniform(-0.22, 0.22, 1, 1) * d, turn, scale)
    at = x, y, torch.hypot(x, y), torch.atan2(y, x)
    inside, paint = (SHAPES[shape](*at) * 12).sigmoid()[:, None], TEXTURES[texture](*at)[:, None]

    light, dark = uniform(0.55, 1.0, 3, 1, 1), uniform(0.0, 0.45, 3, 1, 1)
    background = _clutter(uniform(0, 1, 3, 5, 5), d)
    image = background * (1 - inside) + (light * paint + dark * (1 - paint)) * inside

    u, v = _grid(uniform(-1, 1, 1, 1), uniform(-1, 1, 1, 1), turn * 0, scale * 0 + 1)
    occluder = ((u.abs() < 0.18 * d) & (v.abs() < 0.18 * d))[:, None]
    image = torch.where(occluder, uniform(0, 1, 3, 1, 1), image)
    image = image * (1 + uniform(-0.25, 0.25, 1, 1, 1) * d)
    image = image + 0.05 * d * torch.randn(image.shape, generator=random)
    return (image.clamp(0, 1) * 255).round().to(torch.uint8)


def _grid(dx: Tensor, dy: Tensor, turn: Tensor, scale: Tensor) -> tuple[Tensor, Tensor]:
    """Coordinates [n, 32, 32] in the frame of an object that is moved, turned and scaled; the object fills -1..1."""
    axis = torch.linspace(-1, 1, SIZE)
    x, y = axis[None, None, :] - dx, axis[None, :, None] - dy
    cos, sin = turn.cos(), turn.sin()
    return (x * cos + y * sin) / scale, (y * cos - x * sin) / scale


def _clutter(coarse: Tensor, difficulty: float) -> Tensor:
    """A smooth random background from coarse colours [n, 3, 5, 5]."""
    smooth = torch.nn.functional.interpolate(coarse, size=SIZE, mode="bilinear", align_corners=True)
    return 0.5 + (smooth - 0.5) * min(1.0, 0.6 * difficulty)
