"""Reading the authors' files: found, parsed, hashed, and refused with a reason."""

import hashlib
import json
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from lensctl.errors import DataError


class DataFolder:
    """The folder that `--data` names; remembers the hash of every file that was read.

    Args:
        root: the folder.
        benchmark: its name, for error messages.
    """

    def __init__(self, root: Path, benchmark: str) -> None:
        if not root.is_dir():
            raise DataError(
                f"there is no folder {root}",
                why=f"{benchmark} is read from a folder laid out as its authors distribute it",
                next_step=f"see the page on evaluation in the docs for the layout of {benchmark}",
            )
        self.root = root
        self.benchmark = benchmark
        self.hashes: dict[str, str] = {}

    def find(self, *places: str) -> Path:
        """The first of `places` (relative to the root) that exists; DataError where none does."""
        for place in places:
            if (self.root / place).exists():
                return self.root / place
        raise DataError(
            f"{self.benchmark}: none of these is in {self.root}: {', '.join(places)}",
            why="the folder is not laid out as the authors distribute it, or is incomplete",
            next_step=f"see the page on evaluation in the docs for the layout of {self.benchmark}",
        )

    def has(self, *places: str) -> bool:
        """Whether any of `places` exists."""
        return any((self.root / place).exists() for place in places)

    def json(self, *places: str) -> Any:
        """The parsed content of the first of `places` that exists."""
        path = self.find(*places)
        try:
            return json.loads(self._bytes(path))
        except ValueError as error:
            raise self.wrong(path, f"it is not JSON: {error}") from error

    def records(self, keys: Iterable[str], *places: str) -> list[dict[str, Any]]:
        """A JSON list of objects, each with all of `keys`."""
        content = self.json(*places)
        path = self.find(*places)
        if not isinstance(content, list) or not content:
            raise self.wrong(path, "it is not a list of annotations")
        for number, record in enumerate(content):
            missing = set(keys) - set(record) if isinstance(record, dict) else set(keys)
            if missing:
                raise self.wrong(path, f"annotation {number} lacks {', '.join(sorted(missing))}")
        return content

    def labelled_paths(self, *places: str) -> list[tuple[str, int]]:
        """Lines `PATH LABEL`, the path may hold spaces."""
        path = self.find(*places)
        rows = []
        for number, line in enumerate(self._bytes(path).decode("utf-8").split("\n"), start=1):
            if not line.strip():
                continue
            name, _, label = line.strip().rpartition(" ")
            if not name or not label.isdigit():
                raise self.wrong(path, f"line {number} is not a path and a label: {line!r}")
            rows.append((name, int(label)))
        if not rows:
            raise self.wrong(path, "it is empty")
        return rows

    def text(self, place: str) -> str:
        """The content of a UTF-8 text file."""
        return self._bytes(self.find(place)).decode("utf-8")

    def wrong(self, path: Path, why: str) -> DataError:
        """The error that a file's content is not what the benchmark needs."""
        return DataError(
            f"{self.benchmark}: {path} cannot be used",
            why=why,
            next_step="download the file again from the authors' repository",
        )

    def _bytes(self, path: Path) -> bytes:
        content = path.read_bytes()
        self.hashes[path.relative_to(self.root).as_posix()] = hashlib.sha256(content).hexdigest()
        return content


def duplicates(names: Iterable[Any]) -> list[Any]:
    """The names that occur more than once, each once, in order of first occurrence."""
    return [name for name, count in Counter(names).items() if count > 1]


def refuse_duplicates(folder: DataFolder, path: Path, what: str, names: Iterable[Any]) -> None:
    """DataError where an id occurs twice: the authors' own files have none."""
    twice = duplicates(names)
    if twice:
        shown = ", ".join(map(str, twice[:3]))
        raise folder.wrong(path, f"{len(twice)} {what} occur more than once, such as {shown}")
