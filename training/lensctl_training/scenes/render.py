"""Scenes into pixels.

Every shape is drawn once for each size and style, eight times enlarged, as a mask of one cell;
a picture is then a background and a few blended cells, so that 100,000 pictures take seconds.
Renderings of one scene differ a little in position, tint and noise, as photographs of one place do.
"""

from functools import cache

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw

from lensctl_training.scenes.world import GRID, SHAPES, Scene

CELL = 16
"""Pixels of a cell's side; a picture is GRID * CELL = 48 pixels wide and high."""
PICTURE = GRID * CELL
_ENLARGED = 8
_RADII = (3.4, 5.0, 6.8)
_OUTLINE = 1.6
_SHIFT = 1
_RGB = np.array(
    [
        (214, 39, 40),
        (247, 148, 29),
        (243, 225, 60),
        (44, 160, 44),
        (70, 205, 220),
        (45, 80, 215),
        (125, 55, 175),
        (246, 150, 195),
    ],
    dtype=np.float32,
)
_SKY = np.array([(228, 226, 220), (34, 36, 52)], dtype=np.float32)

Pixels = npt.NDArray[np.uint8]


Outline = list[tuple[float, float]]
"""Corners in the plane of the unit circle, y upward."""


def _around(corners: int, radii: tuple[float, ...] = (1.0,)) -> Outline:
    angles = np.pi / 2 + 2 * np.pi * np.arange(corners) / corners
    reach = np.resize(np.array(radii), corners)
    return list(zip(reach * np.cos(angles), reach * np.sin(angles), strict=True))


def _heart() -> Outline:
    t = np.linspace(0, 2 * np.pi, 60)
    x = 16 * np.sin(t) ** 3
    y = 13 * np.cos(t) - 5 * np.cos(2 * t) - 2 * np.cos(3 * t) - np.cos(4 * t)
    return list(zip((x / 16).tolist(), (y / 16).tolist(), strict=True))


_ARM = 0.36
_OUTLINES: dict[str, Outline] = {
    "square": [(-0.86, -0.86), (0.86, -0.86), (0.86, 0.86), (-0.86, 0.86)],
    "circle": _around(48),
    "triangle": [(-1, -0.8), (1, -0.8), (0, 0.95)],
    "star": _around(10, (1.08, 0.46)),
    "cross": [
        (-_ARM, 1), (_ARM, 1), (_ARM, _ARM), (1, _ARM), (1, -_ARM), (_ARM, -_ARM),
        (_ARM, -1), (-_ARM, -1), (-_ARM, -_ARM), (-1, -_ARM), (-1, _ARM), (-_ARM, _ARM),
    ],
    "diamond": [(0, 1.1), (0.7, 0), (0, -1.1), (-0.7, 0)],
    "ring": _around(48),
    "heart": _heart(),
}  # fmt: skip


@cache
def _mask(shape: int, size: int, style: int) -> npt.NDArray[np.float32]:
    """(CELL + 2, CELL + 2) opacity of one thing, centred, with room for a shift of one pixel."""
    side = (CELL + 2 * _SHIFT) * _ENLARGED
    canvas = Image.new("L", (side, side))
    draw = ImageDraw.Draw(canvas)
    name, radius = SHAPES[shape], _RADII[size]

    def points(scale: float) -> Outline:
        reach = scale * _ENLARGED
        return [(side / 2 + x * reach, side / 2 - y * reach) for x, y in _OUTLINES[name]]

    draw.polygon(points(radius), fill=255)
    if name == "ring":
        draw.polygon(points(radius * 0.5), fill=0)
    if style == 1:
        draw.polygon(points(radius - _OUTLINE), fill=0)
        if name == "ring":
            draw.polygon(points(radius * 0.5 + 0.9), fill=0)
            draw.polygon(points(radius * 0.5 + 0.9), outline=255, width=_ENLARGED)
    small = canvas.resize((CELL + 2 * _SHIFT,) * 2, Image.Resampling.BOX)
    return np.asarray(small, dtype=np.float32)[..., None] / 255.0


def render(scene: Scene, rng: np.random.Generator) -> Pixels:
    """A scene -> (48, 48, 3) uint8 RGB; `rng` decides shift, tint and noise."""
    room = np.empty((PICTURE + 2 * _SHIFT, PICTURE + 2 * _SHIFT, 3), dtype=np.float32)
    room[:] = _SKY[scene.time] + rng.normal(0, 5, 3)
    for group in scene.groups:
        mask = _mask(group.shape, group.size, scene.style)
        for cell in group.cells:
            row, column = divmod(cell, GRID)
            top = row * CELL + int(rng.integers(-_SHIFT, _SHIFT + 1)) + _SHIFT
            left = column * CELL + int(rng.integers(-_SHIFT, _SHIFT + 1)) + _SHIFT
            top, left = max(top - _SHIFT, 0), max(left - _SHIFT, 0)
            patch = room[top : top + CELL + 2, left : left + CELL + 2]
            opacity = mask[: patch.shape[0], : patch.shape[1]]
            patch += opacity * (_RGB[group.colour] - patch)
    picture = room[_SHIFT:-_SHIFT, _SHIFT:-_SHIFT]
    picture += rng.standard_normal((PICTURE, PICTURE, 1), dtype=np.float32) * 3
    if scene.time == 1:
        picture *= 0.75
    return np.clip(picture, 0, 255).astype(np.uint8)
