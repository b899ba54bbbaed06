"""Scenes into pixels.

Every shape is drawn once for each size and style, eight times enlarged, as a mask of one cell;
a picture is then a background and a few blended cells, so that 100,000 pictures take seconds.
Renderings of one scene differ a little in tint and noise, as photographs of one place do. Sky, sand
and the light from the left tell where a cell is: a small tower that reads whole cells learns the
place of things from them far sooner than from its position embeddings alone.
"""

from functools import cache

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw

from lensctl_training.scenes.world import GRID, SHAPES, Scene

CELL = 16
"""Pixels of a cell's side; a picture is GRID * CELL = 32 pixels wide and high."""
PICTURE = GRID * CELL
_ENLARGED = 8
_RADII = (4.4, 7.0)
_OUTLINE = 1.6
_RGB = np.array(
    [
        (220, 40, 40),
        (245, 215, 40),
        (40, 160, 60),
        (60, 205, 220),
        (40, 70, 215),
        (240, 110, 200),
    ],
    dtype=np.float32,
)
_GROUND = np.array(
    [[(205, 225, 245), (226, 214, 186)], [(22, 26, 62), (44, 40, 34)]], dtype=np.float32
)
"""By time: the colour of the upper and of the lower row, sky and sand."""
_LIGHT = (1.0, 0.75)
_SHADE = np.linspace(1.06, 0.84, PICTURE, dtype=np.float32)[:, None]
"""The light comes from the left, whatever stands in it."""

Pixels = npt.NDArray[np.uint8]


Outline = list[tuple[float, float]]
"""Corners in the plane of the unit circle, y upward."""


def _around(corners: int, radii: tuple[float, ...] = (1.0,)) -> Outline:
    angles = np.pi / 2 + 2 * np.pi * np.arange(corners) / corners
    reach = np.resize(np.array(radii), corners)
    return list(zip(reach * np.cos(angles), reach * np.sin(angles), strict=True))


_ARM = 0.36
_OUTLINES: dict[str, Outline] = {
    "square": [(-0.86, -0.86), (0.86, -0.86), (0.86, 0.86), (-0.86, 0.86)],
    "circle": _around(48),
    "triangle": [(-1, -0.8), (1, -0.8), (0, 0.95)],
    "cross": [
        (-_ARM, 1), (_ARM, 1), (_ARM, _ARM), (1, _ARM), (1, -_ARM), (_ARM, -_ARM),
        (_ARM, -1), (-_ARM, -1), (-_ARM, -_ARM), (-1, -_ARM), (-1, _ARM), (-_ARM, _ARM),
    ],
    "diamond": [(0, 1.1), (0.7, 0), (0, -1.1), (-0.7, 0)],
    "ring": _around(48),
}  # fmt: skip


@cache
def _mask(shape: int, size: int, style: int) -> npt.NDArray[np.float32]:
    """(CELL, CELL, 1) opacity of one thing, centred."""
    side = CELL * _ENLARGED
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
    small = canvas.resize((CELL, CELL), Image.Resampling.BOX)
    return np.asarray(small, dtype=np.float32)[..., None] / 255.0


def render(scene: Scene, rng: np.random.Generator) -> Pixels:
    """A scene -> (32, 32, 3) uint8 RGB; `rng` decides tint and noise."""
    rows = np.repeat(_GROUND[scene.time], CELL, axis=0) + rng.normal(0, 4, 3)
    picture = np.tile(rows[:, None].astype(np.float32), (1, PICTURE, 1))
    for group in scene.groups:
        opacity = _mask(group.shape, group.size, scene.style)
        for cell in group.cells:
            top, left = (CELL * place for place in divmod(cell, GRID))
            patch = picture[top : top + CELL, left : left + CELL]
            patch += opacity * (_RGB[group.colour] - patch)
    picture += rng.standard_normal((PICTURE, PICTURE, 1), dtype=np.float32) * 3
    return np.clip(picture * (_SHADE * _LIGHT[scene.time]), 0, 255).astype(np.uint8)
