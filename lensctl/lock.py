"""One process at a time where files are written, until it ends, however it does."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

from lensctl.errors import LensctlError, StorageError


@contextlib.contextmanager
def held_alone(
    path: Path, busy: LensctlError, *, elsewhere: str, mode: int = 0o644
) -> Iterator[None]:
    """Hold a lock file, which is made where it is missing, and its folder too.

    Args:
        path: of the file.
        busy: raised where another process holds it.
        elsewhere: how to name another place, for the error's next step.
        mode: rights of the file.

    Raises:
        StorageError: the file cannot be made.
    """
    # Imported here, as queries take no lock.
    from filelock import FileLock, Timeout

    lock = FileLock(path, timeout=0, mode=mode)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock.acquire()
    except Timeout as error:
        raise busy from error
    except OSError as error:
        raise StorageError(
            f"cannot write to {path.parent}",
            why=error.strerror or str(error),
            next_step=f"check the disk space and the rights there, or {elsewhere}",
        ) from error
    try:
        yield
    finally:
        lock.release()
