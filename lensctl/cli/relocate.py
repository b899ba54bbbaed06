"""`lensctl relocate`: a folder of photos was moved; say so, and nothing is read again."""

import os
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Annotated

import typer

from lensctl.cli.opening import existing_library
from lensctl.cli.options import LibraryOption, read_path
from lensctl.cli.terminal import count, note
from lensctl.config import load_settings
from lensctl.errors import UsageError
from lensctl.show.names import show_path

if TYPE_CHECKING:
    from lensctl.library.recorder import Recorder

_LOOKED_FOR = 1000
"""Photos; at a millisecond each, as on a slow share, a second."""


def relocate(
    old: Annotated[
        Path, typer.Argument(metavar="OLD", help="Where the photos were.", parser=read_path)
    ],
    new: Annotated[
        Path, typer.Argument(metavar="NEW", help="Where they are now.", parser=read_path)
    ],
    library: LibraryOption = None,
) -> None:
    """Tell the library that a folder was moved. Nothing is read or encoded again.

    Up to 1,000 of its photos are looked for at NEW; where none is there, nothing is changed.
    """
    place = existing_library(load_settings(library=library).library)
    if not new.exists():
        raise UsageError(f"{new} does not exist", next_step="name the folder as it is now")
    with place.writing() as recorder:
        before, after = recorder.locate(old), recorder.locate(new)
        if recorder.content_at(before) is not None:
            after = _place_of_photo(recorder, before, new)
        elif not new.is_dir():
            raise UsageError(
                f"{new} is not a folder",
                why=f"{old} was one, or the library does not know it",
                next_step="name the folder as it is now",
            )
        missing = _require_photos(recorder, before, after)
        moved = recorder.relocate(before, after)
    if not moved:
        raise UsageError(
            f"the library knows no photo in {old}",
            next_step=f"see its folders: lensctl status; or index the new place, where photos"
            f" encoded in the last 30 days are known again: lensctl index {new}",
        )
    print(f"{count(moved, 'photo')} now at {new}")
    if missing:
        note(f"{missing}; lensctl index finds out what became of them")


def _require_photos(recorder: "Recorder", before: bytes, after: bytes) -> str:
    """How many photos are not where they are said to be, in words; empty where all are there.

    Raises UsageError where none is: the next index run would forget them all.
    """
    files = recorder.some_files(before, _LOOKED_FOR)
    there = _number_there(files, after)
    if not files or there == len(files):
        return ""
    if there:
        missing = f"{len(files) - there:,} of {count(len(files), 'photo')}"
        return f"not there with their sizes: {missing} looked for"
    old, new = show_path(before), show_path(after)
    inside = next((one for one in _folders_in(after) if _number_there(files[:20], one)), None)
    raise UsageError(
        f"{new} does not hold the photos of {old}",
        why=f"none of {count(len(files), 'photo')} looked for is there with its size",
        next_step="name the folder that they lie in as they did before"
        if inside is None
        else f"they seem to be deeper: lensctl relocate {quote(old)} {quote(show_path(inside))}",
    )


def _number_there(files: list[tuple[bytes, int]], folder: bytes) -> int:
    """How many files, given by relative paths, a folder holds with their sizes."""
    return sum(
        _size(os.path.join(folder, path) if path else folder) == size for path, size in files
    )


def _size(path: bytes) -> int | None:
    try:
        return os.stat(path).st_size
    except OSError:
        return None


def _folders_in(folder: bytes) -> list[bytes]:
    try:
        with os.scandir(folder) as entries:
            return sorted(entry.path for entry in entries if entry.is_dir())
    except OSError:
        return []


def _place_of_photo(recorder: "Recorder", before: bytes, new: Path) -> bytes:
    """Where a single photo lies now; in a folder it has kept its name.

    Raises UsageError where it is not there, or in no folder that was indexed.
    """
    where = new / os.fsdecode(os.path.basename(before)) if new.is_dir() else new
    if not where.is_file():
        raise UsageError(f"{where} is not a photo", next_step="name the photo as it is now")
    after = recorder.locate(where)
    if recorder.root_of(after) is None:
        raise UsageError(
            f"{where} lies in no folder that was indexed",
            why="a photo moves with its folder, or from one indexed folder to another",
            next_step=f"lensctl index {where.parent} (it is known by its content)",
        )
    return after
