"""Of copies only such are offered as could be deleted: files of their own, there as indexed."""

import os
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from lensctl.library.duplicates import (
    Disk,
    Group,
    LookingAt,
    PhotoCopy,
    exact_groups,
    near_groups,
    wasted_bytes,
)
from lensctl.library.library import Library
from lensctl.library.session import open_session
from lensctl.photos.near_duplicates import MAX_DISTANCE, telling_hash
from support.colour_model import ColourModel
from support.image_files import exif_bytes

Find = Callable[[], list[list[str]]]
MakeCopy = Callable[[Path, Path], object]


def _scene(path: Path, seed: int, size: tuple[int, int] = (480, 320)) -> Path:
    """A smooth picture of its own, as photos are."""
    path.parent.mkdir(parents=True, exist_ok=True)
    coarse = np.random.default_rng(seed).integers(0, 256, (7, 9, 3), dtype=np.uint8)
    Image.fromarray(coarse).resize((480, 320), Image.Resampling.BICUBIC).resize(size).save(path)
    return path


def _smaller(source: Path, copy: Path) -> None:
    copy.parent.mkdir(parents=True, exist_ok=True)
    with Image.open(source) as image:
        image.resize((240, 160)).save(copy)


def _same(source: Path, copy: Path) -> None:
    copy.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(source, copy)


def _no_looking(photos: Sequence[PhotoCopy]) -> dict[int, int | None]:
    raise AssertionError("indexing keeps the hashes")


FIRST = "m001_photos_and_vectors"

EXACT_AND_NEAR = pytest.mark.parametrize("copy", [_same, _smaller])


@pytest.fixture
def search(library: Library, model: ColourModel) -> Callable[[], tuple[list[Group], Disk]]:
    """All groups, exact ones first, and what the disk was found to be."""

    def run() -> tuple[list[Group], Disk]:
        disk = Disk()
        with open_session(library, model) as session:  # type: ignore[arg-type]
            lens = session.catalog.lens(model.info)
            assert lens is not None
            near = near_groups(
                session.catalog,
                session.searcher.file(lens, "target"),
                _no_looking,
                disk=disk,
            )
            return [*exact_groups(session.catalog, disk=disk), *near], disk

    return run


@pytest.fixture
def find(search: Callable[[], tuple[list[Group], Disk]], tmp_path: Path) -> Find:
    """The paths of each group below tmp_path, the one to keep first."""

    def run() -> list[list[str]]:
        groups, _ = search()
        return [
            [os.path.relpath(os.fsdecode(one.path), tmp_path) for one in group.photos]
            for group in groups
        ]

    return run


def test_a_symlink_beside_its_target_is_no_copy(index, find: Find, tmp_path: Path) -> None:
    photo = _scene(tmp_path / "p" / "2024" / "a-long-name.png", 1)
    (tmp_path / "p" / "b").mkdir()
    (tmp_path / "p" / "b" / "x.png").symlink_to(photo)
    index(tmp_path / "p")
    assert find() == []


def test_a_symlink_stands_for_no_copy_of_its_target(
    index, find: Find, search, tmp_path: Path
) -> None:
    """The link has the shorter path, and is neither kept nor offered."""
    large = _scene(tmp_path / "p" / "large-photo.png", 1)
    _same(large, tmp_path / "p" / "large-photo-2.png")
    _smaller(large, tmp_path / "p" / "small-photo.png")
    (tmp_path / "p" / "l.png").symlink_to(large)
    (tmp_path / "p" / "s.png").symlink_to(tmp_path / "p" / "small-photo.png")
    index(tmp_path / "p")
    assert find() == [
        ["p/large-photo.png", "p/large-photo-2.png"],
        ["p/large-photo.png", "p/small-photo.png"],
    ]
    assert search()[1].stale == set()


def test_a_symlink_to_a_photo_elsewhere_is_not_kept_instead(
    index, find: Find, tmp_path: Path
) -> None:
    elsewhere = _scene(tmp_path / "elsewhere" / "photo.png", 1)
    _same(elsewhere, tmp_path / "p" / "my-photo.png")
    (tmp_path / "p" / "l.png").symlink_to(elsewhere)
    index(tmp_path / "p")
    assert find() == []


def test_a_symlinked_folder_is_no_copy(index, find: Find, tmp_path: Path) -> None:
    _scene(tmp_path / "long-name-of-a-store" / "photo.png", 1)
    (tmp_path / "rt").mkdir()
    _scene(tmp_path / "rt" / "other.png", 2)
    (tmp_path / "rt" / "best").symlink_to("../long-name-of-a-store")
    index(tmp_path / "rt", tmp_path / "long-name-of-a-store")
    assert find() == []
    _same(tmp_path / "long-name-of-a-store" / "photo.png", tmp_path / "rt" / "of-its-own.png")
    index()
    (group,) = find()
    assert sorted(group) == ["long-name-of-a-store/photo.png", "rt/of-its-own.png"]


@EXACT_AND_NEAR
def test_a_folder_linked_from_elsewhere_is_not_kept_instead(
    copy: MakeCopy, index, find: Find, tmp_path: Path
) -> None:
    photo = _scene(tmp_path / "elsewhere" / "photo.png", 1)
    copy(photo, tmp_path / "p" / "of-its-own.png")
    (tmp_path / "p" / "l").symlink_to(tmp_path / "elsewhere")
    index(tmp_path / "p")
    assert find() == []


@EXACT_AND_NEAR
def test_a_moved_folder_is_no_copy(copy: MakeCopy, index, find: Find, tmp_path: Path) -> None:
    """Its old place is offline, with the shorter path."""
    photo = _scene(tmp_path / "Photos" / "one.png", 1)
    copy(photo, tmp_path / "Photos" / "sub" / "two.png")
    _scene(tmp_path / "Photos" / "other.png", 2)
    index(tmp_path / "Photos")
    (tmp_path / "Photos").rename(tmp_path / "Photos-2024")
    index()
    index(tmp_path / "Photos-2024")
    assert find() == [["Photos-2024/one.png", "Photos-2024/sub/two.png"]]


@EXACT_AND_NEAR
def test_offline_photos_are_neither_kept_nor_offered(
    copy: MakeCopy, index, find: Find, search, tmp_path: Path
) -> None:
    photo = _scene(tmp_path / "usb" / "one.png", 1)
    copy(photo, tmp_path / "home" / "a-copy-of-it.png")
    index(tmp_path / "usb", tmp_path / "home")
    assert len(find()) == 1
    (tmp_path / "usb").rename(tmp_path / "unplugged")
    index()
    groups, disk = search()
    assert groups == []
    assert disk.stale == set()  # the library knows that it is away


@EXACT_AND_NEAR
def test_a_deleted_photo_is_not_kept(copy: MakeCopy, index, search, tmp_path: Path) -> None:
    photo = _scene(tmp_path / "p" / "one.png", 1)
    copy(photo, tmp_path / "p" / "two-longer.png")
    index(tmp_path / "p")
    photo.unlink()
    groups, disk = search()
    assert groups == []
    assert disk.stale == {os.fsencode(photo)}


@EXACT_AND_NEAR
def test_a_replaced_photo_is_not_offered(copy: MakeCopy, index, search, tmp_path: Path) -> None:
    photo = _scene(tmp_path / "p" / "one.png", 1)
    copy(photo, tmp_path / "p" / "two-longer.png")
    copy(photo, tmp_path / "p" / "three-longest.png")
    index(tmp_path / "p")
    replaced = _scene(tmp_path / "p" / "two-longer.png", 99)
    groups, disk = search()
    assert disk.stale == {os.fsencode(replaced)}
    offered = [os.path.basename(one.path) for group in groups for one in group.photos[1:]]
    assert offered == [b"three-longest.png"]


def _replace_keeping_size_and_time(photo: Path) -> None:
    """As `exiftool -P` does: another file, of the same size and time."""
    before = photo.stat()
    new = photo.with_suffix(".tmp")
    data = bytearray(photo.read_bytes())
    data[-1] ^= 1
    new.write_bytes(data)
    os.utime(new, ns=(before.st_atime_ns, before.st_mtime_ns))
    new.replace(photo)


def test_a_photo_replaced_by_one_of_its_size_and_time_is_no_exact_copy(
    index, find: Find, search, tmp_path: Path
) -> None:
    photo = _scene(tmp_path / "p" / "one.bmp", 1)
    _same(photo, tmp_path / "p" / "two-longer.bmp")
    index(tmp_path / "p")
    _replace_keeping_size_and_time(tmp_path / "p" / "two-longer.bmp")
    groups, disk = search()
    assert groups == []
    assert len(disk.stale) == 1
    assert index().encoded == 1
    groups, disk = search()
    assert [group.kind for group in groups] == ["near"]
    assert disk.stale == set()
    summary = index()
    assert (summary.encoded, summary.linked) == (0, 0)


@pytest.mark.parametrize("changed", ["one.bmp", "two-longer.bmp"])
@EXACT_AND_NEAR
def test_a_photo_changed_in_place_with_its_time_kept_is_no_copy(
    copy: MakeCopy, changed: str, index, search, tmp_path: Path
) -> None:
    """Nothing but its bytes tells."""
    photo = _scene(tmp_path / "p" / "one.bmp", 1)
    copy(photo, tmp_path / "p" / "two-longer.bmp")
    index(tmp_path / "p")
    place = tmp_path / "p" / changed
    before = place.stat()
    with place.open("r+b") as file:
        file.seek(-1, os.SEEK_END)
        file.write(b"?")
    os.utime(place, ns=(before.st_atime_ns, before.st_mtime_ns))
    groups, disk = search()
    assert groups == []
    assert (disk.others, disk.stale) == ({os.fsencode(place)}, set())


def test_a_date_and_a_name_of_its_own_go_before_bytes(index, find: Find, tmp_path: Path) -> None:
    with Image.open(_scene(tmp_path / "scene.png", 1)) as image:
        (tmp_path / "p").mkdir()
        taken = exif_bytes({}, {0x9003: "2024:05:06 07:08:09"})
        image.save(tmp_path / "p" / "photo.jpg", quality=80, exif=taken)
        image.save(tmp_path / "p" / "a.png")
    index(tmp_path / "p")
    assert find() == [["p/photo.jpg", "p/a.png"]]


def test_a_photo_replaced_by_one_of_its_size_is_seen(index, search, tmp_path: Path) -> None:
    photo = _scene(tmp_path / "p" / "one.bmp", 1)
    _same(photo, tmp_path / "p" / "two.bmp")
    index(tmp_path / "p")
    size = photo.stat().st_size
    assert _scene(photo, 2).stat().st_size == size
    groups, disk = search()
    assert (groups, disk.stale) == ([], {os.fsencode(photo)})


def test_a_photo_of_another_size_is_seen_though_its_time_was_kept(
    index, search, tmp_path: Path
) -> None:
    photo = _scene(tmp_path / "p" / "one.bmp", 1)
    copy = tmp_path / "p" / "two.bmp"
    _same(photo, copy)
    index(tmp_path / "p")
    before = copy.stat()
    with copy.open("ab") as file:
        file.write(b"more")
    os.utime(copy, ns=(before.st_atime_ns, before.st_mtime_ns))
    groups, disk = search()
    assert (groups, disk.stale) == ([], {os.fsencode(copy)})


def test_hard_links_are_one_file(index, search, find: Find, tmp_path: Path) -> None:
    photo = _scene(tmp_path / "p" / "one.png", 1)
    os.link(photo, tmp_path / "p" / "one-again.png")
    index(tmp_path / "p")
    assert find() == []
    _same(photo, tmp_path / "p" / "o.png")
    _smaller(photo, tmp_path / "p" / "small.png")
    os.link(tmp_path / "p" / "small.png", tmp_path / "p" / "small-again.png")
    index()
    # Deleting one of two names frees nothing, so the file with one name goes.
    assert find() == [["p/one.png", "p/o.png"], ["p/one.png", "p/small.png"]]
    groups, disk = search()
    assert wasted_bytes(groups) == (tmp_path / "p" / "o.png").stat().st_size
    assert disk.stale == set()


@pytest.mark.parametrize(
    ("size", "is_near"),
    [
        ((100, 67), True),  # the shape is rounded
        ((470, 320), True),
        ((320, 320), False),  # squeezed, as the hash does to all
        ((427, 320), False),
        ((320, 480), False),
    ],
)
def test_near_copies_have_one_shape(
    size: tuple[int, int], is_near: bool, index, find: Find, tmp_path: Path
) -> None:
    _scene(tmp_path / "p" / "one.png", 1)
    _scene(tmp_path / "p" / "two.png", 1, size)
    index(tmp_path / "p")
    assert find() == ([["p/one.png", "p/two.png"]] if is_near else [])


def test_a_photo_stored_on_its_side_has_the_shape_it_is_seen_in(
    index, find: Find, tmp_path: Path
) -> None:
    photo = _scene(tmp_path / "p" / "one.png", 1)
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by a quarter, clockwise
    with Image.open(photo) as image:
        turned = image.resize((240, 160)).transpose(Image.Transpose.ROTATE_90)
        turned.save(tmp_path / "p" / "two.png", exif=exif)
    index(tmp_path / "p")
    assert find() == [["p/one.png", "p/two.png"]]


def test_photos_of_another_shape_do_not_join_a_group(index, find: Find, tmp_path: Path) -> None:
    for name, size in {
        "a": (480, 320),
        "b": (240, 160),
        "c": (320, 320),
        "d": (160, 160),
    }.items():
        _scene(tmp_path / "p" / f"{name}.png", 1, size)
    index(tmp_path / "p")
    assert sorted(find()) == [["p/a.png", "p/b.png"], ["p/c.png", "p/d.png"]]


def test_a_series_is_no_chain_of_copies(index, find: Find, search, tmp_path: Path) -> None:
    """Each picture is near to the next one, and the first is another picture than the last."""
    ends = [Image.open(_scene(tmp_path / f"{seed}.png", seed)) for seed in (1, 2)]
    (tmp_path / "p").mkdir()
    for step in range(21):
        Image.blend(*ends, step / 20).save(tmp_path / "p" / f"{step:02}.png")
    index(tmp_path / "p")
    groups = find()
    assert len(groups) > 1
    for group in groups:
        first, *others = (telling_hash(Image.open(tmp_path / name)) for name in group)
        assert all((first ^ other).bit_count() <= MAX_DISTANCE for other in others)


def test_flat_pictures_are_no_near_copies(index, find: Find, tmp_path: Path) -> None:
    """Whatever their colour, their hashes are equal: that of no features."""
    noise = np.random.default_rng(5).normal(128, 3, (320, 480, 1)).repeat(3, 2)
    (tmp_path / "p").mkdir()
    for number, grey in enumerate((40, 128, 200)):
        Image.new("RGB", (480, 320), (grey, grey, grey)).save(tmp_path / "p" / f"{number}.png")
    Image.fromarray(noise.astype(np.uint8)).save(tmp_path / "p" / "noise.png")
    index(tmp_path / "p")
    assert find() == []
    shutil.copy(tmp_path / "p" / "1.png", tmp_path / "p" / "1-again.png")
    index()
    assert find() == [["p/1.png", "p/1-again.png"]]


def test_a_faint_picture_is_told_by_its_looks(tmp_path: Path) -> None:
    with Image.open(_scene(tmp_path / "one.png", 1)) as image:
        faint = image.point(lambda value: 120 + value // 16)
    assert telling_hash(faint) is not None
    assert telling_hash(Image.new("RGB", (30, 20), "white")) is None


@pytest.fixture
def old_library(index, library: Library, tmp_path: Path) -> Path:
    """A library of the schema before hashes were kept: two copies, a flat picture and another."""
    photo = _scene(tmp_path / "p" / "one.png", 1)
    _smaller(photo, tmp_path / "p" / "two.png")
    _scene(tmp_path / "p" / "other.png", 2)
    Image.new("RGB", (300, 200), "white").save(tmp_path / "p" / "flat.png")
    index(tmp_path / "p")
    with library.writing() as recorder:
        recorder.connection.execute("DROP TABLE looks")
        recorder.connection.execute("DELETE FROM _sqlite_migrations WHERE name != ?", (FIRST,))
        recorder.connection.execute("PRAGMA user_version = 1")
    return tmp_path / "p"


@pytest.fixture
def look_at(library: Library, model: ColourModel) -> Callable[..., tuple[list[Group], list[str]]]:
    """Near groups of a library, and the names of the photos that were refused."""

    def run(progress=lambda items, _: items) -> tuple[list[Group], list[str]]:
        refused: list[str] = []
        look = LookingAt(
            library,
            at_least=model.info.decoded_side,
            max_pixels=10_000_000,
            refused=lambda photo, _: refused.append(os.path.basename(photo.path).decode()),
            progress=progress,
        )
        with open_session(library, model) as session:  # type: ignore[arg-type]
            lens = session.catalog.lens(model.info)
            assert lens is not None
            file = session.searcher.file(lens, "target")
            return near_groups(session.catalog, file, look, progress=progress), refused

    return run


def _kept_looks(library: Library) -> dict[int, int | None]:
    with library.reading() as catalog:
        return catalog.looks()


def test_photos_of_an_older_library_are_looked_at_once(
    old_library: Path, library: Library, look_at, find: Find
) -> None:
    shown: list[tuple[str, int]] = []

    def progress(items, title):
        shown.append((title, len(items)))
        return items

    (group,), refused = look_at(progress)
    assert [os.path.basename(one.path) for one in group.photos] == [b"one.png", b"two.png"]
    assert refused == []
    titles = ["looking at photos", "comparing photos", "reading copies"]
    assert [title for title, _ in shown] == titles
    assert shown[0][1] == 4
    assert sorted(value is None for value in _kept_looks(library).values()) == [0, 0, 0, 1]
    assert find() == [["p/one.png", "p/two.png"]]  # asks for no looking


def test_what_indexing_keeps_is_what_looking_finds(index, library, look_at, tmp_path) -> None:
    for seed in range(6):
        _scene(tmp_path / "p" / f"{seed}.png", seed)
    index(tmp_path / "p")
    kept = _kept_looks(library)
    assert len(kept) == 6
    with library.writing() as recorder:
        recorder.connection.execute("DELETE FROM looks")
    look_at()
    assert _kept_looks(library) == kept


def test_a_broken_photo_of_an_older_library_is_named_and_asked_for_again(
    old_library: Path, library: Library, look_at
) -> None:
    broken = old_library / "other.png"
    before = broken.stat()
    broken.write_bytes(b"\x89PNG\r\n" + bytes(before.st_size - 6))
    os.utime(broken, ns=(before.st_atime_ns, before.st_mtime_ns))
    groups, refused = look_at()
    assert (len(groups), refused) == (1, ["other.png"])
    assert len(_kept_looks(library)) == 3
    assert look_at()[1] == ["other.png"]


def test_an_older_library_that_is_busy_is_compared_and_stays_as_it_is(
    old_library: Path, library: Library, look_at
) -> None:
    with library.locked():
        assert len(look_at()[0]) == 1
    with library.reading() as catalog:
        assert (catalog.schema_version, catalog.looks()) == (1, {})


def test_looks_of_forgotten_photos_go(index, library: Library, tmp_path: Path) -> None:
    photo = _scene(tmp_path / "p" / "one.png", 1)
    _scene(tmp_path / "p" / "two.png", 2)
    index(tmp_path / "p")
    with library.writing() as recorder:
        recorder.forget_photos(os.fsencode(photo))
    assert len(_kept_looks(library)) == 1


def test_alike_to_the_hash_alone_is_no_copy(index, library: Library, find: Find, tmp_path) -> None:
    """The model tells colours apart; the hash, which is of greys, does not."""
    grey = Image.open(_scene(tmp_path / "one.png", 1)).convert("L")
    (tmp_path / "p").mkdir()
    for name, channels in {"red": (grey, "", ""), "blue": ("", "", grey)}.items():
        black = Image.new("L", grey.size)
        bands = [band or black for band in channels]
        Image.merge("RGB", bands).save(tmp_path / "p" / f"{name}.png")
    index(tmp_path / "p")
    first, second = _kept_looks(library).values()
    assert first is not None
    assert second is not None
    assert (first ^ second).bit_count() <= MAX_DISTANCE
    assert find() == []
