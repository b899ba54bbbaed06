"""`lensctl relocate`: a folder of photos was moved; say so, and nothing is read again."""

from pathlib import Path
from typing import Annotated

import typer

from lensctl.cli.opening import existing_library
from lensctl.cli.options import LibraryOption
from lensctl.cli.terminal import count
from lensctl.config import load_settings
from lensctl.errors import UsageError


def relocate(
    old: Annotated[Path, typer.Argument(metavar="OLD", help="Where the photos were.")],
    new: Annotated[Path, typer.Argument(metavar="NEW", help="Where they are now.")],
    library: LibraryOption = None,
) -> None:
    """Tell the library that a folder was moved. Nothing is read or encoded again."""
    from lensctl.library.catalog import absolute

    place = existing_library(load_settings(library=library).library)
    if not new.exists():
        raise UsageError(f"{new} does not exist", next_step="name the folder as it is now")
    with place.writing() as recorder:
        if recorder.relocate(absolute(old), absolute(new)) == 0:
            raise UsageError(
                f"the library knows no photo in {old}",
                next_step="see its folders: lensctl status",
            )
        moved = recorder.photos_under(absolute(new))
    print(f"{count(moved, 'photo')} now at {new}")
