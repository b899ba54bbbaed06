"""Reading the annotation files of other data sets."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from lensctl.errors import DataError
from lensctl_training.data.triplet import Problems

_BEGINNING = 64
"""Bytes in which a file shows whether it is a JSON list."""
_MARK = b"\xef\xbb\xbf"
_NEXT = "give the annotation file as its authors distribute it, or download it again"


def load_json(path: Path) -> Any:
    """A JSON file's value. Raises DataError where there is none."""
    try:
        return json.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(f"{path} cannot be read", why=str(error), next_step=_NEXT) from error


def load_list(path: Path) -> list[Any]:
    """A JSON file's list, of anything. Raises DataError where there is none."""
    content = load_json(path)
    if not isinstance(content, list):
        raise DataError(f"{path} is not a list of annotations", next_step=_NEXT)
    return content


def load_object(path: Path) -> dict[str, Any]:
    """A JSON file's object. Raises DataError where there is none."""
    content = load_json(path)
    if not isinstance(content, dict):
        raise DataError(f"{path} is not an object of names and values", next_step=_NEXT)
    return content


def iterate_records(path: Path, problems: Problems) -> Iterator[tuple[str, Any]]:
    """(where, record) of a JSON list or of JSON lines, whichever the file is.

    Lines are read one by one: MegaPairs has 26 million of them, and a bad one is a problem to
    count, not the end of hours of work.

    Raises:
        DataError: the file cannot be read, or begins like a JSON list and is none.
    """
    try:
        with path.open("rb") as file:
            is_list = file.read(_BEGINNING).removeprefix(_MARK).lstrip().startswith(b"[")
        records = enumerate(load_list(path), 1) if is_list else _lines(path, problems)
        for number, record in records:
            yield f"{path.name}:{number}", record
    except OSError as error:
        raise DataError(
            f"{path} cannot be read", why=error.strerror or str(error), next_step=_NEXT
        ) from error


def _lines(path: Path, problems: Problems) -> Iterator[tuple[int, Any]]:
    # As bytes: a line that is not UTF-8 is one bad line, not a file that cannot be read.
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            if not line.strip():
                continue
            try:
                record = json.loads(line)
            except (ValueError, RecursionError):
                problems.add("line that is not JSON", f"{path.name}:{number}")
            else:
                yield number, record


def within(folder: Path, name: str) -> Path | None:
    """folder / name, or None where the name leads out of the folder or can be no path."""
    path = folder / name
    try:
        return path if path.resolve().is_relative_to(folder.resolve()) else None
    except (OSError, ValueError):  # a zero byte, half a character, longer than the system takes
        return None
