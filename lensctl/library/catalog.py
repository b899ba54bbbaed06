"""The catalog read: what photos there are, where, with which facts and vectors."""

import json
import os
import sqlite3
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from lensctl.errors import LibraryError
from lensctl.models.interface import Floats, ModelInfo

SCHEMA_VERSION = 3
"""Raised with every migration, and kept as SQLite's user_version: a reader needs one number."""

_OLDEST_READABLE = 1
"""Since then `looks` came and vectors went: an older library is searched as it is."""

VECTOR_DTYPE = np.dtype("<f2")
"""float16 keeps an embedding's cosine to 1e-6 and halves the library."""

VISIBLE = "photos.content_id IS NOT NULL AND photos.state != 'excluded'"
"""SQL: photos that results may show. An offline photo is still in the library."""


@dataclass(frozen=True, slots=True)
class ContentFacts:
    """A content and one place where it lies."""

    content_id: int
    path: bytes
    copies: int
    offline: bool
    format: str
    width: int
    height: int
    taken: str | None
    camera: str | None
    latitude: float | None
    longitude: float | None
    rating: int | None
    keywords: tuple[str, ...]
    content_hash: bytes


@dataclass(frozen=True, slots=True)
class KnownLens:
    """A lens and its encoder, as the catalog numbers them."""

    lens_id: int
    encoder_id: int


@dataclass(frozen=True, slots=True)
class VectorState:
    """Which vectors exist: a search file with another state is stale.

    `epoch` counts deletions, `last_id` grows with every addition.
    """

    epoch: int
    last_id: int


class Catalog:
    """Reads of an open catalog database."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self.connection = connection

    def require_known_schema(self, *, or_older: bool = False) -> None:
        """Raise LibraryError where the catalog's schema is not one that this program reads."""
        version = self.schema_version
        if version <= SCHEMA_VERSION and (version >= _OLDEST_READABLE or or_older):
            return
        if version > SCHEMA_VERSION:
            raise LibraryError(
                "this library was made by a newer lensctl",
                why=f"its schema is version {version}, this program knows {SCHEMA_VERSION}",
                next_step="upgrade: pip install --upgrade lensctl",
            )
        raise LibraryError(
            "this library is of an older lensctl",
            why=f"its schema is version {version}, this program knows {SCHEMA_VERSION}",
            next_step="bring it up to date: lensctl index",
        )

    @property
    def schema_version(self) -> int:
        """Of the catalog as it is."""
        return int(self.connection.execute("PRAGMA user_version").fetchone()[0])

    def fact(self, key: str) -> str | None:
        """A fact of the library as a whole, or None."""
        row = self.connection.execute(
            "SELECT value FROM facts_of_library WHERE key = ?", (key,)
        ).fetchone()
        return None if row is None else str(row[0])

    @property
    def epoch(self) -> int:
        """How often vectors were deleted."""
        return int(self.fact("epoch") or 0)

    def lens(self, info: ModelInfo) -> KnownLens | None:
        """The lens of a model, or None where nothing was indexed with it."""
        row = self.connection.execute(
            "SELECT id, encoder_id FROM lenses WHERE fingerprint = ?",
            (info.lens_fingerprint,),
        ).fetchone()
        return None if row is None else KnownLens(*row)

    def knows_encoder(self, info: ModelInfo) -> bool:
        """Whether embeddings of a model's encoder may be kept."""
        row = self.connection.execute(
            "SELECT 1 FROM encoders WHERE fingerprint = ?", (info.encoder_fingerprint,)
        ).fetchone()
        return row is not None

    def lens_in_use(self) -> int | None:
        """The id of the lens that searches use unless told otherwise, or None."""
        row = self.connection.execute(
            "SELECT lenses.id FROM lenses JOIN facts_of_library ON value = fingerprint"
            " WHERE key = 'lens'"
        ).fetchone()
        if row is not None:
            return int(row[0])
        model = self.fact("model")  # all that libraries of older versions remember
        return None if model is None else self.newest_lens(model)

    def has_targets(self, lens: KnownLens) -> bool:
        """Whether any vector of a lens is kept."""
        row = self.connection.execute(
            "SELECT 1 FROM targets WHERE lens_id = ? LIMIT 1", (lens.lens_id,)
        ).fetchone()
        return row is not None

    def newest_lens(self, model: str) -> int | None:
        """The id of the newest lens of a name, or None."""
        row = self.connection.execute(
            "SELECT max(id) FROM lenses WHERE model = ?", (model,)
        ).fetchone()
        return None if row[0] is None else int(row[0])

    def models(self) -> list[str]:
        """Names of the models with vectors in the library, the oldest first."""
        rows = self.connection.execute("SELECT model FROM lenses ORDER BY id")
        return list(dict.fromkeys(row[0] for row in rows))

    def versions(self, model: str) -> list[tuple[int, str]]:
        """(lens id, fingerprint) of every version of a model with vectors here, newest first."""
        return list(
            self.connection.execute(
                "SELECT id, fingerprint FROM lenses WHERE model = ? ORDER BY id DESC", (model,)
            )
        )

    def roots(self) -> list[tuple[int, bytes]]:
        """(id, path) of every folder that was indexed."""
        return list(self.connection.execute("SELECT id, path FROM roots ORDER BY path"))

    def content_at(self, path: bytes) -> tuple[int, int, int] | None:
        """(content id, size, mtime_ns) of the photo at a path, or None."""
        row = self.connection.execute(
            "SELECT content_id, size, mtime_ns FROM photos WHERE path = ? AND content_id NOT NULL",
            (path,),
        ).fetchone()
        return None if row is None else (row[0], row[1], row[2])

    def content_of_hash(self, content_hash: bytes) -> int | None:
        """The content with this hash, or None."""
        row = self.connection.execute(
            "SELECT id FROM contents WHERE hash = ?", (content_hash,)
        ).fetchone()
        return None if row is None else int(row[0])

    def embedding(self, encoder_id: int, content_id: int) -> Floats | None:
        """(E,) float32 embedding of a content, or None."""
        row = self.connection.execute(
            "SELECT vector FROM embeddings WHERE content_id = ? AND encoder_id = ?",
            (content_id, encoder_id),
        ).fetchone()
        return None if row is None else to_floats(row[0])

    def targets(self, lens_id: int, content_ids: Sequence[int]) -> dict[int, Floats]:
        """Content id -> (D,) float32 target, for those that have one."""
        return self._vectors("targets", "lens_id", lens_id, content_ids)

    def embeddings(self, encoder_id: int, content_ids: Sequence[int]) -> dict[int, Floats]:
        """Content id -> (E,) float32 embedding, for those that have one."""
        return self._vectors("embeddings", "encoder_id", encoder_id, content_ids)

    def _vectors(
        self, table: str, owner: str, owner_id: int, content_ids: Sequence[int]
    ) -> dict[int, Floats]:
        rows = self.connection.execute(
            f"SELECT content_id, vector FROM {table} WHERE {owner} = ?"
            " AND content_id IN (SELECT value FROM json_each(?))",
            (owner_id, json.dumps(list(content_ids))),
        )
        return {content_id: to_floats(blob) for content_id, blob in rows}

    def looks(self) -> dict[int, int | None]:
        """Content id -> perceptual hash, or None where it has none; for those looked at."""
        if self.schema_version < 2:
            return {}
        rows = self.connection.execute("SELECT content_id, hash FROM looks")
        return {one: None if value is None else value % (1 << 64) for one, value in rows}

    def vector_state(self, lens: KnownLens) -> VectorState:
        """The state that search files of this lens must have."""
        row = self.connection.execute(
            "SELECT max(id) FROM targets WHERE lens_id = ?", (lens.lens_id,)
        ).fetchone()
        return VectorState(self.epoch, int(row[0] or 0))

    def target_blocks(
        self, lens: KnownLens, after: int, rows: int = 4096
    ) -> Iterator[tuple[Floats, np.ndarray, int]]:
        """Targets added after an id, in order, as (vectors (n, D), content ids (n,), last id)."""
        sql = (
            "SELECT id, content_id, vector FROM targets"
            " WHERE lens_id = ? AND id > ? ORDER BY id LIMIT ?"
        )
        yield from self._blocks(sql, lens.lens_id, after, rows)

    def embedding_blocks(
        self, lens: KnownLens, after: int, rows: int = 4096
    ) -> Iterator[tuple[Floats, np.ndarray, int]]:
        """Embeddings in the order of the lens's targets, blocks as in target_blocks."""
        sql = (
            "SELECT targets.id, targets.content_id, embeddings.vector FROM targets"
            " JOIN lenses ON lenses.id = targets.lens_id"
            " JOIN embeddings ON embeddings.content_id = targets.content_id"
            " AND embeddings.encoder_id = lenses.encoder_id"
            " WHERE targets.lens_id = ? AND targets.id > ? ORDER BY targets.id LIMIT ?"
        )
        yield from self._blocks(sql, lens.lens_id, after, rows)

    def _blocks(
        self, sql: str, lens_id: int, after: int, rows: int
    ) -> Iterator[tuple[Floats, np.ndarray, int]]:
        while block := self.connection.execute(sql, (lens_id, after, rows)).fetchall():
            after = block[-1][0]
            vectors = to_floats(b"".join(row[2] for row in block)).reshape(len(block), -1)
            yield vectors, np.array([row[1] for row in block], dtype=np.int64), after

    def describe(
        self, content_ids: Sequence[int], under: Sequence[bytes] = ()
    ) -> dict[int, ContentFacts]:
        """Content id -> facts and one visible place, for contents that results may show.

        Where `under` names folders, the place lies in one of them. Among several places the first
        one by path that is not offline is taken.
        """
        condition, values = folders_condition(under)
        rows = self.connection.execute(
            _DESCRIBE.format(visible=VISIBLE, condition=condition),
            [*values, json.dumps(list(content_ids))],
        )
        found: dict[int, ContentFacts] = {}
        for row in rows:
            keywords = tuple(json.loads(row[12])) if row[12] else ()
            facts = ContentFacts(*row[:3], bool(row[3]), *row[4:12], keywords, row[13])  # type: ignore[call-arg]
            found[facts.content_id] = facts
        return found

    def locate(self, path: str | bytes | os.PathLike[str]) -> bytes:
        """How the catalog names a path that was typed; its real path where nothing is known there.

        Photos are found through symbolic links below a root and kept by that name, while a root is
        kept by its real path: so links in front of the root are resolved, and no others.
        """
        return next((one for one in _spellings(path) if self._knows(one)), absolute(path))

    def _knows(self, path: bytes) -> bool:
        condition, values = folder_condition(path, "path")
        return any(
            self.connection.execute(
                f"SELECT 1 FROM {table} WHERE 1 {condition} LIMIT 1", values
            ).fetchone()
            for table in ("photos", "roots")
        )

    def photos_under(self, path: bytes) -> int:
        """How many photos are known at or under a path."""
        condition, values = folder_condition(path)
        return int(
            self.connection.execute(
                f"SELECT count(*) FROM photos WHERE 1 {condition}", values
            ).fetchone()[0]
        )

    def some_files(self, path: bytes, at_most: int) -> list[tuple[bytes, int]]:
        """(path relative to it, size) of photos at or under a path, drawn where there are more.

        The relative path of a photo that is the path itself is empty.
        """
        condition, values = folder_condition(path)
        rows = self.connection.execute(
            f"SELECT path, size FROM photos WHERE 1 {condition} ORDER BY random() LIMIT ?",
            [*values, at_most],
        )
        start = len(with_slash(path))
        return [(photo[start:], size) for photo, size in rows]

    def state_counts(self) -> dict[str, int]:
        """Photos that are searchable, offline (searchable too), excluded, unreadable."""
        row = self.connection.execute(
            f"SELECT coalesce(sum({VISIBLE}), 0), coalesce(sum(state = 'offline'), 0),"
            " coalesce(sum(state = 'excluded'), 0), count(error) FROM photos"
        ).fetchone()
        return dict(zip(("searchable", "offline", "excluded", "unreadable"), row, strict=True))

    def contents(self) -> int:
        """How many contents are known, those that lie nowhere any more among them."""
        return int(self.connection.execute("SELECT count(*) FROM contents").fetchone()[0])

    def photos_without_target(self, lens_id: int) -> int:
        """How many photos results may show, but for want of a vector of this lens."""
        row = self.connection.execute(
            f"SELECT count(*) FROM photos WHERE {VISIBLE} AND NOT EXISTS (SELECT 1 FROM targets"
            " WHERE targets.content_id = photos.content_id AND lens_id = ?)",
            (lens_id,),
        ).fetchone()
        return int(row[0])

    def root_facts(self) -> list[tuple[bytes, int, int, str | None]]:
        """(path, photos, photos offline, last indexed) of every root."""
        return list(
            self.connection.execute(
                "SELECT roots.path, count(photos.id), coalesce(sum(state = 'offline'), 0),"
                " last_indexed FROM roots LEFT JOIN photos ON photos.root_id = roots.id"
                " GROUP BY roots.id ORDER BY roots.path"
            )
        )

    def errors(self) -> list[tuple[bytes, str]]:
        """(path, reason) of every photo that could not be read."""
        return list(
            self.connection.execute(
                "SELECT path, error FROM photos WHERE error NOT NULL ORDER BY path"
            )
        )


_DESCRIBE = """
SELECT contents.id, photos.path,
       (SELECT count(*) FROM photos AS twins
        WHERE twins.content_id = contents.id AND twins.state != 'excluded'),
       photos.state = 'offline', format, width, height, taken, camera, latitude, longitude, rating,
       keywords, contents.hash
FROM contents JOIN photos ON photos.id = (
    SELECT photos.id FROM photos WHERE photos.content_id = contents.id AND {visible} {condition}
    ORDER BY photos.state = 'offline', photos.path LIMIT 1)
WHERE contents.id IN (SELECT value FROM json_each(?))
"""


def folder_condition(folder: bytes, column: str = "photos.path") -> tuple[str, list[bytes]]:
    """SQL and values: paths in a folder at any depth, or that very path."""
    start = with_slash(folder)
    # "0" follows "/" in ASCII, so this range holds all that begins with the folder's name and "/".
    end = start[:-1] + b"0"
    return (
        f" AND ({column} = ? OR ({column} >= ? AND {column} < ?))",
        [folder, start, end],
    )


def folders_condition(folders: Sequence[bytes]) -> tuple[str, list[bytes]]:
    """SQL and values: photos in any of some folders; all photos where none is named."""
    if not folders:
        return "", []
    conditions = [folder_condition(folder) for folder in folders]
    any_of = " OR ".join(sql.removeprefix(" AND ") for sql, _ in conditions)
    return f" AND ({any_of})", [one for _, values in conditions for one in values]


def with_slash(folder: bytes) -> bytes:
    """How all paths in a folder begin."""
    return folder.rstrip(b"/") + b"/"


def to_floats(blob: bytes) -> Floats:
    """A stored vector, or several in a row, as float32."""
    return np.frombuffer(blob, dtype=VECTOR_DTYPE).astype(np.float32)


def from_floats(vector: Floats) -> bytes:
    """A vector as it is stored. Raises ValueError where float16 cannot hold it."""
    with np.errstate(over="ignore"):
        stored = np.asarray(vector).astype(VECTOR_DTYPE)
    if not np.isfinite(stored).all():
        raise ValueError("a vector has values that are not finite numbers")
    return stored.tobytes()


def _spellings(path: str | bytes | os.PathLike[str]) -> Iterator[bytes]:
    """The absolute path as it is, then with more and more of its beginning resolved."""
    if b".." in os.fsencode(path).split(b"/"):  # behind a link it leads out of the link's target
        yield absolute(path)
        return
    parts = os.fsencode(os.path.abspath(path)).split(b"/")
    for resolved in range(1, len(parts) + 1):
        start = os.path.realpath(b"/".join(parts[:resolved]) or b"/")
        yield os.path.join(start, *parts[resolved:])


def absolute(path: str | bytes | os.PathLike[str]) -> bytes:
    """The real, absolute path as bytes: how the catalog names places."""
    return os.fsencode(os.path.realpath(path))
