"""What a classifier's features forget: light, colour, their layout, and sharpness.

ImageNet features are trained to ignore brightness, colour casts and blur, yet instructions name
them. These plain measures are part of the embedding, so a lens can answer "darker", "in black and
white" or "upside down" from kept vectors alone.
"""

import numpy as np

from lensctl.models.interface import Floats

GRID = 4
HUES = 12
WIDTH = GRID * GRID * 4 + HUES + 16
"""Layout (4 x 4 cells: R, G, B and detail), hue histogram, global measures."""

_LUMA = np.array([0.299, 0.587, 0.114], dtype=np.float32)
_PERCENTILES = (2, 10, 25, 50, 75, 90, 98)


def measure(rgb: Floats) -> Floats:
    """(N, 3, S, S) in 0 to 1 -> (N, WIDTH) float32, each about 0 to 1. S is a multiple of 4."""
    if not len(rgb):
        return np.zeros((0, WIDTH), dtype=np.float32)
    return np.stack([_measure_one(image) for image in np.clip(rgb, 0.0, 1.0)])


def _measure_one(rgb: Floats) -> Floats:
    luma = np.tensordot(_LUMA, rgb, axes=1)
    detail = _detail(luma)
    cells = np.stack([_cells(plane) for plane in (*rgb, np.pad(detail, (0, 1)))])
    small = rgb[:, ::4, ::4].reshape(3, -1)
    chroma = small.max(axis=0) - small.min(axis=0)
    parts = (
        cells.ravel(),
        _hues(small, chroma),
        _tones(luma[::2, ::2]),
        _sharpness(luma),
        _chroma(chroma),
    )
    return np.concatenate(parts).astype(np.float32)


def _cells(plane: Floats) -> Floats:
    """(S, S) -> (16,) means over the grid."""
    side = plane.shape[0] // GRID
    cut = plane[: side * GRID, : side * GRID]
    return cut.reshape(GRID, side, GRID, side).mean(axis=(1, 3)).ravel()


def _detail(luma: Floats) -> Floats:
    """(S, S) -> (S-1, S-1) absolute gradient, compressed to about 0 to 1."""
    across = np.abs(np.diff(luma, axis=1))[:-1]
    down = np.abs(np.diff(luma, axis=0))[:, :-1]
    return np.sqrt(across + down)


def _hues(small: Floats, chroma: Floats) -> Floats:
    """(3, P) colours -> (12,) histogram of hue, each pixel weighing its chroma."""
    red, green, blue = small
    angle = np.arctan2(np.sqrt(3) * (green - blue), 2 * red - green - blue)
    bins = ((angle + np.pi) * (HUES / (2 * np.pi))).astype(np.int64) % HUES
    return np.sqrt(np.bincount(bins, weights=chroma, minlength=HUES) / chroma.size)


def _tones(luma: Floats) -> Floats:
    """Percentiles of lightness, its deviation, and the shares of near black and near white."""
    shares = [(luma < 0.06).mean(), (luma > 0.94).mean()]
    return np.concatenate([np.percentile(luma, _PERCENTILES), [luma.std()], shares])


def _sharpness(luma: Floats) -> Floats:
    """Log energy of the Laplacian at three scales: blur empties the finest first."""
    found = []
    for _ in range(3):
        edges = 4 * luma[1:-1, 1:-1]
        edges = edges - luma[:-2, 1:-1] - luma[2:, 1:-1] - luma[1:-1, :-2] - luma[1:-1, 2:]
        found.append(np.log10(np.abs(edges).mean() + 1e-4) / 4 + 1)
        even = luma[: luma.shape[0] // 2 * 2, : luma.shape[1] // 2 * 2]
        total = even[::2, ::2] + even[1::2, ::2] + even[::2, 1::2] + even[1::2, 1::2]
        luma = total * np.float32(0.25)
    return np.array(found)


def _chroma(chroma: Floats) -> Floats:
    """Mean and deviation of chroma, and the share of colourless pixels."""
    return np.array([chroma.mean(), chroma.std(), (chroma < 0.04).mean()])
