"""`lensctl index`: folders of photos into a searchable library."""

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lensctl.cli.opening import model_name
from lensctl.cli.options import (
    DeviceOption,
    LibraryOption,
    ModelOption,
    PrecisionOption,
    QuietOption,
    read_path,
)
from lensctl.cli.terminal import GracefulStop, count, duration, note
from lensctl.config import Settings, load_settings
from lensctl.errors import UsageError
from lensctl.show.names import show_path

if TYPE_CHECKING:
    from tqdm import tqdm

    from lensctl.library.index_run import IndexOptions, IndexSummary
    from lensctl.library.library import Library

_LISTED = 20


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
    quiet: QuietOption = False,
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
        name = model_name(place, settings.model)
        indexer = Indexer(place, open_model(name), name, options, progress)
        summary = indexer.run(chosen)
    if as_json:
        print(json.dumps(_as_json(summary)))
    elif not quiet:
        print_summary(summary)
    if stop.signal:
        sys.exit(stop.exit_code)


def index_options(
    settings: Settings, *, retry_errors: bool = False, batch_size: int = 0
) -> "IndexOptions":
    """How to index, as the settings say."""
    from lensctl.library.index_run import IndexOptions

    return IndexOptions(
        exclude=settings.exclude,
        retry_errors=retry_errors,
        max_pixels=round(settings.max_megapixels * 1e6),
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


class IndexProgress:
    """The progress bar: on a terminal only, and gone when the work is done.

    Args:
        quiet: no bar, no words.
        brief: a bar, no words.
    """

    def __init__(self, stop: GracefulStop, *, quiet: bool = False, brief: bool = False) -> None:
        self._stop = stop
        self._quiet = quiet
        self._brief = brief
        self._bar: tqdm | None = None

    def __enter__(self) -> "IndexProgress":
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.close()

    def scanning(self, folder: bytes) -> None:
        if not self._quiet and not self._brief and sys.stderr.isatty():
            note(f"looking through {show_path(folder)}")

    def encoding(self, photos: int, seconds_per_photo: float) -> None:
        from tqdm import tqdm

        if not self._quiet and not self._brief:
            least = duration(photos * seconds_per_photo)
            note(f"{count(photos, 'photo')} to read; encoding alone takes about {least}")
        if self._bar is not None:
            self._bar.close()
        self._bar = tqdm(
            total=photos, unit="photo", disable=True if self._quiet else None, leave=False
        )

    def advanced(self, photos: int) -> None:
        assert self._bar is not None
        self._bar.update(photos)

    def wants_stop(self) -> bool:
        return self._stop.signal != 0


def print_summary(summary: "IndexSummary") -> None:
    """One line on stdout; what went wrong on stderr."""
    found, changes = count(summary.found, "photo"), told_changes(summary)
    print(f"{found} found: {changes} ({duration(summary.seconds)})")
    for path in summary.offline_folders:
        note(
            f"offline: {show_path(path)}: missing, empty or closed, nothing was forgotten"
            " (moved: lensctl relocate OLD NEW; gone for good: lensctl forget)"
        )
    print_problems(summary)
    if summary.stopped:
        note("stopped; run the command again to go on")


def told_changes(summary: "IndexSummary") -> str:
    """ "12 encoded, 3 gone", or "nothing new"."""
    parts = [
        (summary.encoded, "encoded"),
        (summary.linked, "known by content"),
        (summary.moved, "renamed"),
        (summary.gone, "gone"),
        (summary.excluded, "excluded"),
        (summary.offline, "offline"),
        (len(summary.unreadable), "unreadable"),
    ]
    return ", ".join(f"{number:,} {what}" for number, what in parts if number) or "nothing new"


def print_problems(summary: "IndexSummary") -> None:
    """What could not be read, on stderr, with reasons."""
    _list("could not be read", summary.unreadable)
    _list("skipped", summary.skipped)


def _list(what: str, rows: list[tuple[bytes, str]]) -> None:
    listed = _LISTED if sys.stderr.isatty() else len(rows)
    for path, reason in rows[:listed]:
        note(f"{what}: {show_path(path)}: {reason}")
    if len(rows) > listed:
        note(f"... and {len(rows) - listed:,} more; all of them: lensctl status --errors")


def _as_json(summary: "IndexSummary") -> dict[str, object]:
    return {
        "found": summary.found,
        "encoded": summary.encoded,
        "known_by_content": summary.linked,
        "renamed": summary.moved,
        "gone": summary.gone,
        "excluded": summary.excluded,
        "offline": summary.offline,
        "offline_folders": [show_path(path) for path in summary.offline_folders],
        "unreadable": [{"path": show_path(p), "reason": r} for p, r in summary.unreadable],
        "skipped": [{"path": show_path(p), "reason": r} for p, r in summary.skipped],
        "stopped": summary.stopped,
    }
