"""A folder that is as slow as a disk of old: FUSE, with a time for every request and every byte.

The kernel asks; the answer waits as a single disk arm would make it wait: one request at a time,
`seek` seconds wherever the next byte is not the one after the last, and a bound on the bytes per
second. What is written waits where it is synced only. Needs libfuse and `pip install mfusepy` (ISC
licence), on most systems no rights of root.
"""

import contextlib
import errno
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

try:
    import mfusepy as fuse
except ImportError:
    sys.exit("this benchmark needs FUSE: pip install mfusepy, and libfuse of the system")

_FACTS = ("st_mode", "st_nlink", "st_uid", "st_gid", "st_size", "st_ino")
_TIMES = ("st_atime", "st_mtime", "st_ctime")
_REMEMBERED = 3600
"""Seconds for which the kernel remembers names; every mount begins with no memory."""


class SlowDisk(fuse.Operations):
    """Passes everything on to a folder, late.

    Args:
        folder: what is shown.
        seek: seconds to a new place, which every look at a name costs, too.
        speed: bytes per second.
    """

    use_ns = True

    def __init__(self, folder: Path, seek: float, speed: float) -> None:
        self._folder = folder
        self._seek = seek
        self._speed = speed
        self._arm = threading.Lock()
        self._place: tuple[int, int] = (0, 0)
        self._unwritten: dict[int, int] = {}

    def _wait(self, place: tuple[int, int], size: int) -> None:
        with self._arm:
            seconds = size / self._speed + (self._seek if place != self._place else 0.0)
            self._place = (place[0], place[1] + size)
            time.sleep(seconds)

    def _path(self, path: str) -> Path:
        return self._folder / path.lstrip("/")

    def getattr(self, path: str, fh: int | None = None) -> dict[str, int]:
        self._wait((-1, 0), 0)
        status = os.lstat(self._path(path))
        facts = {name: getattr(status, name) for name in _FACTS}
        return {**facts, **{name: getattr(status, f"{name}_ns") for name in _TIMES}}

    def readdir(self, path: str, fh: int) -> list[str]:
        self._wait((-2, 0), 0)
        return [".", "..", *(one.name for one in self._path(path).iterdir())]

    def open(self, path: str, flags: int) -> int:
        return os.open(self._path(path), flags)

    def create(self, path: str, mode: int, fi: object = None) -> int:
        self._wait((-3, 0), 0)
        return os.open(self._path(path), os.O_RDWR | os.O_CREAT | os.O_TRUNC, mode)

    def read(self, path: str, size: int, offset: int, fh: int) -> bytes:
        data = os.pread(fh, size, offset)
        self._wait((fh, offset), len(data))
        return data

    def write(self, path: str, data: bytes, offset: int, fh: int) -> int:
        # A system keeps what is written in memory and brings it to the disk when it likes.
        with self._arm:
            self._unwritten[fh] = self._unwritten.get(fh, 0) + len(data)
        return os.pwrite(fh, data, offset)

    def fsync(self, path: str, datasync: int, fh: int) -> int:
        self._wait((-4, 0), self._unwritten.pop(fh, 0))
        return 0

    def release(self, path: str, fh: int) -> int:
        self._unwritten.pop(fh, None)
        os.close(fh)
        return 0

    def truncate(self, path: str, length: int, fh: int | None = None) -> int:
        os.truncate(self._path(path) if fh is None else fh, length)
        return 0

    def utimens(self, path: str, times: tuple[int, int] | None = None) -> int:
        os.utime(self._path(path), ns=times)
        return 0

    def rename(self, old: str, new: str) -> int:
        self._wait((-5, 0), 0)
        self._path(old).rename(self._path(new))
        return 0

    def link(self, target: str, source: str) -> int:
        raise OSError(errno.ENOTSUP, "no hard links here")

    def symlink(self, target: str, source: str) -> int:
        self._path(target).symlink_to(source)
        return 0

    def readlink(self, path: str) -> str:
        return str(self._path(path).readlink())

    def unlink(self, path: str) -> int:
        self._path(path).unlink()
        return 0

    def mkdir(self, path: str, mode: int) -> int:
        self._path(path).mkdir(mode)
        return 0

    def rmdir(self, path: str) -> int:
        self._path(path).rmdir()
        return 0

    def chmod(self, path: str, mode: int) -> int:
        self._path(path).chmod(mode)
        return 0


@contextlib.contextmanager
def slow_mount(folder: Path, place: Path, seek: float, speed: float) -> Iterator[Path]:
    """`folder`, seen slowly at `place`, with nothing of it in the kernel's memory yet."""
    place.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, __file__, str(folder), str(place), str(seek), str(speed)]
    server = subprocess.Popen(command)
    try:
        while not place.is_mount():
            if server.poll() is not None:
                sys.exit("the slow disk could not be mounted")
            time.sleep(0.02)
        yield place
    finally:
        subprocess.run(["fusermount3", "-u", "-z", place], check=True)
        server.wait()


def main() -> None:
    """Serve one mount, until it is unmounted: FOLDER PLACE SEEK SPEED."""
    folder, place, seek, speed = sys.argv[1:]
    fuse.FUSE(
        SlowDisk(Path(folder), float(seek), float(speed)),
        place,
        foreground=True,
        attr_timeout=_REMEMBERED,
        entry_timeout=_REMEMBERED,
        negative_timeout=0,
        max_threads=8,
    )


if __name__ == "__main__":
    main()
