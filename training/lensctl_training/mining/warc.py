"""WARC files, read with bounds: lying lengths, truncation and decompression bombs end the file
or the record, never the run.

warcio is pure Python. Its C++ and Rust rivals are several times faster at this, but reading is a
small share of the work here (docs/mining.md has the profile), and input from the web had better
meet no memory-unsafe code before it must.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from warcio.archiveiterator import ArchiveIterator
from warcio.exceptions import ArchiveLoadFailed

from lensctl_training.mining.config import PageLimits
from lensctl_training.mining.funnel import Funnel

_LEAST_BUDGET = 256 * 2**20
_DAMAGE = (ArchiveLoadFailed, EOFError, OSError, ValueError, AttributeError, OverflowError)
_CHUNK = 64 * 1024


@dataclass(frozen=True)
class Record:
    """A usable response: where it was found, its media type, charset and body."""

    url: str
    media_type: str
    charset: str
    body: bytes


def read_warc(path: Path, limits: PageLimits, funnel: Funnel) -> Iterator[Record]:
    """HTML pages and images of a WARC file.

    Everything else, and everything beyond the limits, is counted under the unit "records".
    """
    budget = max(_LEAST_BUDGET, limits.max_inflation * path.stat().st_size)
    with path.open("rb") as file:
        records = iter(ArchiveIterator(file))
        while True:
            try:
                record = next(records, None)
                if record is None:
                    return
                funnel.enter("records")
                found = _usable(record, limits, funnel)
                budget -= _drain(record.raw_stream, budget)
            except _DAMAGE as error:
                # warcio raises these for headers and members that make no sense. There is no
                # safe place to go on from, so what follows in this file is lost.
                funnel.reject("files", f"WARC damaged ({type(error).__name__})")
                return
            if found is not None:
                funnel.leave("records")
                yield found
            if budget <= 0:
                funnel.reject("files", "WARC unpacks to more than it may")
                return


def _usable(record: Any, limits: PageLimits, funnel: Funnel) -> Record | None:
    if record.rec_type not in ("response", "resource"):
        funnel.reject("records", f"a {_known_type(record.rec_type)} record")
        return None
    if record.http_headers and record.http_headers.get_statuscode() != "200":
        funnel.reject("records", "HTTP status is not 200")
        return None
    media_type, charset = _content_type(record)
    if media_type in ("text/html", "application/xhtml+xml"):
        most = limits.max_html_bytes
    elif media_type.startswith("image/"):
        most = limits.max_image_bytes
    else:
        funnel.reject("records", "neither HTML nor an image")
        return None
    body = _read(record.content_stream(), most + 1)
    if len(body) > most:
        funnel.reject("records", "page too large" if most == limits.max_html_bytes else
                      "image file too large")  # fmt: skip
        return None
    url = record.rec_headers.get_header("WARC-Target-URI") or ""
    return Record(url.strip("<>"), media_type, charset, body)


def _known_type(name: str | None) -> str:
    known = ("warcinfo", "request", "metadata", "revisit", "conversion", "continuation")
    return name if name in known else "strange"


def _content_type(record: Any) -> tuple[str, str]:
    headers = record.http_headers or record.rec_headers
    value = headers.get_header("Content-Type") or ""
    media_type, _, rest = value.partition(";")
    charset = rest.lower().partition("charset=")[2].split(";")[0].strip(" \"'")
    return media_type.strip().lower(), charset[:40]


def _read(stream: IO[bytes], most: int) -> bytes:
    """Up to `most` bytes; a stream may give less at a time than it is asked for."""
    pieces: list[bytes] = []
    left = most
    while left > 0 and (piece := stream.read(min(left, _CHUNK))):
        pieces.append(piece)
        left -= len(piece)
    return b"".join(pieces)


def _drain(stream: Any, budget: int) -> int:
    """Read what is left of a record, up to the budget; returns the record's size so far."""
    read = stream.tell() if hasattr(stream, "tell") else 0
    while read < budget and (piece := stream.read(_CHUNK)):
        read += len(piece)
    return int(read)
