"""Procedural 32x32 RGB faces of invented identities: no picture of anyone, free of any download.

An identity (skin, hair, eyes, nose, mouth, beard, glasses, proportions) comes from its number alone. `difficulty` scales
every nuisance: place, turn, scale, gaze, expression, light, clothes, background clutter and pixel noise.
"""

from __future__ import annotations

from types import SimpleNamespace

import torch
from torch import Tensor

from .shapes import _clutter, _grid, check_classes, check_drawing

MOST = 40
HAIR = ("none", "short", "fringe", "parted", "long", "curly")
BEARD = ("none", "none", "none", "full", "moustache")
HAIR_COLOURS = ((0.08, 0.06, 0.05), (0.33, 0.2, 0.1), (0.85, 0.68, 0.35), (0.62, 0.25, 0.1), (0.65, 0.65, 0.65))
EYE_COLOURS = ((0.25, 0.14, 0.05), (0.2, 0.4, 0.75), (0.25, 0.5, 0.25))
DARK, LIGHT, LIPS = (torch.tensor(c) for c in ((0.34, 0.2, 0.13), (0.98, 0.82, 0.72), (0.7, 0.25, 0.25)))


def class_names(n_classes: int) -> list[str]:
    check_classes("faces", n_classes, MOST)
    return [f"face {i + 1}" for i in range(n_classes)]


def draw(n_classes: int, per_class: int, seed: int, difficulty: float = 0.8) -> tuple[Tensor, Tensor]:
    """`per_class` images of each identity: uint8 [n, 3, 32, 32] and int64 [n], class after class."""
    check_classes("faces", n_classes, MOST)
    check_drawing(per_class, difficulty)
    random = torch.Generator().manual_seed(seed)
    images = [_draw_face(_identity(c), per_class, difficulty, random) for c in range(n_classes)]
    return torch.cat(images), torch.arange(n_classes).repeat_interleave(per_class)


def _identity(number: int) -> SimpleNamespace:
    """What makes this face the same in all its images; lengths in units of the face's frame, -1..1."""
    random = torch.Generator().manual_seed(1000 + number)

    def u(low: float, high: float) -> float:
        return low + (high - low) * torch.rand((), generator=random).item()

    def one_of(options: tuple):
        return options[torch.randint(len(options), (), generator=random)]

    return SimpleNamespace(
        skin=torch.lerp(DARK, LIGHT, u(0, 1)),
        hair=one_of(HAIR),
        hair_colour=torch.tensor(one_of(HAIR_COLOURS)) * u(0.8, 1.15),
        beard=one_of(BEARD),
        glasses=u(0, 1) < 0.3,
        eye_colour=torch.tensor(one_of(EYE_COLOURS)),
        width=u(0.5, 0.66),
        height=u(0.72, 0.88),
        jaw=u(2.0, 3.2),  # exponent of the head's outline: 2 is an ellipse, more is squarer
        eyes=(u(0.2, 0.29), u(-0.18, -0.05)),
        eye=(u(0.09, 0.14), u(0.06, 0.1)),
        brow=(u(0.02, 0.05), u(-0.25, 0.25)),
        nose=(u(0.05, 0.1), u(0.1, 0.2)),
        mouth=(u(0.14, 0.28), u(0.03, 0.07), u(0.38, 0.48)),
        lips=u(0.1, 0.7),
    )


def _draw_face(f: SimpleNamespace, n: int, difficulty: float, random: torch.Generator) -> Tensor:
    def uniform(low: float, high: float, *size: int) -> Tensor:
        return low + (high - low) * torch.rand(n, *size, generator=random)

    def ellipse(x: Tensor, y: Tensor, width: float, height: float, power: float = 2.0) -> Tensor:
        return (1 - ((x / width).abs() ** power + (y / height).abs() ** power) ** (1 / power)) * min(width, height)

    def nuisance(size: float) -> Tensor:
        return uniform(-size, size, 1, 1) * difficulty

    x, y = _grid(nuisance(0.3), nuisance(0.25), nuisance(0.45), 0.9 + nuisance(0.2))
    side, smile, gaze = x.abs(), nuisance(1.6), nuisance(0.05)
    image = _clutter(uniform(0, 1, 3, 5, 5), difficulty).expand(n, 3, *x.shape[1:])

    def paint(inside: Tensor, colour: Tensor) -> None:
        nonlocal image
        image = torch.lerp(image, colour.view(-1, 3, 1, 1), (inside * 30).sigmoid()[:, None])

    head = ellipse(x, y, f.width, f.height, f.jaw)
    paint(ellipse(x, y - 1.4, 0.9, 0.55), 0.5 + uniform(-0.5, 0.5, 3) * min(1.0, difficulty))  # clothes
    if f.hair == "long":
        paint(torch.minimum(ellipse(x, y - 0.15, f.width + 0.2, f.height + 0.3, 3.0), 0.95 - y), f.hair_colour)
    if f.hair == "curly":
        paint(ellipse(x, y + 0.4, f.width + 0.28, f.height - 0.1), f.hair_colour)
    paint(torch.minimum(0.2 - side, y - 0.3), f.skin * 0.8)  # neck
    paint(ellipse(side - f.width, y, 0.09, 0.15), f.skin * 0.9)  # ears
    paint(head, f.skin)
    if f.beard == "full":
        paint(torch.minimum(head + 0.03, y - 0.2), f.hair_colour)
    if f.beard == "moustache":
        paint(ellipse(x, y - f.mouth[2] + 0.12, f.mouth[0] + 0.06, 0.07), f.hair_colour)
    hairline: dict[str, float | Tensor] = {
        "short": -0.45,
        "fringe": -0.25,
        "parted": -0.42 + 0.5 * x,
        "long": -0.4,
        "curly": -0.42,
    }
    if f.hair in hairline:
        paint(torch.minimum(head + 0.08, hairline[f.hair] - y), f.hair_colour)
    (apart, level), (eye_width, eye_height) = f.eyes, f.eye
    paint(ellipse(side - apart, y - level, eye_width, eye_height), torch.ones(3) * 0.95)
    paint(ellipse((x - gaze).abs() - apart, y - level, 0.06, 0.07), f.eye_colour)
    brow = y - level + eye_height + 0.1 - f.brow[1] * (side - apart)
    paint(torch.minimum(f.brow[0] - brow.abs(), eye_width + 0.03 - (side - apart).abs()), f.hair_colour * 0.8)
    paint(ellipse(x, y - level - 0.25, *f.nose), f.skin * 0.75)
    if f.glasses:
        frame = 0.035 - ellipse(side - apart, y - level, 0.17, 0.15).abs()
        paint(torch.maximum(frame, torch.minimum(0.03 - (y - level).abs(), apart - 0.15 - side)), torch.zeros(3))
    mouth = y - f.mouth[2] + smile * (x.square() - 0.5 * f.mouth[0] ** 2)
    paint(torch.minimum(f.mouth[1] - mouth.abs(), f.mouth[0] - side), torch.lerp(f.skin * 0.5, LIPS, f.lips))

    light = 1 + nuisance(0.45) + nuisance(0.5) * x + nuisance(0.3) * y
    image = image * light[:, None] * (1 + uniform(-0.22, 0.22, 3, 1, 1) * difficulty)
    image = image + 0.12 * difficulty * torch.randn(image.shape, generator=random)
    return (image.clamp(0, 1) * 255).round().to(torch.uint8)
