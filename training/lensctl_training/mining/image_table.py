"""Address -> image file, for all stages after *pages*: one SQLite table, made anew by each run."""

import contextlib
import sqlite3
from pathlib import Path

from lensctl.whole import whole
from lensctl_training.mining.pages import IMAGES
from lensctl_training.mining.records import read_rows
from lensctl_training.mining.workspace import Workspace


def table_path(workspace: Workspace) -> Path:
    """Where the table lies once `build_table` has run."""
    return workspace.folder / "images.sqlite"


def build_table(workspace: Workspace, stages: tuple[str, ...] = ("pages", "fetch")) -> None:
    """Gather what the parts of the given stages say of images; a file beats a reason."""
    path = table_path(workspace)
    with whole(path) as unfinished, contextlib.closing(sqlite3.connect(unfinished)) as database:
        database.execute(
            "CREATE TABLE image (url TEXT PRIMARY KEY, sha256 TEXT, reason TEXT) WITHOUT ROWID"
        )
        for stage in stages:
            for part in workspace.parts(stage):
                rows = read_rows(workspace.part_folder(stage, part) / IMAGES)
                database.executemany(
                    "INSERT INTO image VALUES (:url, :sha256, :reason) ON CONFLICT (url) DO UPDATE"
                    " SET sha256 = excluded.sha256, reason = excluded.reason"
                    " WHERE image.sha256 = ''",
                    rows,
                )
        database.commit()


class ImageTable:
    """Reads the table. Use as a context manager."""

    def __init__(self, workspace: Workspace) -> None:
        self._database = sqlite3.connect(f"file:{table_path(workspace)}?mode=ro", uri=True)

    def __enter__(self) -> "ImageTable":
        return self

    def __exit__(self, *_: object) -> None:
        self._database.close()

    def find(self, url: str) -> tuple[str, str]:
        """(SHA-256, "") or ("", reason)."""
        row = self._database.execute(
            "SELECT sha256, reason FROM image WHERE url = ?", (url,)
        ).fetchone()
        return (row[0], row[1]) if row else ("", "image not in the input")
