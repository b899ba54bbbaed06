"""Held-out triplets with a gallery, still as images."""

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import islice

import numpy as np
import numpy.typing as npt

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
        positives: for each query every candidate that is right; target i is candidate i.
        references: for each query the candidate that is its own image, or -1.
        kinds: a name for each query, by which results are also listed; may be empty.
    """

    queries: Sequence[Image]
    instructions: list[str]
    targets: Sequence[Image]
    gallery: Sequence[Image]
    positives: list[list[int]]
    references: list[int]
    kinds: list[str] = field(default_factory=list)

    def candidate(self, index: int) -> Image:
        """The image of a candidate."""
        return (
            self.targets[index]
            if index < len(self.targets)
            else self.gallery[index - len(self.targets)]
        )


def hold_out(triplets: Iterable[Triplet], most: int) -> HeldOut:
    """The first `most` triplets; the gallery is all their images and hard negatives, each once.

    Two files of the same bytes are the same picture: a query's target counts as found in either.
    """
    chosen = list(islice(triplets, most))
    places: dict[bytes, list[int]] = {}
    for index, triplet in enumerate(chosen):
        places.setdefault(_digest(triplet.target), []).append(index)
    gallery: list[Image] = []
    for triplet in chosen:
        for image in (triplet.query, *triplet.negatives):
            if _digest(image) not in places:
                places[_digest(image)] = [len(chosen) + len(gallery)]
                gallery.append(image)
    return HeldOut(
        queries=[t.query for t in chosen],
        instructions=[t.instruction for t in chosen],
        targets=[t.target for t in chosen],
        gallery=gallery,
        positives=[places[_digest(t.target)] for t in chosen],
        references=[places[_digest(t.query)][0] for t in chosen],
    )


def _digest(image: bytes) -> bytes:
    return hashlib.blake2b(image, digest_size=16).digest()
