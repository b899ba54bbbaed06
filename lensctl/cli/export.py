"""`lensctl export`: the results of a query, copied or linked into a folder."""

import contextlib
import errno
import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from lensctl.cli import search_options as options
from lensctl.cli.asking import read_filters, read_question
from lensctl.cli.finding import find
from lensctl.cli.options import LibraryOption, ModelOption, read_path
from lensctl.cli.terminal import count, ending_on_signals, note
from lensctl.config import load_settings
from lensctl.errors import StorageError, UsageError
from lensctl.show.names import show_path


def export(
    ctx: typer.Context,
    what: options.WhatArgument = None,
    instruction: options.InstructionArgument = None,
    to: Annotated[
        Path,
        typer.Option(
            "--to", metavar="DIR", help="Where to; made where it is missing.", parser=read_path
        ),
    ] = ...,  # type: ignore[assignment]
    link: Annotated[bool, typer.Option("--link", help="Symbolic links instead of copies.")] = False,
    null: Annotated[
        bool, typer.Option("-0", "--null", help="End each printed path by NUL, for xargs -0.")
    ] = False,
    image: options.ImageOption = None,
    text: options.TextOption = None,
    results: options.ResultsOption = None,
    folders: options.FolderOption = None,
    after: options.AfterOption = None,
    before: options.BeforeOption = None,
    camera: options.CameraOption = None,
    near: options.NearOption = None,
    place: options.PlaceOption = None,
    formats: options.TypeOption = None,
    min_score: options.MinScoreOption = None,
    include_self: options.IncludeSelfOption = False,
    search: options.SearchModeOption = None,
    library: LibraryOption = None,
    model: ModelOption = None,
) -> None:
    """Copy the results of a query into a folder; nothing there is overwritten.

    A photo of a name that is taken becomes name-2; one that is there already is left alone. Prints
    where each photo lies now.

    lensctl export img.jpg "inside view of" -k 30 --to ~/churches
    """
    settings = load_settings(
        library=library, model=model, results=results, search=search, min_score=min_score
    )
    asked = read_question(what, instruction, image, text, more=ctx.args)
    filters = read_filters(folders, after, before, camera, near, formats, place)
    matches = find(settings, asked, filters, include_self=include_self)
    end = b"\0" if null else b"\n"
    paths = [match.facts.path for match in matches]
    with ending_on_signals():
        placed = _place(paths, to, link=link, end=end) if paths else 0
    if not placed:
        sys.exit(1)


_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def _place(paths: list[bytes], to: Path, *, link: bool, end: bytes) -> int:
    """How many photos lie in the folder now; the others are named on stderr."""
    from lensctl.show.copying import place_copy, place_link, remove_leftovers

    if to.exists() and not to.is_dir():
        raise UsageError(f"{to} is a file, not a folder", next_step="name a folder: --to DIR")
    to.mkdir(parents=True, exist_ok=True)
    remove_leftovers(to)
    placed = 0
    for path in paths:
        source = Path(os.fsdecode(path))
        if not source.is_file():
            note(f"not exported: {show_path(path)}: it is away or gone")
            continue
        try:
            place = place_link(source, to) if link else place_copy(source, to)
        except OSError as error:
            # Copying names the photo, too, where the folder is what is full.
            if error.filename != os.fspath(source) or error.errno in _FULL:
                raise StorageError(
                    f"cannot write to {to}, where {count(placed, 'photo')} went before",
                    why=error.strerror or str(error),
                    next_step="check the disk space and the rights there, then run it again",
                ) from error
            note(f"not exported: {show_path(path)}: {error.strerror}")
            continue
        # Whoever read the listing may leave; the photos are what was asked for.
        with contextlib.suppress(BrokenPipeError):
            sys.stdout.buffer.write(os.fsencode(place) + end)
        placed += 1
    note(f"{count(placed, 'photo')} in {to}")
    return placed
