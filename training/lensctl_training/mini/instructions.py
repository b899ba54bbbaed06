"""What `mini`'s lens is taught: three families of triplets, drawn from kept embeddings.

- *edits*: a photo, what is to be done to it, the edited photo.
- *subject*: any photo, "a dog instead", an embedding of that class.
- *kind*: an embedding of a class, "another kind of fruit", an embedding of its sibling.

Embeddings of classes are synthetic: a photo's features are pushed along the classifier's direction
until the class wins, so no labelled photograph is needed and nothing but licensed photos is used.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from lensctl.models.interface import Floats
from lensctl.models.mini.image_tower import FEATURES
from lensctl.models.mini.words import CLASSES, Words
from lensctl_training.mini.photo_edits import EDITS
from lensctl_training.mini.word_maps import Tree, gloss_form, make_tree
from lensctl_training.mini.wordnet import Synset, load_nouns

SUBJECT_WORDINGS = (
    "{}",
    "a {}",
    "a {} instead",
    "change it to a {}",
    "replace it with a {}",
    "now a {}",
    "this but a {}",
    "show a {} instead",
    "with a {} as the subject",
    "make it a {}",
    "A {}.",
    "a photo of a {}",
)
KIND_WORDINGS = (
    "another kind of {}",
    "a different {}",
    "another {}",
    "some other {}",
    "a {} of another sort",
    "not this {}, another one",
)
FEWEST_SIBLINGS, MOST_SIBLINGS = 3, 150
FAMILIES = ("edits", "subject", "kind")
SHARES = (0.45, 0.3, 0.25)
"""How often each family is drawn."""
PER_CLASS = 4
MARGINS = (0.5, 7.0)
"""Least and greatest lead, in logits, of a synthetic embedding's class."""
ACTIVATION_CAP = 6.0
"""Features are means over ReLU6."""


@dataclass(frozen=True)
class Batch:
    """N triplets and N near misses, as rows of `Instructions.embeddings` and of its texts."""

    queries: list[int]
    targets: list[int]
    decoys: list[int]
    texts: list[int]


class Instructions:
    """Draws batches.

    Args:
        views: (P, V, E) embeddings of P photos: as they are, then once for every edit.
        classifier: (1280, 1000) and (1000,), of the image network.
        seed: of the choice of classes and of all draws.
        classes: how many of the 1000 are taught by name.

    Attributes:
        embeddings: (R, E): all views, then the imagined embeddings of every class.
        texts: all instructions.
    """

    def __init__(
        self,
        views: Floats,
        classifier: tuple[Floats, Floats],
        seed: int,
        classes: int = 400,
    ) -> None:
        self._photos, self._views, width = views.shape
        self._rng = np.random.default_rng(seed)
        imagined = imagine(views[:, 0], classifier, self._rng)
        self.embeddings = np.concatenate([views.reshape(-1, width), imagined])
        nouns = load_nouns()
        tree = make_tree(nouns)
        self._taught = np.sort(self._rng.permutation(len(tree.classes))[:classes])
        siblings = _siblings(tree)
        self._groups = list(siblings.values())
        self.texts: list[str] = []
        self._edit_texts = [self._add(edit.wordings) for edit in EDITS.values()]
        self._subject_texts = [
            self._add([*_worded(SUBJECT_WORDINGS, synset), gloss_form(synset)])
            for synset in (nouns[tree.classes[one]] for one in self._taught)
        ]
        self._kind_texts = [self._add(_worded(KIND_WORDINGS, nouns[node])) for node in siblings]

    def _add(self, texts: Sequence[str]) -> range:
        start = len(self.texts)
        self.texts.extend(texts)
        return range(start, len(self.texts))

    def draw(self, size: int) -> Batch:
        """One batch, families mixed."""
        makers = {"edits": self._edit, "subject": self._subject, "kind": self._kind}
        drawn = [makers[str(one)]() for one in self._rng.choice(FAMILIES, size, p=SHARES)]
        queries, targets, decoys, texts = (list(rows) for rows in zip(*drawn, strict=True))
        return Batch(queries, targets, decoys, texts)

    def _edit(self) -> tuple[int, int, int, int]:
        photo = self._views * self._pick(self._photos)
        edit, other = (int(one) for one in self._rng.permutation(len(EDITS))[:2])
        return photo, photo + 1 + edit, photo + 1 + other, self._word(self._edit_texts[edit])

    def _subject(self) -> tuple[int, int, int, int]:
        named = self._pick(len(self._taught))
        photo = self._views * self._pick(self._photos)
        query = photo if self._rng.random() < 0.5 else self._any_imagined()
        target = self._imagined(int(self._taught[named]))
        return query, target, self._any_imagined(), self._word(self._subject_texts[named])

    def _kind(self) -> tuple[int, int, int, int]:
        group = self._pick(len(self._groups))
        one, other = (int(row) for row in self._rng.choice(self._groups[group], 2, replace=False))
        text = self._word(self._kind_texts[group])
        return self._imagined(one), self._imagined(other), self._any_imagined(), text

    def _imagined(self, one: int) -> int:
        return self._photos * self._views + PER_CLASS * one + self._pick(PER_CLASS)

    def _any_imagined(self) -> int:
        return self._imagined(self._pick(CLASSES))

    def _word(self, rows: range) -> int:
        return rows[self._pick(len(rows))]

    def _pick(self, number: int) -> int:
        return int(self._rng.integers(number))


def imagine(photos: Floats, classifier: tuple[Floats, Floats], rng: np.random.Generator) -> Floats:
    """(P, E) photos -> (1000 * PER_CLASS, E): features pushed until each class leads."""
    matrix, bias = classifier
    named = np.repeat(np.arange(CLASSES), PER_CLASS)
    embeddings = photos[rng.integers(len(photos), size=len(named))].copy()
    features = embeddings[:, :FEATURES]
    logits = features @ matrix + bias
    directions = (matrix - matrix.mean(axis=1, keepdims=True)).T[named]
    behind = logits.max(axis=1) - logits[np.arange(len(named)), named]
    lead = behind + rng.uniform(*MARGINS, size=len(named))
    pushed = features + (lead / np.square(directions).sum(axis=1))[:, None] * directions
    embeddings[:, :FEATURES] = np.clip(pushed, 0, ACTIVATION_CAP)
    return embeddings.astype(np.float32)


def _worded(forms: tuple[str, ...], synset: Synset) -> list[str]:
    return [form.format(synset.lemmas[0]) for form in forms]


def _siblings(tree: Tree) -> dict[str, list[int]]:
    """Ancestors that are above some, but not too many, classes, with those classes."""
    below: dict[str, list[int]] = {}
    for row, one in enumerate(tree.classes):
        for node in tree.above[one]:
            below.setdefault(node, []).append(row)
    return {
        node: rows
        for node, rows in sorted(below.items())
        if FEWEST_SIBLINGS <= len(rows) <= MOST_SIBLINGS
    }


def encode_bank(words: Words, texts: list[str]) -> tuple[Floats, Floats]:
    """All texts once: (T, 384) sentence vectors and (T, 1000) class votes."""
    return words.sentences(texts), words.encode(texts)
