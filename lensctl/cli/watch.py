"""`lensctl watch`: keep a library current while photos come and go."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lensctl.cli.index import index_options, require_folder
from lensctl.cli.index_output import IndexProgress, print_problems, told_changes
from lensctl.cli.opening import model_name
from lensctl.cli.options import DeviceOption, LibraryOption, ModelOption, PrecisionOption, read_path
from lensctl.cli.terminal import GracefulStop, count, duration, note
from lensctl.config import Settings, load_settings
from lensctl.errors import LibraryBusyError, NoLibraryError, StorageError
from lensctl.show.names import show_short_path

if TYPE_CHECKING:
    from lensctl.library.index_run import IndexSummary
    from lensctl.library.library import Library
    from lensctl.library.watching import FolderWatch


def watch(
    folders: Annotated[
        list[Path] | None,
        typer.Argument(
            metavar="DIR...",
            help="Folders to watch; none: all that were indexed.",
            parser=read_path,
        ),
    ] = None,
    quiet_seconds: Annotated[
        float,
        typer.Option("--after-quiet", metavar="SECONDS", min=0, help="Wait for so much quiet."),
    ] = 2.0,
    rescan_minutes: Annotated[
        float,
        typer.Option(
            "--rescan", metavar="MINUTES", min=0, help="Look through everything so often; 0: no"
        ),
    ] = 60.0,
    poll: Annotated[
        bool, typer.Option("--poll", help="Look for changes instead of being told of them.")
    ] = False,
    library: LibraryOption = None,
    model: ModelOption = None,
    exclude: Annotated[
        list[str] | None,
        typer.Option(
            metavar="GLOB",
            help="Leave out what matches (gitignore rules), in this run; repeatable.",
        ),
    ] = None,
    device: DeviceOption = None,
    precision: PrecisionOption = None,
) -> None:
    """Index folders, and index again whenever photos come, change or go. Ctrl-C ends it.

    A disk that is unmounted is waited for; nothing is forgotten. Changes that other machines make
    on a network share are found by --rescan.
    """
    from lensctl.library.library import Library
    from lensctl.library.watching import FolderWatch, WatchOptions

    settings = load_settings(
        library=library, model=model, exclude=exclude, device=device, precision=precision
    )
    place = Library(settings.library)
    place.bring_up_to_date()
    chosen = [require_folder(place, folder) for folder in folders or []]
    roots = chosen or _indexed_folders(place)
    options = WatchOptions(quiet=quiet_seconds, rescan=rescan_minutes * 60, poll=poll)
    with GracefulStop("stopping") as stop:
        watched = FolderWatch(roots, place.folder, options, _say)
        try:
            _follow(watched, place, settings, stop)
        finally:
            watched.close()
    sys.exit(stop.exit_code)


def _say(what: str, folder: bytes) -> None:
    note(f"{_now()}  {show_short_path(folder)}: {what}")


def _now() -> str:
    from datetime import datetime

    return f"{datetime.now():%H:%M:%S}"


def _indexed_folders(place: "Library") -> list[bytes]:
    place.require()
    with place.reading() as catalog:
        folders = [path for _, path in catalog.roots()]
    if not folders:
        raise NoLibraryError("no folder was indexed yet", next_step="lensctl watch ~/Photos")
    return folders


def _follow(
    watched: "FolderWatch", place: "Library", settings: Settings, stop: GracefulStop
) -> None:
    """Index whatever changed, until asked to stop; the model is loaded once."""
    from lensctl.library.indexer import Indexer
    from lensctl.models.registry import open_model

    name = model_name(place, settings)
    model = open_model(name)
    note("watching; press Ctrl-C to end")
    away: list[bytes] = []
    told = ""
    while folders := watched.wait(lambda: stop.signal != 0):
        try:
            with IndexProgress(stop, brief=True) as progress:
                indexer = Indexer(place, model, name, index_options(settings), progress)
                summary = indexer.run(folders)
            _tell(summary, folders, away)
            away = summary.offline_folders
            told = ""
        except (LibraryBusyError, StorageError) as error:
            if told != error.what:  # said once; it is tried again after every quiet moment
                note(f"{_now()}  {error.what}; will try again")
            told = error.what
            watched.touch(folders)


def _tell(summary: "IndexSummary", folders: list[bytes], away: list[bytes]) -> None:
    """Say what was done; nothing where nothing was, as after a rescan.

    Args:
        away: folders that were offline the last time: to say it once is enough.
    """
    news = (summary.encoded, summary.linked, summary.moved, summary.gone, summary.excluded)
    if any(news) or summary.unreadable or summary.offline_folders != away:
        names = ", ".join(show_short_path(folder) for folder in folders)
        kept = "; nothing was forgotten" if summary.offline_folders else ""
        found = count(summary.found, "photo")
        time = duration(summary.seconds)
        print(f"{_now()}  {names}: {told_changes(summary)}{kept}; {found} seen ({time})")
        print_problems(summary)
        sys.stdout.flush()
