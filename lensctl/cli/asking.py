"""What a user asked for, read off the arguments of `query` and `export`."""

import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING

from lensctl.cli.terminal import note, prepare_places
from lensctl.errors import PhotoError, UsageError
from lensctl.show.names import show_path

if TYPE_CHECKING:
    from lensctl.library.filters import Area, Filters
    from lensctl.library.question import Question
    from lensctl.library.session import Session


_MOST_ON_STDIN = 256 << 20
"""Bytes."""


@dataclass(frozen=True)
class Asked:
    """A photo, words or both.

    `photo` is a path, of a file or of a photo whose disk is away and that the library may know, or
    the bytes of an image that came on stdin.
    """

    photo: Path | bytes | None
    words: str

    def question(self, session: "Session") -> "Question":
        """The query vector. Raises PhotoError, or UsageError where there is no such photo."""
        if self.photo is None:
            return session.ask_text(self.words)
        if isinstance(self.photo, Path) and not os.path.lexists(self.photo):
            if session.catalog.content_at(session.catalog.locate(self.photo)) is None:
                raise _no_file(self.photo, self.words)
            name = show_path(os.fsencode(self.photo))
            note(f"{name} is away: the library's own vectors of it are used")
        photo: Path | BytesIO
        photo = self.photo if isinstance(self.photo, Path) else BytesIO(self.photo)
        return session.ask_photo(photo, self.words)

    def describe(self) -> dict[str, str]:
        """What was asked, for people and programs: the keys "image" and "text" or "instruction"."""
        if self.photo is None:
            return {"text": self.words}
        name = os.path.realpath(self.photo) if isinstance(self.photo, Path) else "-"
        return {"image": name, "instruction": self.words}


def read_question(
    what: str | None,
    instruction: str | None,
    image: str | None,
    text: str | None,
    *,
    more: Sequence[str] = (),
) -> Asked:
    """Tell an image from words.

    A single argument that names an existing file is an image; one that looks like a path to an
    image is never words, also where no file is there. A folder's name without a separator is words.
    `more` are arguments beyond the second. Raises UsageError.
    """
    if more:
        raise _without_quotes(*filter(None, (what, instruction)), *more)
    if image is not None:
        return _image_said_outright(image, what, instruction, text)
    if text is not None:
        if what is not None and instruction is not None:
            raise _too_much()
        return Asked(_photo(what) if what is not None else None, _words(text))
    if what is None:
        raise UsageError(
            "there is nothing to search for",
            next_step='lensctl query img.jpg "inside view of", or lensctl query "red barn"',
        )
    if instruction is not None:
        if what and not _is_image(what):
            raise _without_quotes(what, instruction)
        if os.path.isfile(instruction):  # noqa: PTH113 (words may be too long for a path)
            raise _two_files(what, instruction)
        return Asked(_photo(what), instruction.strip())
    return Asked(_photo(what), "") if _is_image(what) else Asked(None, _words(what))


def _image_said_outright(
    image: str, what: str | None, instruction: str | None, text: str | None
) -> Asked:
    if instruction is not None or (what is not None and text is not None):
        raise _too_much()
    return Asked(_photo(image), (what or text or "").strip())


def _without_quotes(first: str, *others: str) -> UsageError:
    """For words that the shell has cut into many arguments."""
    from shlex import quote

    is_photo = _is_image(first)
    meant = [first, " ".join(others)] if is_photo else [" ".join((first, *others))]
    return UsageError(
        f"{1 + len(others)} arguments were given, and "
        + ("words without quotes are many" if others[1:] or is_photo else f"{first} is no file"),
        why="at most an image and one text are expected",
        next_step=f"put words into quotes: lensctl query {' '.join(map(quote, meant))}",
    )


def _no_file(photo: Path, instruction: str) -> UsageError:
    words = "" if instruction else f', or search for the words: lensctl query --text "{photo}"'
    return UsageError(
        f"there is no file {photo}",
        why="it is taken for the path of an image, and the library knows no photo there",
        next_step=f"correct the path{words}",
    )


def _two_files(first: str, second: str) -> UsageError:
    from shlex import quote

    return UsageError(
        f"{second} is a file, where words are expected",
        why="a query is one image and what to change in it",
        next_step=f"for the words: lensctl query {quote(first)} --text {quote(second)}; for both"
        f" photos, type into lensctl shell: {first} + {second}",
    )


def _too_much() -> UsageError:
    return UsageError(
        "more was given than one image and one text",
        next_step='lensctl query --image img.jpg --text "inside view of"',
    )


def _words(text: str) -> str:
    if words := text.strip():
        return words
    raise UsageError("the words to search for are empty", next_step='lensctl query "red barn"')


def _photo(name: str) -> Path | bytes:
    if not name:
        raise UsageError("the path of the image is empty", next_step="name an image file")
    if name == "-":
        if sys.stdin.isatty():
            raise UsageError("an image is expected on stdin", next_step="lensctl query - < img.jpg")
        image = sys.stdin.buffer.read(_MOST_ON_STDIN + 1)
        if len(image) > _MOST_ON_STDIN:
            raise PhotoError(
                f"the image on stdin is larger than {_MOST_ON_STDIN >> 20} MB",
                next_step="keep it in a file, and name that",
            )
        return image
    path = Path(name)
    try:
        os.lstat(path)
    except PermissionError as error:
        raise PhotoError(
            f"no rights to look at {name}",
            why="a folder above it is closed to this user",
            next_step="change its rights, or name another image",
        ) from error
    except OSError:  # the library may know it: see `Asked.question`
        return path
    if path.is_dir():
        raise UsageError(f"{name} is a folder, not an image", next_step="name an image file")
    return path


def _is_image(text: str) -> bool:
    """Whether an image is meant, be it there or not."""
    return text == "-" or _is_there(text) or _looks_like_image_path(text)


def _is_there(text: str) -> bool:
    if not os.path.lexists(text):
        return False
    # Words may happen to be a folder's name: "beach".
    return _looks_like_image_path(text) or text in (".", "..") or not Path(text).is_dir()


def _looks_like_image_path(text: str) -> bool:
    from lensctl.photos.formats import PHOTO_ENDINGS, ending_of

    return os.sep in text or ending_of(os.fsencode(text)) in PHOTO_ENDINGS


def read_filters(
    folders: Sequence[Path] | None,
    after: Sequence[str] | None,
    before: Sequence[str] | None,
    camera: Sequence[str] | None,
    near: Sequence[str] | None,
    formats: Sequence[str] | None,
    place: Sequence[str] | None = None,
    *,
    mark: str = "--",
) -> "Filters":
    """The filters of a search; `mark` stands before their names where they are typed.

    A photo may lie in any of the folders and be of any of the formats; of the others one alone is
    taken. Raises UsageError.
    """
    from lensctl.library.filters import Filters, parse_date, parse_format

    given = {"after": after, "before": before, "camera": camera, "near": near, "place": place}
    for name, values in {**given, "type": formats}.items():
        if any(not value.strip() for value in values or ()):
            raise UsageError(
                f"{mark}{name} is empty",
                why="an unset variable in quotes does that",
                next_step="give a value, or leave it out",
            )
        if name in given and len(values or ()) > 1:
            raise UsageError(
                f"{mark}{name} is given {len(values or ())} times",
                why=f"{mark}in and {mark}type alone can be repeated",
                next_step="give one, or search once with each",
            )
    one = {name: values[0] if values else None for name, values in given.items()}
    return Filters(
        folders=tuple(os.fsencode(folder.absolute()) for folder in folders or ()),
        after=parse_date(one["after"]) if one["after"] else None,
        before=parse_date(one["before"]) if one["before"] else None,
        camera=one["camera"] and one["camera"].encode("utf-8", "replace").decode(),
        formats=tuple(name for value in formats or () for name in parse_format(value)),
        near=_areas(one["near"], one["place"], mark),
    )


def _areas(near: str | None, place: str | None, mark: str) -> "tuple[Area, ...]":
    from lensctl.library.filters import parse_circle

    if near and place:
        raise UsageError(
            f"{mark}near and {mark}place say the same thing twice", next_step="give one"
        )
    if place:
        return (_area_of_place(place, mark),)
    return (parse_circle(near),) if near else ()


def _area_of_place(name: str, mark: str) -> "Area":
    """The country or state of that name, else a circle about the largest town so called.

    Raises UsageError.
    """
    from lensctl.library.filters import Circle
    from lensctl.photos.places import matching_places, matching_region

    prepare_places()
    if region := matching_region(name):
        note(f"photos in {region}")
        return region
    towns = matching_places(name)
    if not towns:
        raise UsageError(
            f"no country, and no town of 1,000 inhabitants or more, is called {name!r}",
            next_step=f"name a larger town nearby, or give a position: {mark}near LAT,LON,KM",
        )
    town, *others = towns
    also = f'; for another one: {mark}place "{others[0]}"' if others else ""
    note(f"photos within {town.km:.0f} km of {town}{also}")
    return Circle(town.latitude, town.longitude, town.km)
