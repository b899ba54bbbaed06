"""Groups of photos that are the same: byte for byte, or to the eye.

Exact copies are known from their content hashes. For near copies, kept vectors find the candidates
without reading a photo, and only these are looked at: a perceptual hash decides.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from lensctl.library.catalog import VISIBLE, Catalog, folder_condition
from lensctl.library.vectors import SearchFile
from lensctl.models.interface import Floats
from lensctl.photos.near_duplicates import MAX_DISTANCE, group_near

CANDIDATE_COSINE = 0.75
"""Most copies that were resized, recompressed or brightened stay above; see docs/results.md."""

_BLOCK = 4096
_SKETCH = 256
_SKETCH_ERROR = 0.12
"""Four times the likely error of a sketch's cosine."""
_COPY_NAME = re.compile(rb"(?i)[ _-]copy|\bcopy of |\(\d+\)|~\d*$|[-_]edited|[-_]\d{3,4}x\d{3,4}")


@dataclass(frozen=True, slots=True)
class PhotoCopy:
    """One photo of a group."""

    path: bytes
    content_id: int
    size: int
    width: int
    height: int
    format: str
    taken: str | None


@dataclass(frozen=True, slots=True)
class Group:
    """Photos that are the same; the first is the one that we would keep."""

    kind: Literal["exact", "near"]
    photos: tuple[PhotoCopy, ...]


def exact_groups(catalog: Catalog, folder: bytes | None = None) -> list[Group]:
    """Photos with the same bytes, largest waste of space first."""
    groups = [
        Group("exact", _best_first(copies)) for copies in _by_content(catalog, folder).values()
    ]
    wasteful = [group for group in groups if len(group.photos) > 1]
    return sorted(wasteful, key=lambda group: -sum(one.size for one in group.photos[1:]))


def near_groups(
    catalog: Catalog,
    file: SearchFile,
    hash_of: Callable[[PhotoCopy], int | None],
    *,
    folder: bytes | None = None,
    max_distance: int = MAX_DISTANCE,
) -> list[Group]:
    """Photos of different bytes that look the same; one of each set of exact copies is taken.

    Args:
        file: the search file of targets.
        hash_of: the perceptual hash of a photo; None where it cannot be read.
        max_distance: bits in which the hashes may differ.
    """
    copies = _by_content(catalog, folder)
    content_ids = file.ids_at(slice(None))
    rows = np.flatnonzero(np.isin(content_ids, list(copies)))
    groups: list[Group] = []
    for members in _components(file, rows):
        photos = [_best_first(copies[int(content_ids[row])])[0] for row in members]
        hashed = [(photo, hash_of(photo)) for photo in photos]
        known = [(photo, value) for photo, value in hashed if value is not None]
        alike = group_near([value for _, value in known], max_distance)
        groups += [Group("near", _best_first(known[one][0] for one in places)) for places in alike]
    return groups


def _by_content(catalog: Catalog, folder: bytes | None) -> dict[int, list[PhotoCopy]]:
    condition, values = ("", []) if folder is None else folder_condition(folder)
    rows = catalog.connection.execute(
        "SELECT photos.path, contents.id, photos.size, width, height, format, taken FROM photos"
        f" JOIN contents ON contents.id = photos.content_id WHERE {VISIBLE} {condition}"
        " ORDER BY photos.path",
        values,
    )
    found: dict[int, list[PhotoCopy]] = {}
    for row in rows:
        found.setdefault(row[1], []).append(PhotoCopy(*row))
    return found


def _best_first(photos: Iterable[PhotoCopy]) -> tuple[PhotoCopy, ...]:
    """Most pixels, then most bytes, then a name that is not a copy's, then the shortest path."""
    return tuple(
        sorted(
            photos,
            key=lambda one: (
                -one.width * one.height,
                -one.size,
                one.taken is None,
                bool(_COPY_NAME.search(one.path.rpartition(b"/")[2].rpartition(b".")[0])),
                len(one.path),
                one.path,
            ),
        )
    )


def _components(file: SearchFile, rows: np.ndarray) -> list[list[int]]:
    """Sets of two or more rows linked by cosines of CANDIDATE_COSINE or more."""
    parent = {int(row): int(row) for row in rows}

    def top(row: int) -> int:
        while parent[row] != row:
            parent[row] = parent[parent[row]]
            row = parent[row]
        return row

    for left, right in _close_pairs(file, rows):
        parent[top(left)] = top(right)
    sets: dict[int, list[int]] = {}
    for row in parent:
        sets.setdefault(top(row), []).append(row)
    return [members for members in sets.values() if len(members) > 1]


def _close_pairs(file: SearchFile, rows: np.ndarray) -> Iterator[tuple[int, int]]:
    """Pairs of rows with a cosine of CANDIDATE_COSINE or more; found by sketches, then checked."""
    sketches = _sketches(file, rows)
    for start in range(0, len(rows), _BLOCK):
        some = sketches[start : start + _BLOCK]
        for other in range(start, len(rows), _BLOCK):
            cosines = some @ sketches[other : other + _BLOCK].T
            left, right = np.nonzero(cosines >= CANDIDATE_COSINE - _SKETCH_ERROR)
            left, right = left + start, right + other
            yield from _checked(file, rows[left[left < right]], rows[right[left < right]])


def _sketches(file: SearchFile, rows: np.ndarray) -> Floats:
    """(N, K) unit vectors whose cosines are nearly those of the rows.

    Vectors thrown onto K random directions keep their cosines to about (1 - cosine^2) / sqrt(K)
    (Johnson and Lindenstrauss 1984): 0.03 at the bound, and a fifth of the products for `mini`.
    """
    dim = file.codes.shape[1]
    directions = np.random.default_rng(0).standard_normal((dim, _SKETCH), dtype=np.float32)
    sketches = np.empty((len(rows), _SKETCH), dtype=np.float32)
    for start in range(0, len(rows), _BLOCK):
        some = file.vectors_at(rows[start : start + _BLOCK]) @ directions
        some /= np.maximum(np.linalg.norm(some, axis=1, keepdims=True), 1e-12)
        sketches[start : start + _BLOCK] = some
    return sketches


def _checked(file: SearchFile, left: np.ndarray, right: np.ndarray) -> Iterator[tuple[int, int]]:
    for start in range(0, len(left), _BLOCK):
        one, other = left[start : start + _BLOCK], right[start : start + _BLOCK]
        cosines = np.einsum("nd,nd->n", file.vectors_at(one), file.vectors_at(other))
        close = cosines >= CANDIDATE_COSINE
        yield from zip(one[close].tolist(), other[close].tolist(), strict=True)


def wasted_bytes(groups: Sequence[Group]) -> int:
    """Bytes that keeping only the first of each group would free."""
    return sum(one.size for group in groups for one in group.photos[1:])
