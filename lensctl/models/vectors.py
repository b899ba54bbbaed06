"""Vectors of length one, in numpy."""

import numpy as np
import numpy.typing as npt

from lensctl.models.interface import Floats

UNIT_NORM_EPS = 1e-12
"""What a fusion adds to a squared length before its root, in torch, in ONNX and in numpy alike."""


def unit(vectors: npt.NDArray[np.floating]) -> Floats:
    """(..., D) -> (..., D) float32 of unit length; zero stays zero."""
    lengths = np.linalg.norm(vectors, axis=-1, keepdims=True)
    return (vectors / np.maximum(lengths, 1e-12)).astype(np.float32)
