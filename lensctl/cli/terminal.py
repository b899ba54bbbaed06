"""What commands say on stderr, and how they listen to Ctrl-C."""

import contextlib
import errno
import os
import signal
import sys
from collections.abc import Iterator
from types import FrameType
from typing import Any, NoReturn

from lensctl.errors import StorageError
from lensctl.show.names import show_path


def note(text: str) -> None:
    """A line for the person at the terminal; never on stdout."""
    print(text, file=sys.stderr)


def count(number: int, noun: str) -> str:
    """ "1 photo", "12,000 photos"."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def file_size(size: int) -> str:
    """ "12 kB", "3.4 MB", "1,200.0 MB"."""
    return f"{size / 1e3:.0f} kB" if size < 1e6 else f"{size / 1e6:,.1f} MB"


def prepare_places() -> None:
    """Say that names of places take a moment, where they are not kept from an earlier run."""
    from lensctl.photos.places import is_ready, prepare

    if not is_ready():
        note("preparing the names of places")
        if not prepare():
            note("the next run has to do it again: the cache folder cannot be written")


def duration(seconds: float) -> str:
    """ "0.4 s", "3 min 20 s", "2 h 5 min"."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min"


class GracefulStop:
    """The first Ctrl-C or SIGTERM asks to stop, the second one of either ends at once.

    Args:
        told: what the first one is answered with.
    """

    def __init__(self, told: str = "stopping after the photos in hand") -> None:
        self._told = told
        self.signal = 0
        self._old: dict[int, Any] = {}

    def __enter__(self) -> "GracefulStop":
        for number in (signal.SIGINT, signal.SIGTERM):
            self._old[number] = signal.signal(number, self._ask)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._old.items():
            signal.signal(number, handler)

    def _ask(self, number: int, _: FrameType | None) -> None:
        if self.signal:
            raise KeyboardInterrupt
        self.signal = number
        note(f"\n{self._told}; press Ctrl-C again to end at once")

    @property
    def exit_code(self) -> int:
        """What a shell expects of a command that a signal ended."""
        return 128 + self.signal


@contextlib.contextmanager
def ending_on_signals() -> Iterator[None]:
    """SIGTERM and SIGHUP raise SystemExit in here, so that nothing half done is left behind."""

    def end(number: int, _: FrameType | None) -> NoReturn:
        sys.exit(128 + number)

    listened = [s for s in (signal.SIGTERM, signal.SIGHUP) if signal.getsignal(s) == signal.SIG_DFL]
    for number in listened:
        signal.signal(number, end)
    try:
        yield
    finally:
        for number in listened:
            signal.signal(number, signal.SIG_DFL)


_NO_MEMORY = (
    "can't start new thread",
    "failed to map segment from shared object",
    "bad_alloc",
    "Failed to allocate memory",  # onnxruntime
    "can't allocate memory",  # torch
)


def lacks_memory(error: Exception) -> bool:
    """Whether an error, which libraries give many names, is that memory was refused."""
    if isinstance(error, OSError):
        return error.errno == errno.ENOMEM
    return isinstance(error, MemoryError) or any(sign in str(error) for sign in _NO_MEMORY)


def as_memory_error(error: Exception) -> StorageError:
    """What to say where `lacks_memory`."""
    return StorageError(
        "there is not enough memory",
        why=next(iter(str(error).splitlines()), ""),
        next_step="end other programs; index needs less with --workers 1 --batch-size 1",
    )


def as_storage_error(error: OSError) -> StorageError:
    """An error of the system that no command foresaw, in words."""
    if lacks_memory(error):
        return as_memory_error(error)
    # Of a copy both ends are named, and it is the second one that is written.
    named = error.filename if error.filename2 is None else error.filename2
    place = show_path(os.fsencode(named)) if isinstance(named, (str, bytes)) else ""
    return StorageError(
        f"cannot use {place}" if place else "the system refused an operation",
        why=error.strerror or str(error),
        next_step="check the disk space and the rights there, then run the command again",
    )
