"""The sheet of one query: what was asked, and what was found."""

import os
from collections.abc import Sequence
from pathlib import Path

from lensctl.show.names import show_path, show_short_path
from lensctl.show.result import Result
from lensctl.show.sheet import Picture, Section, write_sheet
from lensctl.show.thumb_cache import ThumbnailCache


def write_query_sheet(
    path: Path,
    photo: Path | bytes | None,
    words: str,
    results: Sequence[Result],
    kept: ThumbnailCache | None = None,
) -> None:
    """Write the page. Raises OSError where it cannot be written.

    Args:
        photo: the query image, a file or the bytes of one; None for a query in words alone.
        words: the instruction, or the words; may be empty where there is a photo.
        kept: copies of the photos from earlier runs.
    """
    sections = []
    if photo is not None:
        name = photo.name if isinstance(photo, Path) else "image on stdin"
        query = Picture(photo, name, mark="query")
        sections.append(Section("Query", rows=[[query, f"“{words}”"] if words else [query]]))
    noun = "photo" if len(results) == 1 else "photos"
    sections.append(Section(f"{len(results)} {noun}", pictures=[_picture(one) for one in results]))
    title = words or (photo.name if isinstance(photo, Path) else "Photos like this one")
    kind = "by words" if photo is None else "by a photo and words" if words else "by a photo"
    write_sheet(path, title, sections, subtitle=f"Searched {kind}, best first", kept=kept)


def _picture(result: Result) -> Picture:
    path = Path(os.fsdecode(result.path))
    facts = {
        "folder": show_short_path(os.path.dirname(result.path)),
        "taken": (result.taken or "").replace("T", " ")[:16],
        "place": result.place or "",
        "camera": result.camera or "",
        "size": f"{result.width} × {result.height} {result.format}",
        "copies": str(result.copies) if result.copies > 1 else "",
        "state": "its disk was away at the last index run" if result.offline else "",
    }
    return Picture(
        path,
        show_path(os.path.basename(result.path)),
        {name: value for name, value in facts.items() if value},
        score=result.score,
        original=path,
        content=result.content_hash.hex(),
    )
