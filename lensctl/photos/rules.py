"""Which files of a folder are looked at: default skips, `--exclude` patterns, ignore files.

The most specific voice decides, as in git: patterns given by the caller, then the nearest ignore
file, then the ones above it, then the defaults. `!pattern` takes a file or folder back in, and
nothing inside an excluded folder can be taken back.
"""

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from pathspec import GitIgnoreSpec

from lensctl.errors import PhotoError, UsageError
from lensctl.photos.files import open_regular

IGNORE_FILE = ".lensctlignore"
_IGNORE_FILE_BYTES = 1 << 20

# Folders of other programs' thumbnails, wastebaskets and packages, lower case. Hidden ones
# (.git, .thumbnails, .Trash-1000, ...) are skipped by their dot.
_SKIPPED_FOLDERS = frozenset(
    {
        b"@eadir",
        b"@recycle",
        b"@recently-snapshot",
        b"#recycle",
        b"#snapshot",
        b"$recycle.bin",
        b"system volume information",
        b"lost+found",
        b"__macosx",
        b"__pycache__",
        b"node_modules",
        b"thumbs",
        b"thumbnails",
    }
)
# Lightroom's previews; the derived images inside Apple's libraries, whose originals are wanted.
_SKIPPED_FOLDER_ENDINGS = (b".lrdata",)
_SKIPPED_IN_LIBRARY = frozenset({b"resources", b"database", b"private", b"scopes", b"external"})
_APPLE_LIBRARY = b".photoslibrary"


def skipped_by_default(name: bytes, parent: bytes, *, is_folder: bool) -> bool:
    """Whether a name is skipped when no pattern speaks of it.

    Args:
        name: the entry's own name.
        parent: the path or name of the folder it is in.
        is_folder: whether it is a folder.
    """
    if name.startswith(b"."):
        return True
    if not is_folder:
        return False
    lower = name.lower()
    if lower in _SKIPPED_FOLDERS or lower.endswith(_SKIPPED_FOLDER_ENDINGS):
        return True
    return lower in _SKIPPED_IN_LIBRARY and parent.lower().endswith(_APPLE_LIBRARY)


@dataclass(frozen=True, slots=True)
class IgnoreLevel:
    """The patterns of one ignore file, and of those above it.

    Attributes:
        spec: the compiled patterns.
        base: length of the relative path, with its last slash, of the folder that holds them.
        above: the next level up, or None.
    """

    spec: GitIgnoreSpec
    base: int
    above: "IgnoreLevel | None"


class ScanRules:
    """What a scan leaves out.

    Args:
        exclude: gitignore patterns, relative to each root.
        skip_folders: folders never entered, whatever path leads there (the library's own).

    Raises:
        UsageError: a pattern of `exclude` is not a gitignore pattern.
    """

    def __init__(
        self,
        exclude: Sequence[str] = (),
        *,
        skip_folders: Iterable[bytes] = (),
    ) -> None:
        self.ignore_file = os.fsencode(IGNORE_FILE)
        self._exclude, bad = compile_patterns(exclude)
        if bad:
            raise UsageError(
                f"{bad[0]!r} is not a pattern",
                next_step="use the pattern rules of .gitignore, for example 'drafts/' or '*.gif'",
            )
        self._skipped = {identity for f in skip_folders if (identity := _identity(f)) is not None}

    @property
    def plain(self) -> bool:
        """Whether no pattern was given."""
        return self._exclude is None

    def skips_identity(self, identity: tuple[int, int]) -> bool:
        """Whether (device, inode) is one of `skip_folders`."""
        return identity in self._skipped

    def leaves_out(
        self, relative: bytes, level: IgnoreLevel | None, *, is_folder: bool, default: bool
    ) -> bool:
        """Whether one entry, whose folder is not left out itself, is left out.

        Args:
            relative: path below the root.
            level: the ignore files in force in its folder.
            is_folder: whether it is a folder.
            default: the answer when no pattern speaks.
        """
        if self._exclude is None and level is None:
            return default
        text = os.fsdecode(relative) + ("/" if is_folder else "")
        if self._exclude is not None:
            verdict = self._exclude.check_file(text).include
            if verdict is not None:
                return verdict
        while level is not None:
            verdict = level.spec.check_file(text[level.base :]).include
            if verdict is not None:
                return verdict
            level = level.above
        return default

    def read_level(
        self, folder: bytes, relative: bytes, above: IgnoreLevel | None
    ) -> tuple[IgnoreLevel | None, list[str]]:
        """The ignore files in force inside a folder that holds one, and what is wrong with it."""
        path = os.path.join(folder, self.ignore_file)
        try:
            with open_regular(path) as file:
                lines = os.fsdecode(file.read(_IGNORE_FILE_BYTES)).splitlines()
        except PhotoError as error:
            return above, [error.what]
        spec, bad = compile_patterns(lines)
        problems = [f"{line!r} is not a pattern" for line in bad]
        if spec is None:
            return above, problems
        base = len(os.fsdecode(relative)) + 1 if relative else 0
        return IgnoreLevel(spec, base, above), problems


def twin_stem(name: bytes) -> bytes:
    """What a RAW and the JPEG of the same exposure have in common in their names.

    `IMG_1.CR2`, `img_1.jpg` -> `img_1`; Pixel phones write `X.RAW-01.COVER.jpg` beside
    `X.RAW-02.ORIGINAL.dng` -> `x`.
    """
    stem = name[: name.rfind(b".")].lower()
    for role in (b".cover", b".original"):
        if stem.endswith(role) and (cut := stem.rfind(b".raw-")) > 0:
            return stem[:cut]
    return stem


def compile_patterns(lines: Iterable[str]) -> tuple[GitIgnoreSpec | None, list[str]]:
    """(the patterns that are well formed, or None when there are none; the lines that are not)."""
    good: list[str] = []
    bad: list[str] = []
    for line in lines:
        try:
            patterns = GitIgnoreSpec.from_lines([line], backend="simple").patterns
        except ValueError:
            bad.append(line)
            continue
        if any(pattern.include is not None for pattern in patterns):
            good.append(line)
    # The other backends encode names as UTF-8, which file names need not be.
    return (GitIgnoreSpec.from_lines(good, backend="simple") if good else None), bad


def _identity(folder: bytes) -> tuple[int, int] | None:
    try:
        status = os.stat(folder)
    except OSError:
        return None
    return status.st_dev, status.st_ino
