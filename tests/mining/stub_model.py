"""A tiny model behind the real interface: pictures as their colours, texts as their words.

Fast and deterministic, so that tests of the pipeline need no weights; similar pictures and
similar texts do come out similar.
"""

import hashlib
from collections.abc import Sequence

import numpy as np
from PIL import Image

from lensctl.models.interface import Floats, ModelInfo

_SIDE = 8
_WIDTH = 3 * _SIDE * _SIDE


def _unit(rows: Floats) -> Floats:
    return (rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-6)).astype(np.float32)


class StubSide:
    """Both sides of the stub."""

    device = "cpu"
    precision = "fp32"
    info = ModelInfo("stub", "stub", "stub", _SIDE, _WIDTH, _WIDTH, _WIDTH, "none", "for tests")

    def preprocess(self, image: Image.Image) -> Floats:
        small = image.resize((_SIDE, _SIDE), Image.Resampling.BOX)
        return np.asarray(small, dtype=np.float32).transpose(2, 0, 1) / 255

    def encode_images(self, pixels: Floats) -> Floats:
        return pixels.reshape(len(pixels), -1) - 0.5

    def make_targets(self, embeddings: Floats) -> Floats:
        return _unit(embeddings)

    def text_keys(self, embeddings: Floats) -> Floats:
        return _unit(embeddings)

    def encode_texts(self, texts: Sequence[str]) -> Floats:
        rows = np.zeros((len(texts), _WIDTH), np.float32)
        for row, text in zip(rows, texts, strict=True):
            for word in text.lower().split():
                row[hashlib.sha256(word.encode()).digest()[0] % _WIDTH] += 1
        return _unit(rows + 1e-3)


class StubModel:
    """Stands in for what `open_model` returns."""

    info = StubSide.info

    def query_side(self) -> StubSide:
        return StubSide()

    def index_side(self, device: str = "auto", precision: str = "auto") -> StubSide:
        return StubSide()
