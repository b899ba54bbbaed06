"""A library on disk: one folder that can be moved as a whole.

catalog.sqlite   the truth: photos, facts, vectors
search/          caches for searching; deletable at any moment
write.lock       held by the one process that writes
"""

import contextlib
import os
import shutil
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from lensctl.errors import (
    LibraryBusyError,
    LibraryDamagedError,
    LibraryError,
    NoLibraryError,
    StorageError,
)
from lensctl.library.catalog import SCHEMA_VERSION, Catalog
from lensctl.lock import held_alone

if TYPE_CHECKING:
    from lensctl.library.recorder import Recorder

CATALOG = "catalog.sqlite"

_PAGE_BYTES = 16_384
"""A vector takes some kilobytes: pages of SQLite's usual 4096 bytes would stay half empty."""


_TEMPORARY_FOLDERS = ("/var/tmp", "/usr/tmp", "/tmp")

_LONGEST_PATH = 504
"""Of a database, in bytes: SQLite's 512, less the ending of its journal."""

_ROOM_OF_A_LOG = 65_536
"""SQLite's shared index of a write-ahead log takes half of it."""


class Library:
    """A library's folder, and the way to its catalog."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @property
    def catalog_path(self) -> Path:
        """The SQLite database."""
        return self.folder / CATALOG

    @property
    def search_folder(self) -> Path:
        """Where the search caches lie."""
        return self.folder / "search"

    def exists(self) -> bool:
        """Whether there is a catalog in the folder."""
        return self.catalog_path.exists()

    def require(self) -> None:
        """Raise NoLibraryError where there is no library here."""
        if not self.exists():
            raise NoLibraryError(
                f"there is no photo library in {self.folder}",
                next_step="make one: lensctl index ~/Photos",
            )

    def bring_up_to_date(self) -> None:
        """Migrate the catalog where it is of an older lensctl; raises as `writing` does."""
        if not self.exists():
            return
        with sqlite_errors(self.catalog_path), contextlib.closing(self.connect()) as connection:
            version = connection.execute("PRAGMA user_version").fetchone()[0]
        if version < SCHEMA_VERSION:
            with self.writing():
                pass

    def drop_search_files(self) -> None:
        """Delete the caches: what was forgotten must not stay in them."""
        for path in self.search_folder.glob("*"):
            path.unlink(missing_ok=True)

    @contextlib.contextmanager
    def reading(self) -> Iterator[Catalog]:
        """The catalog, for reading; works while another process writes.

        Raises NoLibraryError, LibraryError, LibraryDamagedError.
        """
        self.require()
        with (
            sqlite_errors(self.catalog_path),
            contextlib.closing(self._connect_to_read()) as connection,
        ):
            _spare_temporary_files(connection)
            catalog = Catalog(connection)
            catalog.require_known_schema()
            yield catalog

    @contextlib.contextmanager
    def writing(self) -> "Iterator[Recorder]":
        """The catalog, for writing, under the library's lock; makes the library when missing.

        Raises LibraryBusyError where another process writes, LibraryError, LibraryDamagedError,
        StorageError.
        """
        self._make_folder()
        with self.locked(), self.writing_under_lock() as recorder:
            yield recorder

    @contextlib.contextmanager
    def writing_under_lock(self) -> "Iterator[Recorder]":
        """As `writing`, for who holds the lock already."""
        with sqlite_errors(self.catalog_path):
            if not self.exists():
                with self.new_catalog():
                    pass
            with contextlib.closing(self.connect()) as connection:
                recorder = _open_recorder(connection)
                recorder.require_known_schema(or_older=True)
                recorder.migrate()
                yield recorder

    @contextlib.contextmanager
    def new_catalog(self, *, instead_of: Path | None = None) -> "Iterator[Recorder]":
        """A new, empty catalog, to be filled in the block; takes its place when the block ends.

        Made under another name and renamed: a catalog that is there is whole, and where the block
        fails or the process dies, all is as it was.

        Args:
            instead_of: where an old catalog goes.
        """
        new = self.folder / f"{CATALOG}.new"
        self._remove(new)
        try:
            with contextlib.closing(sqlite3.connect(new, isolation_level=None)) as connection:
                connection.execute(f"PRAGMA page_size = {_PAGE_BYTES}")
                recorder = _open_recorder(connection)
                recorder.migrate()
                yield recorder
                # Brings all into the one file that is renamed, and fails where closing, which would
                # do it as well, keeps silent: on a full disk.
                connection.execute("PRAGMA journal_mode = DELETE")
        except BaseException:
            self._remove(new)
            raise
        if instead_of is not None:
            self._put_aside(instead_of)
        new.replace(self.catalog_path)

    def _remove(self, new: Path) -> None:
        for leftover in self.folder.glob(f"{new.name}*"):
            leftover.unlink()

    def _put_aside(self, aside: Path) -> None:
        """Keep the old catalog by another name, with its log, which the new one must not find."""
        os.link(self.catalog_path, aside)
        for ending in ("-wal", "-shm"):
            with contextlib.suppress(FileNotFoundError):
                self._beside(ending).replace(aside.with_name(aside.name + ending))

    def _beside(self, ending: str) -> Path:
        return self.catalog_path.with_name(CATALOG + ending)

    def connect(self, *, any_thread: bool = False) -> sqlite3.Connection:
        """A connection to the catalog, to be used from this thread unless said otherwise.

        Who may not write to the folder reads along with who does, by the log that is there. Where
        there is none, nobody writes, and SQLite could not make one: then the file is read alone.
        """
        options = ""
        if not os.access(self.folder, os.W_OK):
            options = "?mode=ro" if self._has_log() else "?immutable=1"
        return self._connect(options, any_thread=any_thread)

    def _connect(self, options: str = "", *, any_thread: bool = False) -> sqlite3.Connection:
        uri = self.catalog_path.absolute().as_uri() + options
        return sqlite3.connect(
            uri, uri=True, timeout=30.0, isolation_level=None, check_same_thread=not any_thread
        )

    def _has_log(self) -> bool:
        log = self._beside("-wal")
        return log.exists() and log.stat().st_size > 0

    def _connect_to_read(self) -> sqlite3.Connection:
        """As `connect`; without a write-ahead log where a full disk has no room for one."""
        connection = self.connect()
        try:
            connection.execute("SELECT 1 FROM sqlite_master LIMIT 1").fetchone()
        except sqlite3.OperationalError:
            connection.close()
            if not _is_full(self.folder) or self._has_log():
                raise
            return self._connect("?immutable=1")
        return connection

    def _make_folder(self) -> None:
        elsewhere = "name another folder: --library FOLDER or LENSCTL_LIBRARY"
        path = os.fsencode(os.path.realpath(self.folder / f"{CATALOG}.new"))
        if len(path) > _LONGEST_PATH and not self.exists():
            raise StorageError(
                f"the path of the library folder {self.folder} is too long for SQLite",
                why=f"it is {len(path) - _LONGEST_PATH} bytes longer than the longest",
                next_step=elsewhere,
            )
        try:
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise StorageError(
                f"cannot make the library folder {self.folder}",
                why=error.strerror or str(error),
                next_step=elsewhere,
            ) from error

    def locked(self) -> contextlib.AbstractContextManager[None]:
        """The library's lock; raises, when entered, LibraryBusyError and StorageError."""
        busy = LibraryBusyError(
            f"another lensctl is writing to {self.folder}",
            why="one process writes at a time; queries are not held up",
            next_step="wait for it to end, then run the command again",
        )
        elsewhere = "name another folder with --library"
        return held_alone(self.folder / "write.lock", busy, elsewhere=elsewhere, mode=0o600)


def _open_recorder(connection: sqlite3.Connection) -> "Recorder":
    # What writing needs is a third of a query's imports, and queries only read.
    from lensctl.library.recorder import Recorder

    _spare_temporary_files(connection)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = NORMAL")
    connection.execute("PRAGMA foreign_keys = ON")
    connection.execute("PRAGMA secure_delete = FAST")
    return Recorder(connection)


def _spare_temporary_files(connection: sqlite3.Connection) -> None:
    """Have SQLite sort in memory where there is no folder for temporary files, as in containers.

    Elsewhere memory stays flat: a scan takes 230 bytes of it for a photo.
    """
    # Where SQLite looks, but for the current folder: it fails only when it needs the first file.
    places = (os.environ.get("SQLITE_TMPDIR"), os.environ.get("TMPDIR"), *_TEMPORARY_FOLDERS)
    if not any(place and os.access(place, os.W_OK | os.X_OK) for place in places):
        connection.execute("PRAGMA temp_store = MEMORY")


@contextlib.contextmanager
def sqlite_errors(path: Path) -> Iterator[None]:
    """Turn SQLite's errors into ours."""
    try:
        yield
    except sqlite3.DatabaseError as error:
        raise _translate(error, path) from error


def _is_full(folder: Path) -> bool:
    return shutil.disk_usage(folder).free < _ROOM_OF_A_LOG


def _translate(error: sqlite3.DatabaseError, path: Path) -> LibraryError | StorageError:
    text = str(error)
    code = getattr(error, "sqlite_errorname", "")
    no_room = code.startswith("SQLITE_IOERR") and _is_full(path.parent)
    if code == "SQLITE_FULL" or "disk is full" in text or no_room:
        return StorageError(
            f"no space left for the library {path.parent}",
            why=text,
            next_step="free some space and run the command again; what was committed is kept",
        )
    is_writable = os.access(path.parent, os.W_OK)
    if code.startswith("SQLITE_CORRUPT") and not is_writable:
        return LibraryBusyError(
            f"the library {path.parent} cannot be read now",
            why=f"{text}; its owner may be writing to it, and the folder is not writable for you",
            next_step="run the command again in a moment; if that does not help, its owner runs:"
            " lensctl check",
        )
    if code.startswith(("SQLITE_CORRUPT", "SQLITE_NOTADB")):
        return LibraryDamagedError(
            f"the library's database {path} is damaged",
            why=text,
            next_step=f"try: lensctl check --repair; else move {path} away and index again",
        )
    if code.startswith("SQLITE_BUSY"):
        return LibraryBusyError(
            f"the library {path.parent} is held by another process",
            why=text,
            next_step="run the command again in a moment",
        )
    rights = "" if is_writable else "; the folder is not writable"
    return LibraryError(
        f"cannot use the library's database {path}",
        why=text + rights,
        next_step="check the disk and the rights of the folder, then run: lensctl check"
        if is_writable
        else "run any command once where the folder can be written, or copy it, the log included",
    )
