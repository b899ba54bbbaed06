"""The rows that the stages hand on, and their JSON.

A `Page` holds `Mention`s: an image as one page shows it, with the words around it. After the
stage *groups* a mention knows its file (`Picture`), after *annotate* what is on it.
"""

import dataclasses
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self


@dataclass(frozen=True)
class Mention:
    """One `<img>` of a page with its words. All texts have collapsed blanks and are cut."""

    urls: tuple[str, ...]
    """Absolute candidates, best first: the largest of srcset, lazy-loading attributes, src."""
    position: int
    """Which image of the page it is, from 0."""
    alt: str = ""
    title: str = ""
    caption: str = ""
    """A caption that belongs to this image alone."""
    figure: str = ""
    """The title of a figure, which several images may share."""
    headings: tuple[str, ...] = ()
    """The headings above it, outermost first."""
    term: str = ""
    """The term (`dt`) whose description (`dd`) holds the image, or its list item's or cell's."""
    before: str = ""
    after: str = ""
    css: str = ""
    """Class names of the image and of the elements around it."""
    region: str = ""
    """nav, header, footer or aside, where the image stands in one."""
    declared: tuple[int, int] = (0, 0)
    """The width and height attributes in pixels, 0 where absent."""


@dataclass(frozen=True)
class Picture:
    """A mention whose file is at hand."""

    mention: Mention
    url: str
    sha256: str
    width: int
    height: int
    brightness: float
    """Mean of luma, 0 to 1."""
    colourfulness: float
    """Hasler and Suesstrunk's measure on 8-bit values, 0 (grey) to about 110."""
    sharpness: float
    """Standard deviation of the Laplacian of luma at 128 px."""
    perceptual_hash: int = 0
    """64 bits; 0 where there is none."""
    vector: int = -1
    """Row of this image in its part's vectors, once annotated."""
    text_vector: int = -1
    """Row of its description in its part's text vectors, once annotated."""
    label: str = ""
    label_score: float = 0.0
    generated_caption: str = ""


@dataclass(frozen=True)
class Page:
    """A web page: where it is, what it is called, which images it shows."""

    url: str
    site: str
    title: str
    language: str
    mentions: tuple[Mention, ...] = ()

    @classmethod
    def from_json(cls, row: dict[str, Any]) -> Self:
        """A row that `read_rows` read. Raises TypeError or KeyError where its fields are others."""
        mentions = tuple(_mention(each) for each in row["mentions"])
        return cls(**{**row, "mentions": mentions})


@dataclass(frozen=True)
class Group:
    """The usable pictures of one page."""

    url: str
    site: str
    title: str
    language: str
    pictures: tuple[Picture, ...]

    @classmethod
    def from_json(cls, row: dict[str, Any]) -> Self:
        """A row that `read_rows` read. Raises TypeError or KeyError where its fields are others."""
        pictures = tuple(_picture(each) for each in row["pictures"])
        return cls(**{**row, "pictures": pictures})


@dataclass(frozen=True)
class Pair:
    """Two pictures of one page, in an order: the query image first."""

    key: str
    page: str
    site: str
    page_title: str
    language: str
    query: Picture
    target: Picture
    scores: dict[str, float] = field(default_factory=dict)

    @classmethod
    def from_json(cls, row: dict[str, Any]) -> Self:
        """A row that `read_rows` read. Raises TypeError or KeyError where its fields are others."""
        ends = {"query": _picture(row["query"]), "target": _picture(row["target"])}
        return cls(**{**row, **ends})


@dataclass(frozen=True)
class Instructed:
    """A pair with its instruction, and who wrote it how."""

    pair: Pair
    instruction: str
    writer: str
    """"rule-based" or the name of the language model."""
    prompt_version: str
    relation: str = ""
    """For the rule-based writer: which rule applied. For a model: its one-line reasoning."""
    form: str = ""
    """The instruction with what comes from the page blanked: `the {} of the same {}`."""

    @classmethod
    def from_json(cls, row: dict[str, Any]) -> Self:
        """A row that `read_rows` read. Raises TypeError or KeyError where its fields are others."""
        return cls(**{**row, "pair": Pair.from_json(row["pair"])})


Row = Page | Group | Pair | Instructed


def _mention(row: dict[str, Any]) -> Mention:
    lists = {name: tuple(row[name]) for name in ("urls", "headings", "declared")}
    return Mention(**{**row, **lists})


def _picture(row: dict[str, Any]) -> Picture:
    return Picture(**{**row, "mention": _mention(row["mention"])})


def write_rows(path: Path, rows: Iterable[Row]) -> int:
    """Write JSON lines; returns how many."""
    count = 0
    with path.open("w", encoding="utf-8") as file:
        for row in rows:
            file.write(dump_row(row))
            count += 1
    return count


def dump_row(row: Row) -> str:
    """One JSON line. Lone surrogates, which broken pages carry, are replaced."""
    line = json.dumps(dataclasses.asdict(row), ensure_ascii=False, separators=(",", ":"))
    return line.encode("utf-8", "replace").decode("utf-8") + "\n"


def read_rows(path: Path) -> Iterator[dict[str, Any]]:
    """The JSON objects of a file; none where there is no such file."""
    if not path.exists():
        return
    with path.open(encoding="utf-8") as file:
        for line in file:
            yield json.loads(line)
