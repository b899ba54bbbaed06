"""Where a page may be written: never over anything but an earlier page."""

import errno
import os
import stat
from pathlib import Path

from lensctl.errors import UsageError
from lensctl.photos.formats import PHOTO_ENDINGS, ending_of
from lensctl.whole import write_whole

_START = b"<!doctype html"
_NEXT = "name a file for the page, like results.html"


def require_page_path(path: Path) -> None:
    """Raise UsageError where a page would replace a photo, a device or anything but a page."""
    if path.name == "-":
        raise UsageError(
            "a page cannot be written to stdout", why="results go there", next_step=_NEXT
        )
    # A link may lead to a photo whose disk is away, or to where one will be.
    for name in (os.fsencode(path.name), os.fsencode(os.path.realpath(path))):
        if ending_of(os.path.basename(name)) in PHOTO_ENDINGS:
            raise UsageError(
                f"{path} is named like a photo", why="a page would replace it", next_step=_NEXT
            )
    if not path.parent.is_dir():
        raise UsageError(
            f"there is no folder {path.parent}",
            why=f"{path.name} was to be written there",
            next_step="make it first, or name another file",
        )
    try:
        mode = path.stat().st_mode
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise UsageError(
                f"{path} cannot be written", why="it is a link to itself", next_step=_NEXT
            ) from error
        return  # not there yet, or writing will tell what is wrong
    if not stat.S_ISREG(mode) or (path.stat().st_size and not _is_page(path)):
        raise UsageError(
            f"{path} is there already and is no page",
            why="only an earlier page is replaced",
            next_step=_NEXT,
        )


def write_page(path: Path, page: str) -> None:
    """Write a page whole, or not at all; a link stays, and what it leads to is replaced.

    The file is readable by its owner only.

    Raises:
        UsageError: something else is there.
        OSError: it cannot be written.
    """
    require_page_path(path)
    write_whole(path.resolve(), page, mode=0o600)


def _is_page(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            return file.read(len(_START)).lower() == _START
    except OSError:
        return False
