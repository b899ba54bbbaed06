"""Photos that look alike: resized, recompressed, slightly edited copies, and bursts.

A 64-bit perceptual hash finds them among hundreds of thousands of photos in seconds.
"""

import itertools
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

_HASH_BITS = 64
_SIDE, _FREQUENCIES = 32, 8

MAX_DISTANCE = 6
"""Bits in which two photos' hashes may differ and the photos still look alike.

Unrelated photos differ in 32 bits on average; see docs/photos.md for the distances measured.
"""

MIN_CONTRAST = 1.0
"""Grey levels, standard deviation of the miniature; the flattest photo measured has 9. Below one,
the signs that make the hash are those of rounding, and of one colour alone it has no bit set."""

_MOST_KEPT_PASSES = 64
"""Of an index in memory; more are made shorter by asking for one shared piece alone."""

Progress = Callable[[Sequence[Any], str], Iterable[Any]]
"""Hands on the items of a long loop, and shows how far it is, under a title."""


def _cosines() -> NDArray[np.float32]:
    """The rows of a type-II discrete cosine transform, (8, 32) float32, lowest frequencies."""
    frequency = np.arange(_FREQUENCIES)[:, None]
    place = np.arange(_SIDE)[None, :] + 0.5
    return np.cos(math.pi / _SIDE * frequency * place).astype(np.float32)


_COSINES = _cosines()


def perceptual_hash(image: Image.Image) -> int:
    """64 bits that change little when a photo is resized, recompressed or brightened.

    The signs, against their median, of the 8 x 8 lowest frequencies of the photo's 32 x 32
    greyscale miniature (Zauner, "Implementation and Benchmarking of Perceptual Image Hash
    Functions", 2010, 3.2.1).

    Args:
        image: in any mode that converts to greyscale; upright.

    Returns:
        0 to 2**64 - 1.
    """
    return _hash(_miniature(image))


def telling_hash(image: Image.Image) -> int | None:
    """The perceptual hash of an upright photo; None where it is too flat to tell it by its looks.

    A black photo and a grey one have the same hash, that of no features.
    """
    pixels = _miniature(image)
    return _hash(pixels) if pixels.std() >= MIN_CONTRAST else None


def _miniature(image: Image.Image) -> NDArray[np.float32]:
    """(32, 32) grey levels."""
    grey = image if image.mode == "RGB" else image.convert("L")
    small = grey.resize((_SIDE, _SIDE), Image.Resampling.BOX, reducing_gap=2.0)
    return np.asarray(small.convert("L"), dtype=np.float32)


def _hash(pixels: NDArray[np.float32]) -> int:
    low = (_COSINES @ (pixels - pixels.mean()) @ _COSINES.T).ravel()
    bits = low > np.median(low[1:])
    bits[0] = False  # the mean brightness says nothing, and would be a coin toss
    return int.from_bytes(np.packbits(bits).tobytes())


def group_near(
    hashes: Sequence[int],
    max_distance: int = MAX_DISTANCE,
    progress: Progress = lambda items, _: items,
) -> list[list[int]]:
    """Groups of photos linked by hashes at most `max_distance` bits apart.

    Exact, and far from quadratic: two such hashes, cut into `max_distance` + k pieces, agree in at
    least k of them, so only those that share k pieces are compared. A group is a chain of near
    pairs: its ends may be further apart.

    Args:
        hashes: n integers of 64 bits.
        max_distance: 0 to 32 bits.
        progress: shows how far the loop over the hashes' pieces is.

    Returns:
        Groups of two or more positions in `hashes`, ascending, ordered by their first.
    """
    _check_distance(max_distance)
    if len(hashes) == 0:
        return []
    unique, owner = np.unique(np.asarray(hashes, dtype=np.uint64), return_inverse=True)
    labels = np.arange(len(unique))
    if max_distance > 0:
        for left, right in _candidate_pairs(unique, max_distance, progress):
            near = np.bitwise_count(unique[left] ^ unique[right]) <= max_distance
            labels = _joined(labels, left[near], right[near])
    return _groups(labels[owner])


class NearIndex:
    """Some hashes, to be asked which others are near to one of them.

    As exact as comparing with all of them, by the same argument as `group_near`: only hashes that
    share enough pieces are compared. It takes 8 bytes for each hash and pass: 40 of 4 bits for up
    to 7,000 hashes, then 120.

    Args:
        hashes: (n,) uint64.
        max_distance: 0 to 32 bits.
    """

    def __init__(self, hashes: NDArray[np.uint64], max_distance: int = MAX_DISTANCE) -> None:
        _check_distance(max_distance)
        self._max_distance = max_distance
        unique = np.unique(hashes)
        shared = _pieces_to_share(len(unique), max_distance)
        if math.comb(max_distance + shared, shared) > _MOST_KEPT_PASSES:
            shared = 1
        self._passes = [
            (mask, unique[np.argsort(unique & mask)]) for mask in _masks(max_distance, shared)
        ]

    def holds_near(self, hashes: NDArray[np.uint64]) -> NDArray[np.bool_]:
        """(m,) uint64 -> (m,) whether a hash of the index is at most `max_distance` bits away.

        A call looks through the whole index once: ask for thousands together.
        """
        found = np.zeros(len(hashes), dtype=np.bool_)
        for mask, known in self._passes:
            keys = known & mask
            asked = np.flatnonzero(~found)
            places = np.searchsorted(keys, hashes[asked] & mask)
            while len(asked):
                alike = places < len(keys)
                alike[alike] = keys[places[alike]] == hashes[asked[alike]] & mask
                asked, places = asked[alike], places[alike]
                bits = np.bitwise_count(known[places] ^ hashes[asked])
                found[asked[bits <= self._max_distance]] = True
                apart = bits > self._max_distance
                asked, places = asked[apart], places[apart] + 1
        return found


def _candidate_pairs(
    hashes: NDArray[np.uint64], max_distance: int, progress: Progress
) -> Iterator[tuple[NDArray[np.intp], NDArray[np.intp]]]:
    """Every pair that may be near, some more than once; unequal hashes, in blocks."""
    passes = _masks(max_distance, _pieces_to_share(len(hashes), max_distance))
    for mask in progress(passes, "comparing photos"):
        keys = hashes & mask
        order = np.argsort(keys, kind="stable")
        yield from _pairs_within_runs(keys[order], order)


def _check_distance(max_distance: int) -> None:
    if not 0 <= max_distance <= _HASH_BITS // 2:
        raise ValueError(f"a distance of {max_distance} bits is not between 0 and 32")


def _pieces_to_share(count: int, max_distance: int) -> int:
    """How many pieces must agree: the fewest passes over the data with short runs of equal keys."""
    bits_wanted = math.log2(max(2, count))
    for shared in (1, 2, 3):
        pieces = max_distance + shared
        if _HASH_BITS * shared / pieces >= bits_wanted:
            return shared
    return 3


def _masks(max_distance: int, shared: int) -> list[np.uint64]:
    """One for each choice of `shared` pieces: two near hashes agree under at least one of them."""
    pieces = _piece_masks(max_distance + shared)
    return [np.uint64(sum(chosen)) for chosen in itertools.combinations(pieces, shared)]


def _piece_masks(pieces: int) -> list[int]:
    """64 bits cut into pieces of nearly equal length, as masks."""
    edges = [round(_HASH_BITS * piece / pieces) for piece in range(pieces + 1)]
    return [(1 << high) - (1 << low) for low, high in itertools.pairwise(edges)]


def _pairs_within_runs(
    keys: NDArray[np.uint64], order: NDArray[np.intp]
) -> Iterator[tuple[NDArray[np.intp], NDArray[np.intp]]]:
    """All pairs whose sorted keys are equal: each with its 1st, 2nd, ... follower, while any is."""
    rows = np.arange(len(keys))
    for gap in itertools.count(1):
        rows = rows[rows + gap < len(keys)]
        rows = rows[keys[rows] == keys[rows + gap]]
        if len(rows) == 0:
            return
        yield order[rows], order[rows + gap]


def _joined(
    labels: NDArray[np.intp], left: NDArray[np.intp], right: NDArray[np.intp]
) -> NDArray[np.intp]:
    """Labels of connected parts once the given pairs are connected, too: each part's least."""
    apart = labels[left] != labels[right]
    left, right = left[apart], right[apart]
    while len(left):
        least = np.minimum(labels[left], labels[right])
        changed = labels.copy()
        for side in (left, right):
            np.minimum.at(changed, labels[side], least)
            np.minimum.at(changed, side, least)
        changed = changed[changed]
        if np.array_equal(changed, labels):
            break
        labels = changed
    return labels


def _groups(labels: NDArray[np.intp]) -> list[list[int]]:
    order = np.argsort(labels, kind="stable")
    starts = np.flatnonzero(np.diff(labels[order], prepend=-1))
    groups = np.split(order, starts[1:])
    return sorted(group.tolist() for group in groups if len(group) > 1)
