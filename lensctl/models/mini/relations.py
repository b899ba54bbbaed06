"""Its inside, its outside, a part of it, the whole: of what a photo shows, as words ask for it.

"Inside view of", asked of a church, wants altars and vaults. Which relation the words ask for is
told by a logistic regression, as an edit is (`fusion.py`); what stands in it to each of the classes
is told by lists that language models wrote (`lensctl_training/mini/relations`).
"""

import numpy as np
import numpy.typing as npt

from lensctl.models.interface import Floats
from lensctl.models.mini.tensors import TensorFile
from lensctl.models.mini.words import MEANINGS, softmax
from lensctl.models.vectors import unit

FILE = "relations.safetensors"
RELATIONS = ("inside", "outside", "part", "whole")
SURE = 0.7
"""Probability of all relations together from which the words are taken to ask for the likeliest."""
KNOWN = 0.3
"""Least probability of the classes in the list: a dog has no inside view, whatever is asked."""


class Relations:
    """Photos' classes and words -> the classes that are asked for.

    Args:
        tensors: the fitted choice and the lists.
    """

    def __init__(self, tensors: TensorFile) -> None:
        self._weight, self._bias = (
            tensors[f"choice.{part}"].astype(np.float32) for part in ("weight", "bias")
        )
        self._lists = [
            tuple(tensors[f"{name}.{part}"] for part in ("classes", "answers", "shares"))
            for name in RELATIONS
        ]

    def __call__(
        self, probabilities: Floats, sentences: Floats
    ) -> tuple[npt.NDArray[np.int64], Floats]:
        """Queries that ask for a relation, where the list knows the thing.

        Args:
            probabilities: (N, 1000), of the photos' classes.
            sentences: (N, 384), of the instructions.

        Returns:
            (M,) which of the queries, and (M, 1011) what they ask for, of unit length, as texts
            that name it would vote.
        """
        rows, answers = [], []
        for row, relation in enumerate(self.asked(sentences)):
            if relation and (answer := self._votes(probabilities[row], relation - 1)) is not None:
                rows.append(row)
                answers.append(answer)
        found = np.stack(answers) if answers else np.zeros((0, MEANINGS), np.float32)
        return np.array(rows, dtype=np.int64), found

    def asked(self, sentences: Floats) -> npt.NDArray[np.int64]:
        """(N, 384) -> (N,): the relation that each text asks for, counted from 1; 0 for none."""
        choice = softmax(sentences @ self._weight.T + self._bias)
        return np.where(choice[:, 0] < 1 - SURE, 1 + choice[:, 1:].argmax(axis=1), 0)

    def _votes(self, probabilities: Floats, relation: int) -> Floats | None:
        classes, answers, shares = self._lists[relation]
        if probabilities[np.unique(classes)].sum() < KNOWN:
            return None
        weights = probabilities[classes] * shares
        return unit(np.bincount(answers, weights, MEANINGS).astype(np.float32))
