"""`lensctl duplicates`: photos that are there more than once."""

import json
import os
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lensctl.cli.finding import tell_unsearched
from lensctl.cli.opening import existing_library, session_of
from lensctl.cli.options import LibraryOption, ModelOption, read_path
from lensctl.cli.search_options import FolderOption
from lensctl.cli.terminal import count, file_size, note
from lensctl.config import Settings, load_settings
from lensctl.errors import PhotoError, UsageError
from lensctl.show.names import show_path, show_short_path
from lensctl.show.page_file import require_page_path

if TYPE_CHECKING:
    from lensctl.library.catalog import Catalog
    from lensctl.library.duplicates import Disk, Group, PhotoCopy

_DISTANCE = 6


def duplicates(
    exact: Annotated[
        bool, typer.Option("--exact", help="Only copies that are the same byte for byte.")
    ] = False,
    folders: FolderOption = None,
    keep_in: Annotated[
        list[Path] | None,
        typer.Option(
            "--keep-in",
            metavar="DIR",
            help="Rather keep photos in this folder; repeatable, the most preferred first.",
            parser=read_path,
        ),
    ] = None,
    distance: Annotated[
        int | None,
        typer.Option(
            metavar="BITS",
            min=0,
            max=16,
            help=f"How different near copies may look, 0 to 16 [default: {_DISTANCE}].",
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    paths: Annotated[
        bool, typer.Option("--paths", help="Print the paths of all but the one to keep.")
    ] = False,
    null: Annotated[bool, typer.Option("-0", "--null", help="As --paths, each ended by NUL.")] = (
        False
    ),
    html: Annotated[
        Path | None,
        typer.Option(
            "--html", metavar="FILE", help="Write the groups as a page, too.", parser=read_path
        ),
    ] = None,
    library: LibraryOption = None,
    model: ModelOption = None,
) -> None:
    """Find photos that are there more than once, and say which one to keep.

    Exact copies, and copies that were resized, recompressed or lightly edited. All that is told is
    read first; nothing is ever deleted.
    """
    from lensctl.library.duplicates import Disk, wasted_bytes

    if exact and distance is not None:
        raise UsageError(
            "--exact and --distance do not go together",
            why="exact copies do not differ",
            next_step="leave one of them out",
        )
    settings = load_settings(library=library, model=model)
    if html is not None:
        require_page_path(html)
    disk = Disk()
    bits = _DISTANCE if distance is None else distance
    groups = _find(settings, folders or [], keep_in or [], disk, exact=exact, distance=bits)
    if as_json:
        print(json.dumps({"groups": [_as_json(group) for group in groups]}))
    elif paths or null:
        _print_paths(groups, b"\0" if null else b"\n")
    else:
        _print(groups)
    if html is not None and groups:
        _write_page(html, groups)
    if disk.stale:
        note(
            f"left out: {count(len(disk.stale), 'file')}, changed or missing since indexing;"
            " bring the library up to date: lensctl index"
        )
    for path in sorted(disk.others):
        note(
            f"left out: {show_path(path)}: size and time are as they were indexed, its bytes are"
            f" not; have it read again: lensctl forget {quote(show_path(path))}, then lensctl index"
        )
    if not groups:
        unwritten = f"; no page was written to {html}" if html is not None else ""
        where = f" in {' or '.join(map(str, folders))}" if folders else ""
        note(f"no duplicates{where}{unwritten}")
        sys.exit(1)
    note(f"{count(len(groups), 'group')}, {file_size(wasted_bytes(groups))} beyond one of each")


def _find(
    settings: Settings,
    folders: Sequence[Path],
    keep_in: Sequence[Path],
    disk: "Disk",
    *,
    exact: bool,
    distance: int,
) -> "list[Group]":
    from lensctl.library.duplicates import LookingAt, exact_groups, near_groups

    if exact:
        with existing_library(settings.library).reading() as catalog:
            _tell_linked_roots(catalog)
            under = [_known(catalog, folder) for folder in folders]
            disk.keep_in = [_known(catalog, folder) for folder in keep_in]
            return exact_groups(catalog, under, disk=disk, progress=_bar)
    with session_of(settings) as session:
        catalog = session.catalog
        _tell_linked_roots(catalog)
        under = [_known(catalog, folder) for folder in folders]
        disk.keep_in = [_known(catalog, folder) for folder in keep_in]
        lens = catalog.lens(session.model.info)
        assert lens is not None
        file = session.searcher.file(lens, "target")
        tell_unsearched(session)
        look = LookingAt(
            session.library,
            at_least=session.model.info.decoded_side,
            max_pixels=settings.max_pixels,
            refused=_tell_refused,
            progress=_bar,
        )
        near = near_groups(
            catalog,
            file,
            look,
            folders=under,
            max_distance=distance,
            disk=disk,
            progress=_bar,
        )
        return [*exact_groups(catalog, under, disk=disk, progress=_bar), *near]


def _known(catalog: "Catalog", folder: Path) -> bytes:
    """A folder by the catalog's name; says so where no photo is known there."""
    under = catalog.locate(folder)
    if not catalog.photos_under(under):
        note(f"the library knows no photo in {folder}; see its folders: lensctl status")
    return under


def _tell_linked_roots(catalog: "Catalog") -> None:
    """Of a folder that was moved, and left a link in its place, nothing is compared."""
    for _, root in catalog.roots():
        real = os.path.realpath(root)
        if real != root and Path(os.fsdecode(real)).is_dir():
            note(
                f"left out: {show_path(root)}, which is a symbolic link now; say where it moved:"
                f" lensctl relocate {show_path(root)} {show_path(real)}"
            )


def _bar(items: Sequence[Any], title: str) -> Iterable[Any]:
    """The items behind a progress bar: on a terminal only, and gone when the work is done."""
    from tqdm import tqdm

    return tqdm(items, desc=title, unit="", disable=None, leave=False)


def _tell_refused(photo: "PhotoCopy", error: PhotoError) -> None:
    from tqdm import tqdm

    # A line of its own above the progress bar, where there is one.
    tqdm.write(f"not compared: {show_path(photo.path)}: {error.what}", file=sys.stderr)


def _print(groups: "list[Group]") -> None:
    name = show_short_path if sys.stdout.isatty() else show_path
    for group in groups:
        print(f"{group.kind}, {count(len(group.photos), 'photo')}")
        for number, photo in enumerate(group.photos):
            mark = "keep" if number == 0 else "    "
            print(f"  {mark}  {name(photo.path)}  ({_told(photo)})")


def _told(photo: "PhotoCopy") -> str:
    return f"{photo.width} × {photo.height} {photo.format}, {file_size(photo.size)}"


def _print_paths(groups: "list[Group]", end: bytes) -> None:
    for group in groups:
        for photo in group.photos[1:]:
            sys.stdout.buffer.write(photo.path + end)


def _as_json(group: "Group") -> dict[str, Any]:
    from lensctl.show.json_output import path_keys

    return {
        "kind": group.kind,
        "photos": [
            {
                **path_keys(photo.path),
                "keep": number == 0,
                "size": photo.size,
                "width": photo.width,
                "height": photo.height,
                "format": photo.format,
            }
            for number, photo in enumerate(group.photos)
        ],
    }


def _write_page(html: Path, groups: "list[Group]") -> None:
    from lensctl.show.sheet import Picture, Section, write_sheet

    sections = [
        Section(
            f"{group.kind}: {count(len(group.photos), 'photo')}",
            pictures=[
                Picture(
                    Path(os.fsdecode(photo.path)),
                    show_path(os.path.basename(photo.path)),
                    {
                        "folder": show_short_path(os.path.dirname(photo.path)),
                        "size": _told(photo),
                    },
                    mark="good" if number == 0 else "",
                    label="keep" if number == 0 else "",
                )
                for number, photo in enumerate(group.photos)
            ],
        )
        for group in groups
    ]
    write_sheet(
        html, "Duplicates", sections, subtitle=count(len(groups), "group"), picture_side=480
    )
    note(f"wrote {html}")
