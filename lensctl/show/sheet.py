"""Pictures with captions on one self-contained HTML page.

A leaf: the results of a query and the reports of train, mine and eval are such sheets. A page needs
no network and no second file; its policy forbids every request, and every script and style but
the page's own. Pictures are embedded as small re-encoded copies, without the metadata of the
originals: a sheet that is sent to somebody carries no hidden position.
"""

import base64
import hashlib
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cache, partial
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from lensctl.errors import PhotoError
from lensctl.show.chart import Chart, Series, draw_chart
from lensctl.show.names import show_text
from lensctl.show.page_file import write_page

if TYPE_CHECKING:
    from jinja2 import Environment
    from PIL import Image

    from lensctl.show.thumb_cache import ThumbnailCache
    from lensctl.show.thumbnail import Thumbnail

__all__ = ["Chart", "Picture", "Section", "Series", "Table", "render_sheet", "write_sheet"]

Mark = Literal["", "query", "good", "bad"]

_MARK_WORDS = {"": "", "query": "query", "good": "match", "bad": "miss"}


_LONG_CELL = 30
_READERS = 8
"""Pictures read at once: where a disk is slow, it is waiting that takes the time."""


@dataclass(frozen=True)
class Picture:
    """One picture and what is said about it.

    Args:
        image: a file, the bytes of one, or a PIL image. One that cannot be read is shown as an
            empty frame with the reason, so that one bad photo does not cost the sheet.
        caption: a line or two under the picture.
        facts: name -> value, shown smaller, in order.
        mark: "query", "good" (right) or "bad" (wrong): a coloured frame and a word.
        score: 0 to 1, shown as a number and a bar.
        label: the word of the mark, where it should not be "query", "match" or "miss".
        content: names what a file shows, so that its small copy can be kept and found again.
        original: the photo that "open original" leads to; only for a sheet read on this machine.
    """

    image: "Path | bytes | Image.Image"
    caption: str = ""
    facts: Mapping[str, str] = field(default_factory=dict)
    mark: Mark = ""
    score: float | None = None
    original: Path | None = None
    label: str = ""
    content: str = ""


@dataclass(frozen=True)
class Table:
    """A header and rows of the same length; cells that read as numbers are set to the right."""

    header: Sequence[str]
    rows: Sequence[Sequence[str]]


@dataclass(frozen=True)
class Section:
    """A heading with any of: text, a table, a chart, a grid of pictures, rows of pictures.

    `rows` are shown one under the other, each from left to right; a cell that is a string stands
    between pictures, for triplets: (query, "the same at night", target).
    """

    heading: str = ""
    text: str = ""
    pictures: Sequence[Picture] = ()
    table: Table | None = None
    chart: Chart | None = None
    rows: Sequence[Sequence[Picture | str]] = ()


_Shrink = Callable[[Picture], "Thumbnail"]


def render_sheet(
    title: str,
    sections: Sequence[Section],
    *,
    subtitle: str = "",
    picture_side: int = 960,
    kept: "ThumbnailCache | None" = None,
) -> str:
    """The page as one string.

    Args:
        title: the heading of the page, and the name of the browser's tab.
        sections: shown in order.
        subtitle: a line under the title.
        picture_side: bound on the longer side of an embedded picture, in pixels. A picture of
            960 takes about 100 kB; a report with hundreds of them is better off with 320.
        kept: copies of earlier runs, so that photos on a slow disk are read once.
    """
    style, script = _asset("sheet.css"), _asset("sheet.js")
    shrink = partial(_thumbnail, side=picture_side, kept=kept)
    with ThreadPoolExecutor(_READERS) as readers:
        prepared = [_prepare(section, shrink, readers) for section in sections]
    if kept is not None:
        kept.trim()
    return (
        _environment()
        .get_template("sheet.html")
        .render(
            title=title,
            subtitle=subtitle,
            sections=prepared,
            style=style,
            script=script,
            policy=_policy(style, script),
        )
    )


def write_sheet(
    path: Path,
    title: str,
    sections: Sequence[Section],
    *,
    subtitle: str = "",
    picture_side: int = 960,
    kept: "ThumbnailCache | None" = None,
) -> None:
    """Render the page and write it as `write_page` does, and with its errors.

    The file is readable by its owner only: it shows photos and says where they were taken.
    """
    page = render_sheet(title, sections, subtitle=subtitle, picture_side=picture_side, kept=kept)
    write_page(path, page)


@cache
def _environment() -> "Environment":
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("lensctl.show", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["readable"] = partial(show_text, keep="\n")
    return environment


@cache
def _asset(name: str) -> str:
    return (resources.files("lensctl.show") / "templates" / name).read_text(encoding="utf-8")


def _policy(style: str, script: str) -> str:
    """The content security policy: nothing is fetched, only our own style and script count."""
    return "; ".join(
        [
            "default-src 'none'",
            "img-src data:",
            f"style-src '{_digest(style)}'",
            f"script-src '{_digest(script)}'",
            "base-uri 'none'",
            "form-action 'none'",
        ]
    )


def _digest(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def _prepare(section: Section, shrink: _Shrink, readers: ThreadPoolExecutor) -> dict[str, Any]:
    cell = partial(_cell, shrink=shrink)
    return {
        "heading": section.heading,
        "text": section.text,
        "pictures": list(readers.map(cell, section.pictures)),
        "rows": [list(readers.map(cell, row)) for row in section.rows],
        "table": section.table and _table_cells(section.table),
        "chart": section.chart and draw_chart(section.chart),
    }


def _cell(cell: Picture | str, shrink: _Shrink) -> dict[str, Any]:
    return {"words": cell} if isinstance(cell, str) else _picture_cell(cell, shrink)


def _picture_cell(picture: Picture, shrink: _Shrink) -> dict[str, Any]:
    cell: dict[str, Any] = {
        "caption": picture.caption,
        "facts": dict(picture.facts),
        "mark": picture.mark,
        "mark_word": picture.label or _MARK_WORDS[picture.mark],
        "score": None if picture.score is None else min(max(picture.score, 0.0), 1.0),
        "original": picture.original.absolute().as_uri() if picture.original else "",
        "source": "",
        "problem": "",
    }
    try:
        thumbnail = shrink(picture)
    except PhotoError as error:
        cell["problem"] = error.what
        return cell
    encoded = base64.b64encode(thumbnail.jpeg).decode()
    cell |= {
        "source": f"data:image/jpeg;base64,{encoded}",
        "width": thumbnail.width,
        "height": thumbnail.height,
    }
    return cell


def _thumbnail(picture: Picture, *, side: int, kept: "ThumbnailCache | None") -> "Thumbnail":
    """An embedded picture; by way of the kept copy where that is large enough."""
    from lensctl.show.thumb_cache import KEPT_SIDE
    from lensctl.show.thumbnail import make_thumbnail, read_thumbnail

    image = picture.image
    if kept is None or not picture.content or not isinstance(image, Path) or side > KEPT_SIDE:
        return make_thumbnail(image, side)
    copy = kept.copy_of(image, picture.content)
    return read_thumbnail(copy) if side == KEPT_SIDE else make_thumbnail(copy, side)


def _table_cells(table: Table) -> dict[str, Any]:
    columns = [[row[number] for row in table.rows] for number in range(len(table.header))]
    return {"header": table.header, "rows": table.rows, "kinds": [_kind(one) for one in columns]}


def _kind(cells: Sequence[str]) -> str:
    """ "number" for a column set to the right, "long" for one that must not be squeezed."""
    if all(_is_number(text) for text in cells):
        return "number"
    return "long" if any(len(text) > _LONG_CELL for text in cells) else ""


def _is_number(text: str) -> bool:
    """Whether a cell reads as a number, with its spread or unit: 1,000, 45.6 ± 1.2, 12 %, –."""
    if text.strip() in {"", "-", "–", "—"}:
        return True
    try:
        for part in text.replace(",", "").split("±"):
            float(part.strip().rstrip("% "))
    except ValueError:
        return False
    return True
