"""Small copies of photos kept between runs: private, bounded, and safe to delete.

One copy of each photo serves the terminal and the pages for the browser: a photo on a slow disk is
read once.
"""

import contextlib
import os
from collections.abc import Callable
from pathlib import Path

from lensctl.config import user_folder
from lensctl.show.thumbnail import make_thumbnail
from lensctl.whole import whole

KEPT_SIDE = 960
"""Bound on the longer side of a kept copy, in pixels."""

MAX_BYTES = 256 << 20
"""Some 2,500 copies."""

_KEEP_SHARE = 0.8
_JPEG_START, _JPEG_END = b"\xff\xd8", b"\xff\xd9"


class ThumbnailCache:
    """JPEG files named by the content they show, the least recently used deleted first.

    A photo's content never changes under its name, so nothing here is ever stale, and a photo on a
    disk that is away can still be shown.

    Args:
        folder: made with mode 0700 when the first thumbnail is kept.
        max_bytes: bound on the sum of the files, kept by `trim`.
    """

    def __init__(self, folder: Path, max_bytes: int = MAX_BYTES) -> None:
        self.folder = folder
        self.max_bytes = max_bytes
        self._added = False

    def copy_of(self, photo: Path, content: str) -> bytes:
        """JPEG of at most `KEPT_SIDE` pixels, upright, without metadata. Raises PhotoError.

        Args:
            content: names what the photo shows; empty where it is not known, then nothing is kept.
        """

        def make() -> bytes:
            return make_thumbnail(photo, KEPT_SIDE).jpeg

        if not content:
            return make()
        key = f"{content}-{KEPT_SIDE}"
        copy = self.get(key, make)
        if copy.startswith(_JPEG_START) and copy.endswith(_JPEG_END):
            return copy
        copy = make()  # what is kept is not what was written
        self._keep(self.folder / f"{key}.jpg", copy)
        return copy

    def get(self, key: str, make: Callable[[], bytes]) -> bytes:
        """The kept thumbnail, or the one that `make` makes, which is then kept.

        A folder that cannot be written costs time, not the thumbnail.
        """
        path = self.folder / f"{key}.jpg"
        try:
            thumbnail = path.read_bytes()
            os.utime(path)
        except OSError:
            thumbnail = b""
        if not thumbnail:
            thumbnail = make()
            self._keep(path, thumbnail)
        return thumbnail

    def trim(self) -> None:
        """Delete the least recently used beyond the bound; costs nothing where none was added."""
        if not self._added:
            return
        self._added = False
        files = []
        for path in self.folder.iterdir():
            with contextlib.suppress(FileNotFoundError):  # another process trims, too
                files.append((path.stat(), path))
        total = sum(status.st_size for status, _ in files)
        if total <= self.max_bytes:
            return
        for status, path in sorted(files, key=lambda one: one[0].st_mtime):
            path.unlink(missing_ok=True)
            total -= status.st_size
            if total <= _KEEP_SHARE * self.max_bytes:
                return

    def _keep(self, path: Path, thumbnail: bytes) -> None:
        try:
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            with whole(path, mode=0o600) as part:
                part.write_bytes(thumbnail)
        except OSError:
            return
        self._added = True


def user_cache() -> ThumbnailCache:
    """In the user's cache folder."""
    return ThumbnailCache(user_folder("cache") / "thumbnails")
