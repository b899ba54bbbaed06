"""Paths that were typed against paths that are kept: links, moves, closed folders."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from lensctl.errors import UsageError
from lensctl.library.composition import compose
from lensctl.library.filters import Filters, parse_format
from lensctl.library.session import open_session


def states(library):
    with library.reading() as catalog:
        rows = catalog.connection.execute("SELECT path, state FROM photos ORDER BY path")
        return {os.fsdecode(path): state for path, state in rows}


@pytest.fixture
def linked(photos, index):
    """An indexed root with a link to a folder outside it, and a link to it from outside."""
    outside = photos.rename(photos.with_name("store"))
    root = outside.with_name("root")
    root.mkdir()
    (root / "best").symlink_to(outside)
    (root.parent / "short").symlink_to(root)
    index(root)
    return root


def test_a_place_is_found_by_every_name_that_leads_to_it(linked, library):
    with library.reading() as catalog:
        for spelled in (linked / "best", linked.parent / "short" / "best"):
            assert catalog.locate(spelled) == os.fsencode(linked / "best")
        assert catalog.locate(linked.parent / "short") == os.fsencode(linked)
        assert catalog.locate(linked.parent / "no" / "such") == os.fsencode(
            linked.parent / "no/such"
        )


def test_a_filter_by_a_linked_folder_finds_its_photos(linked, library, model):
    with open_session(library, model) as session:
        for folder in (linked / "best" / "a", linked.parent / "short" / "best" / "a"):
            filters = Filters(folders=(os.fsencode(folder),))
            found = session.find(session.ask_text("red"), 99, filters=filters)
            composed = session.find(compose(session, [], "red"), 99, filters=filters)
            assert len(found) == len(composed) == 6


def test_to_forget_a_link_does_not_forget_what_it_leads_to(photos, library, index):
    (photos / "favourite.png").symlink_to(photos / "a" / "00.png")
    index(photos)
    with library.writing() as recorder:
        assert recorder.forget_photos(recorder.locate(photos / "favourite.png")) == 1
    assert str(photos / "a" / "00.png") in states(library)
    assert str(photos / "favourite.png") not in states(library)


def test_a_linked_folder_is_no_second_root(linked, library, index):
    with library.reading() as catalog:
        folder = catalog.locate(linked / "best" / "a")
    index(Path(os.fsdecode(folder)))
    with library.reading() as catalog:
        assert [path for _, path in catalog.roots()] == [os.fsencode(linked)]


def test_up_from_behind_a_link_is_up_from_where_it_leads(library, index, tmp_path):
    from support.photo_files import write_photo

    for number, name in enumerate(("keep.png", "real/keep.png", "real/deep/x.png")):
        write_photo(tmp_path / "p" / name, number)
    (tmp_path / "p" / "link").symlink_to("real/deep")
    index(tmp_path / "p")
    with library.reading() as catalog:
        found = catalog.locate(tmp_path / "p" / "link" / ".." / "keep.png")
    assert found == os.fsencode(tmp_path / "p" / "real" / "keep.png")


def test_roots_inside_a_new_one_become_part_of_it(library, index, tmp_path):
    from support.photo_files import write_photo

    for number, name in enumerate(("p/2020/a.png", "p old/b.png", "p/c.png")):
        write_photo(tmp_path / name, number)
    index(tmp_path / "p" / "2020", tmp_path / "p old")
    index(tmp_path / "p")
    with library.reading() as catalog:
        roots = [path for _, path in catalog.roots()]
    assert sorted(roots) == [os.fsencode(tmp_path / "p"), os.fsencode(tmp_path / "p old")]


@pytest.mark.parametrize("name", ["ab", "a0", "a old"])
def test_a_folder_whose_name_begins_as_a_roots_is_another(photos, library, index, name):
    (photos / "b").rename(photos / name)
    beside = os.fsencode(photos / name)
    index(photos / "a")
    index(photos / name)
    with library.writing() as recorder:
        assert len(recorder.roots()) == 2
        assert recorder.forget_photos(os.fsencode(photos / "a")) == 6
        assert [path for _, path in recorder.roots()] == [beside]
    assert index().found == 6  # a root that was forgotten is not indexed again


def test_photos_that_a_moved_folder_lacks_stay_offline(photos, library, index):
    index(photos)
    moved = photos.rename(photos.with_name("moved"))
    index(photos)
    (moved / "a" / "00.png").unlink()
    with library.writing() as recorder:
        recorder.relocate(os.fsencode(photos), os.fsencode(moved))
    offline = [path for path, state in states(library).items() if state == "offline"]
    assert offline == [str(moved / "a" / "00.png")]


def test_relocated_photos_are_no_longer_offline(photos, library, index):
    index(photos)
    moved = photos.rename(photos.with_name("moved"))
    index(photos)
    assert set(states(library).values()) == {"offline"}
    with library.writing() as recorder:
        assert recorder.relocate(os.fsencode(photos), os.fsencode(moved)) == 12
    assert set(states(library).values()) == {"present"}


@pytest.mark.parametrize("again", [False, True])
def test_what_is_known_at_the_new_place_stays(photos, library, index, model, again):
    index(photos)
    moved = photos.rename(photos.with_name("moved"))
    index(photos)
    index(moved)
    with library.writing() as recorder:
        assert recorder.relocate(os.fsencode(photos), os.fsencode(moved)) == 12
        if again:
            assert recorder.relocate(os.fsencode(moved), os.fsencode(moved)) == 12
        assert [path for _, path in recorder.roots()] == [os.fsencode(moved)]
        orphans = "SELECT count(*) FROM photos WHERE root_id NOT IN (SELECT id FROM roots)"
        assert recorder.connection.execute(orphans).fetchone()[0] == 0
    assert set(states(library).values()) == {"present"}
    assert len(states(library)) == 12
    encoded = model.encoded
    assert index(moved).encoded == 0
    assert model.encoded == encoded


def test_photos_can_move_to_the_root_of_all_folders_and_back(photos, library, index):
    index(photos)
    before = states(library)
    with library.writing() as recorder:
        assert recorder.relocate(os.fsencode(photos), b"/") == 12
        assert [path for _, path in recorder.roots()] == [b"/"]
    assert "/a/00.png" in states(library)
    with library.writing() as recorder:
        assert recorder.relocate(b"/", os.fsencode(photos)) == 12
        assert [path for _, path in recorder.roots()] == [os.fsencode(photos)]
    assert states(library) == before


def test_a_folder_can_move_into_itself_and_out_of_its_root(photos, library, index):
    index(photos)
    inside = photos / "a" / "old"
    inside.mkdir()
    for photo in (photos / "a").glob("*.png"):
        photo.rename(inside / photo.name)
    with library.writing() as recorder:
        assert recorder.relocate(os.fsencode(photos / "a"), os.fsencode(inside)) == 6
    assert index(photos).encoded == 0
    elsewhere = (photos / "b").rename(photos.with_name("elsewhere"))
    with library.writing() as recorder:
        assert recorder.relocate(os.fsencode(photos / "b"), os.fsencode(elsewhere)) == 6
        roots = [path for _, path in recorder.roots()]
    assert roots == [os.fsencode(elsewhere), os.fsencode(photos)]
    summary = index()
    assert (summary.found, summary.encoded, summary.gone) == (12, 0, 0)


CLOSED = """
import os, sys
from pathlib import Path
import lensctl.library.migrations, lensctl.photos.xmp, lensctl.photos.decode, filelock, mmap
import tempfile, defusedxml.ElementTree
from lensctl.library.indexer import Indexer, IndexOptions
from lensctl.library.library import Library
from library.conftest import QuietWatcher
from support.colour_model import ColourModel
if os.getuid() == 0:
    os.setgroups([]); os.setgid(65534); os.setuid(65534)
folder = os.fsencode(sys.argv[1])
model = ColourModel()
model.index_side("auto", "auto")
def index():
    indexer = Indexer(Library(Path(sys.argv[2])), model, "colours", IndexOptions(), QuietWatcher())
    return indexer.run([folder])
index()
os.chmod(os.path.join(folder, b"a"), 0o111)
summary = index()
print(summary.offline, summary.gone, summary.excluded)
os.chmod(folder, 0)
summary = index()
print(summary.offline, summary.gone, summary.offline_folders == [folder])
os.chmod(folder, 0o755)
"""


def test_photos_in_a_folder_that_can_no_longer_be_listed_stay_searchable(tmp_path):
    from support.photo_files import write_photo

    place = tmp_path / "open"
    for number in range(4):
        write_photo(place / "photos" / ("a" if number < 2 else "b") / f"{number}.png", number)
    for one in (tmp_path, *place.rglob("*"), place):
        os.chown(one, 65534, 65534)
    for one in tmp_path.parents:
        if one.stat().st_uid == os.getuid() and one != Path("/"):
            one.chmod(one.stat().st_mode | 0o111)
    library = place / "library"
    done = subprocess.run(
        [sys.executable, "-c", CLOSED, place / "photos", library],
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[1]), "HOME": str(place)},
    )
    (place / "photos" / "a").chmod(0o755)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["2", "0", "0", "4", "0", "True"]


@pytest.mark.parametrize(
    ("text", "formats"),
    [
        ("jpg", {"JPEG"}),
        (".JPEG", {"JPEG"}),
        ("heic", {"HEIF"}),
        ("cr2", {"CR2"}),
        ("raw", {"RAW", "CR2", "NEF"}),
    ],
)
def test_formats_are_named_by_their_endings_too(text, formats):
    assert formats <= set(parse_format(text))


@pytest.mark.parametrize("text", ["e", "", "jpg,png"])
def test_no_part_of_a_name_is_a_format(text):
    with pytest.raises(UsageError, match="not a format"):
        parse_format(text)
