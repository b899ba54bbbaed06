"""Paths alone, for pipes: as the operating system has them, byte for byte."""

from collections.abc import Iterable
from typing import BinaryIO

from lensctl.show.result import Result


def write_paths(results: Iterable[Result], file: BinaryIO, *, null: bool) -> None:
    """One path after the other, each ended by a newline, or by NUL where a name may hold one."""
    end = b"\0" if null else b"\n"
    for result in results:
        file.write(result.path + end)
    file.flush()
