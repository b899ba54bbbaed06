"""`mini`'s sentence encoder in numpy: words into a unit vector.

A query is one short sentence, so a few small transformer layers take milliseconds; importing any
runtime would take longer than the work. The file holds 8-bit integers with a scale for every row;
of the pieces only those are read that are used, a layer is unpacked when it is first used.
Made by `lensctl_training.mini.distil`, a student of all-MiniLM-L6-v2. Source of the architecture:
Devlin et al. 2019 (BERT), Wang et al. 2020 (MiniLM), Reimers and Gurevych 2019 (mean pooling).
"""

import math
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import numpy as np
import numpy.typing as npt

from lensctl.models.interface import Floats
from lensctl.models.mini.tensors import TensorFile
from lensctl.models.mini.wordpiece import WordPiece

FILE = "text.safetensors"
WIDTH = 384
HEADS = 12
LONGEST = 128
"""Tokens that are read, start and end included."""
EPSILON = 1e-12
BATCH = 64
VOCABULARY = "vocabulary"
"""The pieces' names as UTF-8, one a line."""
SCALE = ".scale"
"""Ends the name of the scales of a matrix in integers."""


class TextTower:
    """Sentences -> (N, 384) unit vectors.

    Args:
        path: the file of the encoder.

    Raises:
        CheckpointError: it is not such a file.
    """

    def __init__(self, path: Path) -> None:
        self._tensors = TensorFile(path)
        self._layers = sum(name.endswith(".query.weight") for name in self._tensors.names())
        self._wordpiece = WordPiece(self._tensors[VOCABULARY].tobytes().decode().split("\n"))
        self._array = cache(self._unpacked)

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
        for layer in range(self._layers):
            hidden = self._layer(hidden, f"layers.{layer}.")
        mean = hidden.mean(axis=1)
        return mean / np.maximum(np.linalg.norm(mean, axis=1, keepdims=True), EPSILON)

    def _embed(self, ids: npt.NDArray[np.int64]) -> Floats:
        pieces = self._tensors["pieces.weight"][ids] * self._tensors["pieces.weight" + SCALE][ids]
        return self._normalise(pieces + self._array("places.weight")[: ids.shape[1]], "norm.")

    def _layer(self, x: Floats, name: str) -> Floats:
        """One post-norm transformer layer, (B, T, 384) -> (B, T, 384)."""
        attended = self._linear(self._attend(x, name), name + "attended.")
        x = self._normalise(x + attended, name + "attended_norm.")
        wide = gelu(self._linear(x, name + "wide."))
        return self._normalise(x + self._linear(wide, name + "narrow."), name + "norm.")

    def _attend(self, x: Floats, name: str) -> Floats:
        """Multi-head self-attention without its output projection."""
        batch, length, _ = x.shape
        query, key, value = (
            self._linear(x, f"{name}{part}.")
            .reshape(batch, length, HEADS, WIDTH // HEADS)
            .swapaxes(1, 2)
            for part in ("query", "key", "value")
        )
        logits = query @ key.swapaxes(2, 3) / np.float32(math.sqrt(WIDTH // HEADS))
        weights = np.exp(logits - logits.max(axis=-1, keepdims=True))
        weights /= weights.sum(axis=-1, keepdims=True)
        return (weights @ value).swapaxes(1, 2).reshape(batch, length, WIDTH)

    def _linear(self, x: Floats, name: str) -> Floats:
        flat = x.reshape(-1, x.shape[-1]) @ self._array(name + "weight").T
        return flat.reshape(*x.shape[:-1], -1) + self._array(name + "bias")

    def _normalise(self, x: Floats, name: str) -> Floats:
        centred = x - x.mean(axis=-1, keepdims=True)
        deviation = np.sqrt((centred * centred).mean(axis=-1, keepdims=True) + EPSILON)
        return centred / deviation * self._array(name + "weight") + self._array(name + "bias")

    def _unpacked(self, name: str) -> Floats:
        """A tensor in float32."""
        values = self._tensors[name].astype(np.float32)
        if self._tensors[name].dtype == np.int8:
            values *= self._tensors[name + SCALE].astype(np.float32)
        return values


def gelu(x: Floats) -> Floats:
    """x * Phi(x), with the error function to 1.5e-7 (Abramowitz and Stegun 7.1.26).

    numpy has no error function, and to import scipy for this one line would slow every query.
    """
    z = np.abs(x) * np.float32(1 / math.sqrt(2))
    t = 1 / (1 + np.float32(0.3275911) * z)
    series = t * (
        0.254829592
        + t * (-0.284496736 + t * (1.421413741 + t * (-1.453152027 + t * np.float32(1.061405429))))
    )
    erf = np.sign(x) * (1 - series * np.exp(-z * z))
    return (0.5 * x * (1 + erf)).astype(np.float32)
