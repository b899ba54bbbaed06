"""Which triplets are for training, and which for validation."""

from collections import Counter
from collections.abc import Iterable, Sequence

import numpy as np

from lensctl_training.mining.config import MineConfig, WriteSettings
from lensctl_training.mining.funnel import Funnel
from lensctl_training.mining.records import Instructed, Picture
from lensctl_training.mining.urls import stable_fraction

SHARED = "shares an image with val"


def val_sites(sites: Iterable[str], settings: WriteSettings) -> set[str]:
    """The sites whose triplets go to val; the same in every run and on every machine.

    The share alone never takes all: the last site by hash stays in train.
    """
    named = set(settings.val_sites)
    fractions = {site: stable_fraction(f"val {site}") for site in {*sites} - named}
    drawn = {site for site, fraction in fractions.items() if fraction < settings.val_share}
    if fractions and len(drawn) == len(fractions):
        drawn.remove(max(fractions, key=lambda site: fractions[site]))
    return named | drawn


def divide(rows: Sequence[Instructed], config: MineConfig, funnel: Funnel) -> list[tuple[int, str]]:
    """(place in `rows`, "train" or "val") of all rows that are to be written, in order.

    What would train on an image of val, or on a near duplicate of one, is left out and counted:
    mirrors show the same pictures under other names. Where that is all, the share takes nothing.
    """
    splits = _splits(rows, val_sites({row.pair.site for row in rows}, config.write), config)
    if "train" not in splits:
        splits = _splits(rows, {*config.write.val_sites}, config)
    funnel.enter("triplets", len(rows))
    funnel.reject("triplets", SHARED, splits.count(""))
    return [(place, split) for place, split in enumerate(splits) if split]


def _splits(rows: Sequence[Instructed], held_out: set[str], config: MineConfig) -> list[str]:
    """ "val" for the rows of some sites; for others "train", or "" where they show its images."""
    is_val = [row.pair.site in held_out for row in rows]
    seen = _Seen(
        [p for row, val in zip(rows, is_val, strict=True) if val for p in _pictures(row)],
        config.groups.hash_distance,
    )
    return [
        "val" if val else "" if any(map(seen.holds, _pictures(row))) else "train"
        for row, val in zip(rows, is_val, strict=True)
    ]


def _pictures(row: Instructed) -> tuple[Picture, Picture]:
    return row.pair.query, row.pair.target


class _Seen:
    """Some images, by content and by perceptual hash."""

    def __init__(self, pictures: Sequence[Picture], max_distance: int) -> None:
        self._max_distance = max_distance
        self._known = {picture.sha256: True for picture in pictures}
        # An image that was never hashed has 0, and is near to nothing.
        hashes = {picture.perceptual_hash for picture in pictures} - {0}
        self._hashes = np.array(sorted(hashes), dtype=np.uint64)

    def holds(self, picture: Picture) -> bool:
        """Whether it is one of them, or a near duplicate of one."""
        if picture.sha256 not in self._known:
            self._known[picture.sha256] = bool(picture.perceptual_hash) and self._near(picture)
        return self._known[picture.sha256]

    def _near(self, picture: Picture) -> bool:
        bits = np.bitwise_count(self._hashes ^ np.uint64(picture.perceptual_hash))
        return bool((bits <= self._max_distance).any())


def empty_splits(funnel: Funnel, settings: WriteSettings) -> list[str]:
    """Sentences on what a user might not expect of the funnel of *write*."""
    found = []
    if not funnel.facts["triplets in train"]:
        why = (
            "the others share images with val"
            if funnel.rejected.get("triplets", Counter())[SHARED]
            else "every site is named as val"
        )
        found.append(f"there is nothing to train on: {why}")
    if settings.val_sites and not funnel.facts["triplets in val"]:
        found.append(f"val is empty: no triplet comes from {', '.join(settings.val_sites)}")
    return found
