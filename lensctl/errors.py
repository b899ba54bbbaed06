"""Every error that a user can meet.

LensctlError                 exit  what it means
├── UsageError                  2  the command line or the config file is wrong
├── NoLibraryError              1  there is no library, or nothing in it, to search
├── LibraryError                3  the library cannot be read or written
│   ├── LibraryBusyError        4  another process is writing to the library, or to a run's folder
│   └── LibraryDamagedError     3  the library's database is damaged
├── StorageError                3  the disk or the memory is full, or the rights are missing
├── PhotoError                  3  one photo cannot be read
├── ModelError                  5  a model is missing, unknown, or not usable
│   ├── CheckpointError         5  a weights file is refused: wrong, damaged or hostile
│   └── DownloadError           5  a download failed
├── DataError                   6  a training, benchmark or mining data set is wrong
├── TrainingError               7  a training run cannot start or go on
├── EndpointError               8  a network service that was asked for failed
└── DependencyError             9  an optional package is missing

Ctrl-C exits with 130, as shells expect; SIGTERM and SIGHUP, where a command saves or clears away
its work first, with 143 and 129.
`cli.commands.run` catches this tree once, prints the three parts on stderr and exits with the code.
"""

from typing import ClassVar


class LensctlError(Exception):
    """What happened, why, and what to type next.

    Args:
        what: one sentence: what happened.
        why: the cause, as far as it is known.
        next_step: what the user can type or do.
    """

    exit_code: ClassVar[int] = 3

    def __init__(self, what: str, *, why: str = "", next_step: str = "") -> None:
        super().__init__(what)
        self.what = what
        self.why = why
        self.next_step = next_step

    def lines(self) -> list[str]:
        """The message as it is printed, one part a line."""
        parts = [f"error: {self.what}"]
        if self.why:
            parts.append(f"  why:  {self.why}")
        if self.next_step:
            parts.append(f"  next: {self.next_step}")
        return parts


class UsageError(LensctlError):
    """The command line or the config file is wrong."""

    exit_code = 2


class NoLibraryError(LensctlError):
    """There is no library, or nothing in it, to search."""

    exit_code = 1


class LibraryError(LensctlError):
    """The library cannot be read or written."""


class LibraryBusyError(LibraryError):
    """Another process is writing to the library, or to the folder of a run."""

    exit_code = 4


class LibraryDamagedError(LibraryError):
    """The library's database is damaged."""


class StorageError(LensctlError):
    """The disk or the memory is full, or the rights are missing."""


class PhotoError(LensctlError):
    """One photo cannot be read; the reason is `what`."""


class ModelError(LensctlError):
    """A model is missing, unknown, or not usable."""

    exit_code = 5


class CheckpointError(ModelError):
    """A weights file is refused: wrong, damaged or hostile."""


class DownloadError(ModelError):
    """A download failed."""


class DataError(LensctlError):
    """A training, benchmark or mining data set is wrong."""

    exit_code = 6


class TrainingError(LensctlError):
    """A training run cannot start or go on."""

    exit_code = 7


class EndpointError(LensctlError):
    """A network service that was asked for failed."""

    exit_code = 8


class DependencyError(LensctlError):
    """An optional package is missing."""

    exit_code = 9
