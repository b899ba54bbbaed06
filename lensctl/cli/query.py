"""`lensctl query`: the nearest photos to an image, to an image and an instruction, or to words."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer

from lensctl.cli.asking import Asked, read_filters, read_question
from lensctl.cli.opening import existing_library, model_for
from lensctl.cli.options import LibraryOption, ModelOption
from lensctl.cli.results import as_results, print_results
from lensctl.cli.terminal import note
from lensctl.config import Settings, load_settings

if TYPE_CHECKING:
    from lensctl.library.filters import Filters
    from lensctl.library.search import Match, SearchMode


def query(
    what: Annotated[
        str | None,
        typer.Argument(
            metavar="[IMAGE|TEXT]", help="An image file, - for an image on stdin, or words."
        ),
    ] = None,
    instruction: Annotated[
        str | None,
        typer.Argument(metavar="[INSTRUCTION]", help='What to change, like "inside view of".'),
    ] = None,
    image: Annotated[
        str | None, typer.Option(metavar="FILE", help="The query image, said outright.")
    ] = None,
    text: Annotated[
        str | None, typer.Option(metavar="WORDS", help="The query words, said outright.")
    ] = None,
    results: Annotated[
        int | None, typer.Option("-k", metavar="N", help="How many results [default: 10].")
    ] = None,
    folder: Annotated[
        Path | None, typer.Option("--in", metavar="DIR", help="Only photos in this folder.")
    ] = None,
    after: Annotated[
        str | None, typer.Option(metavar="DATE", help="Only photos taken then or later.")
    ] = None,
    before: Annotated[
        str | None, typer.Option(metavar="DATE", help="Only photos taken earlier.")
    ] = None,
    camera: Annotated[
        str | None, typer.Option(metavar="NAME", help="Only photos by a camera named so.")
    ] = None,
    near: Annotated[
        str | None, typer.Option(metavar="LAT,LON,KM", help="Only photos taken around a place.")
    ] = None,
    file_type: Annotated[
        str | None, typer.Option("--type", metavar="FORMAT", help="Only photos of this format.")
    ] = None,
    min_score: Annotated[
        float | None, typer.Option(metavar="0..1", help="Drop results of less relevance.")
    ] = None,
    include_self: Annotated[
        bool, typer.Option(help="Keep the query photo and its copies among the results.")
    ] = False,
    search: Annotated[
        str | None, typer.Option(metavar="MODE", help="auto, exact or hnsw [default: auto].")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    paths: Annotated[bool, typer.Option("--paths", help="Print paths alone, one a line.")] = False,
    null: Annotated[
        bool, typer.Option("-0", "--null", help="Print paths, each ended by NUL, for xargs -0.")
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
        library=library, model=model, results=results, search=search, min_score=min_score
    )
    asked = read_question(what, instruction, image, text)
    filters = read_filters(folder, after, before, camera, near, file_type)
    matches = _search(settings, asked, filters, include_self)
    print_results(asked.describe(), as_results(matches), as_json=as_json, paths=paths, null=null)
    if not matches:
        _explain_nothing(settings, bool(filters))
        sys.exit(1)


def _search(
    settings: Settings, asked: Asked, filters: "Filters", include_self: bool
) -> "list[Match]":
    from lensctl.library.session import open_session

    library = existing_library(settings.library)
    model = model_for(library, settings.model)
    mode = cast("SearchMode", settings.search)
    pixels = round(settings.max_megapixels * 1e6)
    with open_session(library, model, mode=mode, max_pixels=pixels) as session:
        question = asked.question(session)
        if question.cut:
            note("the words are longer than the model reads: the end is left out")
        return session.find(
            question,
            settings.results,
            filters=filters,
            include_self=include_self,
            min_relevance=settings.min_score,
        )


def _explain_nothing(settings: Settings, filtered: bool) -> None:
    reasons = ["no photo passes the filters" if filtered else "the library holds no photo"]
    if settings.min_score > 0:
        reasons.append(f"none reaches a score of {settings.min_score}")
    note("no results: " + ", or ".join(reasons))
