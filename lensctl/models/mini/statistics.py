"""What a classifier's features forget: light, colour, their layout, and sharpness.

ImageNet features are trained to ignore brightness, colour casts, position and blur, yet
instructions name them. These plain measures, above all a picture of 8 x 8 pixels, are part of the
embedding, so a lens can answer "darker", "in black and white" or "upside down" from kept vectors
alone: on such a small picture these are nearly linear maps.
"""

from itertools import pairwise

import numpy as np

from lensctl.models.interface import Floats

VERSION = 2
"""Goes up when the same picture gives other numbers: photos have to be indexed again."""
SMALL = 8
"""Side of the small picture."""
GRID = 4
"""Side of the grid in which detail is measured."""
HUES = 12
PICTURE = 3 * SMALL * SMALL
WIDTH = PICTURE + GRID * GRID + HUES + 16
"""Small picture, detail, hue histogram, global measures."""

_LUMA = (np.float32(0.299), np.float32(0.587), np.float32(0.114))
_PERCENTILES = (2, 10, 25, 50, 75, 90, 98)
_SECTORS = np.array([1, 0, 0, 0, 10, 11, 9, 8, 2, 3, 5, 4, 0, 0, 6, 7])
"""The hue's twelfth of the circle, by red >= green, green >= blue, red >= blue, and whether the
middle channel is nearer to the greatest than to the least; 0 is blue-cyan, 6 red-orange."""
_DARK, _LIGHT, _COLOURLESS = np.float32(0.06), np.float32(0.94), np.float32(0.04)


class _Room:
    """Arrays that one image after the other is measured in: fresh ones cost as much as the sums."""

    def __init__(self, side: int) -> None:
        self.rgb = np.empty((3, side, side), dtype=np.float32)
        self.luma, self.one, self.two = np.empty((3, side, side), dtype=np.float32)


def measure(pixels: Floats, scale: float = 1.0, shift: float = 0.0) -> Floats:
    """(N, 3, S, S) -> (N, WIDTH) float32, each about 0 to 1.

    Args:
        pixels: of N images.
        scale, shift: `pixels * scale + shift` is what is shown, 0 black and 1 white.
    """
    found = np.empty((len(pixels), WIDTH), dtype=np.float32)
    room = _Room(pixels.shape[-1])
    for row, image in enumerate(pixels):
        np.multiply(image, np.float32(scale), out=room.rgb)
        np.add(room.rgb, np.float32(shift), out=room.rgb)
        np.clip(room.rgb, 0, 1, out=room.rgb)
        found[row] = _measure_one(room)
    return found


def _measure_one(room: _Room) -> Floats:
    rgb, luma = room.rgb, room.luma
    np.multiply(rgb[0], _LUMA[0], out=luma)
    for weight, plane in zip(_LUMA[1:], rgb[1:], strict=True):
        luma += np.multiply(plane, weight, out=room.one)
    thinned = rgb[:, ::4, ::4].reshape(3, -1)
    greatest, least = thinned.max(axis=0), thinned.min(axis=0)
    chroma = greatest - least
    parts = (
        _cell_means(rgb, SMALL).ravel(),
        _cell_means(_detail(room), GRID).ravel(),
        _hues(thinned, greatest + least, chroma),
        _tones(luma[::4, ::4]),
        _sharpness(room),
        _chroma(chroma),
    )
    return np.concatenate(parts, dtype=np.float32)


def _cell_means(planes: Floats, cells: int) -> Floats:
    """(..., S, S) -> (..., cells, cells).

    Sums, not products with averaging matrices, which are a little faster alone; but OpenBLAS would
    divide each among all cores, and its waiting threads held up the batches that are encoded there.
    """
    rows, columns = (
        np.linspace(0, side, cells + 1).round().astype(np.int64) for side in planes.shape[-2:]
    )
    strips = [planes[..., start:end, :].sum(axis=-2) for start, end in pairwise(rows)]
    sums = np.add.reduceat(np.stack(strips, axis=-2), columns[:-1], axis=-1)
    counts = np.diff(rows)[:, None] * np.diff(columns)
    return np.divide(sums, counts, dtype=np.float32)


def _detail(room: _Room) -> Floats:
    """(S-1, S-1) absolute gradient of the lightness, compressed to about 0 to 1.

    Here and in `_edges` the rows are taken as one line, so that numpy goes through it at once,
    which takes a quarter of the time; what spans two rows is cut off.
    """
    line, across, down = room.luma.ravel(), room.one.ravel(), room.two.ravel()
    side = room.luma.shape[1]
    np.abs(np.subtract(line[1:], line[:-1], out=across[:-1]), out=across[:-1])
    np.abs(np.subtract(line[side:], line[:-side], out=down[:-side]), out=down[:-side])
    across[:-side] += down[:-side]
    return np.sqrt(room.one[:-1], out=room.one[:-1])[:, :-1]


def _hues(small: Floats, ends: Floats, chroma: Floats) -> Floats:
    """(3, P) colours -> (12,) histogram of hue, each pixel weighing its chroma.

    `ends` (P,) are the sums of the greatest and the least channel.
    """
    red, green, blue = small
    nearer = 2 * red + 2 * green + 2 * blue > 3 * ends
    order = (red >= green) * 8 + (green >= blue) * 4 + (red >= blue) * 2 + nearer
    return np.sqrt(np.bincount(_SECTORS[order], chroma, minlength=HUES) / chroma.size)


def _tones(luma: Floats) -> Floats:
    """Percentiles of lightness, its deviation, and the shares of near black and near white."""
    tones = np.sort(luma, axis=None)
    places = np.array(_PERCENTILES) / 100 * (len(tones) - 1)
    percentiles = np.interp(places, np.arange(len(tones)), tones)
    black = np.searchsorted(tones, _DARK) / len(tones)
    white = 1 - np.searchsorted(tones, _LIGHT, side="right") / len(tones)
    return np.concatenate([percentiles, [tones.std(), black, white]])


def _sharpness(room: _Room) -> Floats:
    """Log energy of the Laplacian at three scales: blur empties the finest first."""
    found, luma = [], room.luma
    for _ in range(3):
        found.append(np.log10(_edges(luma, room.one) + 1e-4) / 4 + 1)
        even = luma[: luma.shape[0] // 2 * 2, : luma.shape[1] // 2 * 2]
        rows = even[::2] + even[1::2]
        luma = (rows[:, ::2] + rows[:, 1::2]) * np.float32(0.25)
    return np.array(found)


def _edges(luma: Floats, scratch: Floats) -> float:
    """Mean of the absolute Laplacian inside an (H, W) plane."""
    height, width = luma.shape
    line = luma.ravel()
    inner = scratch.ravel()[: (height - 2) * width]
    np.multiply(line[width:-width], 4, out=inner)
    for first in (0, 2 * width, width - 1, width + 1):
        inner -= line[first : first + inner.size]
    np.abs(inner, out=inner)
    columns = inner.reshape(height - 2, width).sum(axis=0)
    return float(columns[1:-1].sum() / ((height - 2) * (width - 2)))


def _chroma(chroma: Floats) -> Floats:
    """Mean and deviation of chroma, and the share of colourless pixels."""
    return np.array([chroma.mean(), chroma.std(), (chroma < _COLOURLESS).mean()])
