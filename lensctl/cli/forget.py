"""`lensctl forget`: photos out of the library, or vectors of a model; the files stay."""

import sqlite3
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lensctl.cli.opening import existing_library
from lensctl.cli.options import LibraryOption, read_path
from lensctl.cli.terminal import count, note
from lensctl.config import load_settings
from lensctl.errors import LensctlError, UsageError
from lensctl.show.names import show_path

if TYPE_CHECKING:
    from lensctl.library.catalog import Catalog
    from lensctl.library.library import Library
    from lensctl.library.recorder import Recorder


def forget(
    paths: Annotated[
        list[Path] | None,
        typer.Argument(
            metavar="DIR|PATH...", help="Folders or photos to forget.", parser=read_path
        ),
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Forget the vectors of a model; photos stay."),
    ] = None,
    superseded: Annotated[
        bool,
        typer.Option(
            "--superseded", help="Forget the vectors of models' earlier versions; photos stay."
        ),
    ] = False,
    library: LibraryOption = None,
) -> None:
    """Remove photos from the library, with their vectors and facts. The files are not touched.

    A forgotten photo comes back when a folder that holds it is indexed again; --exclude or a
    .lensctlignore file keeps it out.
    """
    if [bool(paths), model is not None, superseded].count(True) != 1:
        raise UsageError(
            "nothing is said to forget, or two things at once",
            next_step="name photos, or --model NAME, or --superseded: lensctl forget --help",
        )
    place = existing_library(load_settings(library=library).library)
    if paths:
        _forget_photos(place, paths)
    else:
        _forget_vectors(place, model)


def _forget_photos(place: "Library", paths: list[Path]) -> None:
    with place.writing() as recorder:
        located = dict.fromkeys(recorder.locate(path) for path in paths)
        known = [path for path in located if recorder.photos_under(path)]
        forgotten = sum(recorder.forget_photos(path) for path in located)
    place.drop_search_files()
    print(f"{count(forgotten, 'photo')} forgotten")
    for path in located:
        if path not in known:
            where = show_path(path)
            note(f"the library knows no photo at {where}; see its folders: lensctl status")
    if not forgotten:
        sys.exit(1)


def _forget_vectors(place: "Library", model: str | None) -> None:
    with place.writing() as recorder:
        lenses = _superseded(recorder) if model is None else _lenses_of(recorder, model)
        forgotten = recorder.forget_lenses(lenses)
        if lenses:
            _shrink(recorder)
    place.drop_search_files()
    print(f"vectors of {count(forgotten, 'photo')} forgotten")
    if not lenses:
        note("no model has vectors of an earlier version here")
        sys.exit(1)


def _lenses_of(catalog: "Catalog", model: str) -> list[int]:
    """Ids of all versions of a model. Raises UsageError where there is none, or it is in use."""
    if model not in catalog.models():
        raise UsageError(
            f"the library has no vectors of {model}",
            why=f"it has those of: {', '.join(catalog.models()) or 'no model'}",
            next_step="see them: lensctl status",
        )
    lenses = [lens_id for lens_id, _ in catalog.versions(model)]
    if len(catalog.models()) == 1 or catalog.lens_in_use() in lenses:
        raise UsageError(
            f"{model} is the model that this library is searched with",
            next_step="index with another one first: lensctl index --model NAME",
        )
    return lenses


def _superseded(catalog: "Catalog") -> list[int]:
    """Ids of lenses that are neither their model's newest nor what is on this machine."""
    from lensctl.models.registry import open_model

    found = []
    for model in catalog.models():
        newest, *earlier = catalog.versions(model)
        if not earlier:
            continue
        try:
            here = open_model(model).info.lens_fingerprint
        except LensctlError:
            here = newest[1]
        found += [lens_id for lens_id, fingerprint in earlier if fingerprint != here]
    return found


def _shrink(recorder: "Recorder") -> None:
    try:
        recorder.shrink()
    except sqlite3.Error as error:
        note(f"the database keeps its size ({error}); what is indexed next takes the free room")
