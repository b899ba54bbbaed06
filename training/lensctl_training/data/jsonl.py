"""Small data sets: a JSONL file of local paths, one triplet a line.

    {"query": "a.jpg", "target": "b.jpg", "instruction": "at night",
     "negatives": ["c.jpg"], "provenance": {"source": "mine"}, "key": "optional"}

Paths are relative to the file's folder. `negatives`, `provenance` and `key` may be absent.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lensctl.errors import DataError
from lensctl.models.preprocessing import Preprocessing
from lensctl_training.data.batches import BadExampleError, Example
from lensctl_training.data.stream import decode_triplet
from lensctl_training.data.triplet import Problems, Triplet, what_is_wrong


@dataclass(frozen=True)
class Row:
    """One line of the file, its paths resolved."""

    key: str
    query: Path
    target: Path
    instruction: str
    negatives: tuple[Path, ...] = ()
    provenance: dict[str, Any] = field(default_factory=dict)

    def read(self) -> Triplet:
        """With its images' bytes. Raises BadExampleError where one cannot be read."""
        try:
            query, target, *others = (
                path.read_bytes() for path in (self.query, self.target, *self.negatives)
            )
        except OSError as error:
            raise BadExampleError(
                "unreadable image file", f"{self.key}: {error.filename}"
            ) from error
        except ValueError as error:
            # A path with a null or half a surrogate pair in it, of which no file has one.
            raise BadExampleError("unreadable image file", f"{self.key}: {error}") from error
        return Triplet(self.key, query, target, self.instruction, self.provenance, tuple(others))


def read_rows(path: Path, problems: Problems) -> list[Row]:
    """The usable lines of a JSONL file; what is not usable goes into `problems`.

    Raises:
        DataError: the file cannot be read.
    """
    try:
        # JSON Lines end with line feeds; splitlines would also cut at U+2028 inside a string.
        lines = path.read_text(encoding="utf-8-sig").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path} cannot be read", why=str(error)) from error
    rows = []
    for number, line in enumerate(lines, 1):
        if line.strip():
            row = _parse(line, path.parent, f"{path.name}:{number}", number, problems)
            if row is not None:
                rows.append(row)
    return rows


def _parse(line: str, folder: Path, where: str, number: int, problems: Problems) -> Row | None:
    try:
        values = json.loads(line)
        row = Row(
            key=str(values.get("key", f"line{number:07d}")),
            query=folder / values["query"],
            target=folder / values["target"],
            instruction=values["instruction"],
            negatives=tuple(folder / name for name in values.get("negatives", [])),
            provenance=values.get("provenance", {}),
        )
    except KeyError as error:
        problems.add(f"missing {error.args[0]}", where)
        return None
    except (ValueError, TypeError, AttributeError, RecursionError):
        problems.add("line that is no JSON object of strings", where)
        return None
    if not isinstance(values.get("negatives", []), list):
        problems.add("negatives that are no list", where)
        return None
    if wrong := what_is_wrong(row.instruction, row.provenance):
        problems.add(wrong, where)
        return None
    return row


def read_jsonl_triplets(path: Path, problems: Problems) -> Iterator[Triplet]:
    """The triplets of a JSONL file with their images' bytes."""
    for row in read_rows(path, problems):
        try:
            yield row.read()
        except BadExampleError as bad:
            problems.add(bad.reason, bad.where)


class JsonlExamples:
    """Random access to a JSONL file's triplets; implements `batches.Examples`."""

    group_size = 1

    def __init__(self, rows: list[Row], preprocessing: Preprocessing, negatives: int = 0) -> None:
        self.rows = rows
        self.preprocessing = preprocessing
        self.negatives = negatives

    def __len__(self) -> int:
        return len(self.rows)

    def load(self, index: int) -> Example:
        """One decoded example. Raises BadExampleError."""
        return decode_triplet(self.rows[index].read(), self.preprocessing, self.negatives)
