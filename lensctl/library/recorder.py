"""The catalog written: every change is one transaction, so that kill -9 leaves all or nothing."""

import contextlib
import datetime
import json
import os
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from lensctl.library.catalog import (
    SCHEMA_VERSION,
    Catalog,
    KnownLens,
    folder_condition,
    from_floats,
    with_slash,
)
from lensctl.models.interface import Floats, ModelInfo
from lensctl.photos.facts import Facts
from lensctl.photos.scan import FoundPhoto

ORPHAN_DAYS = 30
"""How long the vectors of vanished photos wait for their photo to turn up elsewhere."""


@dataclass(frozen=True, slots=True)
class ReadPhoto:
    """A photo that was read: where it lies, what it holds, and its perceptual hash if any."""

    found: FoundPhoto
    content_hash: bytes
    facts: Facts
    looks: int | None


class Recorder(Catalog):
    """An open catalog that may be changed; made by `Library.writing`."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        import sqlite_utils

        super().__init__(connection)
        self._db = sqlite_utils.Database(connection)

    @contextlib.contextmanager
    def transaction(self) -> Iterator[None]:
        """All of the block's changes or none."""
        with self._db.atomic():
            yield

    def migrate(self) -> None:
        """Bring the schema up to date."""
        from lensctl.library.migrations import migrations

        migrations.apply(self._db)
        if self.connection.execute("PRAGMA user_version").fetchone()[0] != SCHEMA_VERSION:
            self.connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")

    def set_fact(self, key: str, value: str) -> None:
        """Set a fact of the library as a whole."""
        self.connection.execute(
            "INSERT INTO facts_of_library VALUES (?, ?)"
            " ON CONFLICT (key) DO UPDATE SET value = excluded.value",
            (key, value),
        )

    def use_model(self, name: str, info: ModelInfo) -> None:
        """Make a model, by the name or folder it is opened by, the one that searches use."""
        self.set_fact("model", name)
        self.set_fact("lens", info.lens_fingerprint)

    def register(self, info: ModelInfo) -> KnownLens:
        """The lens of a model, entered with its encoder where it is new."""
        with self.transaction():
            self.connection.execute(
                "INSERT OR IGNORE INTO encoders (fingerprint, dim) VALUES (?, ?)",
                (info.encoder_fingerprint, info.embedding_dim),
            )
            self.connection.execute(
                "INSERT OR IGNORE INTO lenses (encoder_id, fingerprint, model, dim)"
                " SELECT id, ?, ?, ? FROM encoders WHERE fingerprint = ?",
                (info.lens_fingerprint, info.name, info.target_dim, info.encoder_fingerprint),
            )
        lens = self.lens(info)
        assert lens is not None
        return lens

    def root_for(self, folder: bytes) -> int:
        """The root that holds a folder; a new one takes in the roots that lie inside it."""
        root_id = self.root_of(folder)
        if root_id is not None:
            return root_id
        with self.transaction():
            cursor = self.connection.execute("INSERT INTO roots (path) VALUES (?)", (folder,))
            self._merge_nested_roots()
        return int(cursor.lastrowid or 0)

    def root_of(self, path: bytes) -> int | None:
        """The root that holds a path, if there is one."""
        for root_id, root in self.roots():
            if path == root or path.startswith(with_slash(root)):
                return root_id
        return None

    def _merge_nested_roots(self) -> None:
        """Roots are disjoint: one that lies inside another becomes part of it."""
        outer: tuple[int, bytes] | None = None
        for root_id, path in sorted(self.roots(), key=lambda root: with_slash(root[1])):
            if outer is None or not path.startswith(with_slash(outer[1])):
                outer = root_id, path
                continue
            self.connection.execute(
                "UPDATE photos SET root_id = ? WHERE root_id = ?", (outer[0], root_id)
            )
            self.connection.execute("DELETE FROM roots WHERE id = ?", (root_id,))

    def record_photo(self, root_id: int, photo: ReadPhoto) -> int:
        """Enter a photo that was read, and its content; returns the content's id."""
        content_id = self._record_content(photo.content_hash, photo.facts)
        self.record_looks(content_id, photo.looks)
        self._put_photo(root_id, photo.found, content_id, None)
        return content_id

    def record_place(self, root_id: int, found: FoundPhoto, content_id: int) -> None:
        """Enter a place of a content that is known already."""
        self._put_photo(root_id, found, content_id, None)
        self.connection.execute(
            "UPDATE contents SET orphaned = NULL WHERE id = ? AND orphaned NOT NULL", (content_id,)
        )

    def record_error(self, root_id: int, found: FoundPhoto, reason: str) -> None:
        """Enter a photo that cannot be read; it is tried again when its file changes."""
        self._put_photo(root_id, found, None, reason)

    def _put_photo(
        self, root_id: int, found: FoundPhoto, content_id: int | None, error: str | None
    ) -> None:
        row = (
            root_id,
            found.path,
            found.size,
            found.mtime_ns,
            signed(found.device),
            signed(found.inode),
            content_id,
            error,
        )
        self.connection.execute(_PUT_PHOTO, row)

    def _record_content(self, content_hash: bytes, facts: Facts) -> int:
        row = (
            content_hash,
            facts.format,
            facts.width,
            facts.height,
            facts.taken,
            facts.camera,
            facts.lens,
            facts.latitude,
            facts.longitude,
            facts.orientation,
            facts.rating,
            json.dumps(facts.keywords) if facts.keywords else None,
            json.dumps(facts.problems) if facts.problems else None,
        )
        self.connection.execute(_PUT_CONTENT, row)
        content_id = self.content_of_hash(content_hash)
        assert content_id is not None
        return content_id

    def record_looks(self, content_id: int, perceptual_hash: int | None) -> None:
        """Keep the perceptual hash of a content, or that it has none; a kept one stays."""
        value = None if perceptual_hash is None else signed(perceptual_hash)
        self.connection.execute(
            "INSERT OR IGNORE INTO looks (content_id, hash) VALUES (?, ?)", (content_id, value)
        )

    def record_embedding(
        self,
        lens: KnownLens,
        content_id: int,
        embedding: Floats,
        target: Floats,
        *,
        precision: str,
        device: str,
    ) -> None:
        """Keep both vectors of a content; vectors that are there already stay."""
        self.connection.execute(
            "INSERT OR IGNORE INTO embeddings (encoder_id, content_id, vector, precision, device)"
            " VALUES (?, ?, ?, ?, ?)",
            (lens.encoder_id, content_id, from_floats(embedding), precision, device),
        )
        self.record_target(lens, content_id, target)

    def record_target(self, lens: KnownLens, content_id: int, target: Floats) -> None:
        """Keep the target of a content whose embedding is kept."""
        self.connection.execute(
            "INSERT OR IGNORE INTO targets (lens_id, content_id, vector) VALUES (?, ?, ?)",
            (lens.lens_id, content_id, from_floats(target)),
        )

    def without_target(self, lens: KnownLens, rows: int) -> Iterator[list[tuple[int, int, bytes]]]:
        """Blocks of (embedding id, content id, stored embedding) that have no target yet."""
        after = 0
        while block := self.connection.execute(
            _WITHOUT_TARGET, (lens.encoder_id, after, lens.lens_id, rows)
        ).fetchall():
            yield block
            after = block[-1][0]

    def forget_photos(self, path: bytes) -> int:
        """Remove the photos at or under a path, and roots there; returns how many photos."""
        condition, values = folder_condition(path)
        with self.transaction():
            cursor = self.connection.execute(f"DELETE FROM photos WHERE 1 {condition}", values)
            condition, values = folder_condition(path, "roots.path")
            self.connection.execute(f"DELETE FROM roots WHERE 1 {condition}", values)
            self.delete_contents(_UNPLACED)
        return cursor.rowcount

    def forget_lenses(self, lens_ids: Iterable[int]) -> int:
        """Remove lenses with their targets; returns how many targets.

        Embeddings go with the last lens over their encoder.
        """
        removed = 0
        with self.transaction():
            for lens_id in lens_ids:
                cursor = self.connection.execute(
                    "DELETE FROM targets WHERE lens_id = ?", (lens_id,)
                )
                removed += cursor.rowcount
                self.connection.execute("DELETE FROM lenses WHERE id = ?", (lens_id,))
            unused = "SELECT id FROM encoders WHERE id NOT IN (SELECT encoder_id FROM lenses)"
            self.connection.execute(f"DELETE FROM embeddings WHERE encoder_id IN ({unused})")
            self.connection.execute(f"DELETE FROM encoders WHERE id IN ({unused})")
            self.set_fact("epoch", str(self.epoch + 1))
        return removed

    def shrink(self) -> None:
        """Give the room of what was removed back to the disk; needs that of what is left."""
        self.connection.execute("VACUUM")
        self.connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")

    def mark_orphans(self) -> None:
        """Start the wait of contents that lie nowhere now; delete those that waited long enough."""
        now = datetime.datetime.now(datetime.UTC)
        limit = now - datetime.timedelta(days=ORPHAN_DAYS)
        with self.transaction():
            self.connection.execute(
                f"UPDATE contents SET orphaned = ? WHERE orphaned IS NULL AND {_UNPLACED}",
                (now.isoformat(timespec="seconds"),),
            )
            self.delete_contents("contents.orphaned < ?", (limit.isoformat(timespec="seconds"),))

    def delete_contents(self, condition: str, values: Sequence[object] = ()) -> None:
        """Delete contents with their vectors, and make search files stale where any went."""
        chosen = f"SELECT contents.id FROM contents WHERE {condition}"
        if self.connection.execute(f"{chosen} LIMIT 1", values).fetchone() is None:
            return
        for table in ("targets", "embeddings", "looks"):
            self.connection.execute(f"DELETE FROM {table} WHERE content_id IN ({chosen})", values)
        self.connection.execute(f"DELETE FROM contents WHERE {condition}", values)
        self.set_fact("epoch", str(self.epoch + 1))

    def relocate(self, old: bytes, new: bytes) -> int:
        """Say that a folder or photo `old` now lies at `new`; returns how many photos moved.

        Nothing is read: the files keep their sizes and times, and the next index run verifies. What
        the catalog knows at the new place already is newer and stays.
        """
        if old == new:
            return self.photos_under(new)
        with self.transaction():
            moved = self._rename("photos", old, new)
            if not moved:
                return 0
            self._return_from_offline(new)
            for root_id, there in self._roots_renamed(old, new):
                self.connection.execute(
                    "UPDATE photos SET root_id = ? WHERE root_id = ?", (there, root_id)
                )
            self._rename("roots", old, new)
            self._merge_nested_roots()
            self._adopt(new)
        return moved

    def _rename(self, table: str, old: bytes, new: bytes) -> int:
        """Rename paths; how many there were. Where the new one is taken, the old row goes."""
        inside, values = folder_condition(old, "path")
        known = self.connection.execute(
            f"DELETE FROM {table} WHERE {_RENAMED} IN (SELECT path FROM {table}) {inside}",
            [*_renaming(old, new), *values],
        )
        renamed = self.connection.execute(
            f"UPDATE OR REPLACE {table} SET path = {_RENAMED} WHERE 1 {inside}",
            [*_renaming(old, new), *values],
        )
        return known.rowcount + renamed.rowcount

    def _roots_renamed(self, old: bytes, new: bytes) -> list[tuple[int, int]]:
        """(root below `old`, root that has its new path already)."""
        condition, values = folder_condition(old, "roots.path")
        return list(
            self.connection.execute(
                "SELECT roots.id, there.id FROM roots JOIN roots AS there"
                f" ON there.path = {_RENAMED.replace('path', 'roots.path')}"
                f" WHERE 1 {condition}",
                [*_renaming(old, new), *values],
            )
        )

    def _return_from_offline(self, folder: bytes) -> None:
        condition, values = folder_condition(folder)
        away = self.connection.execute(
            f"SELECT id, path FROM photos WHERE state = 'offline' {condition}", values
        ).fetchall()
        self.set_states(("present", photo) for photo, path in away if os.path.lexists(path))

    def _adopt(self, path: bytes) -> None:
        """Photos that left their root belong to one that holds them; a folder becomes one."""
        condition, values = folder_condition(path)
        is_folder = Path(os.fsdecode(path)).is_dir()
        root_id = self.root_for(path) if is_folder else self.root_of(path)
        if root_id is not None:
            self.connection.execute(
                f"UPDATE photos SET root_id = ? WHERE 1 {condition}", [root_id, *values]
            )

    def set_states(self, states: Iterable[tuple[str, int]]) -> None:
        """Set the state of photos, given as (state, photo id)."""
        self.connection.executemany("UPDATE photos SET state = ? WHERE id = ?", states)

    def delete_photos(self, photo_ids: Iterable[int]) -> None:
        """Remove places; the contents stay for a while, in case they turn up elsewhere."""
        self.connection.executemany(
            "DELETE FROM photos WHERE id = ?", ((photo_id,) for photo_id in photo_ids)
        )


def _renaming(old: bytes, new: bytes) -> tuple[bytes, bytes, bytes, int]:
    """Values for `_RENAMED`; `old` or `new` may be /, the one folder that ends with a slash."""
    return old, new, with_slash(new), len(with_slash(old)) + 1


def signed(number: int) -> int:
    """A 64-bit number as SQLite holds it: hashes and some file systems use the highest bit."""
    return number - (1 << 64) if number >= 1 << 63 else number


_RENAMED = "CAST(CASE path WHEN ? THEN ? ELSE ? || substr(path, ?) END AS BLOB)"

_UNPLACED = "NOT EXISTS (SELECT 1 FROM photos WHERE photos.content_id = contents.id)"

_WITHOUT_TARGET = """
SELECT id, content_id, vector FROM embeddings
WHERE encoder_id = ? AND id > ? AND NOT EXISTS (
    SELECT 1 FROM targets WHERE targets.content_id = embeddings.content_id AND lens_id = ?)
ORDER BY id LIMIT ?
"""

_PUT_PHOTO = """
INSERT INTO photos (root_id, path, size, mtime_ns, device, inode, content_id, state, error)
VALUES (?, ?, ?, ?, ?, ?, ?, 'present', ?)
ON CONFLICT (path) DO UPDATE SET
    root_id = excluded.root_id, size = excluded.size, mtime_ns = excluded.mtime_ns,
    device = excluded.device, inode = excluded.inode, content_id = excluded.content_id,
    state = 'present', error = excluded.error
"""

_PUT_CONTENT = """
INSERT INTO contents (hash, format, width, height, taken, camera, lens, latitude, longitude,
                      orientation, rating, keywords, problems)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
ON CONFLICT (hash) DO UPDATE SET orphaned = NULL
"""
