"""`lensctl query`: the nearest photos to an image, to an image and an instruction, or to words."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lensctl.cli import search_options as options
from lensctl.cli.asking import Asked, read_filters, read_question
from lensctl.cli.finding import find
from lensctl.cli.options import LibraryOption, ModelOption, read_path
from lensctl.cli.results import as_results, print_results
from lensctl.cli.terminal import note
from lensctl.config import load_settings, user_folder
from lensctl.errors import UsageError
from lensctl.show.page_file import require_page_path

if TYPE_CHECKING:
    from lensctl.show.result import Result


def query(
    ctx: typer.Context,
    what: options.WhatArgument = None,
    instruction: options.InstructionArgument = None,
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
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    paths: Annotated[bool, typer.Option("--paths", help="Print paths alone, one a line.")] = False,
    null: Annotated[
        bool, typer.Option("-0", "--null", help="Print paths, each ended by NUL, for xargs -0.")
    ] = False,
    thumbs: options.ThumbsOption = None,
    html: Annotated[
        Path | None,
        typer.Option(
            "--html",
            metavar="FILE",
            help="Write the results as one HTML page, too.",
            parser=read_path,
        ),
    ] = None,
    open_page: Annotated[
        bool, typer.Option("--open", help="Open the results as a page in the browser.")
    ] = False,
    library: LibraryOption = None,
    model: ModelOption = None,
) -> None:
    """Find photos by an image, an image and an instruction, or words; best first.

    lensctl query img.jpg "inside view of"

    lensctl query img.jpg

    lensctl query "red barn in snow"
    """
    settings = load_settings(
        library=library,
        model=model,
        results=results,
        search=search,
        min_score=min_score,
        thumbs=thumbs,
    )
    if as_json and (paths or null):
        raise UsageError("--json and --paths are two outputs", next_step="give one of them")
    if html is not None:
        require_page_path(html)
    asked = read_question(what, instruction, image, text, more=ctx.args)
    filters = read_filters(folders, after, before, camera, near, formats, place)
    matches = find(settings, asked, filters, include_self=include_self)
    found = as_results(matches)
    print_results(
        asked.describe(), found, as_json=as_json, paths=paths, null=null, thumbs=settings.thumbs
    )
    if not found:
        if html is not None:
            note(f"no page was written to {html}")
        sys.exit(1)
    if html is not None or open_page:
        _write_page(html, asked, found, open_page=open_page)


def _write_page(html: Path | None, asked: Asked, found: "list[Result]", *, open_page: bool) -> None:
    from lensctl.show.query_sheet import write_query_sheet
    from lensctl.show.thumb_cache import user_cache

    path = html or _page_of_last_query()
    write_query_sheet(path, asked.photo, asked.words, found, user_cache())
    note(f"wrote {path}")
    if open_page:
        import webbrowser

        if not webbrowser.open(path.absolute().as_uri()):
            note("no browser could be started; open the page above yourself")


def _page_of_last_query() -> Path:
    folder = user_folder("cache", instead="--html FILE")
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    return folder / "last-query.html"
