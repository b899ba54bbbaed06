"""Compare what a scan found with what the catalog knows, in SQL, so that memory stays flat.

The scan goes into a temporary table; joins tell unchanged, moved, new and missing photos apart.
A missing photo is gone only when its folder can be seen without it: a root or a mount that is
absent or empty is offline, and nothing in it is forgotten. Neither is it when another disk lies
there: what was offline is gone only when photos that were offline with it were seen again.
"""

import os
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from lensctl.library.catalog import KnownLens, folder_condition, with_slash
from lensctl.library.recorder import Recorder, signed
from lensctl.photos.scan import FoundPhoto, LeftOutRaw, look

_BLOCK = 2000

MissingPhoto = tuple[int, bytes, int, int, int, int, int | None, bool]
"""A photo the scan did not give: (photo id, path, device, inode, size, mtime_ns, content id,
whether it was offline before)."""

_Disk = tuple[int, bool]
"""(device number, whether offline): photos that came and went together."""


@dataclass
class Changes:
    """What reconciling a folder did, in photos; `went_offline` of those offline since this run."""

    found: int = 0
    moved: int = 0
    excluded: int = 0
    offline: int = 0
    went_offline: int = 0
    gone: int = 0


class Reconciler:
    """One folder of a root, scanned and compared.

    Attributes:
        closed: folders that the scan could not list, of whose photos it says nothing.
        changes: what `settle` did.
    """

    def __init__(self, recorder: Recorder, root_id: int, folder: bytes) -> None:
        self._recorder = recorder
        self._sql = recorder.connection
        self._root_id = root_id
        self._folder = folder
        self._began = int(time.time())
        self._last_run = 0
        self._ambiguous: set[tuple[int, int]] = set()
        self.closed: list[bytes] = []
        self.changes = Changes()

    def take_in(self, found: Iterable[FoundPhoto | LeftOutRaw]) -> None:
        """Write the scan into the temporary tables."""
        for name, columns in _TEMPORARY.items():
            self._sql.execute(f"DROP TABLE IF EXISTS temp.{name}")
            self._sql.execute(f"CREATE TEMP TABLE {name} ({columns}) WITHOUT ROWID")
        with self._recorder.transaction():
            self._see(found)
            self._see(self._raws_alone())
        self.changes.found = self._sql.execute("SELECT count(*) FROM seen").fetchone()[0]

    def take_in_raws(self) -> Changes:
        """Take in, in place of the scan, the RAWs whose twins proved unreadable since `take_in`.

        Returns what that changes in `changes`.
        """
        raws = list(self._raws_alone())
        with self._recorder.transaction():
            self._sql.execute("DELETE FROM seen")
            self._see(raws)
            return Changes(found=len(raws), excluded=-self._welcome_back())

    def _see(self, found: Iterable[FoundPhoto | LeftOutRaw]) -> None:
        self._sql.executemany(
            "INSERT OR IGNORE INTO seen VALUES (?, ?, ?, ?, ?)", self._rows_to_see(found)
        )

    def _rows_to_see(
        self, found: Iterable[FoundPhoto | LeftOutRaw]
    ) -> Iterator[tuple[bytes, int, int, int, int]]:
        for one in found:
            if isinstance(one, LeftOutRaw):
                self._sql.execute(
                    "INSERT OR IGNORE INTO left_out VALUES (?, ?)", (one.path, one.twin)
                )
            else:
                yield one.path, one.size, one.mtime_ns, signed(one.device), signed(one.inode)

    def _raws_alone(self) -> Iterator[FoundPhoto]:
        """RAWs that were left out though the catalog knows that no twin of theirs can be read."""
        for (path,) in self._sql.execute(_RAWS_ALONE).fetchall():
            one = look(path)
            if isinstance(one, FoundPhoto):
                yield one

    def settle(self) -> Changes:
        """Bring the catalog's places in line with the scan, in one transaction."""
        with self._recorder.transaction():
            self._doubt_replaced()
            missing = self._missing()
            disks = self._disks_seen_again() if missing else {}
            self._welcome_back()
            if missing:
                self._sql.execute("CREATE INDEX temp.seen_inode ON seen (inode)")
                self._gather_evidence(missing)
            self._judge([row for row in missing if not self._follow_move(row)], disks)
            self._sql.execute(
                "UPDATE roots SET last_indexed = datetime(?, 'unixepoch') WHERE id = ?",
                (self._began, self._root_id),
            )
        return self.changes

    def to_read(self, lens: KnownLens, *, retry_errors: bool) -> Iterator[FoundPhoto]:
        """Photos that must be read: new, changed, or without a vector of this encoder."""
        sql = _TO_READ + (" OR photos.error NOT NULL" if retry_errors else "")
        sql += ") AND seen.path > ? ORDER BY seen.path LIMIT ?"
        after = b""
        while block := self._sql.execute(sql, (lens.encoder_id, after, _BLOCK)).fetchall():
            for row in block:
                yield FoundPhoto(*row)
            after = block[-1][0]

    def count_to_read(self, lens: KnownLens, *, retry_errors: bool) -> int:
        """How many photos `to_read` gives."""
        sql = _TO_READ + (" OR photos.error NOT NULL" if retry_errors else "") + ")"
        return int(
            self._sql.execute(f"SELECT count(*) FROM ({sql})", (lens.encoder_id,)).fetchone()[0]
        )

    def set_offline(self) -> None:
        """Mark all photos of the folder as offline; `changes` says how many they are."""
        condition, values = folder_condition(self._folder)
        with self._recorder.transaction():
            cursor = self._sql.execute(
                f"UPDATE photos SET state = 'offline' WHERE state = 'present' {condition}",
                values,
            )
        self.changes.went_offline = cursor.rowcount
        self.changes.offline = self.known()

    def known(self) -> int:
        """How many photos of the folder the catalog knows and has not excluded."""
        condition, values = folder_condition(self._folder)
        return int(
            self._sql.execute(
                f"SELECT count(*) FROM photos WHERE state != 'excluded' {condition}", values
            ).fetchone()[0]
        )

    def _doubt_replaced(self) -> None:
        """Have files read that took the place of others since the last run, of their size and time.

        Tools that correct dates can keep a file's time (`exiftool -P`) and write it anew. An inode
        alone proves nothing: on FAT disks and some servers they are numbered at every mount.
        """
        replaced = [
            (photo_id,)
            for photo_id, path, last_run in self._sql.execute(_OTHER_INODE, (self._root_id,))
            if _changed_at(path) >= last_run
        ]
        self._sql.executemany("UPDATE photos SET size = -1 WHERE id = ?", replaced)

    def _disks_seen_again(self) -> dict[_Disk, set[int]]:
        """The numbers that disks have now, told by photos that are there as they were.

        A disk may come back under another number, and another disk under its number. A photo of the
        same inode proves a disk; on FAT disks and some servers, where inodes are numbered at every
        mount, more than half of the photos do, and not one of them that was copied to where the
        disk used to be.
        """
        condition, values = folder_condition(self._folder)
        rows = self._sql.execute(_PHOTOS_OF_DISKS.format(condition=condition), values)
        photos = {(device, bool(offline)): count for device, offline, count in rows}
        found: dict[_Disk, set[int]] = {}
        for device, offline, number, count, same_inode in self._sql.execute(_SEEN_AGAIN):
            disk = device, bool(offline)
            if same_inode or 2 * count > photos.get(disk, 0):
                found.setdefault(disk, set()).add(number)
        return found

    def _welcome_back(self) -> int:
        """How many photos are present again, or under another number."""
        cursor = self._sql.execute(
            "UPDATE photos SET state = 'present', device = seen.device, inode = seen.inode"
            " FROM seen WHERE seen.path = photos.path AND seen.size = photos.size"
            " AND seen.mtime_ns = photos.mtime_ns AND (photos.state != 'present'"
            " OR photos.device != seen.device OR photos.inode != seen.inode)"
        )
        return cursor.rowcount

    def _missing(self) -> list[MissingPhoto]:
        condition, values = folder_condition(self._folder)
        return list(
            self._sql.execute(
                "SELECT id, path, device, inode, size, mtime_ns, content_id, state = 'offline'"
                " FROM photos"
                f" WHERE path NOT IN (SELECT path FROM seen) {condition}",
                values,
            )
        )

    def _gather_evidence(self, missing: list[MissingPhoto]) -> None:
        """What `_is_renamed` asks: the last run, and sizes with times that several photos have."""
        (last_run,) = self._sql.execute(_LAST_RUN, (self._root_id,)).fetchone()
        self._last_run = last_run or 0
        asked = {row[4:6] for row in missing}
        self._ambiguous = {row for row in self._sql.execute(_SHARED) if row in asked}

    def _follow_move(self, missing: MissingPhoto) -> bool:
        """Whether a missing photo was renamed: its inode, size, time and name are at a new path."""
        photo_id, path, device, inode, size, mtime_ns, content_id, _ = missing
        if content_id is None or os.path.lexists(path):
            return False
        rows = self._sql.execute(_SAME_FILE, (inode, size, mtime_ns, device)).fetchall()
        places = [FoundPhoto(*row) for row in rows]  # several: hard links
        if not any(self._is_renamed(path, place) for place in places):
            return False
        for place in places:
            self._recorder.record_place(self._root_id, place, content_id)
        self._recorder.delete_photos([photo_id])
        self.changes.moved += 1
        return True

    def _is_renamed(self, path: bytes, place: FoundPhoto) -> bool:
        """Whether a file with the inode, size and time of a missing photo is that photo.

        File systems give the inodes of deleted files to new ones, and scans and tools that keep a
        file's time make many files of one size and time. So it must have kept its name, and either
        no other known photo has its size and time, or it has not changed since the last run: to
        rename the folder above it changes nothing in it. What is left in doubt is read.
        """
        if os.path.basename(path) != os.path.basename(place.path):
            return False
        if (place.size, place.mtime_ns) not in self._ambiguous:
            return True
        return 0 < _changed_at(place.path) < self._last_run

    def _judge(self, missing: list[MissingPhoto], disks: dict[_Disk, set[int]]) -> None:
        if missing and self.changes.found == 0 and self._nothing_left(missing):
            self.set_offline()
            return
        verdicts = _Verdicts(disks, self.closed)
        states: list[tuple[str, int]] = []
        gone: list[int] = []
        for photo_id, path, device, *_, offline in missing:
            verdict = verdicts.of(path, (device, bool(offline)))
            if verdict == "gone":
                gone.append(photo_id)
            else:
                states.append((verdict, photo_id))
                self.changes.went_offline += verdict == "offline" and not offline
        self._recorder.set_states(states)
        self._recorder.delete_photos(gone)
        self.changes.gone = len(gone)
        self.changes.excluded = sum(state == "excluded" for state, _ in states)
        self.changes.offline = sum(state == "offline" for state, _ in states)

    def _nothing_left(self, missing: list[MissingPhoto]) -> bool:
        return not any(os.path.lexists(row[1]) for row in missing)


def _changed_at(path: bytes) -> float:
    """Seconds since 1970 of the last change of a file's inode; 0 where it is gone."""
    try:
        return os.stat(path).st_ctime
    except OSError:
        return 0.0


class _Verdicts:
    """Whether a photo that the scan did not give is excluded, offline or gone."""

    def __init__(self, disks: dict[_Disk, set[int]], closed: Sequence[bytes]) -> None:
        self._disks = disks
        self._proven = {number for numbers in disks.values() for number in numbers}
        self._closed = tuple(map(with_slash, closed))
        self._nearest: dict[bytes, int | None] = {}

    def of(self, path: bytes, disk: _Disk) -> str:
        try:
            os.lstat(path)
        except (FileNotFoundError, NotADirectoryError):
            return self._of_absent(path, disk)
        except OSError:
            return "offline"
        return "offline" if path.startswith(self._closed) else "excluded"

    def _of_absent(self, path: bytes, disk: _Disk) -> str:
        nearest = self._device_above(os.path.dirname(path))
        if disk in self._disks:
            return "gone" if nearest in self._disks[disk] else "offline"
        device, offline = disk
        is_there = nearest == device and device not in self._proven
        return "gone" if is_there and not offline else "offline"

    def _device_above(self, folder: bytes) -> int | None:
        """Device of the nearest folder that exists; None where it cannot be looked at."""
        if folder not in self._nearest:
            try:
                self._nearest[folder] = signed(os.stat(folder).st_dev)
            except (FileNotFoundError, NotADirectoryError):
                self._nearest[folder] = self._device_above(os.path.dirname(folder)) or 0
            except OSError:
                self._nearest[folder] = None
        return self._nearest[folder]


_TEMPORARY = {
    "seen": "path BLOB PRIMARY KEY, size INTEGER, mtime_ns INTEGER, device INTEGER, inode INTEGER",
    "left_out": "path BLOB, twin BLOB, PRIMARY KEY (path, twin)",
}

_PHOTOS_OF_DISKS = """
SELECT device, state = 'offline', count(*) FROM photos WHERE 1 {condition} GROUP BY 1, 2
"""

_SEEN_AGAIN = """
SELECT photos.device, photos.state = 'offline', seen.device, count(*),
       max(photos.inode = seen.inode)
FROM photos JOIN seen USING (path, size, mtime_ns) GROUP BY 1, 2, 3
"""

_RAWS_ALONE = """
WITH unreadable AS (
    SELECT photos.path FROM photos JOIN seen USING (path, size, mtime_ns) WHERE error NOT NULL)
SELECT path FROM left_out GROUP BY path
HAVING min(twin IN unreadable) AND path NOT IN (SELECT path FROM seen)
"""

_TO_READ = """
SELECT seen.path, seen.size, seen.mtime_ns, seen.device, seen.inode
FROM seen LEFT JOIN photos ON photos.path = seen.path
LEFT JOIN embeddings ON embeddings.content_id = photos.content_id AND embeddings.encoder_id = ?
WHERE (photos.id IS NULL OR photos.size != seen.size OR photos.mtime_ns != seen.mtime_ns
       OR (photos.error IS NULL AND embeddings.id IS NULL)
"""

_OTHER_INODE = """
SELECT photos.id, photos.path, CAST(strftime('%s', roots.last_indexed) AS INTEGER)
FROM photos JOIN seen USING (path) JOIN roots ON roots.id = ?
WHERE photos.inode != seen.inode AND photos.device = seen.device AND photos.size = seen.size
  AND photos.mtime_ns = seen.mtime_ns AND photos.state = 'present'
  AND roots.last_indexed NOT NULL
"""

_LAST_RUN = "SELECT CAST(strftime('%s', last_indexed) AS INTEGER) FROM roots WHERE id = ?"

_SHARED = "SELECT size, mtime_ns FROM photos GROUP BY size, mtime_ns HAVING count(*) > 1"

_SAME_FILE = """
SELECT seen.path, seen.size, seen.mtime_ns, seen.device, seen.inode
FROM seen LEFT JOIN photos ON photos.path = seen.path
WHERE photos.id IS NULL AND seen.inode = ? AND seen.size = ? AND seen.mtime_ns = ?
  AND seen.device = ?
"""
