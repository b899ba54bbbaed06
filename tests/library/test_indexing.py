"""Indexing: what is encoded, what is recognised, what is forgotten and what is not."""

import errno
import json
import os
import shutil
import subprocess
import sys
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from lensctl.errors import LibraryBusyError, ModelError, NoLibraryError, StorageError
from lensctl.library.catalog import VISIBLE, to_floats
from lensctl.library.indexer import Indexer, IndexOptions
from lensctl.library.library import Library
from lensctl.library.recorder import Recorder, signed
from lensctl.library.session import open_session
from library.conftest import QuietWatcher
from support.colour_model import ColourModel
from support.command import run_in
from support.image_files import dng, encoded, quarters
from support.photo_files import write_photo


@pytest.fixture(scope="module")
def audit():
    """Lists to which an audit hook adds the photos that this process opens; a hook is for good."""
    lists: list[list[Path]] = []

    def note(event: str, arguments: tuple) -> None:
        if event != "open" or not isinstance(arguments[0], str | bytes):
            return
        path = Path(os.fsdecode(arguments[0]))
        for files in lists:
            files += [path] if path.suffix == ".png" else []

    sys.addaudithook(note)
    return lists


@pytest.fixture
def opened(audit):
    """The photos opened in this test."""
    files: list[Path] = []
    audit.append(files)
    yield files
    audit.clear()


def paths(library, sql="state = 'present'"):
    with library.reading() as catalog:
        rows = catalog.connection.execute(f"SELECT path FROM photos WHERE {sql} ORDER BY path")
        return [Path(os.fsdecode(row[0])) for row in rows]


def states(library):
    with library.reading() as catalog:
        return dict(catalog.connection.execute("SELECT path, state FROM photos"))


def sql(library, text, *values):
    with library.writing() as recorder:
        return recorder.connection.execute(text, values).fetchall()


def test_second_run_encodes_nothing(index, photos, model, opened):
    first, encoded = index(photos), model.encoded
    assert {path.parent.parent for path in opened} == {photos}
    opened.clear()
    second = index(photos)
    assert (first.encoded, second.encoded, second.found) == (12, 0, 12)
    assert model.encoded == encoded
    assert opened == []


def test_only_new_and_changed_photos_are_encoded(index, photos, library):
    index(photos)
    write_photo(photos / "a" / "new.png", 100)
    write_photo(photos / "a" / "00.png", 101)
    assert index(photos).encoded == 2
    assert len(paths(library)) == 13


def test_renamed_folder_is_followed_without_reading_a_photo(index, photos, model, opened):
    index(photos)
    (photos / "a").rename(photos / "elsewhere")
    encoded = model.encoded
    opened.clear()
    summary = index(photos)
    assert (summary.moved, summary.encoded, summary.linked, summary.gone) == (6, 0, 0, 0)
    assert model.encoded == encoded
    assert opened == []


def test_copy_is_known_by_content(index, photos, library):
    index(photos)
    shutil.copy(photos / "a" / "00.png", photos / "b" / "copy.png")
    summary = index(photos)
    assert (summary.linked, summary.encoded) == (1, 0)
    assert len(paths(library)) == 13


def test_photo_that_left_and_comes_back_elsewhere_is_not_encoded(index, photos, tmp_path):
    index(photos)
    (photos / "a" / "00.png").rename(tmp_path / "kept.png")
    assert index(photos).gone == 1
    shutil.copyfile(tmp_path / "kept.png", photos / "b" / "back.png")
    summary = index(photos)
    assert (summary.linked, summary.encoded) == (1, 0)


AGES = "UPDATE contents SET orphaned = strftime('%Y-%m-%dT%H:%M:%S+00:00', 'now', ?)"


@pytest.mark.parametrize(("days", "left"), [(29, 12), (31, 11)])
def test_vectors_of_a_vanished_photo_wait_for_thirty_days(index, photos, library, days, left):
    index(photos)
    (photos / "a" / "00.png").unlink()
    index(photos)
    sql(library, f"{AGES} WHERE orphaned NOT NULL", f"-{days} days")
    index(photos)
    for table in ("contents", "embeddings", "targets", "looks"):
        assert sql(library, f"SELECT count(*) FROM {table}") == [(left,)]


@pytest.mark.parametrize("using", [None, ColourModel("other", encoder="e2", lens="l2")])
def test_a_photo_that_came_back_is_no_orphan(index, photos, library, tmp_path, using):
    index(photos)
    (photos / "a" / "00.png").rename(tmp_path / "kept.png")
    index(photos)
    shutil.copyfile(tmp_path / "kept.png", photos / "b" / "back.png")
    index(photos, using=using)
    sql(library, f"{AGES} WHERE orphaned NOT NULL", "-31 days")
    summary = index(photos)
    assert (summary.found, summary.encoded) == (12, 0)
    assert sql(library, "SELECT count(*) FROM contents WHERE orphaned IS NULL") == [(12,)]


def _touch(library, photo):
    os.utime(photo, ns=(1, 1))


def _lengthen(library, photo):
    """As a tool does that keeps a file's time."""
    time = photo.stat().st_mtime_ns
    with photo.open("ab") as file:
        file.write(b"more")
    os.utime(photo, ns=(time, time))


def _came_from_another_disk(library, photo):
    row = (photo.stat().st_dev + 1, photo.stat().st_ino)
    sql(library, "UPDATE photos SET device = ? WHERE inode = ?", *row)


@pytest.mark.parametrize("change", [_touch, _lengthen, _came_from_another_disk])
def test_an_inode_alone_makes_no_moved_photo(index, photos, library, change):
    """File systems give the inodes of deleted files to new ones."""
    index(photos)
    (photos / "b" / "c").mkdir()
    change(library, (photos / "a" / "00.png").rename(photos / "b" / "c" / "00.png"))
    summary = index(photos)
    assert summary.moved == 0
    assert summary.encoded + summary.linked == 1


@pytest.mark.parametrize("name", ["scans/page9.bmp", "scans/more/page1.bmp"])
def test_a_file_that_got_the_inode_of_a_deleted_one_is_read(index, photos, library, name):
    """Of scans many are of one size and one time; so are copies with their times kept."""
    first, new = photos / "scans" / "page1.bmp", photos / name
    for number, one in enumerate((first, photos / "scans" / "page2.bmp")):
        write_photo(one, 70 + number)
        os.utime(one, ns=(1, 1))
    shutil.copytree(photos / "scans", photos / "backup")
    index(photos)
    new.parent.mkdir(exist_ok=True)
    first.rename(new)
    write_photo(new, 80)
    os.utime(new, ns=(1, 1))
    summary = index(photos)
    assert (summary.moved, summary.encoded, summary.gone) == (0, 1, 1)


def test_a_renamed_folder_of_copies_is_followed_unread(index, photos, library, opened):
    """Nothing in it was changed since the last run, which is told from the times of its inodes."""
    shutil.copytree(photos / "a", photos / "copies")
    index(photos)
    sql(library, "UPDATE roots SET last_indexed = datetime('now', '+2 seconds')")
    (photos / "copies").rename(photos / "elsewhere")
    opened.clear()
    assert index(photos).moved == 6
    assert opened == []


def test_a_photo_of_another_name_is_known_by_its_content(index, photos):
    index(photos)
    (photos / "a" / "00.png").rename(photos / "a" / "harbour.png")
    summary = index(photos)
    assert (summary.moved, summary.linked, summary.encoded, summary.gone) == (0, 1, 0, 1)


def test_a_photo_of_another_size_is_read_again_though_its_time_was_kept(index, photos, library):
    index(photos)
    _lengthen(library, photos / "a" / "00.png")
    assert index(photos).encoded == 1


def test_an_inode_may_use_all_of_its_64_bits():
    kept = [signed(number) for number in (0, 2**63 - 1, 2**63, 2**64 - 1)]
    assert kept == [0, 2**63 - 1, -(2**63), -1]


class BrokenModel(ColourModel):
    """Gives no usable vector of a photo whose first corner is reddest, or of none at all."""

    def __init__(self, worst: float) -> None:
        super().__init__("broken", encoder="e2", lens="l2")
        self.worst = worst

    def encode_images(self, pixels):
        embeddings = super().encode_images(pixels)
        embeddings[embeddings[:, 0] >= self.worst] = np.nan
        return embeddings


class BrokenLens(BrokenModel):
    """Its embeddings are usable, its targets are not."""

    def encode_images(self, pixels):
        return ColourModel.encode_images(self, pixels)

    def make_targets(self, embeddings):
        targets = super().make_targets(embeddings)
        targets[embeddings[:, 0] >= self.worst] = np.nan
        return targets


def test_a_model_without_usable_vectors_is_refused_and_hides_no_photo(index, photos, library):
    index(photos)
    before = states(library)
    with pytest.raises(ModelError, match="gives no usable vectors"):
        index(photos, using=BrokenModel(-np.inf))
    assert states(library) == before
    assert set(before.values()) == {"present"}


@pytest.mark.parametrize("broken", [BrokenModel, BrokenLens])
def test_a_photo_that_one_model_cannot_take_stays_with_the_others(
    index, photos, library, model, broken
):
    index(photos)
    reddest = sorted(embedding[0] for embedding in _embeddings(library))[-1]
    summary = index(photos, using=broken(float(reddest)))
    ((path, reason),) = summary.unreadable
    assert "no usable vector" in reason
    assert summary.encoded == 11
    with open_session(library, model) as session:
        found = session.find(session.ask_text("red"), 99)
    assert path in [match.facts.path for match in found]
    assert len(index(photos, using=broken(np.inf)).unreadable) == 0


def _embeddings(library):
    with library.reading() as catalog:
        rows = catalog.connection.execute("SELECT vector FROM embeddings").fetchall()
    return [to_floats(vector) for (vector,) in rows]


def test_deleted_photo_is_gone(index, photos, library):
    index(photos)
    (photos / "a" / "00.png").unlink()
    assert index(photos).gone == 1
    assert len(paths(library)) == 11


@pytest.mark.parametrize("way", ["missing", "empty"])
def test_absent_root_is_offline_not_deleted(index, photos, library, way):
    index(photos)
    away = photos.rename(photos.with_name("away"))
    if way == "empty":
        photos.mkdir()
    summary = index(photos)
    assert (summary.offline, summary.gone) == (12, 0)
    assert set(states(library).values()) == {"offline"}
    if way == "empty":
        photos.rmdir()
    away.rename(photos)
    assert index(photos).encoded == 0
    assert set(states(library).values()) == {"present"}


def test_root_where_every_photo_vanished_at_once_is_offline(index, photos):
    index(photos)
    for photo in photos.rglob("*.png"):
        photo.unlink()
    (photos / "notes.txt").write_text("mounted here otherwise")
    summary = index(photos)
    assert (summary.offline, summary.gone) == (12, 0)


def test_a_photo_that_its_disk_fails_to_look_up_is_offline(index, photos, library, monkeypatch):
    index(photos)
    failing = os.fsencode(photos / "a" / "00.png")
    (photos / "a" / "00.png").rename(photos.with_name("out-of-sight.png"))
    lstat = os.lstat

    def failing_lstat(path, *args, **kwargs):
        if os.fspath(path) == failing:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return lstat(path, *args, **kwargs)

    monkeypatch.setattr(os, "lstat", failing_lstat)
    summary = index(photos)
    assert (summary.offline, summary.gone) == (1, 0)
    assert states(library)[failing] == "offline"


def test_a_run_that_dies_while_it_compares_leaves_all_as_it_was(
    index, photos, library, monkeypatch
):
    index(photos)
    (photos / "a" / "00.png").unlink()
    before = states(library)

    def die(recorder, photo_ids):
        raise KeyboardInterrupt

    monkeypatch.setattr(Recorder, "delete_photos", die)
    with pytest.raises(KeyboardInterrupt):
        index(photos, exclude=("b/",))
    assert states(library) == before


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may mount")
def test_unmounted_disk_inside_a_root_is_offline(index, photos, library):
    mounted = photos / "disk"
    mounted.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", mounted], check=True)
    try:
        write_photo(mounted / "on-disk.png", 50)
        index(photos)
    finally:
        subprocess.run(["umount", mounted], check=True)
    (photos / "a" / "00.png").unlink()
    summary = index(photos)
    assert (summary.offline, summary.gone) == (1, 1)
    assert summary.went_offline == [(os.fsencode(photos), 1)]
    assert index(photos).went_offline == []
    assert paths(library, "state = 'offline'") == [mounted / "on-disk.png"]


def test_another_disk_in_the_place_of_one_that_is_away_forgets_nothing(index, photos, library):
    """Mount points are used again, and so are the numbers of disks."""
    index(photos)
    away = photos.rename(photos.with_name("away"))
    index(photos)
    write_photo(photos / "c" / "other.png", 60)
    for _ in range(2):
        summary = index(photos)
        assert (summary.found, summary.offline, summary.gone) == (1, 12, 0)
    photos.rename(photos.with_name("other"))
    away.rename(photos)
    (photos / "a" / "00.png").unlink()
    summary = index(photos)
    assert (summary.encoded, summary.offline, summary.gone) == (0, 1, 1)
    assert paths(library, "state = 'offline'") == [photos / "c" / "other.png"]


ANOTHER_NUMBER = "UPDATE photos SET device = device + 1"
FAT = ", inode = inode + 1"


@pytest.mark.parametrize("copied", [False, True])
def test_a_photo_of_the_same_name_is_not_the_whole_disk(index, photos, library, copied):
    """Something wrote to the mount point of a disk that was away."""
    index(photos)
    sql(library, ANOTHER_NUMBER + FAT)
    for photo in photos.rglob("[01]*[1-9].png"):
        photo.unlink()
    if not copied:
        write_photo(photos / "a" / "00.png", 60)
    summary = index(photos)
    assert (summary.found, summary.offline, summary.gone) == (2, 10, 0)


@pytest.mark.parametrize("inodes", ["", FAT])
def test_a_disk_that_came_back_under_another_number_is_known(index, photos, library, inodes):
    index(photos)
    sql(library, ANOTHER_NUMBER + inodes + ", state = 'offline'")
    (photos / "a" / "00.png").unlink()
    summary = index(photos)
    assert (summary.encoded, summary.offline, summary.gone) == (0, 0, 1)
    assert set(states(library).values()) == {"present"}


def test_excluded_photo_disappears_and_its_vector_stays(index, photos, library, model):
    index(photos)
    encoded = model.encoded
    assert index(photos, exclude=("a/",)).excluded == 6
    assert len(paths(library)) == 6
    summary = index(photos)
    assert (summary.encoded, model.encoded) == (0, encoded)
    assert len(paths(library)) == 12


def test_rules_above_a_folder_hold_when_it_is_indexed_alone(index, photos, library):
    write_photo(photos / "private" / "deep" / "50.png", 50)
    write_photo(photos / "a" / "draft.png", 51)
    (photos / ".lensctlignore").write_text("private/\ndraft.png\n")
    index(photos)
    for folder in (photos / "private", photos / "private" / "deep"):
        summary = index(folder)
        assert (summary.found, summary.encoded) == (0, 0)
        assert [path for path, _ in summary.skipped] == [os.fsencode(folder)]
    assert index(photos / "a").found == 6
    # Patterns are relative to the folder that was indexed first.
    assert index(photos / "b", exclude=("/06.png", "/b/07.png")).excluded == 1
    assert paths(library, "state = 'excluded'") == [photos / "b" / "07.png"]


def test_excluded_photos_stay_excluded_while_their_disk_is_away(index, photos, library):
    index(photos)
    index(photos, exclude=("a/",))
    photos.rename(photos.with_name("away"))
    assert index(photos, exclude=("a/",)).offline == 6
    assert sorted(states(library).values()) == ["excluded"] * 6 + ["offline"] * 6


def test_a_root_whose_photos_are_all_excluded_is_not_offline(index, photos, library):
    index(photos)
    summary = index(photos, exclude=("*.png",))
    assert (summary.excluded, summary.offline) == (12, 0)
    assert set(states(library).values()) == {"excluded"}


def test_an_excluded_photo_did_not_move_to_a_hard_link_of_it(index, photos):
    index(photos)
    os.link(photos / "a" / "00.png", photos / "b" / "twin.png")
    summary = index(photos, exclude=("a/",))
    assert (summary.moved, summary.excluded) == (0, 6)


def test_an_excluded_photo_that_changed_is_found_again(index, photos, library):
    index(photos)
    index(photos, exclude=("a/",))
    write_photo(photos / "a" / "00.png", 99)
    index(photos)
    assert set(states(library).values()) == {"present"}


def test_broken_photo_is_named_and_tried_again_when_its_file_changes(index, photos, library):
    bad = photos / "a" / "bad.jpg"
    bad.write_bytes(b"\xff\xd8\xff no more")
    summary = index(photos)
    assert [path for path, _ in summary.unreadable] == [os.fsencode(bad)]
    assert summary.encoded == 12
    assert index(photos).unreadable == []
    assert len(index(photos, retry_errors=True).unreadable) == 1
    bad.unlink()
    write_photo(bad, 77)
    assert index(photos).encoded == 1
    with library.reading() as catalog:
        assert catalog.errors() == []


def test_a_lean_moment_is_no_fault_of_the_photo(index, photos, monkeypatch):
    """Named, but tried again by the next run."""

    def refuse(image, at_least):
        raise MemoryError

    with monkeypatch.context() as lean:
        lean.setattr("lensctl.photos.decode.to_rgb", refuse)
        assert {reason for _, reason in index(photos).unreadable} == {
            "decoding it does not fit in memory"
        }
    assert index(photos).encoded == 12


@pytest.fixture
def raw_and_jpeg(photos):
    """A RAW beside a JPEG as an aborted copy leaves it."""
    preview = encoded(quarters(40, 40), "JPEG")
    raw, jpeg = photos / "a" / "IMG_1.dng", photos / "a" / "img_1.jpg"
    raw.write_bytes(dng(np.zeros((40, 40), np.uint16), preview))
    jpeg.write_bytes(preview[:40])
    return raw, jpeg


def test_a_raw_takes_the_place_of_a_jpeg_that_cannot_be_read(index, photos, library, raw_and_jpeg):
    raw, jpeg = raw_and_jpeg
    summary = index(photos)
    assert [path for path, _ in summary.unreadable] == [bytes(jpeg)]
    assert (summary.found, summary.encoded, summary.excluded) == (14, 13, 0)
    assert raw in paths(library, VISIBLE)
    for cut in (None, 30, 0):  # as it was, damaged otherwise, empty
        if cut is not None:
            jpeg.write_bytes(jpeg.read_bytes()[:cut])
        summary = index(photos)
        assert (summary.found, summary.encoded, summary.excluded) == (14, 0, 0)
        assert raw in paths(library, VISIBLE)


def test_a_raw_is_left_out_again_when_its_jpeg_can_be_read(index, photos, library, raw_and_jpeg):
    raw, jpeg = raw_and_jpeg
    index(photos)
    jpeg.write_bytes(encoded(quarters(44, 44), "JPEG"))
    summary = index(photos)
    assert (summary.found, summary.encoded, summary.excluded) == (13, 1, 1)
    assert jpeg in paths(library, VISIBLE)
    assert raw not in paths(library, VISIBLE)


def test_a_raw_with_one_readable_twin_is_left_out(index, photos, library, raw_and_jpeg):
    raw, jpeg = raw_and_jpeg
    jpeg.with_suffix(".heic").write_bytes(encoded(quarters(44, 44), "HEIF"))
    for _ in range(2):
        index(photos)
        assert raw not in paths(library, VISIBLE)


def test_stopped_run_goes_on_where_it_was(index, photos, library):
    """One thread has 11 photos in hand before the encoder stands; then five more are asked for."""
    for number in range(12, 24):
        write_photo(photos / "c" / f"{number:02}.png", number)
    summary = index(photos, stop_after=5, batch_size=2, workers=1)
    assert summary.stopped
    assert summary.encoded == 16
    assert index(photos).encoded == 8
    assert len(paths(library)) == 24


def test_second_model_keeps_the_first(index, photos, library):
    from support.colour_model import ColourModel

    index(photos)
    other = ColourModel("other", encoder="e2", lens="l2")
    assert index(photos, using=other).encoded == 12
    with library.reading() as catalog:
        assert catalog.models() == ["colour", "other"]
        count = catalog.connection.execute("SELECT count(*) FROM embeddings").fetchone()[0]
    assert count == 24


class RefusedModel(ColourModel):
    """Cannot be opened, as on a device that is not there."""

    def index_side(self, device="auto", precision="auto"):
        raise ModelError("there is no such device")


def in_use(library):
    with library.reading() as catalog:
        return catalog.fact("model"), catalog.lens_in_use(), catalog.models()


def test_a_refused_model_does_not_become_the_librarys(index, photos, library):
    index(photos)
    before = in_use(library)
    assert before == ("colour", 1, ["colour"])
    with pytest.raises(ModelError):
        index(photos, using=RefusedModel("second", encoder="e2", lens="l2"))
    assert in_use(library) == before


def test_a_model_becomes_the_librarys_with_its_first_photo(index, photos, library, tmp_path):
    index(photos)
    second = ColourModel("second", encoder="e2", lens="l2")
    photos.rename(tmp_path / "away")
    index(photos, using=second)
    assert in_use(library)[:2] == ("colour", 1)
    (tmp_path / "away").rename(photos)
    index(photos, using=second, stop_after=3, batch_size=1)
    assert in_use(library)[:2] == ("second", 2)
    index(photos)
    assert in_use(library)[:2] == ("colour", 1)


def test_the_lens_in_use_is_known_for_a_model_that_was_given_as_a_folder(photos, library):
    model = ColourModel("smoke")
    Indexer(library, model, "/models/run 1", IndexOptions(), QuietWatcher(3)).run(
        [os.fsencode(photos)]
    )
    model_name, lens, _ = in_use(library)
    assert (model_name, lens) == ("/models/run 1", 1)
    with open_session(library, model, model_name=model_name) as session:
        assert session.unsearched() == 0
    with (
        pytest.raises(NoLibraryError) as caught,
        open_session(library, ColourModel(lens="l2"), model_name="/models/run 2"),
    ):
        pass
    assert "--model '/models/run 2'" in "".join(caught.value.lines())


def test_new_lens_over_the_same_encoder_reads_no_photo(index, photos, library):
    from support.colour_model import ColourModel

    index(photos)
    shutil.rmtree(photos / "b")
    lens = ColourModel("colour", encoder="e1", lens="l2")
    summary = index(photos, using=lens)
    assert (summary.encoded, lens.encoded) == (0, 0)
    with library.reading() as catalog:
        known = catalog.lens(lens.info)
        assert catalog.vector_state(known).last_id == 24


def test_one_writer_at_a_time(index, photos, library):
    index(photos)
    with library.writing(), pytest.raises(LibraryBusyError):
        index(photos)


def test_nested_roots_become_one(index, photos, library):
    index(photos / "a")
    index(photos)
    index(photos / "b")
    with library.reading() as catalog:
        assert [path for _, path in catalog.roots()] == [os.fsencode(photos)]


def test_a_writer_keeps_references_whole_and_wipes_what_it_deletes(library):
    names = ("foreign_keys", "journal_mode", "secure_delete", "synchronous")
    told = {name: sql(library, f"PRAGMA {name}")[0][0] for name in names}
    fast, normal = 2, 1
    assert told == {
        "foreign_keys": 1,
        "journal_mode": "wal",
        "secure_delete": fast,
        "synchronous": normal,
    }


def test_library_folder_is_private(index, photos, library):
    index(photos)
    for path in (library.folder, library.folder / "write.lock"):
        assert path.stat().st_mode & 0o077 == 0


def test_a_path_that_sqlite_cannot_take_is_refused_before_it_is_made(tmp_path):
    above = tmp_path / ("d" * 200)
    longest = 504 - len("/catalog.sqlite.new")
    name = "e" * (longest - len(os.fsencode(above)) - 1)
    too_long = Library(above / f"{name}e")
    with pytest.raises(StorageError, match="too long for SQLite"), too_long.writing():
        pass
    assert not above.exists()
    with Library(above / name).writing() as recorder:
        assert recorder.roots() == []


def test_odd_names(index, photos, library):
    for name in (b"new\nline.png", b"broken \xff\xfe utf8.png", "Übergröße 日本.png".encode()):
        target = os.path.join(os.fsencode(photos), name)
        shutil.copyfile(write_photo(photos / "a" / "x.png", hash(name) % 1000), target)
    assert index(photos).found == 16
    assert len(paths(library)) == 16


def test_vectors_are_forgotten_by_model_or_as_earlier_versions(photos, library, index, tmp_path):
    """Three versions of one model, two of them over one encoder, and another model."""
    first, second = ColourModel(encoder="e1", lens="l1"), ColourModel(encoder="e1", lens="l2")
    third, other = ColourModel(encoder="e3", lens="l3"), ColourModel("other", "e9", "l9")
    for model in (first, second, third, other, third):
        index(photos, using=model)
    run = partial(run_in, tmp_path)
    assert json.loads(run("status", "--json").stdout)["superseded"] == ["colour"]
    assert "lensctl forget --superseded" in run("status").stdout

    done = run("forget", "--superseded")
    assert (done.returncode, done.stdout) == (0, "vectors of 24 photos forgotten\n")
    assert vectors_kept(library) == {"l3": (12, 12), "l9": (12, 12)}
    done = run("forget", "--superseded")
    assert (done.returncode, "no model has vectors of an earlier" in done.stderr) == (1, True)

    done = run("forget", "--model", "colour")
    assert (done.returncode, "is the model that this library" in done.stderr) == (2, True)
    done = run("forget", "--model", "colour", str(photos))
    assert (done.returncode, "two things at once" in done.stderr) == (2, True)
    done = run("forget", "--model", "unheard-of")
    assert (done.returncode, "those of: colour, other" in done.stderr) == (2, True)
    with library.writing() as recorder:
        large = "UPDATE targets SET vector = zeroblob(50000) WHERE lens_id = ?"
        recorder.connection.execute(large, recorder.versions("other")[0][:1])
    before = library.catalog_path.stat().st_size
    done = run("forget", "--model", "other")
    assert (done.returncode, done.stdout) == (0, "vectors of 12 photos forgotten\n")
    assert vectors_kept(library) == {"l3": (12, 12)}
    assert library.catalog_path.stat().st_size < before - 500_000
    assert run("check").returncode == 0

    with open_session(library, third) as session:
        assert len(session.find(session.ask_text("red"), 12)) == 12
    assert index(photos, using=other).encoded == 12
    assert index(photos, using=third).encoded == 0


def vectors_kept(library: Library) -> dict[str, tuple[int, int]]:
    """(targets, embeddings) by the fingerprint of a lens."""
    with library.reading() as catalog:
        return {
            fingerprint: (targets, embeddings)
            for fingerprint, targets, embeddings in catalog.connection.execute(
                "SELECT fingerprint, (SELECT count(*) FROM targets WHERE lens_id = lenses.id),"
                " (SELECT count(*) FROM embeddings WHERE encoder_id = lenses.encoder_id)"
                " FROM lenses"
            )
        }
