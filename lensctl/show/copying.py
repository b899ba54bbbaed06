"""Results copied or linked into a folder; what is there already is never overwritten."""

import itertools
import os
import shutil
import tempfile
from pathlib import Path


def place_copy(source: Path, folder: Path) -> Path:
    """Copy a file, with its times, into a folder, under its own name or name-2, name-3, ...

    Where a file of such a name holds the same bytes already, that is returned and nothing is
    written. Raises OSError.
    """
    descriptor, temporary = tempfile.mkstemp(dir=folder, prefix=".lensctl-")
    os.close(descriptor)
    try:
        shutil.copy2(source, temporary)
        for name in _names(source):
            place = folder / name
            if _reserve(place):
                Path(temporary).replace(place)
                return place
            if _same_bytes(Path(temporary), place):
                return place
    finally:
        Path(temporary).unlink(missing_ok=True)
    raise AssertionError("names do not end")


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
    numbered = (f"{source.stem}-{number}{source.suffix}" for number in itertools.count(2))
    return itertools.chain([source.name], numbered)


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
