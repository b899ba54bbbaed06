"""What `mini` makes of an embedding and of words: targets, queries and text keys, in numpy.

An embedding is [pooled features 1280 | plain statistics]. It is described in three blocks:

- *meaning* (1011): the class probabilities, damped, so that words can be added to it, and eleven
  named colours. It follows ConSE (Norouzi et al. 2014) in describing a photo by the classes that
  the network knows, and leaves it to the words' side to say how a text relates to them.
- *look* (256): the principal components of the centred features, for likeness beyond the classes.
- *light* (96): the principal components of the standardised statistics and of the small picture's
  logarithm, which turns a brighter or a tinted picture into a plain difference.

A target is these blocks, weighted; the trained `fusion` makes queries of them.
"""

from collections.abc import Sequence

import numpy as np

from lensctl.models.blas import suited_to
from lensctl.models.interface import Floats
from lensctl.models.mini.colours import colours_of
from lensctl.models.mini.fusion import LIGHT, LOOK, Blocks, Fusion, join
from lensctl.models.mini.image_tower import FEATURES, WeightFile
from lensctl.models.mini.relations import Relations
from lensctl.models.mini.statistics import PICTURE
from lensctl.models.mini.tensors import TensorFile
from lensctl.models.mini.words import CLASSES, Words, softmax
from lensctl.models.vectors import unit

FILE = "lens.safetensors"
DAMPING = 0.4
"""Exponent of the class probabilities: a small one lets second thoughts count."""
DARKEST = 0.05
"""Added before the logarithm, so that black is not endlessly far from nearly black."""
LOGARITHM = 0.3
COLOURED = 0.3
"""How much a photo's colours count, beside its classes."""


class Lens:
    """Embeddings and words into the spaces that are searched.

    Args:
        tensors: the shipped maps.
        weights: the image package's file, for its classifier.
        words: the side of words, or None where none will come.
        fusion: the trained part, or None where no query will come.
        relations: what the things in photos have inside and around them, or None likewise.
    """

    def __init__(
        self,
        tensors: TensorFile,
        weights: WeightFile,
        words: Words | None = None,
        fusion: Fusion | None = None,
        relations: Relations | None = None,
    ) -> None:
        self._words = words
        self._fusion = fusion
        self._relations = relations
        self.classifier = classifier_of(weights)
        names = ("look_mean", "look", "light_mean", "light")
        self._maps = {name: tensors[name].astype(np.float32) for name in names}

    def blocks(self, embeddings: Floats) -> Blocks:
        """(N, E) -> what the fusion reads."""
        maps = self._maps
        features, statistics = np.split(np.asarray(embeddings, np.float32), [FEATURES], axis=1)
        return Blocks(
            meaning=self.text_keys(embeddings),
            look=unit((features - maps["look_mean"]) @ maps["look"]),
            light=((light_of(statistics) - maps["light_mean"]) @ maps["light"]).astype(np.float32),
        )

    def make_targets(self, embeddings: Floats) -> Floats:
        """(N, E) -> (N, D) unit."""
        with suited_to(len(embeddings)):
            return _as_targets(self.blocks(embeddings))

    def text_keys(self, embeddings: Floats) -> Floats:
        """(N, E) -> (N, T) unit: the meaning block alone."""
        with suited_to(len(embeddings)):
            embeddings = np.asarray(embeddings, np.float32)
            colours = np.float32(COLOURED) * colours_of(embeddings[:, FEATURES:])
            return unit(np.concatenate([classes_of(embeddings, self.classifier), colours], axis=1))

    def encode_texts(self, texts: Sequence[str]) -> Floats:
        """N texts -> (N, T) unit."""
        with suited_to(len(texts)):
            return self._spoken().encode(texts)

    def make_queries(self, embeddings: Floats, instructions: Sequence[str]) -> Floats:
        """(N, E) and N instructions -> (N, D) unit; no words leave the target as it is."""
        with suited_to(len(embeddings)):
            photos = self.blocks(embeddings)
            queries = _as_targets(photos)
            told = [row for row, words in enumerate(instructions) if words.strip()]
            if told:
                queries[told] = self._fuse(photos[told], [instructions[row] for row in told])
        return queries

    def _fuse(self, photos: Blocks, texts: list[str]) -> Floats:
        if self._fusion is None:
            raise RuntimeError("this lens was opened without its fusion")
        words = self._spoken()
        sentences, votes = words.read(texts)
        queries = self._fusion(
            photos, sentences, votes, words.clauses(texts), words.pointing(texts)
        )
        if self._relations is not None:
            related, answers = self._relations(probabilities_of(photos.meaning), sentences)
            nothing = (np.zeros((len(related), width), np.float32) for width in (LOOK, LIGHT))
            queries[related] = join(answers, *nothing)
        return queries

    def _spoken(self) -> Words:
        if self._words is None:
            raise RuntimeError("this lens was opened without its words")
        return self._words


def classifier_of(weights: WeightFile) -> tuple[Floats, Floats]:
    """(1280, 1000) and (1000,), of the image network."""
    return weights["classifier.weight"].T, weights["classifier.bias"]


def classes_of(embeddings: Floats, classifier: tuple[Floats, Floats]) -> Floats:
    """(N, E) embeddings, (1280, 1000) and (1000,) -> (N, 1000) unit."""
    matrix, bias = classifier
    logits = np.asarray(embeddings, np.float32)[:, :FEATURES] @ matrix + bias
    return unit(softmax(logits) ** np.float32(DAMPING))


def probabilities_of(meaning: Floats) -> Floats:
    """(N, 1011) of photos -> (N, 1000): the class probabilities, undamped."""
    powers = meaning[:, :CLASSES].astype(np.float64) ** (1 / DAMPING)
    return (powers / powers.sum(axis=1, keepdims=True)).astype(np.float32)


def _as_targets(photos: Blocks) -> Floats:
    return join(photos.meaning, photos.look, unit(photos.light))


def light_of(statistics: Floats) -> Floats:
    """(N, WIDTH) -> (N, WIDTH + PICTURE): the statistics and the small picture's logarithm."""
    logarithm = np.float32(LOGARITHM) * np.log(statistics[:, :PICTURE] + np.float32(DARKEST))
    return np.concatenate([statistics, logarithm], axis=1, dtype=np.float32)
