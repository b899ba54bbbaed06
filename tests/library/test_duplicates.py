"""Of copies only such are offered as could be deleted: files of their own, there as indexed."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from lensctl.library.duplicates import (
    Disk,
    Group,
    exact_groups,
    near_groups,
    telling_hash,
    wasted_bytes,
)
from lensctl.library.library import Library
from lensctl.library.session import open_session
from lensctl.photos.decode import decode
from lensctl.photos.near_duplicates import MAX_DISTANCE
from support.colour_model import ColourModel

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
                lambda photo: telling_hash(decode(photo.path, at_least=64).image),
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


def test_a_photo_replaced_by_one_of_its_size_is_seen(index, search, tmp_path: Path) -> None:
    photo = _scene(tmp_path / "p" / "one.bmp", 1)
    _same(photo, tmp_path / "p" / "two.bmp")
    index(tmp_path / "p")
    size = photo.stat().st_size
    assert _scene(photo, 2).stat().st_size == size
    groups, disk = search()
    assert (groups, disk.stale) == ([], {os.fsencode(photo)})


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


def test_progress_names_its_loops_and_counts_them(index, library: Library, tmp_path: Path) -> None:
    photo = _scene(tmp_path / "p" / "one.png", 1)
    _smaller(photo, tmp_path / "p" / "two.png")
    index(tmp_path / "p")
    shown: list[tuple[str, int]] = []

    def progress(items, title):
        shown.append((title, len(items)))
        return items

    model = ColourModel()
    with open_session(library, model) as session:  # type: ignore[arg-type]
        lens = session.catalog.lens(model.info)
        assert lens is not None
        file = session.searcher.file(lens, "target")
        near_groups(session.catalog, file, lambda _: 7, progress=progress)
    assert shown == [("comparing vectors", 1), ("looking at candidates", 2)]
