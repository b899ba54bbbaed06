"""Address -> image file, for all stages after *pages*: a SQLite table for each stage that has some.

A table is kept as long as the parts it was made from are.
"""

import contextlib
import sqlite3
from pathlib import Path
from typing import Literal

from lensctl.whole import whole
from lensctl_training.mining.pages import IMAGES
from lensctl_training.mining.records import read_rows
from lensctl_training.mining.workspace import Workspace, digest

Source = Literal["pages", "fetch"]
_FILES: dict[Source, str] = {"pages": "images.sqlite", "fetch": "fetched.sqlite"}
_VERSION = 1


def build_table(workspace: Workspace, stage: Source) -> None:
    """Gather what the parts of a stage say of images, unless it is gathered already.

    The index is made at the end, sorted: address by address each would be written somewhere else
    in a file that is larger than memory. SQLite sorts in files in the folder that TMPDIR names.
    """
    path, parts = workspace.folder / _FILES[stage], workspace.parts(stage)
    key = digest(_VERSION, [(part, workspace.done_key(stage, part)) for part in parts])
    if _key_of(path) == key:
        return
    with whole(path) as unfinished, contextlib.closing(sqlite3.connect(unfinished)) as database:
        # An unfinished file is thrown away: it need not be able to go back.
        database.execute("PRAGMA journal_mode = OFF")
        database.execute("CREATE TABLE image (url TEXT, sha256 TEXT, reason TEXT)")
        for part in parts:
            rows = read_rows(workspace.part_folder(stage, part) / IMAGES)
            database.executemany("INSERT INTO image VALUES (:url, :sha256, :reason)", rows)
        database.execute("CREATE INDEX address ON image (url)")
        database.execute("CREATE TABLE made_from (key TEXT)")
        database.execute("INSERT INTO made_from VALUES (?)", (key,))
        database.commit()


def _key_of(path: Path) -> str:
    """What a table was made from; "" where there is none, or it is damaged."""
    try:
        with contextlib.closing(_open(path)) as database:
            return str(database.execute("SELECT key FROM made_from").fetchone()[0])
    except sqlite3.DatabaseError:
        return ""


def _open(path: Path) -> sqlite3.Connection:
    return sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)


class ImageTable:
    """Reads the tables. Use as a context manager.

    Args:
        workspace: where they lie.
        stages: whose word counts; of what was never fetched there is no table.
    """

    def __init__(
        self, workspace: Workspace, stages: tuple[Source, ...] = ("pages", "fetch")
    ) -> None:
        paths = [workspace.folder / _FILES[stage] for stage in stages]
        self._databases = [_open(path) for path in paths if path.exists()]

    def __enter__(self) -> "ImageTable":
        return self

    def __exit__(self, *_: object) -> None:
        for database in self._databases:
            database.close()

    def find(self, url: str) -> tuple[str, str]:
        """(SHA-256, "") or ("", reason): the first file that is known, else the last reason."""
        reason = "image not in the input"
        for database in self._databases:
            rows = database.execute(
                "SELECT sha256, reason FROM image WHERE url = ? ORDER BY rowid", (url,)
            )
            for sha256, why in rows:
                if sha256:
                    return sha256, ""
                reason = why
        return "", reason
