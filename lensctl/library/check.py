"""Is a library sound, and what can be done where it is not.

Every check is of the catalog itself or of a search file that claims to be whole; a search file
that is merely out of date is no problem, the next query brings it up to date.
"""

import contextlib
import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from lensctl.errors import LibraryDamagedError
from lensctl.library.catalog import VECTOR_DTYPE, Catalog
from lensctl.library.library import Library, sqlite_errors
from lensctl.library.recorder import Recorder
from lensctl.library.vectors import is_damaged


def check(library: Library) -> list[str]:
    """All problems of a library, as a user is told of them. Raises NoLibraryError."""
    try:
        with library.reading() as catalog:
            problems = list(_check_catalog(catalog))
    except LibraryDamagedError as error:
        problems = [f"the database is damaged: {error.why}"]
    return problems + list(_check_search_files(library.search_folder))


def repair(library: Library) -> list[str]:
    """Mend what can be mended; returns what was done.

    Photos whose vectors are removed here are encoded again by the next index run.

    Raises LibraryBusyError, and leaves all as it is, where another process writes.
    """
    done = []
    with library.locked():
        if _needs_salvage(library):
            done.append(_salvage(library))
        with library.writing_under_lock() as recorder:
            done += _mend_rows(recorder)
        for path in sorted(library.search_folder.glob("*")):
            if path.name.endswith(".part") or is_damaged(path):
                path.unlink(missing_ok=True)
                done.append(f"removed the search file {path.name}; the next query makes it again")
    return done


def _needs_salvage(library: Library) -> bool:
    try:
        with library.reading() as catalog:
            rows = catalog.connection.execute("PRAGMA integrity_check(1)").fetchall()
    except LibraryDamagedError:
        return True
    return rows != [("ok",)]


def _check_catalog(catalog: Catalog) -> Iterator[str]:
    for (text,) in catalog.connection.execute("PRAGMA integrity_check(20)"):
        if text != "ok":
            yield f"the database is damaged: {text}"
    broken = catalog.connection.execute("PRAGMA foreign_key_check").fetchall()
    if broken:
        yield f"{len(broken)} rows point to rows that are gone"
    for name, sql in _BAD_ROWS.items():
        number = catalog.connection.execute(f"SELECT count(*) FROM ({sql})").fetchone()[0]
        if number:
            yield f"{number} {name}"
    for table in ("embeddings", "targets"):
        if ids := _bad_vectors(catalog, table):
            yield f"{len(ids)} {table} hold values that are not finite numbers"


def _bad_vectors(catalog: Catalog, table: str) -> list[int]:
    from tqdm import tqdm

    total = catalog.connection.execute(f"SELECT count(*) FROM {table}").fetchone()[0]
    rows = catalog.connection.execute(f"SELECT id, vector FROM {table}")
    return [
        row_id
        for row_id, blob in tqdm(
            rows, desc=f"checking {table}", total=total, unit="vector", leave=False, disable=None
        )
        if len(blob) % VECTOR_DTYPE.itemsize
        or not np.isfinite(np.frombuffer(blob, dtype=VECTOR_DTYPE)).all()
    ]


def _check_search_files(folder: Path) -> Iterator[str]:
    for path in sorted(folder.glob("*.vec")):
        if is_damaged(path):
            yield f"the search file {path.name} is damaged"


def _mend_rows(recorder: Recorder) -> list[str]:
    done = []
    with recorder.transaction():
        for table in ("embeddings", "targets"):
            if ids := _bad_vectors(recorder, table):
                recorder.connection.executemany(
                    f"DELETE FROM {table} WHERE id = ?", ((one,) for one in ids)
                )
                done.append(f"removed {len(ids)} unusable {table}")
        for name, sql in _BAD_ROWS.items():
            table = sql.split()[3]
            cursor = recorder.connection.execute(f"DELETE FROM {table} WHERE rowid IN ({sql})")
            if cursor.rowcount:
                done.append(f"removed {cursor.rowcount} {name}")
        if done:
            recorder.set_fact("epoch", str(recorder.epoch + 1))
    return done


def _salvage(library: Library) -> str:
    """Copy every row that can still be read into a new database; the old one is kept aside.

    The old one stays in its place until the new one is whole.
    """
    aside = library.folder / f"catalog.damaged-{time.strftime('%Y%m%d-%H%M%S')}.sqlite"
    saved = 0
    with (
        sqlite_errors(library.catalog_path),
        library.new_catalog(instead_of=aside) as recorder,
        contextlib.closing(library.connect()) as source,
    ):
        recorder.connection.execute("PRAGMA foreign_keys = OFF")
        with recorder.transaction():
            for table in _TABLES:
                saved += _copy_rows(source, recorder.connection, table)
            recorder.connection.execute(
                "DELETE FROM photos WHERE content_id NOT IN (SELECT id FROM contents)"
            )
    return f"made a new database with {saved} rows that could be read; the old one is {aside.name}"


def _copy_rows(source: sqlite3.Connection, target: sqlite3.Connection, table: str) -> int:
    """From both ends towards the damage in the middle."""
    saved = 0
    for order in ("ASC", "DESC"):
        try:
            for row in _rows(source, table, order):
                marks = ", ".join("?" * len(row))
                saved += target.execute(
                    f"INSERT OR IGNORE INTO {table} VALUES ({marks})", row
                ).rowcount
        except _UnreadableRowError:
            continue
        break
    return saved


class _UnreadableRowError(Exception):
    """The source is damaged here; errors of the target are others."""


def _rows(source: sqlite3.Connection, table: str, order: str) -> Iterator[tuple[Any, ...]]:
    """The rows of a table from one end, up to the first that cannot be read."""
    key = "key" if table == "facts_of_library" else "rowid"
    try:
        rows = source.execute(f"SELECT * FROM {table} ORDER BY {key} {order}")
        while (row := rows.fetchone()) is not None:
            yield row
    except sqlite3.DatabaseError as error:
        raise _UnreadableRowError from error


_TABLES = (
    "facts_of_library",
    "roots",
    "contents",
    "photos",
    "encoders",
    "lenses",
    "embeddings",
    "targets",
    "looks",
)

_BAD_ROWS = {
    "photos whose content is gone": "SELECT id FROM photos WHERE content_id NOT NULL"
    " AND content_id NOT IN (SELECT id FROM contents)",
    "photos whose root is gone": "SELECT id FROM photos"
    " WHERE root_id NOT IN (SELECT id FROM roots)",
    "embeddings of the wrong size": "SELECT embeddings.id FROM embeddings"
    " JOIN encoders ON encoders.id = encoder_id WHERE length(vector) != 2 * dim",
    "embeddings of contents that are gone": "SELECT id FROM embeddings"
    " WHERE content_id NOT IN (SELECT id FROM contents)",
    "perceptual hashes of contents that are gone": "SELECT content_id FROM looks"
    " WHERE content_id NOT IN (SELECT id FROM contents)",
    "targets of the wrong size": "SELECT targets.id FROM targets"
    " JOIN lenses ON lenses.id = lens_id WHERE length(vector) != 2 * lenses.dim",
    "targets without an embedding": "SELECT targets.id FROM targets"
    " JOIN lenses ON lenses.id = lens_id LEFT JOIN embeddings"
    " ON embeddings.content_id = targets.content_id"
    " AND embeddings.encoder_id = lenses.encoder_id WHERE embeddings.id IS NULL",
}
"""What is wrong -> the rows; the table to mend is the one after FROM."""
