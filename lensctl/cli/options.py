"""Options that several commands share, so that they read the same everywhere."""

from pathlib import Path
from typing import Annotated

import typer

from lensctl.errors import UsageError


def read_path(text: str) -> Path:
    """A path that was typed. Raises UsageError where it is empty: "" would be this folder."""
    if text:
        return Path(text)
    raise UsageError(
        "a path is empty",
        why="an unset variable in quotes does that",
        next_step="name a file or a folder; this folder is .",
    )


LibraryOption = Annotated[
    Path | None,
    typer.Option(
        "--library",
        metavar="FOLDER",
        parser=read_path,
        help="The library's folder [env: LENSCTL_LIBRARY; default: the platform's data folder].",
        show_default=False,
    ),
]
ModelOption = Annotated[
    str | None,
    typer.Option(
        "--model",
        metavar="NAME",
        help="A model's name or folder [env: LENSCTL_MODEL; default: the library's, or mini].",
        show_default=False,
    ),
]
DeviceOption = Annotated[
    str | None,
    typer.Option(
        "--device",
        metavar="DEVICE",
        help="auto, cpu, cuda or mps [default: auto].",
        show_default=False,
    ),
]
PrecisionOption = Annotated[
    str | None,
    typer.Option(
        "--precision",
        metavar="PRECISION",
        help="auto, fp32, bf16 or int8 [default: auto].",
        show_default=False,
    ),
]
QuietOption = Annotated[bool, typer.Option("--quiet", "-q", help="Print errors only.")]
