"""Files of JSON lines that grow while work goes on, so that a kill loses one line at most."""

import json
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any


def append_lines(path: Path, rows: Iterable[Any]) -> None:
    """Add a line for each row; what a kill left of an earlier one stays a line of its own."""
    with path.open("a+b") as file:
        if file.seek(0, os.SEEK_END):
            file.seek(-1, os.SEEK_END)
            if file.read() != b"\n":
                file.write(b"\n")
        file.write("".join(json.dumps(row) + "\n" for row in rows).encode())


def read_lines(path: Path) -> Iterator[Any]:
    """The rows in order, without lines that are no JSON; none where there is no such file."""
    if not path.exists():
        return
    with path.open("rb") as file:
        for line in file:
            try:
                yield json.loads(line)
            except (ValueError, RecursionError):
                continue
