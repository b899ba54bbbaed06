"""What is shown of one result; the library's matches are turned into it by the command line."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Result:
    """One photo found.

    Attributes:
        path: absolute, as the operating system has it.
        score: relevance, 0 to 1.
        cosine: of the query and the photo, -1 to 1.
        copies: how many places in the library hold the same bytes, this one included.
        offline: whether the disk that holds it was absent at the last index run.
        taken: ISO 8601, local time of the place.
        latitude, longitude: degrees, or None.
        place: the name of the place, where it was looked up.
        content_hash: names what the photo shows; empty where it is not known.
    """

    path: bytes
    score: float
    cosine: float
    copies: int = 1
    offline: bool = False
    width: int = 0
    height: int = 0
    format: str = ""
    taken: str | None = None
    camera: str | None = None
    latitude: float | None = None
    longitude: float | None = None
    place: str | None = None
    keywords: tuple[str, ...] = ()
    rating: int | None = None
    content_hash: bytes = b""
