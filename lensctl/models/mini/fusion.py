"""The trained part of `mini`'s lens: what an instruction makes of a photo, in numpy.

A photo comes as three blocks: *meaning* (class probabilities, damped, and colours), *look*
(principal components of the features) and *light* (those of a small picture and other plain
statistics). The words act in two ways:

- They choose among *operators*: affine maps of light, each fitted to photos and their edited copies
  (colours go, the picture turns over, its middle grows); one choice is to change nothing. Where
  clauses ask for different edits ("greyscale and upside down"), their operators act in turn.
- *Gates* scale the photo's meaning, look and light and the words' own meaning: "a dog instead"
  keeps little of the photo, "darker" all but its light. They may be negative: "another kind of
  bird" wants birds that look unlike this very photo. As far as an edit is asked for, those of
  meaning and words close; what one edit leaves of the look beside the light, the next one of the
  same instruction fades again. Gates far smaller than that of words are shut, and all but that of
  words where the text is nothing but a name.

It is trained by `lensctl_training.mini.train`; all weights are float16 in the file.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from lensctl.models.interface import Floats
from lensctl.models.mini.tensors import TensorFile
from lensctl.models.mini.words import CLASSES, softmax
from lensctl.models.vectors import unit

FILE = "fusion.safetensors"
LOOK = 256
LIGHT = 96
BLOCK_WEIGHTS = {"meaning": 1.0, "look": 1.0, "light": 0.7}
"""How much each block of a target counts."""
GATES = ("meaning", "look", "light", "words")
NAMED = np.isin(GATES, ("meaning", "words"))
"""The gates that close as far as an edit is asked for, which is told by look and light."""
_OF_THE_PHOTO = np.array([gate != "words" for gate in GATES])
FAINT = 0.08
"""Share of the gate of words below which another one is shut: "a dog" says nothing of the photo."""
NO_EDIT = 0.9
"""Probability of no edit from which a text that points at nothing is a name, and says nothing of
the photo."""
SURE = 0.5
"""Probability of all edits together from which a clause is taken to ask for its likeliest one."""
FAINTEST = 1e-3
"""Least gate of light by which others are divided."""
SETTLED = 0.995
"""Probability from which the whole is one edit, however many its clauses: "flat and pale"."""


@dataclass(frozen=True)
class Blocks:
    """N photos, described.

    Args:
        meaning: (N, 1011), of unit rows.
        look: (N, 256), of unit rows.
        light: (N, 96).
    """

    meaning: Floats
    look: Floats
    light: Floats

    def __getitem__(self, rows: list[int]) -> "Blocks":
        return Blocks(self.meaning[rows], self.look[rows], self.light[rows])


def join(meaning: Floats, look: Floats, light: Floats) -> Floats:
    """Three blocks, weighted -> (N, 1363) of unit rows."""
    parts = zip(BLOCK_WEIGHTS.values(), (meaning, look, light), strict=True)
    return unit(np.concatenate([np.float32(weight) * part for weight, part in parts], axis=1))


class Fusion:
    """Photos and words -> queries.

    Args:
        tensors: the trained weights.
    """

    def __init__(self, tensors: TensorFile) -> None:
        self._weights = {name: tensors[name].astype(np.float32) for name in tensors.names()}

    def __call__(
        self,
        photos: Blocks,
        sentences: Floats,
        votes: Floats,
        clauses: Sequence[Floats] = (),
        pointing: npt.NDArray[np.bool_] | None = None,
    ) -> Floats:
        """Queries.

        Args:
            photos: N of them.
            sentences: (N, 384), of the instructions.
            votes: (N, 1011), of the instructions for classes and colours.
            clauses: for each instruction (C, 384), of its clauses; C is 0 where it has but one.
            pointing: (N,) whether the instruction relates what it asks for to the photo ("other
                birds"); without it all of them may.

        Returns:
            (N, 1363), of unit rows.
        """
        choice = softmax(self._linear("choice", sentences))
        light = self._operate(photos.light, choice)
        opened = self._open(photos, sentences, votes, choice)
        if pointing is not None:
            opened[np.ix_(~pointing & (choice[:, 0] > NO_EDIT), _OF_THE_PHOTO)] = 0
        for row, parts in enumerate(clauses):
            if choice[row].max() < SETTLED and len(places := self._edits(parts)) > 1:
                again = [row] * len(places)
                light[row], opened[row] = self._in_turn(
                    photos[again], parts[list(places.values())], votes[again], list(places)
                )
        gates = dict(zip(GATES, np.split(opened, len(GATES), axis=1), strict=True))
        return join(
            gates["meaning"] * photos.meaning + gates["words"] * votes,
            gates["look"] * photos.look,
            gates["light"] * unit(light),
        )

    def _open(self, photos: Blocks, sentences: Floats, votes: Floats, choice: Floats) -> Floats:
        """(N, 4): the gates."""
        likeness = (photos.meaning * votes).sum(axis=1, keepdims=True)
        sureness = photos.meaning[:, :CLASSES].max(axis=1, keepdims=True)
        heard = np.concatenate([sentences, likeness, sureness, choice], axis=1)
        opened = self._linear("gates", np.maximum(self._linear("listen", heard), 0))
        edited = choice[:, 1:-1].sum(axis=1, keepdims=True)
        opened = np.where(NAMED, opened * (1 - edited), opened)
        least = FAINT * np.abs(opened[:, [GATES.index("words")]])
        return np.where(np.abs(opened) < least, np.float32(0), opened)

    def _edits(self, clauses: Floats) -> dict[int, int]:
        """(C, 384) -> the different edits that clauses surely ask for, and which clause does.

        The first choice is no edit; the last is what cannot be done.
        """
        choices = softmax(self._linear("choice", clauses))[:, :-1]
        found: dict[int, int] = {}
        for place, choice in enumerate(choices):
            if choice[1:].sum() > SURE and (edit := int(choice.argmax())):
                found.setdefault(edit, place)
        return found

    def _in_turn(
        self, photos: Blocks, clauses: Floats, votes: Floats, edits: list[int]
    ) -> tuple[Floats, Floats]:
        """The photo E times, and E edits with their clauses -> (L,) light and (4,) gates."""
        chosen = np.eye(len(self._weights["choice.bias"]), dtype=np.float32)[edits]
        light = photos.light[:1]
        for one in chosen:
            light = self._operate(light, one[None])
        opened = self._open(photos, clauses, votes, chosen)
        own = opened[:, [GATES.index("light")]]
        return light[0], (opened / np.maximum(own, FAINTEST)).prod(axis=0)

    def _operate(self, light: Floats, choice: Floats) -> Floats:
        """The chosen changes, mixed; the first choice is to change nothing."""
        weights, chosen = self._weights, choice[:, 1:]
        change = np.einsum("nk,nd,kde->ne", chosen, light, weights["operators"], optimize=True)
        return light + change + chosen @ weights["operator_biases"]

    def _linear(self, name: str, x: Floats) -> Floats:
        return x @ self._weights[f"{name}.weight"].T + self._weights[f"{name}.bias"]
