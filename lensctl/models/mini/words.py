"""Words into a distribution over the image network's 1000 classes, and eleven colours.

A text is compared with five word lists, each of which votes for classes: names of things with the
classes that they are *seen as*, written by language models (a windmill as a lighthouse); WordNet
synsets (what is no class itself votes for its relatives: a capybara for rodents); the classes'
lemmas, their glosses, and the mean of all their texts. To this come a plain linear likeness, which
keeps shades of meaning that the lists lose, and a linear map fitted to named drawings, for what is
no class. Votes are sharp (a softmax over likenesses); the weights were chosen on other photographs
than the benchmark's. Colours that are named stand beside the classes.

Likeness in WordNet is Lin's (1998): twice the information of the nearest common ancestor over the
information of both, where information is the negative log share of synsets below.
"""

import re
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from lensctl.models.interface import Floats
from lensctl.models.mini.colours import COLOURS, asked_colours
from lensctl.models.mini.tensors import TensorFile
from lensctl.models.mini.text_tower import TextTower
from lensctl.models.vectors import unit

CLASSES = 1000
MEANINGS = CLASSES + len(COLOURS)
"""What a photo or a text can mean: the classes, then the colours."""
NEAREST = 32
"""Synsets and names that vote: those nearest to the text."""
SEEN_SHARPNESS = 20.0
SYNSET_SHARPNESS = 25.0
CLASS_SHARPNESS = 20.0
RELATIVE_SHARPNESS = 25.0
VOTES = {
    "seen_as": 1.5,
    "synsets": 1.0,
    "lemmas": 0.6,
    "class_texts": 0.3,
    "class_glosses": 0.3,
    "linear": 0.1,
}
DRAWN = 0.5
"""Weight of what drawings say beside what the lists say."""
ASKED = 0.67
"""Weight of a colour that is named, beside all classes together."""
INT8_SCALE = 254.0
"""Entries of these unit vectors stay below one half."""

_ARTICLE = re.compile(r"^(an?|the|some|one)\s+", re.IGNORECASE)
_POINTING = re.compile(
    r"(?:\b(?:of|an?|the)\s+)*(?<![\w-])(?:others?|another|different|similar|same|more|kinds?|sorts?"
    r"|types?|than|this|that|these|those|ones?|but|not|instead|else|please|any|some)(?![\w-])"
    r"(?:\s+of\b)?",
    re.IGNORECASE,
)
"""What names nothing, and only tells how the photo and what is looked for are related."""
_JOINT = re.compile(
    r"\s*[,;+]\s*(?:and\s+|then\s+)*|\s+(?:and also|and then|and|then)\s+", re.IGNORECASE
)
_ONE_COLOUR = re.compile(r"\bblack and white\b", re.IGNORECASE)


class Words:
    """Texts -> (N, 1011) unit vectors over classes and colours.

    Args:
        tensors: the shipped maps.
        text: the sentence encoder.
    """

    def __init__(self, tensors: TensorFile, text: TextTower) -> None:
        self._text = text
        self._tensors = tensors
        self._mean = tensors["text_mean"].astype(np.float32)
        self._class_texts = tensors["class_texts"].astype(np.float32)

    def encode(self, texts: Sequence[str]) -> Floats:
        """N texts -> (N, 1011) float32, unit length."""
        return self.read(texts)[1]

    def read(self, texts: Sequence[str]) -> tuple[Floats, Floats]:
        """N texts -> their `sentences`, (N, 384), and what `encode` makes of them."""
        whole, named = np.split(self.sentences([*texts, *map(bare, texts)]), 2)
        coloured = np.float32(ASKED) * asked_colours(texts)
        return whole, unit(np.concatenate([self._votes(whole, named), coloured], axis=1))

    def _votes(self, whole: Floats, named: Floats) -> Floats:
        placed = unit(named @ self._half("synset_basis"))
        votes = {
            "seen_as": self._seen_votes(placed),
            "synsets": self._synset_votes(placed),
            "lemmas": self._lemma_votes(named),
            "class_texts": softmax(CLASS_SHARPNESS * named @ self._class_texts.T),
            "class_glosses": softmax(CLASS_SHARPNESS * named @ self._half("class_glosses").T),
            "linear": whole @ self._class_texts.T,
        }
        total = np.zeros((len(whole), CLASSES), dtype=np.float32)
        for name, weight in VOTES.items():
            total += np.float32(weight) * unit(votes[name])
        return unit(unit(total) + np.float32(DRAWN) * unit(named @ self._half("drawn_names")))

    def sentences(self, texts: Sequence[str]) -> Floats:
        """N texts -> (N, 384) unit vectors of the sentence encoder, less the classes' mean."""
        return unit(self._text.encode(texts) - self._mean)

    def clauses(self, texts: Sequence[str]) -> list[Floats]:
        """For each text the `sentences` of its clauses, (C, 384); none where it has but one."""
        split = [clauses(text) for text in texts]
        ends = np.cumsum([len(one) for one in split])
        every = [clause for one in split for clause in one]
        return np.split(self.sentences(every), ends[:-1]) if every else []

    def pointing(self, texts: Sequence[str]) -> npt.NDArray[np.bool_]:
        """(N,): whether a text relates what it names to the photo, as "other birds" does."""
        return np.array([_POINTING.search(text) is not None for text in texts], dtype=bool)

    def truncated(self, text: str) -> bool:
        """Whether the end of the text is not read."""
        return self._text.truncated(text)

    def _half(self, name: str) -> Floats:
        return self._tensors[name].astype(np.float32)

    def _lemma_votes(self, named: Floats) -> Floats:
        """A class is voted for by all its lemmas together."""
        lemmas = self._half("lemmas")
        likeness = softmax(CLASS_SHARPNESS / INT8_SCALE * named @ lemmas.T)
        votes = np.zeros((CLASSES, len(named)), dtype=np.float32)
        np.add.at(votes, self._tensors["lemma_classes"], likeness.T)
        return votes.T

    def _seen_votes(self, placed: Floats) -> Floats:
        """By the names nearest to (N, 256) texts, with the classes of each name's line."""
        names = self._half("seen_names")
        votes = np.zeros((len(placed), CLASSES), dtype=np.float32)
        for row, one in enumerate(SEEN_SHARPNESS / INT8_SCALE * placed @ names.T):
            nearest = np.argpartition(one, -NEAREST)[-NEAREST:]
            for name, weight in zip(nearest, softmax(one[nearest]), strict=True):
                line = self._tensors["seen_lines"][name]
                own = slice(*self._tensors["seen_starts"][line : line + 2])
                shares = self._tensors["seen_shares"][own].astype(np.float32)
                votes[row, self._tensors["seen_classes"][own]] += weight * unit(shares)
        return votes

    def _synset_votes(self, placed: Floats) -> Floats:
        synsets = self._half("synsets")
        rows = []
        for one in SYNSET_SHARPNESS / INT8_SCALE * placed @ synsets.T:
            nearest = np.argpartition(one, -NEAREST)[-NEAREST:]
            rows.append(softmax(one[nearest]) @ self._relatives(nearest))
        return np.stack(rows) if rows else np.zeros((0, CLASSES), dtype=np.float32)

    def _relatives(self, synsets: npt.NDArray[np.int64]) -> Floats:
        """(K,) synsets -> (K, 1000): each one's vote, by Lin's likeness to every class."""
        nodes = self._tensors["synset_nodes"][synsets]
        below = np.unpackbits(self._tensors["node_classes"][nodes], axis=2, count=CLASSES)
        known = self._tensors["node_information"][nodes].astype(np.float32)
        shared = (below * known[..., None]).max(axis=1)
        own = self._half("synset_information")[synsets][:, None]
        return softmax(RELATIVE_SHARPNESS * 2 * shared / (own + self._half("class_information")))


def bare(text: str) -> str:
    """Without articles, pointing words and closing marks, as names stand in a dictionary.

    "A robin." is "robin", and "other birds than this" is "birds"; where nothing else is left, all
    of it stays.
    """
    whole = text.strip().rstrip(".!").strip()
    named = _POINTING.sub(" ", _ARTICLE.sub("", whole))
    return " ".join(named.split()).strip(" ,;.!?") or whole


def clauses(text: str) -> list[str]:
    """What a text asks for one after the other: "grey, then blurred"; [] if that is one thing."""
    parts = [part for part in _JOINT.split(_ONE_COLOUR.sub("black-and-white", text)) if part]
    return parts if len(parts) > 1 else []


def softmax(logits: npt.NDArray[np.floating]) -> Floats:
    """Over the last axis."""
    powers = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return (powers / powers.sum(axis=-1, keepdims=True)).astype(np.float32)
