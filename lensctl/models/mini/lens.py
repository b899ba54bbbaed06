"""What `mini` makes of an embedding and of words: targets, queries and text keys, in numpy.

An embedding is [pooled features 1280 | plain statistics]. A target is three weighted blocks:

- *meaning* (384): ConSE, the class probabilities times the classes' text vectors, so that words
  can be added to it. Norouzi et al. 2014.
- *look* (256): the principal components of the centred features, for likeness beyond the classes.
- *light* (the statistics, standardised): brightness, colour, layout and sharpness.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from lensctl.models.interface import Floats
from lensctl.models.mini.image_tower import FEATURES, WeightFile
from lensctl.models.mini.tensors import TensorFile
from lensctl.models.mini.text_tower import TextTower

FILE = "lens.safetensors"


@dataclass(frozen=True)
class BlockWeights:
    """How much each part of a target and of a composed query counts."""

    meaning: float = 1.0
    look: float = 1.0
    light: float = 0.4
    words: float = 1.5


class Lens:
    """Embeddings and words into the spaces that are searched.

    Args:
        tensors: the shipped maps.
        weights: the image package's file, for its classifier.
        text: the sentence encoder, or None where no words will come.
    """

    def __init__(
        self, tensors: TensorFile, weights: WeightFile, text: TextTower | None = None
    ) -> None:
        self._blocks = BlockWeights()
        self._text = text
        self._classifier = weights["classifier.weight"].T, weights["classifier.bias"]
        names = ("classes", "text_mean", "look_mean", "look", "light_mean", "light_scale")
        self._maps = {name: tensors[name].astype(np.float32) for name in names}

    def make_targets(self, embeddings: Floats) -> Floats:
        """(N, E) -> (N, D) unit."""
        maps, blocks = self._maps, self._blocks
        features, light = np.split(np.asarray(embeddings, np.float32), [FEATURES], axis=1)
        look = unit((features - maps["look_mean"]) @ maps["look"])
        light = unit((light - maps["light_mean"]) * maps["light_scale"])
        parts = (
            blocks.meaning * self.text_keys(embeddings),
            blocks.look * look,
            blocks.light * light,
        )
        return unit(np.concatenate(parts, axis=1))

    def text_keys(self, embeddings: Floats) -> Floats:
        """(N, E) -> (N, T) unit: the meaning block alone."""
        matrix, bias = self._classifier
        logits = np.asarray(embeddings, np.float32)[:, :FEATURES] @ matrix + bias
        return unit(np.sqrt(softmax(logits)) @ self._maps["classes"])

    def encode_texts(self, texts: Sequence[str]) -> Floats:
        """N texts -> (N, T) unit."""
        if self._text is None:
            raise RuntimeError("this lens was opened without its text tower")
        return unit(self._text.encode(texts) - self._maps["text_mean"])

    def make_queries(self, embeddings: Floats, instructions: Sequence[str]) -> Floats:
        """(N, E) and N instructions -> (N, D) unit: the target plus the words, as a sum."""
        queries = self.make_targets(embeddings)
        spoken = [row for row, words in enumerate(instructions) if words.strip()]
        if not spoken:
            return queries
        words = self.encode_texts([instructions[row] for row in spoken])
        mixed = queries[spoken]
        mixed[:, : words.shape[1]] += self._share() * words
        queries[spoken] = unit(mixed)
        return queries

    def _share(self) -> float:
        """The words' weight in units of a target, which has length one."""
        blocks = self._blocks
        length = np.linalg.norm([blocks.meaning, blocks.look, blocks.light])
        return float(blocks.words * blocks.meaning / length)


def softmax(logits: Floats) -> Floats:
    """Over the last axis."""
    powers = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return powers / powers.sum(axis=-1, keepdims=True)


def unit(vectors: npt.NDArray[np.floating]) -> Floats:
    """Rows of length one; a row of zeros stays."""
    lengths = np.linalg.norm(vectors, axis=-1, keepdims=True)
    return (vectors / np.maximum(lengths, 1e-12)).astype(np.float32)
