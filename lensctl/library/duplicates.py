"""Groups of photos that are the same: byte for byte, or to the eye.

Exact copies are known from their content hashes, near ones from the perceptual hashes that
indexing keeps: pairs of near hashes are candidates, and the model's vectors must agree. Candidates
are decoded only where they were indexed before such hashes were kept.

What is found may be deleted by a script, so the catalog is not believed: a photo counts only where
its file lies on the disk as it was indexed, and a file counts once, whatever its names. All files
of the groups are read and hashed: size and time do not prove what a file holds.
"""

import json
import os
import re
import stat
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from lensctl.errors import LibraryError, PhotoError, StorageError
from lensctl.library.catalog import Catalog, folders_condition, with_slash
from lensctl.library.library import Library
from lensctl.library.pipeline import in_order
from lensctl.library.recorder import signed
from lensctl.library.vectors import SearchFile
from lensctl.photos.decode import decode
from lensctl.photos.near_duplicates import MAX_DISTANCE, Progress, group_near, telling_hash
from lensctl.photos.reader import hash_file

MIN_COSINE = 0.7
"""What looks the same to the hash and not to the model is not the same: drawings on plain ground,
flags, icons. Most copies that were resized, recompressed or brightened stay above; see
docs/results.md."""

MAX_STRETCH = 1.05
"""How much longer in shape a near copy may be: room for rounding and for a narrow crop, not for
3:2 beside 4:3. The hash squeezes every photo into a square and cannot tell."""

_KEPT_AT_ONCE = 256
_COPY_NAME = re.compile(rb"(?i)[ _-]copy|\bcopy of |\(\d+\)|~\d*$|[-_]edited|[-_]\d{3,4}x\d{3,4}")


@dataclass(frozen=True, slots=True)
class PhotoCopy:
    """One photo of a group.

    Attributes:
        content_hash: 16 bytes, of its file when it was indexed; see `hash_file`.
        size: bytes.
        width: of the whole photo, upright, pixels.
        height: pixels.
        mtime_ns: its time of change when it was indexed, nanoseconds.
        device: of its file when it was indexed, and
        inode: likewise, both as the catalog holds them.
        last_run: seconds since 1970 when its root was last indexed.
        links: names that its file has on the disk; hard links make more than one.
    """

    path: bytes
    content_id: int
    content_hash: bytes
    size: int
    width: int
    height: int
    format: str
    taken: str | None
    mtime_ns: int
    device: int
    inode: int
    last_run: int
    links: int = 1


@dataclass(frozen=True, slots=True)
class Group:
    """Photos that are the same, each a file of its own; the first is the one that we would keep."""

    kind: Literal["exact", "near"]
    photos: tuple[PhotoCopy, ...]


class Disk:
    """What lies now where the catalog says, the best first; each place is looked at once.

    Attributes:
        keep_in: folders whose photos are better than all others, the best folder first.
        stale: paths that are missing, or changed since they were indexed.
        others: paths whose bytes are not those that were indexed, though size and time are.
    """

    def __init__(self, keep_in: Sequence[bytes] = ()) -> None:
        self.keep_in = keep_in
        self.stale: set[bytes] = set()
        self.others: set[bytes] = set()
        self._seen: dict[bytes, os.stat_result | None] = {}
        self._real: dict[bytes, bool] = {}
        self._held: dict[bytes, bool] = {}

    def files(self, copies: Iterable[PhotoCopy]) -> tuple[PhotoCopy, ...]:
        """The files that are there as they were indexed, best first.

        Of hard links the best name stands for the file. Paths through symbolic links are left out:
        what they lead to is listed by its real path, or lies outside the library.
        """
        found: dict[tuple[int, int], PhotoCopy] = {}
        for copy in self.best_first(copies):
            status = self._status(copy)
            if status is not None:
                own = replace(copy, links=status.st_nlink)
                found.setdefault((status.st_dev, status.st_ino), own)
        return self.best_first(found.values())

    def best_first(self, photos: Iterable[PhotoCopy]) -> tuple[PhotoCopy, ...]:
        """By folder to keep, then most pixels, then a date, then a name that is not a copy's, then
        most bytes, then most hard links, then the shortest path.

        Bytes say little: a photo saved again without loss has more of them, and has often lost its
        date. A file of several names is better kept: deleting one of them frees nothing.
        """
        return tuple(
            sorted(
                photos,
                key=lambda one: (
                    self._rank(one.path),
                    -one.width * one.height,
                    one.taken is None,
                    bool(_COPY_NAME.search(one.path.rpartition(b"/")[2].rpartition(b".")[0])),
                    -one.size,
                    -one.links,
                    len(one.path),
                    one.path,
                ),
            )
        )

    def _rank(self, path: bytes) -> int:
        folders = enumerate(map(with_slash, self.keep_in))
        return next((rank for rank, start in folders if path.startswith(start)), len(self.keep_in))

    def confirm(self, groups: Sequence[Group], progress: Progress) -> list[Group]:
        """Groups of two or more files each of which holds the bytes that were indexed.

        All are read. Near copies are copies of the first of their group, and go with it.
        """
        confirmed: list[Group] = []
        for group in progress(groups, "reading copies"):
            photos = tuple(one for one in group.photos if self._holds(one))
            is_near = group.kind == "near"
            if len(photos) > 1 and not (is_near and photos[0] != group.photos[0]):
                confirmed.append(replace(group, photos=photos))
        return confirmed

    def _holds(self, copy: PhotoCopy) -> bool:
        if copy.path not in self._held:
            try:
                self._held[copy.path] = hash_file(copy.path) == copy.content_hash
                if not self._held[copy.path]:
                    self.others.add(copy.path)
            except PhotoError:
                self._held[copy.path] = False
                self.stale.add(copy.path)
        return self._held[copy.path]

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
        if not as_indexed or _was_replaced(copy, status) or not stat.S_ISREG(status.st_mode):
            self.stale.add(copy.path)
            return None
        return status


def _was_replaced(copy: PhotoCopy, status: os.stat_result) -> bool:
    """Whether another file has taken its place since the last run, as `Reconciler` decides it."""
    file, known = (signed(status.st_dev), signed(status.st_ino)), (copy.device, copy.inode)
    return file[0] == known[0] and file[1] != known[1] and status.st_ctime >= copy.last_run


def exact_groups(
    catalog: Catalog,
    folders: Sequence[bytes] = (),
    *,
    disk: Disk | None = None,
    progress: Progress = lambda items, _: items,
) -> list[Group]:
    """Photos with the same bytes, largest waste of space first.

    Args:
        folders: only photos in one of these.
        disk: learns which files are stale; one for all searches of a run.
        progress: shows how far the long loop is.
    """
    disk = disk or Disk()
    several = _by_content(catalog, folders, _present_contents(catalog, folders, at_least=2))
    groups = [Group("exact", disk.files(copies)) for copies in several.values()]
    wasteful = disk.confirm([group for group in groups if len(group.photos) > 1], progress)
    return sorted(wasteful, key=lambda group: -wasted_bytes([group]))


def near_groups(
    catalog: Catalog,
    file: SearchFile,
    look: Callable[[Sequence[PhotoCopy]], Mapping[int, int | None]],
    *,
    folders: Sequence[bytes] = (),
    max_distance: int = MAX_DISTANCE,
    disk: Disk | None = None,
    progress: Progress = lambda items, _: items,
) -> list[Group]:
    """Photos of different bytes that look the same; one of each set of exact copies is taken.

    Args:
        file: the search file of targets.
        look: asked for the perceptual hashes, by content id, that the library does not know yet;
            None where a photo has none. See `LookingAt`.
        folders: only photos in one of these.
        max_distance: bits in which the hashes may differ.
        disk: learns which files are stale; one for all searches of a run.
        progress: shows how far the long loops are.
    """
    disk = disk or Disk()
    present = _present_contents(catalog, folders)
    rows = {one: row for row, one in enumerate(file.ids_at(slice(None)).tolist()) if one in present}
    known = _hashes(catalog, rows, look, disk)
    ids = list(known)
    chains = group_near([known[one] for one in ids], max_distance, progress)
    near = [[ids[place] for place in chain] for chain in chains]
    copies = _by_content(catalog, folders, [one for chain in near for one in chain])
    groups = []
    for chain in near:
        photos = [one for content in chain for one in disk.files(copies.get(content, []))[:1]]
        told = [_Told(one, known[one.content_id], rows[one.content_id]) for one in photos]
        groups += [
            Group("near", disk.files(alike)) for alike in _alike(told, file, max_distance, disk)
        ]
    return disk.confirm([group for group in groups if len(group.photos) > 1], progress)


class LookingAt:
    """Perceptual hashes of photos that an older lensctl indexed, kept in the library as they come.

    A library that cannot be written to, or that another process writes to, gets them another time.

    Args:
        at_least: shortest side in pixels that decoding must keep, as in indexing.
        max_pixels: larger photos are refused before decoding.
        refused: told which photos cannot be read.
    """

    def __init__(
        self,
        library: Library,
        *,
        at_least: int,
        max_pixels: int,
        refused: Callable[[PhotoCopy, PhotoError], None],
        progress: Progress = lambda items, _: items,
    ) -> None:
        self._library = library
        self._at_least = at_least
        self._max_pixels = max_pixels
        self._refused = refused
        self._progress = progress

    def __call__(self, photos: Sequence[PhotoCopy]) -> dict[int, int | None]:
        """Content id -> perceptual hash, None where it has none; without unreadable photos."""
        found: dict[int, int | None] = {}
        unkept: dict[int, int | None] = {}
        workers = os.cpu_count() or 1
        shown = self._progress(photos, "looking at photos")
        with closing(in_order(shown, self._look, workers, window=4 * workers)) as looked:
            for photo, result in zip(photos, looked, strict=True):
                if isinstance(result, PhotoError):
                    self._refused(photo, result)
                    continue
                found[photo.content_id] = unkept[photo.content_id] = result
                if len(unkept) >= _KEPT_AT_ONCE:
                    self._keep(unkept)
        self._keep(unkept)
        return found

    def _look(self, photo: PhotoCopy) -> int | PhotoError | None:
        try:
            image = decode(photo.path, at_least=self._at_least, max_pixels=self._max_pixels).image
            return telling_hash(image)
        except PhotoError as error:
            return error

    def _keep(self, unkept: dict[int, int | None]) -> None:
        try:
            with self._library.writing() as recorder, recorder.transaction():
                for content_id, value in unkept.items():
                    recorder.record_looks(content_id, value)
        except (LibraryError, StorageError):
            return
        unkept.clear()


@dataclass(frozen=True, slots=True)
class _Told:
    """A photo with its perceptual hash and its row in the search file."""

    photo: PhotoCopy
    hash: int
    row: int


def _hashes(
    catalog: Catalog,
    content_ids: Collection[int],
    look: Callable[[Sequence[PhotoCopy]], Mapping[int, int | None]],
    disk: Disk,
) -> dict[int, int]:
    """Content id -> perceptual hash, of those among some contents that have one."""
    known = catalog.looks()
    unknown = [one for one in content_ids if one not in known]
    if unknown:
        copies = _by_content(catalog, (), unknown).values()
        known |= look([one for several in copies for one in disk.files(several)[:1]])
    return {one: value for one in content_ids if (value := known.get(one)) is not None}


def _alike(
    photos: list[_Told], file: SearchFile, max_distance: int, disk: Disk
) -> list[list[PhotoCopy]]:
    """Parts of two or more photos: one to keep, and what is near *to it*.

    Chains of near pairs lead from one end of a burst or a pan to the other, to photos that no one
    would take for copies; so the best photo of a chain gathers its own copies, then the best of
    what is left.
    """
    ranks = {one: place for place, one in enumerate(disk.best_first(one.photo for one in photos))}
    photos = sorted(photos, key=lambda one: ranks[one.photo])
    hashes = np.array([one.hash for one in photos], dtype=np.uint64)
    shapes = np.array([one.photo.width / one.photo.height for one in photos])
    rows = np.array([one.row for one in photos])
    found: list[list[PhotoCopy]] = []
    left = np.arange(len(photos))
    while len(left) > 1:
        kept, others = left[0], left[1:]
        stretch = shapes[others] / shapes[kept]
        near = others[
            (np.bitwise_count(hashes[others] ^ hashes[kept]) <= max_distance)
            & (np.maximum(stretch, 1 / stretch) <= MAX_STRETCH)
        ]
        cosines = file.vectors_at(rows[near]) @ file.vectors_at(rows[[kept]])[0]
        near = near[cosines >= MIN_COSINE]
        if len(near):
            found.append([photos[place].photo for place in (kept, *near)])
        left = np.setdiff1d(others, near, assume_unique=True)
    return found


def _present_contents(catalog: Catalog, folders: Sequence[bytes], at_least: int = 1) -> set[int]:
    """Ids of the contents that lie in so many places."""
    condition, values = folders_condition(folders)
    rows = catalog.connection.execute(
        "SELECT content_id FROM photos WHERE content_id NOT NULL AND state = 'present'"
        f" {condition} GROUP BY content_id HAVING count(*) >= ?",
        [*values, at_least],
    )
    return {content_id for (content_id,) in rows}


def _by_content(
    catalog: Catalog, folders: Sequence[bytes], content_ids: Iterable[int]
) -> dict[int, list[PhotoCopy]]:
    """Content id -> the places of some contents."""
    condition, values = folders_condition(folders)
    rows = catalog.connection.execute(
        "SELECT photos.path, contents.id, contents.hash, photos.size, width, height, format, taken,"
        " photos.mtime_ns, device, inode,"
        " CAST(coalesce(strftime('%s', roots.last_indexed), 0) AS INTEGER)"
        " FROM photos JOIN roots ON roots.id = photos.root_id"
        " JOIN contents ON contents.id = photos.content_id"
        " WHERE contents.id IN (SELECT value FROM json_each(?))"
        f" AND photos.state = 'present' {condition} ORDER BY photos.path",
        [json.dumps(list(content_ids)), *values],
    )
    found: dict[int, list[PhotoCopy]] = {}
    for row in rows:
        found.setdefault(row[1], []).append(PhotoCopy(*row))
    return found


def wasted_bytes(groups: Sequence[Group]) -> int:
    """Bytes that keeping only the first of each group would free.

    A file that has other names, hard links, frees nothing.
    """
    return sum(one.size for group in groups for one in group.photos[1:] if one.links == 1)
