"""A model whose vectors a person can work out: the mean colours of the quarters of a photo.

It stands in for a neural encoder where a test is about everything around the encoder.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from PIL import Image

from lensctl.models.interface import Floats, ModelInfo, ScoreCurve

SIZE = 8
_COLOURS = {
    "red": (1.0, 0.0, 0.0),
    "green": (0.0, 1.0, 0.0),
    "blue": (0.0, 0.0, 1.0),
    "white": (1.0, 1.0, 1.0),
}


def _unit(vectors: Floats) -> Floats:
    return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-6)


class ColourModel:
    """Model, IndexSide and QuerySide in one; counts the photos it encodes."""

    device = "cpu"
    precision = "fp32"

    def __init__(self, name: str = "colour", encoder: str = "e1", lens: str = "l1") -> None:
        self.info = ModelInfo(
            name=name,
            encoder_fingerprint=encoder,
            lens_fingerprint=lens,
            image_size=SIZE,
            embedding_dim=12,
            target_dim=12,
            text_dim=12,
            licence="CC0-1.0",
            description="mean colours of the quarters of a photo",
            curves={"image": ScoreCurve(10.0, 0.5)},
        )
        self.encoded = 0
        self.batches: list[int] = []

    def index_side(self, device: str = "auto", precision: str = "auto") -> Any:
        return self

    def query_side(self) -> Any:
        return self

    def preprocess(self, image: Image.Image) -> Floats:
        pixels = np.asarray(image.resize((SIZE, SIZE), Image.Resampling.BOX), dtype=np.float32)
        return np.ascontiguousarray(pixels.transpose(2, 0, 1)) / 255.0

    def share_cores(self) -> int:
        return 1

    def encode_images(self, pixels: Floats) -> Floats:
        self.encoded += len(pixels)
        self.batches.append(len(pixels))
        half = SIZE // 2
        parts = pixels.reshape(len(pixels), 3, 2, half, 2, half).mean(axis=(3, 5))
        return (parts.reshape(len(pixels), 12) + 0.01).astype(np.float32)

    def make_targets(self, embeddings: Floats) -> Floats:
        return _unit(embeddings)

    def make_queries(self, embeddings: Floats, instructions: Sequence[str]) -> Floats:
        moved = [
            embedding + (2 * self._colour(text) if text else 0)
            for embedding, text in zip(embeddings, instructions, strict=True)
        ]
        return _unit(np.stack(moved).astype(np.float32))

    def encode_texts(self, texts: Sequence[str]) -> Floats:
        return _unit(np.stack([self._colour(text) for text in texts]))

    def text_keys(self, embeddings: Floats) -> Floats:
        return _unit(embeddings)

    def truncated(self, text: str) -> bool:
        return len(text) > 77

    def _colour(self, text: str) -> Floats:
        colours = [_COLOURS[word] for word in text.split() if word in _COLOURS]
        mean = np.mean(colours, axis=0) if colours else np.full(3, 0.5)
        return np.repeat(np.asarray(mean, dtype=np.float32), 4)
