"""Results copied or linked into a folder; what is there already is never overwritten."""

import contextlib
import fcntl
import itertools
import os
import shutil
import tempfile
from pathlib import Path

_MARK = ".lensctl-"
_LONGEST_NAME = 255
"""Bytes of a file's name, on nearly all file systems."""


def place_copy(source: Path, folder: Path) -> Path:
    """Copy a file, with its times, into a folder, under its own name or name-2, name-3, ...

    Where a file of such a name holds the same bytes already, that is returned and nothing is
    written. Raises OSError.
    """
    temporary: Path | None = None
    try:
        for name in _names(source):
            place = folder / name
            if os.path.lexists(place):
                if _same_bytes(source, place):
                    return place
                continue
            if temporary is None:
                lock, temporary = _new_file(folder)
                shutil.copy2(source, temporary)
            if _reserve(place):
                temporary.replace(place)
                return place
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)
            os.close(lock)
    raise AssertionError("names do not end")


def remove_leftovers(folder: Path) -> None:
    """Remove what copies that were killed left in a folder; those of living processes stay."""
    for path in folder.glob(f"{_MARK}????????"):
        with contextlib.suppress(OSError), path.open("r+b") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            path.unlink()


def _new_file(folder: Path) -> tuple[int, Path]:
    """An empty file, locked for as long as its descriptor is open: see `remove_leftovers`."""
    descriptor, name = tempfile.mkstemp(dir=folder, prefix=_MARK)
    with contextlib.suppress(OSError):  # not all network shares lock
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    return descriptor, Path(name)


def place_link(source: Path, folder: Path) -> Path:
    """As `place_copy`, with a symbolic link to the file instead."""
    for name in _names(source):
        place = folder / name
        try:
            place.symlink_to(source)
        except FileExistsError:
            if place.is_symlink() and place.readlink() == source:
                return place
        else:
            return place
    raise AssertionError("names do not end")


def _names(source: Path) -> "itertools.chain[str]":
    numbered = (_numbered(source, f"-{number}") for number in itertools.count(2))
    return itertools.chain([source.name], numbered)


def _numbered(source: Path, number: str) -> str:
    """The name with a number, cut where a file system would refuse it."""
    room = _LONGEST_NAME - len(os.fsencode(f"{number}{source.suffix}"))
    stem = source.stem
    if len(os.fsencode(stem)) > room:
        stem = os.fsencode(stem)[:room].decode(errors="ignore")
    return f"{stem}{number}{source.suffix}"


def _reserve(place: Path) -> bool:
    """Make an empty file of that name; False where there is something of that name already."""
    try:
        os.close(os.open(place, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
    except FileExistsError:
        return False
    return True


def _same_bytes(one: Path, other: Path) -> bool:
    if not other.is_file() or one.stat().st_size != other.stat().st_size:
        return False
    with one.open("rb") as left, other.open("rb") as right:
        while block := left.read(1 << 20):
            if block != right.read(1 << 20):
                return False
    return True
