"""Held-out triplets with a gallery, still as images."""

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import islice

import numpy as np
import numpy.typing as npt

from lensctl_training.benchmarks.triplets import share_answers
from lensctl_training.data.triplet import Triplet

Image = bytes | npt.NDArray[np.uint8]
"""JPEG or PNG bytes, or (H, W, 3) uint8 RGB."""


@dataclass(frozen=True)
class HeldOut:
    """N queries and what they are searched in: the N targets, then the rest of the gallery.

    Args:
        queries: N query images.
        instructions: N.
        targets: N.
        gallery: further candidates, the query images among them.
        positives: for each query every candidate that is right.
        references: for each query the candidate that is its own image, or -1.
        kinds: a name for each query, by which results are also listed; may be empty.
        repeated: candidates that show an earlier target once more, and are not ranked.
    """

    queries: Sequence[Image]
    instructions: list[str]
    targets: Sequence[Image]
    gallery: Sequence[Image]
    positives: list[list[int]]
    references: list[int]
    kinds: list[str] = field(default_factory=list)
    repeated: list[int] = field(default_factory=list)

    def candidate(self, index: int) -> Image:
        """The image of a candidate."""
        return (
            self.targets[index]
            if index < len(self.targets)
            else self.gallery[index - len(self.targets)]
        )


def hold_out(triplets: Iterable[Triplet], most: int) -> HeldOut:
    """The first `most` triplets; the gallery is all their images and hard negatives, each once.

    Two files of the same bytes are the same picture and one candidate. Triplets that ask the same
    question, the same words of the same picture, share their right answers. As in `eval triplets`.
    """
    chosen = list(islice(triplets, most))
    targets = [_digest(triplet.target) for triplet in chosen]
    questions = [f"{_digest(triplet.query)}\0{triplet.instruction}" for triplet in chosen]
    positives, repeated = share_answers(targets, questions)
    places = {target: index for index, target in reversed(list(enumerate(targets)))}
    gallery: list[Image] = []
    for triplet in chosen:
        for image in (triplet.query, *triplet.negatives):
            if _digest(image) not in places:
                places[_digest(image)] = len(chosen) + len(gallery)
                gallery.append(image)
    return HeldOut(
        queries=[t.query for t in chosen],
        instructions=[t.instruction for t in chosen],
        targets=[t.target for t in chosen],
        gallery=gallery,
        positives=[rows.tolist() for rows in positives],
        references=[places[_digest(t.query)] for t in chosen],
        repeated=repeated.tolist(),
    )


def _digest(image: bytes) -> str:
    return hashlib.blake2b(image, digest_size=16).hexdigest()
