"""Reading the authors' files: found, parsed, hashed, and refused with a reason."""

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lensctl.errors import DataError

MALFORMED = (KeyError, IndexError, TypeError, ValueError, AttributeError, OverflowError)
"""What code that expects another kind of value raises."""
LONGEST_LABEL = 9
"""Digits: more is no label of a class, and Python refuses to read thousands."""
SHOWN = 60
"""Characters of a wrong value in a message."""


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
        except (ValueError, RecursionError) as error:
            raise self.wrong(path, f"it is not JSON: {error}") from error

    def records(self, keys: Iterable[str], *places: str, inside: str = "") -> "list[Record]":
        """A JSON list of objects, each with all of `keys`; `inside` an object's value of that name.

        Raises:
            DataError: it is no such list, or is empty.
        """
        content = self.json(*places)
        path = self.find(*places)
        if inside:
            content = content.get(inside) if isinstance(content, dict) else None
        if not isinstance(content, list) or not content:
            where = f"its {inside!r}" if inside else "it"
            raise self.wrong(path, f"{where} is not a list of annotations")
        for number, record in enumerate(content):
            missing = set(keys) - set(record) if isinstance(record, dict) else set(keys)
            if missing:
                raise self.wrong(path, f"annotation {number} lacks {', '.join(sorted(missing))}")
        return [Record(self, path, number, record) for number, record in enumerate(content)]

    @contextmanager
    def reading(self, path: Path, what: str) -> Iterator[None]:
        """Turns what a malformed value raises into a DataError that names the file and `what`."""
        try:
            yield
        except MALFORMED as error:
            reason = f"{what}: {type(error).__name__} {error}"
            raise self.wrong(path, reason) from error

    def labelled_paths(self, *places: str) -> list[tuple[str, int]]:
        """Lines `PATH LABEL`, the path may hold spaces."""
        path = self.find(*places)
        rows = []
        for number, line in enumerate(self._text(path).split("\n"), start=1):
            if not line.strip():
                continue
            name, _, label = line.strip().rpartition(" ")
            # isdigit alone takes a superscript two, which int refuses.
            is_number = label.isascii() and label.isdigit() and len(label) <= LONGEST_LABEL
            if not name or not is_number:
                raise self.wrong(path, f"line {number} is not a path and a label: {line!r}")
            rows.append((name, int(label)))
        if not rows:
            raise self.wrong(path, "it is empty")
        return rows

    def text(self, place: str) -> str:
        """The content of a UTF-8 text file."""
        return self._text(self.find(place))

    def wrong(self, path: Path, why: str) -> DataError:
        """The error that a file's content is not what the benchmark needs."""
        return DataError(
            f"{self.benchmark}: {path} cannot be used",
            why=why,
            next_step="download the file again from the authors' repository",
        )

    def _text(self, path: Path) -> str:
        content = self._bytes(path)
        try:
            text = content.decode("utf-8")
        except UnicodeDecodeError as error:
            line = content.count(b"\n", 0, error.start) + 1
            raise self.wrong(path, f"line {line} is not UTF-8: {error.reason}") from error
        if "\0" in text:
            raise self.wrong(path, "it is not a text file: it holds a zero byte")
        return text

    def _bytes(self, path: Path) -> bytes:
        try:
            content = path.read_bytes()
        except OSError as error:
            raise self.wrong(path, error.strerror or str(error)) from error
        self.hashes[path.relative_to(self.root).as_posix()] = hashlib.sha256(content).hexdigest()
        return content


@dataclass(frozen=True, slots=True)
class Record:
    """One annotation; a value that is not of the kind asked for raises DataError, naming both.

    Args:
        folder: the benchmark's.
        path: the file that the annotation is in.
        number: its position there, from 0.
        values: the annotation.
    """

    folder: DataFolder
    path: Path
    number: int
    values: dict[str, Any]

    def text(self, key: str) -> str:
        """A caption or a name."""
        return self._checked(key, self.values.get(key), "a text", is_text)

    def texts(self, key: str) -> list[str]:
        """A list of texts, which may be empty."""
        return [self._checked(key, text, "a text", is_text) for text in self._list(key)]

    def whole(self, key: str) -> int:
        """A whole number."""
        return self._checked(key, self.values.get(key), "a whole number", _is_whole)

    def wholes(self, key: str) -> list[int]:
        """A list of whole numbers, which may be empty."""
        return [self._checked(key, one, "a whole number", _is_whole) for one in self._list(key)]

    def id(self, key: str) -> int | str:
        """A whole number or a text."""
        return self._checked(key, self.values.get(key), "a number or a text", _is_id)

    def wrong(self, reason: str) -> DataError:
        """The error that names the file and the annotation."""
        return self.folder.wrong(self.path, f"annotation {self.number}: {reason}")

    def _list(self, key: str) -> list[Any]:
        return self._checked(key, self.values.get(key), "a list", lambda v: isinstance(v, list))

    def _checked(self, key: str, value: Any, kind: str, is_kind: Callable[[Any], bool]) -> Any:
        if not is_kind(value):
            shown = json.dumps(value)
            shown = shown if len(shown) <= SHOWN else f"{shown[:SHOWN]}..."
            raise self.wrong(f"{key} is not {kind}: {shown}")
        return value


def is_text(value: Any) -> bool:
    """Whether a JSON value is a text that UTF-8 and a path can hold."""
    if not isinstance(value, str) or "\0" in value:
        return False
    return not any("\ud800" <= character <= "\udfff" for character in value)


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_id(value: Any) -> bool:
    return _is_whole(value) or is_text(value)


def duplicates(names: Iterable[Any]) -> list[Any]:
    """The names that occur more than once, each once, in order of first occurrence."""
    return [name for name, count in Counter(names).items() if count > 1]


def refuse_duplicates(folder: DataFolder, path: Path, what: str, names: Iterable[Any]) -> None:
    """DataError where an id occurs twice: the authors' own files have none."""
    twice = duplicates(names)
    if twice:
        shown = ", ".join(map(str, twice[:3]))
        raise folder.wrong(path, f"{len(twice)} {what} occur more than once, such as {shown}")
