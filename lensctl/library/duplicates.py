"""Groups of photos that are the same: byte for byte, or to the eye.

Exact copies are known from their content hashes. For near copies, kept vectors find the candidates
without reading a photo, and only these are looked at: a perceptual hash decides.

What is found may be deleted by a script, so the catalog is not believed: a photo counts only where
its file lies on the disk as it was indexed, and a file counts once, whatever its names.
"""

import os
import re
import stat
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from PIL import Image

from lensctl.library.catalog import Catalog, folder_condition
from lensctl.library.vectors import SearchFile
from lensctl.models.interface import Floats
from lensctl.photos.near_duplicates import MAX_DISTANCE, group_near, perceptual_hash

CANDIDATE_COSINE = 0.75
"""Most copies that were resized, recompressed or brightened stay above; see docs/results.md."""

MAX_STRETCH = 1.05
"""How much longer in shape a near copy may be: room for rounding and for a narrow crop, not for
3:2 beside 4:3. The hash squeezes every photo into a square and cannot tell."""

MIN_CONTRAST = 1.0
"""Grey levels, standard deviation of the miniature; the flattest photo measured has 9. Below one,
the signs that make the hash are those of rounding, and of one colour alone it has no bit set."""

Progress = Callable[[Sequence[Any], str], Iterable[Any]]
"""Hands on the items of a long loop, and shows how far it is, under a title."""

_BLOCK = 4096
_SKETCH = 256
_SKETCH_ERROR = 0.12
"""Four times the likely error of a sketch's cosine."""
_COPY_NAME = re.compile(rb"(?i)[ _-]copy|\bcopy of |\(\d+\)|~\d*$|[-_]edited|[-_]\d{3,4}x\d{3,4}")


@dataclass(frozen=True, slots=True)
class PhotoCopy:
    """One photo of a group.

    Attributes:
        size: bytes.
        width: of the whole photo, upright, pixels.
        height: pixels.
        mtime_ns: its time of change when it was indexed, nanoseconds.
        links: names that its file has on the disk; hard links make more than one.
    """

    path: bytes
    content_id: int
    size: int
    width: int
    height: int
    format: str
    taken: str | None
    mtime_ns: int
    links: int = 1


@dataclass(frozen=True, slots=True)
class Group:
    """Photos that are the same, each a file of its own; the first is the one that we would keep."""

    kind: Literal["exact", "near"]
    photos: tuple[PhotoCopy, ...]


class Disk:
    """What lies now where the catalog says; each place is looked at once.

    Attributes:
        stale: paths that are missing, or changed since they were indexed.
    """

    def __init__(self) -> None:
        self.stale: set[bytes] = set()
        self._seen: dict[bytes, os.stat_result | None] = {}
        self._real: dict[bytes, bool] = {}

    def files(self, copies: Iterable[PhotoCopy]) -> tuple[PhotoCopy, ...]:
        """The files that are there as they were indexed, best first.

        Of hard links the best name stands for the file. Paths through symbolic links are left out:
        what they lead to is listed by its real path, or lies outside the library.
        """
        found: dict[tuple[int, int], PhotoCopy] = {}
        for copy in _best_first(copies):
            status = self._status(copy)
            if status is not None:
                own = replace(copy, links=status.st_nlink)
                found.setdefault((status.st_dev, status.st_ino), own)
        return _best_first(found.values())

    def _status(self, copy: PhotoCopy) -> os.stat_result | None:
        if copy.path not in self._seen:
            self._seen[copy.path] = self._look(copy)
        return self._seen[copy.path]

    def _look(self, copy: PhotoCopy) -> os.stat_result | None:
        folder = os.path.dirname(copy.path)
        if folder not in self._real:
            self._real[folder] = os.path.realpath(folder) == folder
        try:
            status = os.lstat(copy.path)
        except OSError:  # gone, or its folder is closed to us: the next index run says which
            self.stale.add(copy.path)
            return None
        if stat.S_ISLNK(status.st_mode) or not self._real[folder]:
            return None
        as_indexed = (status.st_size, status.st_mtime_ns) == (copy.size, copy.mtime_ns)
        if not (as_indexed and stat.S_ISREG(status.st_mode)):
            self.stale.add(copy.path)
            return None
        return status


def exact_groups(
    catalog: Catalog, folder: bytes | None = None, *, disk: Disk | None = None
) -> list[Group]:
    """Photos with the same bytes, largest waste of space first.

    Args:
        folder: only photos in it.
        disk: learns which files are stale; one for all searches of a run.
    """
    disk = disk or Disk()
    several = (one for one in _by_content(catalog, folder).values() if len(one) > 1)
    groups = [Group("exact", disk.files(copies)) for copies in several]
    wasteful = [group for group in groups if len(group.photos) > 1]
    return sorted(wasteful, key=lambda group: -wasted_bytes([group]))


def near_groups(
    catalog: Catalog,
    file: SearchFile,
    hash_of: Callable[[PhotoCopy], int | None],
    *,
    folder: bytes | None = None,
    max_distance: int = MAX_DISTANCE,
    disk: Disk | None = None,
    progress: Progress = lambda items, _: items,
) -> list[Group]:
    """Photos of different bytes that look the same; one of each set of exact copies is taken.

    Args:
        file: the search file of targets.
        hash_of: the perceptual hash of a photo; None where it has none or cannot be read.
        folder: only photos in it.
        max_distance: bits in which the hashes may differ.
        disk: learns which files are stale; one for all searches of a run.
        progress: shows how far the two long loops are.
    """
    disk = disk or Disk()
    copies = _by_content(catalog, folder)
    content_ids = file.ids_at(slice(None))
    rows = np.flatnonzero(np.isin(content_ids, list(copies)))
    candidates = [
        [one for row in members for one in disk.files(copies[int(content_ids[row])])[:1]]
        for members in _components(file, rows, progress)
    ]
    candidates = [members for members in candidates if len(members) > 1]
    photos = [photo for members in candidates for photo in members]
    hashes = {one.content_id: hash_of(one) for one in progress(photos, "looking at candidates")}
    groups = []
    for members in candidates:
        known = [(one, value) for one in members if (value := hashes[one.content_id]) is not None]
        groups += [Group("near", disk.files(alike)) for alike in _alike(known, max_distance)]
    return [group for group in groups if len(group.photos) > 1]


def telling_hash(image: Image.Image) -> int | None:
    """The perceptual hash of an upright photo; None where it is too flat to tell it by its looks.

    A black photo and a grey one have the same hash, that of no features.
    """
    small = image.convert("L").resize((32, 32), Image.Resampling.BOX, reducing_gap=2.0)
    return perceptual_hash(image) if np.std(np.asarray(small)) >= MIN_CONTRAST else None


def _alike(photos: list[tuple[PhotoCopy, int]], max_distance: int) -> list[list[PhotoCopy]]:
    """Parts of two or more photos (with their hashes): one to keep, and what is near *to it*.

    Chains of near pairs lead from one end of a burst or a pan to the other, to photos that no one
    would take for copies; so the best photo of a chain gathers its own copies, then the best of
    what is left.
    """
    found: list[list[PhotoCopy]] = []
    for places in group_near([value for _, value in photos], max_distance):
        hashes = {photos[place][0]: photos[place][1] for place in places}
        left = list(_best_first(hashes))
        while len(left) > 1:
            kept = left[0]
            near = [
                one
                for one in left
                if (hashes[one] ^ hashes[kept]).bit_count() <= max_distance
                and _stretch(one, kept) <= MAX_STRETCH
            ]
            if len(near) > 1:
                found.append(near)
            gathered = set(near)
            left = [one for one in left if one not in gathered]
    return found


def _stretch(one: PhotoCopy, other: PhotoCopy) -> float:
    """How much longer the longer shape is; 1 where both have the same."""
    shapes = one.width / one.height, other.width / other.height
    return max(shapes) / min(shapes)


def _by_content(catalog: Catalog, folder: bytes | None) -> dict[int, list[PhotoCopy]]:
    condition, values = ("", []) if folder is None else folder_condition(folder)
    rows = catalog.connection.execute(
        "SELECT photos.path, contents.id, photos.size, width, height, format, taken,"
        " photos.mtime_ns FROM photos JOIN contents ON contents.id = photos.content_id"
        f" WHERE photos.state = 'present' {condition} ORDER BY photos.path",
        values,
    )
    found: dict[int, list[PhotoCopy]] = {}
    for row in rows:
        found.setdefault(row[1], []).append(PhotoCopy(*row))
    return found


def _best_first(photos: Iterable[PhotoCopy]) -> tuple[PhotoCopy, ...]:
    """Most pixels, then most bytes, then most hard links, then a name that is not a copy's, then
    the shortest path.

    A file of several names is better kept: deleting one of them frees nothing.
    """
    return tuple(
        sorted(
            photos,
            key=lambda one: (
                -one.width * one.height,
                -one.size,
                -one.links,
                one.taken is None,
                bool(_COPY_NAME.search(one.path.rpartition(b"/")[2].rpartition(b".")[0])),
                len(one.path),
                one.path,
            ),
        )
    )


def _components(file: SearchFile, rows: np.ndarray, progress: Progress) -> list[list[int]]:
    """Sets of two or more rows linked by cosines of CANDIDATE_COSINE or more."""
    parent = {int(row): int(row) for row in rows}

    def top(row: int) -> int:
        while parent[row] != row:
            parent[row] = parent[parent[row]]
            row = parent[row]
        return row

    for left, right in _close_pairs(file, rows, progress):
        parent[top(left)] = top(right)
    sets: dict[int, list[int]] = {}
    for row in parent:
        sets.setdefault(top(row), []).append(row)
    return [members for members in sets.values() if len(members) > 1]


def _close_pairs(
    file: SearchFile, rows: np.ndarray, progress: Progress = lambda items, _: items
) -> Iterator[tuple[int, int]]:
    """Pairs of rows with a cosine of CANDIDATE_COSINE or more; found by sketches, then checked."""
    sketches = _sketches(file, rows)
    starts = range(0, len(rows), _BLOCK)
    blocks = [(start, other) for start in starts for other in starts if start <= other]
    for start, other in progress(blocks, "comparing vectors"):
        cosines = sketches[start : start + _BLOCK] @ sketches[other : other + _BLOCK].T
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
    """Bytes that keeping only the first of each group would free.

    A file that has other names, hard links, frees nothing.
    """
    return sum(one.size for group in groups for one in group.photos[1:] if one.links == 1)
