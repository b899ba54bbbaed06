"""Small photos, written to disk."""

from pathlib import Path

import numpy as np
from PIL import Image


def write_photo(path: Path, seed: int) -> Path:
    """A small lossless photo of its own, with four coloured quarters."""
    colours = np.random.default_rng(seed).integers(0, 256, (2, 2, 3), dtype=np.uint8)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(colours.repeat(10, 0).repeat(10, 1)).save(path)
    return path
