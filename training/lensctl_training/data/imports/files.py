"""Reading the annotation files of other data sets."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from lensctl.errors import DataError


def load_json(path: Path) -> Any:
    """A JSON file's value. Raises DataError where there is none."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(f"{path} cannot be read", why=str(error)) from error


def iterate_records(path: Path) -> Iterator[tuple[str, Any]]:
    """(where, record) of a JSON list or of JSON lines, whichever the file is.

    Lines are read one by one: MegaPairs has 26 million of them.
    """
    try:
        with path.open(encoding="utf-8") as file:
            first = file.read(1)
            file.seek(0)
            records = enumerate(json.load(file), 1) if first == "[" else _lines(file)
            for number, record in records:
                yield f"{path.name}:{number}", record
    except (OSError, ValueError) as error:
        raise DataError(f"{path} cannot be read", why=str(error)) from error


def _lines(file: Any) -> Iterator[tuple[int, Any]]:
    for number, line in enumerate(file, 1):
        if line.strip():
            yield number, json.loads(line)


def within(folder: Path, name: str) -> Path | None:
    """folder / name, or None where the name leads out of the folder."""
    path = folder / name
    return path if path.resolve().is_relative_to(folder.resolve()) else None
