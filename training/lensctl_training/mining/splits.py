"""Which triplets are for training, and which for validation."""

from collections import Counter
from collections.abc import Iterable, Sequence

import numpy as np
import numpy.typing as npt

from lensctl.photos.near_duplicates import NearIndex
from lensctl_training.batching import in_batches
from lensctl_training.mining.config import MineConfig, WriteSettings
from lensctl_training.mining.funnel import Funnel
from lensctl_training.mining.row_index import Look, RowIndex
from lensctl_training.mining.urls import stable_fraction

SHARED = "shares an image with val"
LEFT_OUT, TRAIN, VAL = range(3)
_ASKED_AT_ONCE = 65_536
"""Rows; each batch looks through the hashes of val once."""


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


def divide(index: RowIndex, config: MineConfig, funnel: Funnel) -> npt.NDArray[np.int8]:
    """(n,) LEFT_OUT, TRAIN or VAL for each row of the index.

    What would train on an image of val, or on a near duplicate of one, is left out and counted:
    mirrors show the same pictures under other names. Where that is all, the share takes nothing.
    """
    splits = _splits(index, val_sites(index.sites, config.write), config)
    if not (splits == TRAIN).any():
        splits = _splits(index, {*config.write.val_sites}, config)
    funnel.enter("triplets", len(index))
    funnel.reject("triplets", SHARED, int((splits == LEFT_OUT).sum()))
    return splits


def _splits(index: RowIndex, held_out: set[str], config: MineConfig) -> npt.NDArray[np.int8]:
    """VAL for the rows of some sites; for others TRAIN, or LEFT_OUT where they show its images."""
    is_val = index.of_sites(held_out)
    splits = np.where(is_val, VAL, TRAIN).astype(np.int8)
    if not is_val.any():
        return splits
    held = index.looks(np.flatnonzero(is_val))
    seen = _Seen((look for _, *looks in held for look in looks), config.groups.hash_distance)
    for batch in in_batches(index.looks(np.flatnonzero(~is_val)), _ASKED_AT_ONCE):
        shown = seen.holds([query for _, query, _ in batch])
        shown |= seen.holds([target for _, _, target in batch])
        splits[[place for place, _, _ in batch]] = np.where(shown, LEFT_OUT, TRAIN)
    return splits


class _Seen:
    """Some images, by content and by perceptual hash."""

    def __init__(self, looks: Iterable[Look], max_distance: int) -> None:
        self._known = set()
        hashes = set()
        for sha256, perceptual_hash in looks:
            self._known.add(sha256)
            hashes.add(perceptual_hash)
        # An image that was never hashed has 0, and is near to nothing.
        hashes.discard(0)
        self._near = NearIndex(np.array(sorted(hashes), dtype=np.uint64), max_distance)

    def holds(self, looks: Sequence[Look]) -> npt.NDArray[np.bool_]:
        """(m,) whether each image is one of them, or a near duplicate of one."""
        hashes = np.array([perceptual_hash for _, perceptual_hash in looks], dtype=np.uint64)
        known = np.array([sha256 in self._known for sha256, _ in looks], dtype=np.bool_)
        return known | (self._near.holds_near(hashes) & (hashes != 0))


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
