"""Files and folders that appear whole or not at all, and folders that are gone afterwards."""

import contextlib
import json
import os
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from lensctl.errors import StorageError


@contextlib.contextmanager
def whole(path: Path, *, mode: int = 0o666) -> Iterator[Path]:
    """An empty hidden file beside `path`, which takes its name if the block ends without an error.

    Args:
        path: a file that is there is replaced. Its folder has to be there.
        mode: rights, from which the process's umask is taken.

    Raises:
        OSError: the file cannot be made, written or put in its place; it names `path`.
    """
    part = path.with_name(f".{uuid.uuid4().hex}.part")
    try:
        with naming(path):
            os.close(os.open(part, os.O_CREAT | os.O_EXCL | os.O_WRONLY, mode))
            yield part
            part.replace(path)
    except OSError as error:
        if error.filename == os.fspath(part):
            error.filename, error.filename2 = os.fspath(path), None
        raise
    finally:
        with contextlib.suppress(OSError):
            part.unlink()


@contextlib.contextmanager
def naming(path: Path) -> Iterator[None]:
    """Has the system's errors that name no file, as those of writing, name this one."""
    try:
        yield
    except OSError as error:
        if error.filename is None and error.errno is not None:
            error.filename = os.fspath(path)
        raise


def write_whole(path: Path, text: str, *, mode: int = 0o666) -> None:
    """A text in UTF-8 as a file; arguments and errors as of `whole`."""
    with whole(path, mode=mode) as part:
        part.write_text(text, encoding="utf-8")


def write_json(path: Path, content: Any) -> None:
    """A JSON file; errors as of `whole`."""
    write_whole(path, json.dumps(content, indent=2) + "\n")


@contextlib.contextmanager
def whole_folder(path: Path) -> Iterator[Path]:
    """An empty hidden folder beside `path`, which takes its name if the block ends well.

    What a killed process left of it is removed first, so one process at a time may make it.

    Args:
        path: a folder that is there is replaced; those above are made.

    Raises:
        OSError: the folder cannot be made, or put in its place.
    """
    import shutil  # takes longer than the rest of this module

    part = path.with_name(f".{path.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    try:
        yield part
        if path.exists():
            shutil.rmtree(path)
        part.rename(path)
    finally:
        shutil.rmtree(part, ignore_errors=True)


@contextlib.contextmanager
def temporary_folder(prefix: str) -> Iterator[Path]:
    """A folder of the system's for temporary files, for the block.

    Raises:
        StorageError: it cannot be made, or what the block writes into it does not fit.
    """
    import tempfile  # takes longer than the rest of this module

    place = ""
    try:
        with tempfile.TemporaryDirectory(prefix=prefix) as place:
            yield Path(place)
    except OSError as error:
        if not str(error.filename or place).startswith(place):
            raise
        raise StorageError(
            "a temporary folder cannot be written",
            why=error.strerror or str(error),
            next_step="name a folder with room and rights: TMPDIR=FOLDER",
        ) from error
