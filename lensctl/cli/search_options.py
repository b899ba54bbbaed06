"""What `query` and `export` both take: the question and the filters."""

from pathlib import Path
from typing import Annotated

import typer

from lensctl.cli.options import read_path

WhatArgument = Annotated[
    str | None,
    typer.Argument(metavar="IMAGE|TEXT", help="An image file, - for an image on stdin, or words."),
]
InstructionArgument = Annotated[
    str | None,
    typer.Argument(metavar="INSTRUCTION", help='What to change, like "inside view of".'),
]
ImageOption = Annotated[
    str | None, typer.Option("--image", metavar="FILE", help="The query image, said outright.")
]
TextOption = Annotated[
    str | None, typer.Option("--text", metavar="WORDS", help="The query words, said outright.")
]
ResultsOption = Annotated[
    int | None, typer.Option("-k", metavar="N", help="How many results [default: 10].")
]
FolderOption = Annotated[
    list[Path] | None,
    typer.Option(
        "--in", metavar="DIR", help="Only photos in this folder; repeatable.", parser=read_path
    ),
]
# Lists, so that `read_filters` sees what is given twice: Typer would take the last one in silence.
AfterOption = Annotated[
    list[str] | None,
    typer.Option("--after", metavar="DATE", help="Only photos taken then or later."),
]
BeforeOption = Annotated[
    list[str] | None, typer.Option("--before", metavar="DATE", help="Only photos taken earlier.")
]
CameraOption = Annotated[
    list[str] | None,
    typer.Option("--camera", metavar="NAME", help="Only photos by a camera named so."),
]
NearOption = Annotated[
    list[str] | None,
    typer.Option("--near", metavar="LAT,LON,KM", help="Only photos taken around a position."),
]
PlaceOption = Annotated[
    list[str] | None,
    typer.Option(
        "--place",
        metavar="PLACE",
        help='Only photos taken in a town, country or US state: Lisbon, Japan, "Georgia, USA".',
    ),
]
TypeOption = Annotated[
    list[str] | None,
    typer.Option(
        "--type",
        metavar="FORMAT",
        help="Only photos of a format, like jpeg, heic or raw; repeatable.",
    ),
]
MinScoreOption = Annotated[
    float | None,
    typer.Option("--min-score", metavar="0..1", help="Drop results of less relevance."),
]
IncludeSelfOption = Annotated[
    bool,
    typer.Option(
        "--include-self/--no-include-self",
        help="Keep the query photo and its copies among the results.",
    ),
]
SearchModeOption = Annotated[
    str | None,
    typer.Option("--search", metavar="MODE", help="auto, exact or hnsw [default: auto]."),
]
ThumbsOption = Annotated[
    bool | None,
    typer.Option(
        "--thumbs/--no-thumbs",
        help="Thumbnails in the terminal [default: where it can show them].",
        show_default=False,
    ),
]
