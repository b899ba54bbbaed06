"""Stage *pages*: the input's HTML into pages with image mentions, its images into the store."""

import json
from array import array
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import IO, Any

import numpy as np

from lensctl_training.mining.config import MineConfig
from lensctl_training.mining.funnel import Funnel
from lensctl_training.mining.html import decode_html, read_page
from lensctl_training.mining.records import Page, dump_row, read_rows
from lensctl_training.mining.sources import FolderImages, url_of
from lensctl_training.mining.urls import absolute, stable_fraction
from lensctl_training.mining.warc import read_warc
from lensctl_training.mining.workspace import Part, Workspace

IMAGES = "images.jsonl"
PAGES = "pages.jsonl"
_STARTS = "shares.bin"
"""Where in PAGES each share of the sites begins, and the last one ends: shares + 1 uint64."""
_OFFSET = np.dtype("<u8")
_UNSORTED = "unsorted.jsonl"


def run_pages(workspace: Workspace, config: MineConfig, part: Part, out: Path) -> Funnel:
    """Read one WARC file, or some pages of a folder.

    Writes `pages.jsonl` (pages, grouped by their site's share, so that the next stage sees a site
    whole; see `read_share`) and `images.jsonl` (address -> SHA-256 in the store, or the reason why
    not).
    """
    funnel = Funnel()
    kind, *inputs = part.inputs
    with ExitStack() as stack:
        images = stack.enter_context((out / IMAGES).open("w", encoding="utf-8"))
        spread = stack.enter_context(_Spread(out, config.pages.site_parts))
        if kind == "warc":
            _read_warc(Path(inputs[0]), workspace, config, funnel, spread, images)
        else:
            root, base, *names = inputs
            _read_folder(Path(root), base, names, workspace, config, funnel, spread, images)
    return funnel


class _Spread:
    """Pages as they come, put in order of their shares at the end. A context manager.

    One file, whatever the number of shares: thousands of shares would be as many open files here,
    and millions of files in a crawl. Memory: 16 bytes a page.
    """

    def __init__(self, out: Path, shares: int) -> None:
        self._out = out
        self._shares = shares
        self._share_of = array("q")
        self._sizes = array("q")

    def __enter__(self) -> "_Spread":
        self._file = (self._out / _UNSORTED).open("w+b")
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        with self._file:
            if kind is None:
                self._sort()
        (self._out / _UNSORTED).unlink()

    def write(self, page: Page) -> None:
        line = dump_row(page).encode()
        self._share_of.append(int(stable_fraction(page.site) * self._shares))
        self._sizes.append(len(line))
        self._file.write(line)

    def _sort(self) -> None:
        share_of, sizes = np.array(self._share_of), np.array(self._sizes)
        starts = np.cumsum(sizes) - sizes
        with (self._out / PAGES).open("wb") as file:
            for row in np.argsort(share_of, kind="stable").tolist():
                self._file.seek(starts[row])
                file.write(self._file.read(sizes[row]))
        in_share = np.bincount(share_of, weights=sizes, minlength=self._shares)
        np.concatenate([[0], np.cumsum(in_share)]).astype(_OFFSET).tofile(self._out / _STARTS)


def read_share(part: Path, share: int) -> Iterator[dict[str, Any]]:
    """The pages of one share of the sites in the folder of a part of *pages*, as `read_rows`."""
    start, end = np.fromfile(part / _STARTS, _OFFSET, 2, offset=share * _OFFSET.itemsize).tolist()
    if start == end:
        return
    with (part / PAGES).open("rb") as file:
        file.seek(start)
        while file.tell() < end:
            yield json.loads(file.readline())


def read_pages(part: Path) -> Iterator[dict[str, Any]]:
    """All pages in the folder of a part of *pages*, share by share."""
    return read_rows(part / PAGES)


def _read_warc(
    path: Path,
    workspace: Workspace,
    config: MineConfig,
    funnel: Funnel,
    spread: _Spread,
    images: IO[str],
) -> None:
    for record in read_warc(path, config.pages, funnel):
        url, reason = absolute(record.url, record.url)
        if record.media_type.startswith("image/"):
            if not reason:
                _note(images, url, sha256=workspace.store_image(record.body))
            continue
        funnel.enter("pages")
        if reason:
            funnel.reject("pages", reason)
            continue
        page = read_page(decode_html(record.body, record.charset), url, config.pages, funnel)
        if page is not None:
            funnel.leave("pages")
            spread.write(page)


def _read_folder(
    root: Path,
    base: str,
    names: Iterable[str],
    workspace: Workspace,
    config: MineConfig,
    funnel: Funnel,
    spread: _Spread,
    images: IO[str],
) -> None:
    finder = FolderImages(root, base)
    noted: set[str] = set()
    for name, data in _read_files(root, names, config, funnel):
        page = read_page(decode_html(data), url_of(base, name), config.pages, funnel)
        if page is None:
            continue
        funnel.leave("pages")
        spread.write(page)
        for url in sorted({url for mention in page.mentions for url in mention.urls} - noted):
            noted.add(url)
            _take_image(finder, url, workspace, config, images)


def _read_files(
    root: Path, names: Iterable[str], config: MineConfig, funnel: Funnel
) -> Iterator[tuple[str, bytes]]:
    for name in names:
        funnel.enter("pages")
        data = _read_bounded(root / name, config.pages.max_html_bytes)
        if data is None:
            funnel.reject("pages", "page too large or unreadable")
        else:
            yield name, data


def _take_image(
    finder: FolderImages, url: str, workspace: Workspace, config: MineConfig, images: IO[str]
) -> None:
    path, reason = finder.find(url)
    if path is None:
        _note(images, url, reason=reason)
        return
    data = _read_bounded(path, config.pages.max_image_bytes)
    if data is None:
        _note(images, url, reason="image file too large or unreadable")
    else:
        _note(images, url, sha256=workspace.store_image(data))


def _read_bounded(path: Path, most: int) -> bytes | None:
    try:
        with path.open("rb") as file:
            data = file.read(most + 1)
    except OSError:
        return None
    return data if len(data) <= most else None


def _note(images: IO[str], url: str, *, sha256: str = "", reason: str = "") -> None:
    images.write(json.dumps({"url": url, "sha256": sha256, "reason": reason}) + "\n")
