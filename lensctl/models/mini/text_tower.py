"""The sentence encoder all-MiniLM-L6-v2 in numpy: words into a unit vector.

A query is one short sentence, so six small transformer layers take a few milliseconds; importing
any runtime would take longer than the work. The weights stay in the package's safetensors file,
mapped into memory; only the pages that are used are read.
Source: Wang et al. 2020 (MiniLM), Reimers and Gurevych 2019 (mean pooling), Devlin et al. 2019.
"""

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from lensctl.models.interface import Floats
from lensctl.models.mini.tensors import TensorFile
from lensctl.models.mini.wordpiece import WordPiece

WIDTH = 384
LAYERS = 6
HEADS = 12
LONGEST = 128
"""Tokens that are read, start and end included: what the published tokenizer cuts at."""
EPSILON = 1e-12
BATCH = 64


class TextTower:
    """Sentences -> (N, 384) unit vectors.

    Args:
        weights: the model's safetensors file.
        vocabulary: the tokenizer's word list.
    """

    def __init__(self, weights: Path, vocabulary: Path) -> None:
        self._tensors = TensorFile(weights)
        self._wordpiece = WordPiece(vocabulary)

    def encode(self, texts: Sequence[str]) -> Floats:
        """N texts -> (N, 384) float32, unit length; "" is a sentence like any other."""
        once = list(dict.fromkeys(texts))
        if len(once) < len(texts):
            place = {text: row for row, text in enumerate(once)}
            return self.encode(once)[[place[text] for text in texts]]
        vectors = np.zeros((len(texts), WIDTH), dtype=np.float32)
        by_length: dict[int, list[int]] = {}
        ids = [self._ids(text) for text in texts]
        for row, tokens in enumerate(ids):
            by_length.setdefault(len(tokens), []).append(row)
        for rows in by_length.values():
            for start in range(0, len(rows), BATCH):
                some = rows[start : start + BATCH]
                vectors[some] = self._encode_equal(np.array([ids[row] for row in some]))
        return vectors

    def truncated(self, text: str) -> bool:
        """Whether the text has more tokens than are read."""
        return len(self._wordpiece.encode(text)) > LONGEST

    def _ids(self, text: str) -> list[int]:
        ids = self._wordpiece.encode(text)
        return ids if len(ids) <= LONGEST else [*ids[: LONGEST - 1], ids[-1]]

    def _encode_equal(self, ids: npt.NDArray[np.int64]) -> Floats:
        """(B, T) ids of sentences of one length, so that nothing is padded -> (B, 384)."""
        hidden = self._embed(ids)
        for layer in range(LAYERS):
            hidden = self._layer(hidden, f"encoder.layer.{layer}.")
        mean = hidden.mean(axis=1)
        return mean / np.maximum(np.linalg.norm(mean, axis=1, keepdims=True), EPSILON)

    def _embed(self, ids: npt.NDArray[np.int64]) -> Floats:
        words = self._tensors["embeddings.word_embeddings.weight"][ids]
        places = self._tensors["embeddings.position_embeddings.weight"][: ids.shape[1]]
        kind = self._tensors["embeddings.token_type_embeddings.weight"][0]
        return self._normalise(words + places + kind, "embeddings.LayerNorm.")

    def _layer(self, x: Floats, name: str) -> Floats:
        """One post-norm transformer layer, (B, T, 384) -> (B, T, 384)."""
        attended = self._linear(self._attend(x, name), name + "attention.output.dense.")
        x = self._normalise(x + attended, name + "attention.output.LayerNorm.")
        wide = gelu(self._linear(x, name + "intermediate.dense."))
        return self._normalise(
            x + self._linear(wide, name + "output.dense."), name + "output.LayerNorm."
        )

    def _attend(self, x: Floats, name: str) -> Floats:
        """Multi-head self-attention without its output projection."""
        batch, length, _ = x.shape
        query, key, value = (
            self._linear(x, f"{name}attention.self.{part}.")
            .reshape(batch, length, HEADS, WIDTH // HEADS)
            .swapaxes(1, 2)
            for part in ("query", "key", "value")
        )
        logits = query @ key.swapaxes(2, 3) / np.float32(math.sqrt(WIDTH // HEADS))
        weights = np.exp(logits - logits.max(axis=-1, keepdims=True))
        weights /= weights.sum(axis=-1, keepdims=True)
        return (weights @ value).swapaxes(1, 2).reshape(batch, length, WIDTH)

    def _linear(self, x: Floats, name: str) -> Floats:
        flat = x.reshape(-1, x.shape[-1]) @ self._tensors[name + "weight"].T
        return flat.reshape(*x.shape[:-1], -1) + self._tensors[name + "bias"]

    def _normalise(self, x: Floats, name: str) -> Floats:
        centred = x - x.mean(axis=-1, keepdims=True)
        deviation = np.sqrt((centred * centred).mean(axis=-1, keepdims=True) + EPSILON)
        scale, bias = self._tensors[name + "weight"], self._tensors[name + "bias"]
        return centred / deviation * scale + bias


def gelu(x: Floats) -> Floats:
    """x * Phi(x), with the error function to 1.5e-7 (Abramowitz and Stegun 7.1.26).

    numpy has no error function, and scipy is a dependency of 100 MB for this one line.
    """
    z = np.abs(x) * np.float32(1 / math.sqrt(2))
    t = 1 / (1 + np.float32(0.3275911) * z)
    series = t * (
        0.254829592
        + t * (-0.284496736 + t * (1.421413741 + t * (-1.453152027 + t * np.float32(1.061405429))))
    )
    erf = np.sign(x) * (1 - series * np.exp(-z * z))
    return (0.5 * x * (1 + erf)).astype(np.float32)
