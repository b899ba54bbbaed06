"""What a run is given: folders of saved pages, WARC files, listings of WARC files."""

import gzip
import os
import stat
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote, unquote_to_bytes, urlsplit

from lensctl.errors import DataError
from lensctl_training.mining.config import MineConfig
from lensctl_training.mining.urls import absolute
from lensctl_training.mining.workspace import Part, digest

_PAGES = (".html", ".htm", ".xhtml", ".shtml")
_WARCS = (".warc", ".warc.gz")
_LISTINGS = (".paths", ".paths.gz", ".txt", ".txt.gz")
_MOST_LISTED = 200_000


def find_parts(inputs: Sequence[Path], config: MineConfig) -> dict[str, list[Part]]:
    """Split the inputs into parts: one for each WARC file, one for every few pages of a folder.

    Returns:
        The absolute path of each input -> its parts. Two inputs may have a part in common.

    Raises:
        DataError: an input does not exist, or holds neither pages nor WARC files.
    """
    parts: dict[str, list[Part]] = {}
    for path in inputs:
        found = list(_parts_of(path, config))
        if not found:
            raise DataError(
                f"no pages in {path}",
                why=f"looked for {', '.join(_PAGES + _WARCS)}",
                next_step="give a folder of saved pages, a WARC file, or a listing of WARC files",
            )
        parts[str(path.resolve())] = found
    return parts


def _parts_of(path: Path, config: MineConfig) -> Iterator[Part]:
    name = path.name.lower()
    if path.is_dir():
        yield from _folder_parts(path, config)
    elif not path.is_file():
        raise DataError(f"there is no {path}", next_step="check the path")
    elif name.endswith(_WARCS):
        yield _warc_part(path)
    elif name.endswith(_LISTINGS):
        for warc in _listed(path):
            yield _warc_part(warc)
    else:
        raise DataError(
            f"{path} is neither a folder, nor a WARC file, nor a listing",
            why=f"WARC files end in {' or '.join(_WARCS)}, listings in {' or '.join(_LISTINGS)}",
        )


def _warc_part(path: Path) -> Part:
    facts = path.stat()
    place = str(path.resolve())
    fingerprint = digest("warc", place, facts.st_size, facts.st_mtime_ns)
    return Part(f"warc-{fingerprint[:16]}", ("warc", place), fingerprint)


def _listed(listing: Path) -> Iterator[Path]:
    """The WARC files a listing names, one a line, relative to the listing."""
    for number, line in enumerate(_lines(listing)):
        if number >= _MOST_LISTED:
            raise DataError(f"{listing} lists more than {_MOST_LISTED} files")
        name = line.strip()
        if not name or name.startswith("#"):
            continue
        path = listing.parent / name
        if not _is_file(path) or not path.name.lower().endswith(_WARCS):
            raise DataError(
                f"{listing}, line {number + 1}: no WARC file {name[:200]}",
                why="a listing names files on this machine, relative to itself",
                next_step="download the WARC files first, for example with `aws s3 cp`",
            )
        yield path


def _lines(listing: Path) -> Iterator[str]:
    opener = gzip.open if listing.name.endswith(".gz") else open
    try:
        with opener(listing, "rt", encoding="utf-8") as lines:
            yield from lines
    except (OSError, EOFError, ValueError, zlib.error) as error:
        raise DataError(
            f"{listing} is no listing of WARC files",
            why=str(error),
            next_step="give UTF-8 text with the name of a file in each line, plain or gzipped",
        ) from error


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:  # a name longer than the system takes
        return False


def _folder_parts(root: Path, config: MineConfig) -> Iterator[Part]:
    root = root.resolve()
    base = base_url(root, config)
    pages: list[tuple[str, int, int]] = []
    for path, facts in sorted(_files(root), key=lambda item: os.fsencode(item[0])):
        if path.name.lower().endswith(_WARCS):
            yield _warc_part(path)
        else:
            pages.append((str(path.relative_to(root)), facts.st_size, facts.st_mtime_ns))
    step = config.pages.pages_per_part
    for start in range(0, len(pages), step):
        chunk = pages[start : start + step]
        fingerprint = digest("folder", str(root), base, chunk)
        names = tuple(name for name, _, _ in chunk)
        yield Part(f"folder-{fingerprint[:16]}", ("folder", str(root), base, *names), fingerprint)


def _files(root: Path) -> Iterator[tuple[Path, os.stat_result]]:
    """Pages and WARC files under a folder; links to folders are not followed."""
    for folder, _, names in os.walk(root):
        for name in names:
            if name.lower().endswith(_PAGES + _WARCS):
                path = Path(folder, name)
                try:
                    facts = path.stat()
                except OSError:
                    continue  # a broken link is no page
                if stat.S_ISREG(facts.st_mode):
                    yield path, facts


def base_url(root: Path, config: MineConfig) -> str:
    """The address at which the pages of a folder are taken to lie. `.invalid` never resolves."""
    if config.base_url:
        # Spelled as the addresses of the pages' images are, which are looked for below it.
        return absolute("", config.base_url.rstrip("/") + "/")[0]
    host = "".join(c if c.isascii() and c.isalnum() else "-" for c in root.name.lower())
    return f"http://{host.strip('-') or 'folder'}.invalid/"


def url_of(base: str, relative: str) -> str:
    """The address of a file of a folder."""
    return base + quote(os.fsencode(relative))


@dataclass(frozen=True)
class FolderImages:
    """Finds the files behind addresses under a folder's base."""

    root: Path
    base: str

    def find(self, url: str) -> tuple[Path | None, str]:
        """(path, "") or (None, reason). Nothing outside the folder is ever named."""
        if not url.startswith(self.base):
            return None, "image on another host"
        relative = unquote_to_bytes(urlsplit(url).path[len(urlsplit(self.base).path) :])
        if b"\0" in relative:
            return None, "malformed address"
        try:
            path = (self.root / os.fsdecode(relative)).resolve()
            if not path.is_relative_to(self.root):
                return None, "path outside the folder"
            if not path.is_file():
                return None, "image missing"
        except (OSError, ValueError, RuntimeError):
            return None, "malformed address"
        return path, ""
