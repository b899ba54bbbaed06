"""`lensctl relocate`: a folder of photos was moved; say so, and nothing is read again."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lensctl.cli.opening import existing_library
from lensctl.cli.options import LibraryOption, read_path
from lensctl.cli.terminal import count
from lensctl.config import load_settings
from lensctl.errors import UsageError

if TYPE_CHECKING:
    from lensctl.library.recorder import Recorder


def relocate(
    old: Annotated[
        Path, typer.Argument(metavar="OLD", help="Where the photos were.", parser=read_path)
    ],
    new: Annotated[
        Path, typer.Argument(metavar="NEW", help="Where they are now.", parser=read_path)
    ],
    library: LibraryOption = None,
) -> None:
    """Tell the library that a folder was moved. Nothing is read or encoded again."""
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
        moved = recorder.relocate(before, after)
    if not moved:
        raise UsageError(
            f"the library knows no photo in {old}",
            next_step=f"see its folders: lensctl status; or index the new place, where photos"
            f" encoded in the last 30 days are known again: lensctl index {new}",
        )
    print(f"{count(moved, 'photo')} now at {new}")


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
