"""`lensctl index`: folders of photos into a searchable library."""

import json
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lensctl.cli.index_output import IndexProgress, print_news, print_summary, summary_to_dict
from lensctl.cli.opening import model_name
from lensctl.cli.options import (
    DeviceOption,
    LibraryOption,
    ModelOption,
    PrecisionOption,
    read_path,
)
from lensctl.cli.terminal import GracefulStop, note
from lensctl.config import Settings, load_settings
from lensctl.errors import UsageError
from lensctl.show.names import show_text

if TYPE_CHECKING:
    from lensctl.library.index_run import IndexOptions
    from lensctl.library.library import Library
    from lensctl.models.interface import ModelInfo


def index(
    folders: Annotated[
        list[Path] | None,
        typer.Argument(
            metavar="DIR...",
            help="Folders to index; none: all that were indexed before.",
            parser=read_path,
        ),
    ] = None,
    library: LibraryOption = None,
    model: ModelOption = None,
    exclude: Annotated[
        list[str] | None,
        typer.Option(
            metavar="GLOB",
            help="Leave out what matches (gitignore rules), in this run; repeatable.",
        ),
    ] = None,
    retry_errors: Annotated[
        bool, typer.Option(help="Try photos again that could not be read before.")
    ] = False,
    device: DeviceOption = None,
    precision: PrecisionOption = None,
    workers: Annotated[
        int | None,
        typer.Option(metavar="N", help="Threads that read photos [default: one per CPU]."),
    ] = None,
    batch_size: Annotated[
        int,
        typer.Option(metavar="N", min=0, help="Photos encoded together; 0: found by measuring."),
    ] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="Print the summary as JSON.")] = False,
    quiet: Annotated[
        bool,
        typer.Option(
            "--quiet", "-q", help="Tell only errors, and what went offline or proved unreadable."
        ),
    ] = False,
) -> None:
    """Index folders of photos: new and changed photos are encoded, the rest is left alone.

    Photos are only read. Run it again at any time, also after Ctrl-C or a crash: it goes on.
    """
    from lensctl.library.indexer import Indexer
    from lensctl.library.library import Library
    from lensctl.models.registry import open_model

    settings = load_settings(
        library=library,
        model=model,
        device=device,
        precision=precision,
        workers=workers,
        exclude=exclude,
    )
    place = Library(settings.library)
    place.bring_up_to_date()
    chosen = [require_folder(place, folder) for folder in folders or []]
    if not chosen and not place.exists():
        raise UsageError(
            "there is nothing to index yet", next_step="name a folder: lensctl index ~/Photos"
        )
    options = index_options(settings, retry_errors=retry_errors, batch_size=batch_size)
    with GracefulStop() as stop, IndexProgress(stop, quiet=quiet) as progress:
        name = model_name(place, settings)
        model_to_use = open_model(name)
        if not quiet:
            _tell_new_version(place, model_to_use.info)
        before = _library_model(place)
        indexer = Indexer(place, model_to_use, name, options, progress)
        summary = indexer.run(chosen)
    if as_json:
        from lensctl.show.json_output import with_paths

        print(json.dumps(with_paths(summary_to_dict(summary))))
    elif quiet:
        print_news(summary)
    else:
        print_summary(summary)
    if before and not quiet and _library_model(place) != before:
        note(
            f"searches now use {show_text(name)}, no longer {show_text(before)};"
            f" to go back: lensctl index --model {shlex.quote(before)}"
        )
    if stop.signal:
        sys.exit(stop.exit_code)


def _library_model(place: "Library") -> str | None:
    """The name or folder of the model that searches use, if there is one yet."""
    if not place.exists():
        return None
    with place.reading() as catalog:
        return catalog.fact("model")


def _tell_new_version(place: "Library", info: "ModelInfo") -> None:
    """Say why photos that are known are read again."""
    if not place.exists():
        return
    with place.reading() as catalog:
        is_new = catalog.lens(info) is None and info.name in catalog.models()
        encodes = is_new and not catalog.knows_encoder(info)
    if encodes:
        note(f"{info.name} is another version than before: all photos are encoded again")


def index_options(
    settings: Settings, *, retry_errors: bool = False, batch_size: int = 0
) -> "IndexOptions":
    """How to index, as the settings say."""
    from lensctl.library.index_run import IndexOptions

    return IndexOptions(
        exclude=settings.exclude,
        retry_errors=retry_errors,
        max_pixels=settings.max_pixels,
        workers=settings.workers,
        batch_size=batch_size,
        device=settings.device,
        precision=settings.precision,
    )


def require_folder(place: "Library", folder: Path) -> bytes:
    """The folder by the catalog's name for it.

    Raises UsageError where it is neither a folder nor was indexed before (then it is offline).
    """
    from lensctl.library.catalog import absolute

    where, indexed = absolute(folder), False
    if place.exists():
        with place.reading() as catalog:
            where = catalog.locate(folder)
            indexed = where in (path for _, path in catalog.roots())
    if indexed or folder.is_dir():
        return where
    what = "is not a folder" if folder.exists() else "does not exist"
    raise UsageError(
        f"{folder} {what}", next_step="name a folder of photos: lensctl index ~/Photos"
    )
