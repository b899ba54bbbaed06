"""What a line typed into `lensctl shell` means."""

import os
import re
from dataclasses import dataclass
from pathlib import Path

from lensctl.config import expanded
from lensctl.errors import UsageError
from lensctl.photos.formats import PHOTO_ENDINGS, ending_of

HELP = """\
red barn in snow          search by words
3                         photos like result 3
3 at night                result 3, changed as the words say
img.jpg at night          the same with an image file
3 + 5 at night            several photos together (their mean)
beach not people          away from what follows "not"; it lowers, it does not exclude
"back"                    a line in quotes is always words

more                      the next results
open 2                    show result 2 in the system's viewer
back                      the answer before
history                   what was asked so far
/in DIR  /after DATE  /before DATE  /camera NAME  /near LAT,LON,KM  /place NAME  /type FORMAT
/min-score 0..1           restrict this and all later answers: the last question is answered again;
                          without a value: no longer
/clear                    drop all restrictions
/k N                      how many results an answer shows
/html FILE                write this answer as a page
help, ?, quit             this text; the end (or Ctrl-D)
"""

FILTERS = ("in", "after", "before", "camera", "near", "place", "type")
_SETTINGS = (*FILTERS, "min-score", "k", "html", "clear")
_SYNONYMS = {"exit": "quit", ":q": "quit", "?": "help"}
_WORD_COMMANDS = ("more", "back", "history", "help", "quit")
_PART = re.compile(r"\s*(\d{1,9})(?=\s|\+|$)")  # longer ones are words
_NOT = re.compile(r"(?:^|\s)not\s+")


@dataclass(frozen=True)
class Search:
    """A question: result numbers and files, words, and words that should not apply."""

    photos: tuple[int | Path, ...]
    words: str
    without: str


@dataclass(frozen=True)
class Command:
    """One of `more`, `back`, ..., or `open` with a number, or a /setting with its value."""

    name: str
    value: str = ""


def parse(line: str) -> Search | Command | None:
    """The meaning of a line; None where it is empty. Raises UsageError."""
    line = line.strip()
    if not line:
        return None
    if "\0" in line:  # no path, no argument and no text of a database may hold it
        raise UsageError(
            "the line holds a NUL character",
            why="a binary file on stdin does that",
            next_step="type: help",
        )
    if len(line) > 2 and line[0] == line[-1] == '"' and '"' not in line[1:-1]:
        return Search((), line[1:-1].strip(), "")
    if (name := _SYNONYMS.get(line, line)) in _WORD_COMMANDS:
        return Command(name)
    if match := re.fullmatch(r"open\s+(\d{1,9})", line):
        return Command("open", match[1])
    if line == "open":
        raise UsageError('"open" needs the number of a result', next_step="type: open 1")
    if (match := re.match(r"/([\w-]+)(?:\s+|$)", line)) and not _existing_path(line.split()[0]):
        return _setting(match[1], line[match.end() :].strip())
    return _search(line)


def _setting(name: str, value: str) -> Command:
    if name not in _SETTINGS:
        raise UsageError(f"there is no /{name}", next_step="type: help")
    if name in ("k", "html") and not value:
        raise UsageError(f"/{name} needs a value", next_step="type: help")
    if len(value) > 1 and value[0] == value[-1] and value[0] in "\"'":
        value = value[1:-1]  # habit of the system's shell
    return Command(name, value)


def _search(line: str) -> Search:
    photos: list[int | Path] = []
    rest = line
    added = False
    while (found := _first_photo(rest)) is not None:
        photo, after = found
        photos.append(photo)
        rest = after.lstrip()
        added = rest.startswith("+")
        if not added:
            break
        rest = rest[1:].lstrip()
    if added and not rest:
        raise UsageError(
            "nothing follows the last +", next_step="name another photo: 3 + 5 at night"
        )
    _refuse_missing_file(rest)
    words, *without = _NOT.split(rest.strip(), maxsplit=1)
    question = Search(tuple(photos), words.strip(), without[0].strip() if without else "")
    if not question.photos and not question.words:
        raise UsageError(
            '"not" takes something away from a search, and there is none',
            next_step='say what to find, too: "beach not people"',
        )
    return question


def _refuse_missing_file(text: str) -> None:
    """Words do not begin with the name of an image file: it is one that is not there."""
    name = text.split(maxsplit=1)[0].strip("\"'") if text.strip() else ""
    if ending_of(os.fsencode(name)) in PHOTO_ENDINGS:
        raise UsageError(
            f"there is no file {name}",
            why="it looks like an image",
            next_step="correct the path; a line in quotes is searched for as words",
        )


def _first_photo(text: str) -> tuple[int | Path, str] | None:
    """A result number or a file at the start of a text, and what follows it."""
    if not text:
        return None
    if match := _PART.match(text):
        return int(match[1]), text[match.end() :]
    quoted = text[:1] in "\"'"
    name = text[1:].split(text[0], 1)[0] if quoted else text.split(maxsplit=1)[0]
    if not name or (path := _existing_path(name)) is None:
        return None
    return path, text[len(name) + (2 if quoted else 0) :]


def _existing_path(name: str) -> Path | None:
    """The file of this name, where there is one that is no folder."""
    path = expanded(name)
    return path if os.path.lexists(path) and not path.is_dir() else None
