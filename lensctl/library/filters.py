"""What restricts a search: facts of photos, asked of the catalog before any vector is looked at."""

import datetime
import json
import math
import os
import re
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np

from lensctl.errors import UsageError
from lensctl.library.catalog import VISIBLE, Catalog, folders_condition
from lensctl.photos.formats import PHOTO_ENDINGS, RAW_ENDINGS

_EARTH_RADIUS_KM = 6371.0088


class Area(Protocol):
    """A part of the earth."""

    def holds(self, latitude: float, longitude: float) -> bool:
        """Whether a position, in degrees, lies in it."""
        ...


@dataclass(frozen=True)
class Circle:
    """A circle on the earth: degrees and kilometres."""

    latitude: float
    longitude: float
    km: float

    def holds(self, latitude: float, longitude: float) -> bool:
        """Whether a place lies in the circle (great-circle distance)."""
        a, b = math.radians(self.latitude), math.radians(latitude)
        across = math.radians(longitude - self.longitude)
        half = math.sin((b - a) / 2) ** 2 + math.cos(a) * math.cos(b) * math.sin(across / 2) ** 2
        return 2 * _EARTH_RADIUS_KM * math.asin(min(1.0, math.sqrt(half))) <= self.km


@dataclass(frozen=True)
class Filters:
    """All must hold; None does not restrict.

    A photo lies in any of `folders`. Dates compare with the time it was taken, as ISO 8601 text,
    `after` included, `before` not. `camera` is words, each of them a part of the camera's name in
    any case, `formats` are names as `lensctl query` prints them, of which any will do. A photo that
    lacks a fact does not pass its filter.
    """

    folders: tuple[bytes, ...] = ()
    after: str | None = None
    before: str | None = None
    camera: str | None = None
    formats: tuple[str, ...] = ()
    near: tuple[Area, ...] = ()

    def __bool__(self) -> bool:
        return self != Filters()

    def located(self, catalog: Catalog) -> "Filters":
        """The same, its folders by the catalog's names for them."""
        return replace(self, folders=tuple(map(catalog.locate, self.folders)))

    def allowed(self, catalog: Catalog) -> np.ndarray:
        """Content ids, ascending int64, of the visible photos that pass."""
        condition, values = self._condition(catalog)
        rows = catalog.connection.execute(
            "SELECT DISTINCT contents.id, latitude, longitude FROM contents"
            f" JOIN photos ON photos.content_id = contents.id WHERE {VISIBLE} {condition}"
            " ORDER BY contents.id",
            values,
        )
        if not self.near:
            return np.array([row[0] for row in rows], dtype=np.int64)
        return np.array(
            [row[0] for row in rows if any(area.holds(row[1], row[2]) for area in self.near)],
            dtype=np.int64,
        )

    def _cameras(self, catalog: Catalog) -> list[str]:
        """The catalog's cameras that are meant; SQLite would know the cases of ASCII alone."""
        words = (self.camera or "").casefold().split()
        known = catalog.connection.execute("SELECT DISTINCT camera FROM contents WHERE camera > ''")
        return [name for (name,) in known if all(word in name.casefold() for word in words)]

    def _condition(self, catalog: Catalog) -> tuple[str, list[object]]:
        in_folders, paths = folders_condition(self.folders)
        sql, values = [in_folders], list[object](paths)
        if self.camera is not None:
            sql.append(" AND camera IN (SELECT value FROM json_each(?))")
            values.append(json.dumps(self._cameras(catalog)))
        if self.formats:
            sql.append(f" AND format IN ({', '.join('?' * len(self.formats))})")
            values += self.formats
        if self.after is not None:
            sql.append(" AND taken >= ?")
            values.append(self.after)
        if self.before is not None:
            sql.append(" AND taken < ?")
            values.append(self.before)
        if self.near:
            sql.append(" AND latitude NOT NULL AND longitude NOT NULL")
        return "".join(sql), values


def parse_date(text: str) -> str:
    """YYYY, YYYY-MM, YYYY-MM-DD, with or without a time -> ISO 8601 text that sorts.

    Raises UsageError.
    """
    match = re.fullmatch(
        r"(\d{4})(?:-(\d{2}))?(?:-(\d{2}))?(?:[T ](\d{2}:\d{2}(?::\d{2})?))?", text
    )
    if match:
        year, month, day, clock = match.groups()
        complete = f"{year}-{month or '01'}-{day or '01'}"
        try:
            datetime.datetime.fromisoformat(f"{complete}T{clock or '00:00'}")
        except ValueError:
            match = None
        else:
            return f"{complete}T{clock}" if clock else complete
    raise UsageError(
        f"{text!r} is not a date", next_step="write it like 2024, 2024-07 or 2024-07-31"
    )


def parse_format(text: str) -> tuple[str, ...]:
    """A format's name or a file ending, or "raw" for all of the cameras' own -> names of formats.

    Raises UsageError.
    """
    named = text.strip().lstrip(".").lower()
    if named == "raw":
        return ("RAW", *(PHOTO_ENDINGS[ending] for ending in sorted(RAW_ENDINGS)))
    found = PHOTO_ENDINGS.get(os.fsencode(f".{named}"), named.upper())
    if found in PHOTO_ENDINGS.values():
        return (found,)
    raise UsageError(
        f"{text!r} is not a format of photos",
        next_step="name one like jpeg, png, heic, raw, or a RAW's ending",
    )


def parse_circle(text: str) -> Circle:
    """ "LAT,LON,KM" -> Circle. Raises UsageError."""
    try:
        latitude, longitude, km = (float(part) for part in text.split(","))
    except ValueError:
        latitude = longitude = km = math.nan
    if abs(latitude) <= 90 and abs(longitude) <= 180 and 0 < km < math.inf:
        return Circle(latitude, longitude, km)
    raise UsageError(
        f"{text!r} is not a place and a distance",
        next_step="write it like 38.72,-9.14,25 (latitude, longitude, kilometres);"
        " for a town use --place NAME",
    )
