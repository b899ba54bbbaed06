"""What `mini` makes of an embedding and of words: targets, queries and text keys, in numpy.

An embedding is [pooled features 1280 | plain statistics]. A target is three weighted blocks:

- *meaning* (1000): the class probabilities, damped, so that words can be added to it. It follows
  ConSE (Norouzi et al. 2014) in describing a photo by the classes that the network knows, and
  leaves it to the words' side to say how a text relates to them.
- *look* (256): the principal components of the centred features, for likeness beyond the classes.
- *light* (the statistics, standardised): brightness, colour, layout and sharpness.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from lensctl.models.blas import suited_to
from lensctl.models.interface import Floats
from lensctl.models.mini.fusion import Fusion
from lensctl.models.mini.image_tower import FEATURES, WeightFile
from lensctl.models.mini.tensors import TensorFile
from lensctl.models.mini.words import Words, softmax, unit

FILE = "lens.safetensors"
DAMPING = 0.4
"""Exponent of the class probabilities: a small one lets second thoughts count."""


@dataclass(frozen=True)
class BlockWeights:
    """How much each part of a target and of a composed query counts."""

    meaning: float = 1.0
    look: float = 1.0
    light: float = 0.7
    words: float = 1.5


class Lens:
    """Embeddings and words into the spaces that are searched.

    Args:
        tensors: the shipped maps.
        weights: the image package's file, for its classifier.
        words: the side of words, or None where none will come.
        fusion: what was trained, or None for the plain vector sum.
    """

    def __init__(
        self,
        tensors: TensorFile,
        weights: WeightFile,
        words: Words | None = None,
        fusion: Fusion | None = None,
    ) -> None:
        self._blocks = BlockWeights()
        self._words = words
        self._fusion = fusion
        self.classifier = weights["classifier.weight"].T, weights["classifier.bias"]
        names = ("look_mean", "look", "light_mean", "light_scale")
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
        matrix, bias = self.classifier
        with suited_to(len(embeddings)):
            logits = np.asarray(embeddings, np.float32)[:, :FEATURES] @ matrix + bias
        return unit(softmax(logits) ** np.float32(DAMPING))

    def encode_texts(self, texts: Sequence[str]) -> Floats:
        """N texts -> (N, T) unit."""
        if self._words is None:
            raise RuntimeError("this lens was opened without its words")
        with suited_to(len(texts)):
            return self._words.encode(texts)

    def make_queries(self, embeddings: Floats, instructions: Sequence[str]) -> Floats:
        """(N, E) and N instructions -> (N, D) unit: the target plus the words, as a sum."""
        with suited_to(len(embeddings)):
            queries = self.make_targets(embeddings)
            spoken = [row for row, words in enumerate(instructions) if words.strip()]
            if spoken:
                said = [instructions[row] for row in spoken]
                queries[spoken] = self._fuse(queries[spoken], said)
        return queries

    def _fuse(self, targets: Floats, texts: list[str]) -> Floats:
        """(N, D) targets and N texts that say something -> (N, D)."""
        if self._words is None:
            raise RuntimeError("this lens was opened without its words")
        sentences, votes = self._words.read(texts)
        if self._fusion is None:
            mixed = targets.copy()
            mixed[:, : votes.shape[1]] += self.share() * votes
            return unit(mixed)
        return self._fusion(targets, sentences, votes, self.share())

    def share(self) -> float:
        """The words' weight in units of a target, which has length one."""
        blocks = self._blocks
        length = np.linalg.norm([blocks.meaning, blocks.look, blocks.light])
        return float(blocks.words * blocks.meaning / length)
