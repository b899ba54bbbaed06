"""Finding the photos below a folder.

Built on `os.scandir` over bytes paths, so that every name a disk can hold is kept as it is, and
one `stat` is made per photo and per folder, none for other files.
"""

import errno
import os
import stat
from collections import deque
from collections.abc import Generator, Iterator
from dataclasses import dataclass, field

from lensctl.photos.files import kind_of
from lensctl.photos.formats import PHOTO_ENDINGS, RAW_ENDINGS, TWIN_ENDINGS, ending_of
from lensctl.photos.rules import IgnoreLevel, ScanRules, skipped_by_default, twin_stem

__all__ = ["FoundPhoto", "LeftOutRaw", "ScanRules", "SkippedFile", "look", "scan"]

_LEFT_OUT = "left out by a pattern: of --exclude, the config file or a .lensctlignore above it"
_LOOP = "a symbolic link that leads back to itself"


@dataclass(frozen=True, slots=True)
class FoundPhoto:
    """A regular file with the ending of a photo.

    Attributes:
        path: absolute path, as the operating system has it.
        size: bytes.
        mtime_ns: time of the last change, nanoseconds.
        device: device number of the disk it is on.
        inode: its number there.
    """

    path: bytes
    size: int
    mtime_ns: int
    device: int
    inode: int


@dataclass(frozen=True, slots=True)
class LeftOutRaw:
    """A RAW that is no second photo, as long as a JPEG or HEIC beside it can be read.

    Attributes:
        path: absolute path.
        twin: that of the JPEG or HEIC; where there are several, the RAW comes once for each.
    """

    path: bytes
    twin: bytes


@dataclass(frozen=True, slots=True)
class SkippedFile:
    """Something below the root that a user should hear of.

    Attributes:
        path: absolute path.
        reason: why it was left out.
        is_folder: whether it is a folder that could not be read whole, so that photos known to be
            below it cannot be called gone.
    """

    path: bytes
    reason: str
    is_folder: bool = False


def scan(
    folder: bytes, rules: ScanRules, root: bytes | None = None
) -> Iterator[FoundPhoto | LeftOutRaw | SkippedFile]:
    """The photos below a folder, in an order that depends on names alone.

    Symlinked folders are followed after all real ones, and a folder is entered once, by its real
    path where that lies below it; so loops end and no photo comes twice. A RAW that has a JPEG or
    HEIC of the same name beside it, which is not empty, is not a second photo.

    Args:
        folder: one that is missing, closed or left out is yielded as a SkippedFile.
        rules: what to leave out.
        root: absolute path of a folder that holds it: patterns are relative to that, and the ignore
            files from there on are in force; None: the folder itself.
    """
    folder = os.path.abspath(folder)
    return _Walk(rules).run(folder, folder if root is None else root)


@dataclass(frozen=True, slots=True)
class _Folder:
    """A folder on the way: its path, the part below the root, the ignore files above it."""

    path: bytes
    relative: bytes
    level: IgnoreLevel | None = None
    linked: bool = False  # reached through a symbolic link
    lineage: tuple[tuple[int, int], ...] = ()  # (device, inode) of the folders above it


@dataclass(slots=True)
class _Listing:
    """The entries of one folder, what is left out taken away."""

    photos: list[os.DirEntry[bytes]] = field(default_factory=list)
    raws: list[os.DirEntry[bytes]] = field(default_factory=list)
    folders: list[os.DirEntry[bytes]] = field(default_factory=list)
    problems: list[SkippedFile] = field(default_factory=list)


class _Walk:
    def __init__(self, rules: ScanRules) -> None:
        self._rules = rules
        self._pending: list[_Folder] = []
        self._links: deque[_Folder] = deque()
        self._seen: set[tuple[int, int]] = set()

    def run(self, start: bytes, root: bytes) -> Iterator[FoundPhoto | LeftOutRaw | SkippedFile]:
        yield from self._descend(start, root)
        while self._pending or self._links:
            folder = self._pending.pop() if self._pending else self._links.popleft()
            try:
                identity = _identity(folder.path)
                if self._rules.skips_identity(identity):
                    continue
                if folder.linked and identity in self._seen:
                    if identity in folder.lineage:
                        yield SkippedFile(folder.path, _LOOP)
                    continue
                entries = _entries(folder.path)
            except OSError as error:
                yield SkippedFile(folder.path, _folder_reason(error), is_folder=True)
                continue
            self._seen.add(identity)
            yield from self._enter(folder, identity, entries)

    def _descend(self, start: bytes, root: bytes) -> Iterator[SkippedFile]:
        """Go down from the root to where to start, unless rules leave that out.

        A folder that was named is no hidden one: what is left out by default is not asked.
        """
        folder = _Folder(root, b"")
        below = os.path.relpath(start, root)
        for name in below.split(b"/") if below != b"." else ():
            path, relative = os.path.join(folder.path, name), os.path.join(folder.relative, name)
            level = folder.level
            if os.path.lexists(os.path.join(folder.path, self._rules.ignore_file)):
                level = yield from self._read_level(folder)
            if self._rules.leaves_out(relative, level, is_folder=True, default=False):
                yield SkippedFile(start, _LEFT_OUT)
                return
            folder = _Folder(path, relative, level)
        self._pending.append(folder)

    def _read_level(self, folder: _Folder) -> Generator[SkippedFile, None, IgnoreLevel | None]:
        """The rules in force in a folder with an ignore file; yields what is wrong with that."""
        level, problems = self._rules.read_level(folder.path, folder.relative, folder.level)
        ignore_file = os.path.join(folder.path, self._rules.ignore_file)
        for problem in problems:
            yield SkippedFile(ignore_file, problem)
        return level

    def _enter(
        self, folder: _Folder, identity: tuple[int, int], entries: list[os.DirEntry[bytes]]
    ) -> Iterator[FoundPhoto | LeftOutRaw | SkippedFile]:
        level = folder.level
        if any(entry.name == self._rules.ignore_file for entry in entries):
            level = yield from self._read_level(folder)
        listing = self._sort_out(folder, level, entries)
        yield from _photos(listing)
        yield from listing.problems
        self._queue(folder, level, identity, listing.folders)

    def _sort_out(
        self, folder: _Folder, level: IgnoreLevel | None, entries: list[os.DirEntry[bytes]]
    ) -> _Listing:
        listing = _Listing()
        rules = self._rules
        has_patterns = level is not None or not rules.plain
        prefix = folder.relative + b"/" if folder.relative else b""
        for entry in entries:
            name = entry.name
            ending = ending_of(name)
            problem = None
            try:
                is_folder = entry.is_dir()
            except OSError as error:  # only a symbolic link needs looking behind
                is_folder, problem = (
                    False,
                    SkippedFile(entry.path, _file_reason(error, is_link=True)),
                )
            if not is_folder and problem is None and ending not in PHOTO_ENDINGS:
                continue
            out = skipped_by_default(name, folder.path, is_folder=is_folder)
            if has_patterns:
                out = rules.leaves_out(prefix + name, level, is_folder=is_folder, default=out)
            if out:
                continue
            if problem is not None:
                listing.problems.append(problem)
            elif is_folder:
                listing.folders.append(entry)
            else:
                (listing.raws if ending in RAW_ENDINGS else listing.photos).append(entry)
        return listing

    def _queue(
        self,
        parent: _Folder,
        level: IgnoreLevel | None,
        identity: tuple[int, int],
        entries: list[os.DirEntry[bytes]],
    ) -> None:
        prefix = parent.relative + b"/" if parent.relative else b""
        lineage = (*parent.lineage, identity)
        for entry in reversed(entries):
            is_link = entry.is_symlink()
            relative = prefix + entry.name
            folder = _Folder(entry.path, relative, level, parent.linked or is_link, lineage)
            if is_link:
                self._links.append(folder)
            else:
                self._pending.append(folder)


def _photos(listing: _Listing) -> Iterator[FoundPhoto | LeftOutRaw | SkippedFile]:
    """The photos of a folder; RAWs last, and without a look where a JPEG or HEIC is there."""
    twins: dict[bytes, list[bytes]] = {}
    for entry in listing.photos:
        found = look(entry.path)
        yield found
        # What an aborted copy leaves is empty.
        if listing.raws and isinstance(found, FoundPhoto) and found.size:
            name = entry.name
            if ending_of(name) in TWIN_ENDINGS:
                twins.setdefault(twin_stem(name), []).append(entry.path)
    for entry in listing.raws:
        beside = twins.get(twin_stem(entry.name))
        if beside is None:
            yield look(entry.path)
        else:
            yield from (LeftOutRaw(entry.path, twin) for twin in beside)


def look(path: bytes) -> FoundPhoto | SkippedFile:
    """What lies at a path, links followed."""
    try:
        status = os.stat(path)
    except OSError as error:
        return SkippedFile(path, _file_reason(error, is_link=os.path.islink(path)))  # noqa: PTH114
    if not stat.S_ISREG(status.st_mode):
        return SkippedFile(path, f"not a photo but {kind_of(status.st_mode)}")
    return FoundPhoto(path, status.st_size, status.st_mtime_ns, status.st_dev, status.st_ino)


def _entries(folder: bytes) -> list[os.DirEntry[bytes]]:
    with os.scandir(folder) as entries:
        return sorted(entries, key=_name)


def _name(entry: os.DirEntry[bytes]) -> bytes:
    return entry.name


def _identity(folder: bytes) -> tuple[int, int]:
    status = os.stat(folder)
    return status.st_dev, status.st_ino


def _folder_reason(error: OSError) -> str:
    if isinstance(error, PermissionError):
        return "no rights to look into this folder"
    if isinstance(error, FileNotFoundError):
        return "the folder is gone"
    return f"the folder cannot be read: {error.strerror or error}"


def _file_reason(error: OSError, *, is_link: bool) -> str:
    if error.errno == errno.ELOOP:
        return _LOOP
    if isinstance(error, PermissionError):
        return "no rights to read it"
    if isinstance(error, FileNotFoundError):
        return "a symbolic link to a file that is not there" if is_link else "the file is gone"
    return f"cannot be read: {error.strerror or error}"
