"""`lensctl forget`: photos out of the library; the files stay."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from lensctl.cli.opening import existing_library
from lensctl.cli.options import LibraryOption, read_path
from lensctl.cli.terminal import count, note
from lensctl.config import load_settings


def forget(
    paths: Annotated[
        list[Path],
        typer.Argument(
            metavar="DIR|PATH...", help="Folders or photos to forget.", parser=read_path
        ),
    ],
    library: LibraryOption = None,
) -> None:
    """Remove photos from the library, with their vectors and facts. The files are not touched.

    A forgotten photo comes back when a folder that holds it is indexed again; --exclude or a
    .lensctlignore file keeps it out.
    """
    place = existing_library(load_settings(library=library).library)
    with place.writing() as recorder:
        forgotten = sum(recorder.forget_photos(recorder.locate(path)) for path in paths)
    place.drop_search_files()
    print(f"{count(forgotten, 'photo')} forgotten")
    if not forgotten:
        note("the library knows no photo there; see its folders: lensctl status")
        sys.exit(1)
