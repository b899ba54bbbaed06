"""Opening a user's file so that nothing odd in its place can block or mislead the program."""

import os
import stat
from io import FileIO

from lensctl.errors import PhotoError

_KINDS = {
    stat.S_IFIFO: "a named pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
    stat.S_IFDIR: "a folder",
}


def kind_of(mode: int) -> str:
    """What a `st_mode` is, in words, for anything but a regular file."""
    return _KINDS.get(stat.S_IFMT(mode), "a special file")


def open_regular(path: bytes) -> FileIO:
    """Opens a regular file for reading, unbuffered; never waits, not even on a named pipe.

    Raises:
        PhotoError: the file is gone, its rights forbid it, or it is not a regular file.
    """
    flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY
    try:
        descriptor = os.open(path, flags)
    except (OSError, ValueError) as error:
        raise unreadable(error) from error
    mode = os.fstat(descriptor).st_mode
    if not stat.S_ISREG(mode):
        os.close(descriptor)
        raise PhotoError(f"not a photo but {kind_of(mode)}")
    return FileIO(descriptor, "rb")


def unreadable(error: OSError | ValueError) -> PhotoError:
    """The PhotoError for a failure to open or read a file."""
    if isinstance(error, PermissionError):
        return PhotoError(
            "no rights to read it",
            why=str(error.strerror),
            next_step="give yourself read rights: chmod u+r FILE",
        )
    if isinstance(error, FileNotFoundError):
        return PhotoError("the file is gone")
    reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return PhotoError(f"cannot be read: {reason}")
