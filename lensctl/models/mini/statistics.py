"""What a classifier's features forget: light, colour, their layout, and sharpness.

ImageNet features are trained to ignore brightness, colour casts, position and blur, yet
instructions name them. These plain measures, above all a picture of 8 x 8 pixels, are part of the
embedding, so a lens can answer "darker", "in black and white" or "upside down" from kept vectors
alone: on such a small picture these are nearly linear maps.
"""

import numpy as np

from lensctl.models.interface import Floats

SMALL = 8
"""Side of the small picture."""
GRID = 4
"""Side of the grid in which detail is measured."""
HUES = 12
PICTURE = 3 * SMALL * SMALL
WIDTH = PICTURE + GRID * GRID + HUES + 16
"""Small picture, detail, hue histogram, global measures."""

_LUMA = np.array([0.299, 0.587, 0.114], dtype=np.float32)
_PERCENTILES = (2, 10, 25, 50, 75, 90, 98)


def measure(rgb: Floats) -> Floats:
    """(N, 3, S, S) in 0 to 1 -> (N, WIDTH) float32, each about 0 to 1."""
    if not len(rgb):
        return np.zeros((0, WIDTH), dtype=np.float32)
    return np.stack([_measure_one(image) for image in np.clip(rgb, 0.0, 1.0)])


def _measure_one(rgb: Floats) -> Floats:
    luma = _LUMA[0] * rgb[0] + _LUMA[1] * rgb[1] + _LUMA[2] * rgb[2]
    thinned = rgb[:, ::4, ::4].reshape(3, -1)
    chroma = thinned.max(axis=0) - thinned.min(axis=0)
    parts = (
        _cell_means(rgb, SMALL).ravel(),
        _cell_means(_detail(luma), GRID).ravel(),
        _hues(thinned, chroma),
        _tones(luma[::4, ::4]),
        _sharpness(luma),
        _chroma(chroma),
    )
    return np.concatenate(parts).astype(np.float32)


def _cell_means(planes: Floats, cells: int) -> Floats:
    """(..., S, S) -> (..., cells, cells).

    Sums, not products with averaging matrices, which are a little faster alone; but OpenBLAS would
    divide each among all cores, and its waiting threads held up the batches that are encoded there.
    """
    for axis in (-2, -1):
        edges = np.linspace(0, planes.shape[axis], cells + 1).round().astype(np.int64)
        sums = np.add.reduceat(planes, edges[:-1], axis=axis, dtype=np.float32)
        counts = np.diff(edges).astype(np.float32)
        planes = (sums / (counts[:, None] if axis == -2 else counts)).astype(np.float32)
    return planes


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
