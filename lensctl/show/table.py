"""Results as a table on a terminal, as plain lines in a pipe."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TextIO

from lensctl.show.names import show_path, show_short_path
from lensctl.show.result import Result

_LEAST_WIDTH = {"taken": 64, "camera": 88}
"""Columns of the window from which on there is room for a fact beside the path."""


def print_table(results: Sequence[Result], file: TextIO, *, first: int = 1) -> None:
    """Score, path, when and by which camera; on a terminal as wide as it is."""
    if file.isatty() and results:
        _print_rich(results, file, first)
        return
    for result in results:
        file.write(f"{result.score:.3f}\t{show_path(result.path)}\n")
    file.flush()


def _print_rich(results: Sequence[Result], file: TextIO, first: int) -> None:
    from rich import box
    from rich.console import Console
    from rich.style import Style
    from rich.table import Table
    from rich.text import Text

    console = Console(file=file, highlight=False)
    if not console.width:  # COLUMNS=0
        console.width = 80
    facts = [name for name, least in _LEAST_WIDTH.items() if console.width >= least]
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column("#", justify="right", style="dim", no_wrap=True)
    table.add_column("score", justify="right", no_wrap=True)
    table.add_column("photo", overflow="fold", ratio=1)
    for name in facts:
        table.add_column(name, style="dim", overflow="ellipsis", no_wrap=True, max_width=24)
    for number, result in enumerate(results, first):
        told = {"taken": (result.taken or "")[:10], "camera": result.camera or ""}
        # Text, not str: a file name may hold what rich would read as markup. The link is the whole
        # path, also where the table has to fold it: terminals open or copy that.
        link = Style(link=Path(os.fsdecode(result.path)).as_uri())
        table.add_row(
            str(number),
            f"{result.score:.2f}",
            Text.assemble((show_short_path(result.path), link), _remarks(result)),
            *(Text(told[name]) for name in facts),
        )
    console.print(table)


def _remarks(result: Result) -> str:
    remarks = [result.place] if result.place else []
    if result.copies > 1:
        remarks.append(f"{result.copies} copies")
    if result.offline:
        remarks.append("offline")
    return f"  ({', '.join(remarks)})" if remarks else ""
