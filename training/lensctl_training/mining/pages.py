"""Stage *pages*: the input's HTML into pages with image mentions, its images into the store."""

import json
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import IO

from lensctl_training.mining.config import MineConfig
from lensctl_training.mining.funnel import Funnel
from lensctl_training.mining.html import decode_html, read_page
from lensctl_training.mining.records import Page, dump_row
from lensctl_training.mining.sources import FolderImages, url_of
from lensctl_training.mining.urls import absolute, stable_fraction
from lensctl_training.mining.warc import read_warc
from lensctl_training.mining.workspace import Part, Workspace

IMAGES = "images.jsonl"


def run_pages(workspace: Workspace, config: MineConfig, part: Part, out: Path) -> Funnel:
    """Read one WARC file, or some pages of a folder.

    Writes `site-NNN.jsonl` (pages, spread by site, so that the next stage sees a site whole) and
    `images.jsonl` (address -> SHA-256 in the store, or the reason why not).
    """
    funnel = Funnel()
    kind, *inputs = part.inputs
    with ExitStack() as files, (out / IMAGES).open("w", encoding="utf-8") as images:
        spread = _Spread(out, config.pages.site_parts, files)
        if kind == "warc":
            _read_warc(Path(inputs[0]), workspace, config, funnel, spread, images)
        else:
            root, base, *names = inputs
            _read_folder(Path(root), base, names, workspace, config, funnel, spread, images)
    return funnel


class _Spread:
    """Appends pages to the file of their site's share."""

    def __init__(self, out: Path, shares: int, files: ExitStack) -> None:
        self._files = [
            files.enter_context((out / site_file(share)).open("w", encoding="utf-8"))
            for share in range(shares)
        ]

    def write(self, page: Page) -> None:
        share = int(stable_fraction(page.site) * len(self._files))
        self._files[share].write(dump_row(page))


def site_file(share: int) -> str:
    """Where the pages of one share of the sites lie in a part of *pages*."""
    return f"site-{share:03d}.jsonl"


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
