"""Libraries of older versions are searched as they are, and brought up to date by indexing."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from PIL import Image

from lensctl.errors import LibraryError
from lensctl.library.catalog import SCHEMA_VERSION
from lensctl.library.library import Library
from lensctl.library.recorder import Recorder
from support.image_files import encoded, exif_bytes


@contextmanager
def as_version(library: Library, version: int, *undone: str) -> Iterator[Recorder]:
    """The catalog, to be made what it was before some migrations."""
    with library.writing() as recorder:
        yield recorder
        sql = recorder.connection.execute
        for name in undone:
            sql("DELETE FROM _sqlite_migrations WHERE name = ?", (name,))
        sql(f"PRAGMA user_version = {version}")


def test_a_library_of_an_older_schema_is_brought_up_to_date(photos, library, index):
    index(photos)
    with library.writing() as recorder:
        recorder.connection.execute("PRAGMA user_version = 0")
    with pytest.raises(LibraryError, match="older lensctl"), library.reading():
        pass
    library.bring_up_to_date()
    with library.reading() as catalog:
        assert catalog.state_counts()["searchable"] == 12


@pytest.mark.parametrize("way", ["reading", "writing"])
def test_a_library_of_a_newer_schema_is_refused_and_stays_as_it_is(photos, library, index, way):
    index(photos)
    with library.writing() as recorder:
        recorder.connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION + 1}")
    before = library.catalog_path.read_bytes()
    with pytest.raises(LibraryError, match="newer lensctl"), getattr(library, way)():
        pass
    assert library.catalog_path.read_bytes() == before


def test_an_empty_catalog_is_brought_up_to_date(library):
    library.folder.mkdir()
    library.catalog_path.touch()
    library.bring_up_to_date()
    with library.reading() as catalog:
        assert catalog.models() == []


def test_heif_photos_that_were_turned_twice_are_encoded_again(
    library: Library, index, tmp_path: Path
) -> None:
    picture = Image.new("RGB", (80, 120), "red")
    turned = exif_bytes({0x0112: 6})
    (tmp_path / "p").mkdir()
    (tmp_path / "p" / "turned.heic").write_bytes(encoded(picture, "HEIF", exif=turned))
    (tmp_path / "p" / "turned.jpg").write_bytes(encoded(picture, "JPEG", exif=turned))
    (tmp_path / "p" / "upright.heic").write_bytes(encoded(picture, "HEIF"))
    index(tmp_path / "p")
    sizes = _sizes(library)
    with as_version(library, 2, "m003_heif_turned_twice") as recorder:
        epoch = recorder.epoch
        recorder.connection.execute(
            "UPDATE contents SET width = height, height = width"
            " WHERE format = 'HEIF' AND orientation = 6"
        )
    assert _sizes(library) != sizes
    summary = index()
    assert (summary.encoded, summary.found) == (1, 3)
    assert _sizes(library) == sizes
    with library.reading() as catalog:
        assert catalog.epoch > epoch
        assert len(catalog.looks()) == 3


def _sizes(library: Library) -> list[tuple[int, int]]:
    with library.reading() as catalog:
        return catalog.connection.execute(
            "SELECT width, height FROM contents ORDER BY id"
        ).fetchall()
