"""`lensctl relocate`: a folder of photos was moved; say so, and nothing is read again."""

from pathlib import Path
from typing import Annotated

import typer

from lensctl.cli.opening import existing_library
from lensctl.cli.options import LibraryOption, read_path
from lensctl.cli.terminal import count
from lensctl.config import load_settings
from lensctl.errors import UsageError


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
        if not new.is_dir() and recorder.content_at(before) is None:
            raise UsageError(
                f"{new} is not a folder",
                why=f"{old} was one, or the library does not know it",
                next_step="name the folder as it is now",
            )
        moved = recorder.relocate(before, after)
    if not moved:
        raise UsageError(
            f"the library knows no photo in {old}",
            next_step="see its folders: lensctl status",
        )
    print(f"{count(moved, 'photo')} now at {new}")
