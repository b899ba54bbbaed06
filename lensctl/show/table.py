"""Results as a table on a terminal, as plain lines in a pipe."""

from collections.abc import Sequence
from typing import TextIO

from lensctl.show.names import show_path, show_short_path
from lensctl.show.result import Result


def print_table(results: Sequence[Result], file: TextIO, *, first: int = 1) -> None:
    """Score, path, when and by which camera; on a terminal as wide as it is."""
    if file.isatty():
        _print_rich(results, file, first)
        return
    for result in results:
        file.write(f"{result.score:.3f}\t{show_path(result.path)}\n")
    file.flush()


def _print_rich(results: Sequence[Result], file: TextIO, first: int) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("#", justify="right", style="dim")
    table.add_column("score", justify="right")
    table.add_column("photo", overflow="fold", ratio=1)
    table.add_column("taken", style="dim", no_wrap=True)
    table.add_column("camera", style="dim", overflow="ellipsis", no_wrap=True, max_width=24)
    for number, result in enumerate(results, first):
        # Text, not str: a file name may hold what rich would read as markup.
        table.add_row(
            str(number),
            f"{result.score:.2f}",
            Text(show_short_path(result.path) + _remarks(result)),
            (result.taken or "")[:10],
            Text(result.camera or ""),
        )
    Console(file=file, highlight=False).print(table)


def _remarks(result: Result) -> str:
    remarks = [result.place] if result.place else []
    if result.copies > 1:
        remarks.append(f"{result.copies} copies")
    if result.offline:
        remarks.append("offline")
    return f"  ({', '.join(remarks)})" if remarks else ""
