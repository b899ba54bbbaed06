"""The standard streams of the command, whose errors are known from all others.

What goes to stderr is for a person and never a reason to stop; what goes to stdout is the answer.
"""

import io
import os
import sys
from pathlib import Path
from typing import Any, TextIO

STDOUT = "<stdout>"
"""The `filename` of an OSError that writing to stdout raised."""


def prepare_streams() -> None:
    """Replace stdout and stderr of this process by streams as this module describes them.

    `lensctl ... >&-` has no stdout at all, and what is written there is wanted by nobody.
    """
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, Path(os.devnull).open(mode, encoding="utf-8"))  # noqa: SIM115
        elif name != "stdin":
            setattr(sys, name, _over(getattr(sys, name), _Answer if name == "stdout" else _Told))


class _Answer(io.FileIO):
    def write(self, data: Any, /) -> Any:
        try:
            return super().write(data)
        except OSError as error:
            error.filename = STDOUT
            raise


class _Told(io.FileIO):
    def write(self, data: Any, /) -> int:
        """All is taken, and what cannot be written is lost: also by bars, and at the very end."""
        try:
            written = super().write(data)
        except OSError:
            written = None
        return memoryview(data).nbytes if written is None else written


def _over(old: Any, kind: type[io.FileIO]) -> TextIO:
    """A text stream as `old`, to the same place."""
    raw = kind(old.fileno(), "wb", closefd=False)
    unbuffered = isinstance(old.buffer, io.RawIOBase)  # PYTHONUNBUFFERED
    return io.TextIOWrapper(
        raw if unbuffered else io.BufferedWriter(raw),
        encoding=old.encoding,
        errors=old.errors,
        newline="\n",
        line_buffering=old.line_buffering,
        write_through=unbuffered,
    )
