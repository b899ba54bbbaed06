"""Colours by name: which a picture shows, and which a text asks for.

An ImageNet network hardly tells a red car from a blue one, but people type "a red car". The
names are the eleven basic colour terms of Berlin and Kay (1969); a cell of the small picture
belongs to those whose typical shades are near in CIELAB. What looks like the picture's border is
taken for its ground and counts little, so that a red apple on a white plate is red before it is
white.
"""

import re
from collections.abc import Sequence

import numpy as np

from lensctl.models.interface import Floats
from lensctl.models.mini.statistics import PICTURE, SMALL

Shades = tuple[tuple[int, int, int], ...]

COLOURS: dict[str, tuple[str, Shades]] = {
    "black": ("black", ((10, 10, 10),)),
    "white": ("white", ((250, 250, 250),)),
    "grey": ("gr[ae]y", ((128, 128, 128), (80, 80, 80), (180, 180, 180))),
    "red": ("red", ((200, 30, 30), (255, 0, 0), (130, 20, 25))),
    "orange": ("orange", ((240, 140, 30),)),
    "yellow": ("yellow", ((245, 220, 50), (250, 240, 120))),
    "green": ("green", ((50, 150, 60), (25, 80, 35), (150, 200, 80))),
    "blue": ("blue", ((40, 90, 190), (0, 0, 255), (20, 40, 110), (110, 180, 235))),
    "purple": ("purple|violet", ((120, 50, 150), (170, 120, 210))),
    "pink": ("pink", ((245, 150, 190), (235, 60, 140))),
    "brown": ("brown", ((110, 70, 40), (70, 40, 20))),
}
"""Each with how it is written, a regular expression, and typical shades of it, sRGB in 8 bits."""
SPREAD = 15.0
"""Deviation of a colour around the nearest of its shades, in units of CIELAB."""
GROUND = 15.0
"""Distance from the ground, in the same units, from which a cell counts for itself."""
GROUND_SHARE = 0.15
"""What a cell of the ground still counts."""

_WRITTEN = [re.compile(rf"\b(?:{written})\b", re.IGNORECASE) for written, _ in COLOURS.values()]
_TO_XYZ = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])
_WHITE = _TO_XYZ.sum(axis=1)
_BORDER = np.pad(np.zeros((SMALL - 2, SMALL - 2), dtype=bool), 1, constant_values=True).ravel()


def colours_of(statistics: Floats) -> Floats:
    """(N, WIDTH) statistics -> (N, 11) unit: roots of the shares of each colour."""
    pictures = statistics[:, :PICTURE].reshape(-1, 3, SMALL * SMALL).swapaxes(1, 2)
    cells = _lab(pictures.clip(0, 1))
    border = np.sort(cells[:, _BORDER], axis=1)  # np.median loads numpy.ma, 0.01 s of every query
    middle = border.shape[1] // 2
    ground = border[:, middle - 1 : middle + 1].mean(axis=1, keepdims=True)
    away = np.square(cells - ground).sum(axis=2, keepdims=True)
    counted = 1 + GROUND_SHARE - np.exp(-away / (2 * GROUND**2))
    own, shades = np.square(cells).sum(axis=2, keepdims=True), np.square(_SHADES).sum(axis=1)
    to_shades = own - 2 * cells @ _SHADES.T + shades
    distances = np.minimum.reduceat(to_shades, _FIRST_SHADES, axis=2)
    nearness = np.exp(-(distances - distances.min(axis=2, keepdims=True)) / (2 * SPREAD**2))
    shares = (counted * nearness / nearness.sum(axis=2, keepdims=True)).sum(axis=1)
    return np.sqrt(shares / shares.sum(axis=1, keepdims=True)).astype(np.float32)


def asked_colours(texts: Sequence[str]) -> Floats:
    """N texts -> (N, 11): 1 for each colour that is named, else 0."""
    named = [[one.search(text) is not None for one in _WRITTEN] for text in texts]
    return np.array(named, dtype=np.float32).reshape(-1, len(COLOURS))


def _lab(srgb: Floats) -> Floats:
    """(..., 3) of 0 to 1 -> CIELAB, for the white of sRGB (IEC 61966-2-1, CIE 15)."""
    linear = np.where(srgb > 0.04045, ((srgb + 0.055) / 1.055) ** 2.4, srgb / 12.92)
    ratios = linear @ _TO_XYZ.T / _WHITE
    x, y, z = np.moveaxis(
        np.where(ratios > (6 / 29) ** 3, np.cbrt(ratios), ratios * (29 / 6) ** 2 / 3 + 4 / 29),
        -1,
        0,
    )
    return np.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], axis=-1).astype(np.float32)


_SHADES = _lab(
    np.array([shade for _, shades in COLOURS.values() for shade in shades], np.float32)
    / np.float32(255)
)
_FIRST_SHADES = np.cumsum([0, *(len(shades) for _, shades in COLOURS.values())])[:-1]
