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
from lensctl.photos.near_duplicates import MAX_DISTANCE, group_near

CANDIDATE_COSINE = 0.75
"""Most copies that were resized, recompressed or brightened stay above; see docs/results.md."""

_BLOCK = 4096
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
    blocks = [rows[start : start + _BLOCK] for start in range(0, len(rows), _BLOCK)]
    for number, some in enumerate(blocks):
        vectors = file.vectors_at(some)
        for others in blocks[number:]:
            cosines = vectors @ file.vectors_at(others).T
            for left, right in np.argwhere(cosines >= CANDIDATE_COSINE):
                if some[left] < others[right]:
                    yield int(some[left]), int(others[right])


def wasted_bytes(groups: Sequence[Group]) -> int:
    """Bytes that keeping only the first of each group would free."""
    return sum(one.size for group in groups for one in group.photos[1:])
