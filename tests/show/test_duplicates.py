"""Copies are found, exact and near, and different photos are not taken for copies."""

import json
import os
import shutil
import sqlite3
from pathlib import Path

import pytest
from PIL import Image

from support.command import environment_of, run_in
from support.sample_photos import write_sample_photos
from support.terminal import Terminal


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("copies")
    photos = write_sample_photos(folder / "photos")
    shutil.copy(photos / "moon.jpg", photos / "moon (1).jpg")
    shutil.copy(
        photos / "moon.jpg", photos / b"moon\xff copy.jpg".decode("utf-8", "surrogateescape")
    )
    with Image.open(photos / "chelsea.jpg") as cat:
        cat.resize((225, 150)).save(photos / "cat small.jpg", quality=50)
    with Image.open(photos / "rocket.jpg") as rocket:
        rocket.point(lambda value: min(255, round(value * 1.15))).save(photos / "bright.jpg")
    done = run_in(folder, "index", photos)
    assert done.returncode == 0, done.stderr
    return folder


def _groups(place: Path, *options: str) -> dict[str, list[list[str]]]:
    answer = json.loads(run_in(place, "duplicates", "--json", *options).stdout)
    found: dict[str, list[list[str]]] = {"exact": [], "near": []}
    for group in answer["groups"]:
        assert [one["keep"] for one in group["photos"]] == [True] + [False] * (
            len(group["photos"]) - 1
        )
        found[group["kind"]].append([Path(one["path"]).name for one in group["photos"]])
    return found


def test_exact_and_near_copies_and_nothing_else(place: Path) -> None:
    found = _groups(place)
    assert found["exact"] == [["moon.jpg", "moon (1).jpg", "moon? copy.jpg"]]
    assert sorted(map(sorted, found["near"])) == [
        ["bright.jpg", "rocket.jpg"],
        ["cat small.jpg", "chelsea.jpg"],
    ]
    assert ["chelsea.jpg", "cat small.jpg"] in found["near"]


def test_exact_alone(place: Path) -> None:
    assert _groups(place, "--exact")["near"] == []
    assert len(_groups(place, "--exact")["exact"]) == 1


def test_paths_of_what_could_go_and_no_deletion(place: Path) -> None:
    before = sorted((place / "photos").iterdir())
    done = run_in(place, "duplicates", "-0", errors="surrogateescape")
    extra = [Path(one).name for one in done.stdout.split("\0") if one]
    assert len(extra) == 4
    assert "moon.jpg" not in extra
    assert sorted((place / "photos").iterdir()) == before


def test_the_folders_to_keep_photos_in_come_first(tmp_path: Path) -> None:
    photos = write_sample_photos(tmp_path / "photos")
    for folder in ("archive/of-many-years", "second"):
        (photos / folder).mkdir(parents=True)
    for name in ("moon.jpg", "coins.jpg"):
        shutil.copy(photos / name, photos / "second")
    shutil.copy(photos / "moon.jpg", photos / "archive" / "of-many-years" / "moon copy.jpg")
    with Image.open(photos / "chelsea.jpg") as cat:
        cat.resize((225, 150)).save(photos / "archive" / "cat.jpg")
    done = run_in(tmp_path, "index", photos)
    assert done.returncode == 0, done.stderr

    def kept(*options: str) -> list[str]:
        answer = json.loads(run_in(tmp_path, "duplicates", "--json", *options, cwd=photos).stdout)
        return sorted(
            str(Path(group["photos"][0]["path"]).relative_to(photos)) for group in answer["groups"]
        )

    preferred = ["archive/cat.jpg", "archive/of-many-years/moon copy.jpg", "second/coins.jpg"]
    assert kept("--keep-in", "archive", "--keep-in", "second/") == preferred
    assert kept("--exact", "--keep-in", "second", "--keep-in", "archive") == [
        "second/coins.jpg",
        "second/moon.jpg",
    ]


def test_a_folder_alone_and_no_duplicates(place: Path) -> None:
    (place / "empty").mkdir(exist_ok=True)
    done = run_in(place, "duplicates", "--in", place / "empty")
    assert (done.returncode, done.stdout) == (1, "")
    assert "no duplicates in" in done.stderr


def test_as_a_page(place: Path, tmp_path: Path) -> None:
    run_in(place, "duplicates", "--html", tmp_path / "copies.html", errors="surrogateescape")
    page = (tmp_path / "copies.html").read_text()
    assert page.count("<img src=") == 7
    assert page.count(">keep<") == 3


@pytest.fixture
def changed_place(tmp_path: Path) -> Path:
    """A library whose folder is not what it was, with links of all kinds.

    What could go is `coins (1).jpg`, an exact copy, and `small cat.jpg`, a near one.
    """
    photos = write_sample_photos(tmp_path / "photos")
    shutil.copy(photos / "coins.jpg", photos / "coins (1).jpg")
    with Image.open(photos / "chelsea.jpg") as cat:
        cat.resize((225, 150)).save(photos / "small cat.jpg")
    (photos / "b").mkdir()
    (photos / "b" / "m.jpg").symlink_to(photos / "moon.jpg")  # shorter, as what it stands for
    (photos / "c.jpg").symlink_to("chelsea.jpg")
    (photos / "s.jpg").symlink_to("small cat.jpg")
    (photos / "long-named-store").mkdir()
    shutil.move(photos / "rocket.jpg", photos / "long-named-store" / "rocket.jpg")
    (tmp_path / "rt").mkdir()
    (tmp_path / "rt" / "st").symlink_to(photos / "long-named-store")
    os.link(photos / "grass.jpg", photos / "grass-by-another-name.jpg")
    shutil.copy(photos / "brick.jpg", photos / "brick-will-be-all-that-is-left.jpg")
    shutil.copy(photos / "camera.jpg", photos / "camera-will-be-another.jpg")
    done = run_in(tmp_path, "index", photos, tmp_path / "rt")
    assert done.returncode == 0, done.stderr
    (photos / "brick.jpg").unlink()
    with Image.open(photos / "astronaut.jpg") as other:
        other.rotate(90).save(photos / "camera-will-be-another.jpg")
    return tmp_path


def test_only_copies_that_could_be_deleted_are_told(changed_place: Path, tmp_path: Path) -> None:
    photos = changed_place / "photos"
    told = [["coins.jpg", "coins (1).jpg"], ["chelsea.jpg", "small cat.jpg"]]
    extra = [str(photos / names[1]) for names in told]
    groups = _groups(changed_place)
    assert [*groups["exact"], *groups["near"]] == told

    table = run_in(changed_place, "duplicates", "--html", tmp_path / "copies.html")
    listed = [line for line in table.stdout.splitlines() if line.startswith("  ")]
    assert [Path(line[8:].split("  (")[0]).name for line in listed] == [*told[0], *told[1]]
    size = sum(Path(path).stat().st_size for path in extra)
    assert f"2 groups, {size / 1e3:.0f} kB beyond" in table.stderr
    assert (tmp_path / "copies.html").read_text().count("<img src=") == 4

    assert run_in(changed_place, "duplicates", "--paths").stdout.splitlines() == extra
    done = run_in(changed_place, "duplicates", "-0")
    assert done.stdout.split("\0") == [*extra, ""]
    assert done.stderr.count("lensctl index") == 1
    assert "left out: 2 files, changed or missing since indexing" in done.stderr
    assert "%" not in done.stderr  # no progress bar in a pipe


def test_after_indexing_again_only_what_it_cannot_see_is_left_out(changed_place: Path) -> None:
    done = run_in(changed_place, "index")
    assert done.returncode == 0, done.stderr
    done = run_in(changed_place, "duplicates", "--paths")
    assert len(done.stdout.splitlines()) == 2
    assert "left out" not in done.stderr

    copy = changed_place / "photos" / "coins (1).jpg"
    before = copy.stat()
    copy.write_bytes(bytes(before.st_size))
    os.utime(copy, ns=(before.st_atime_ns, before.st_mtime_ns))
    done = run_in(changed_place, "duplicates", "--exact", "--paths")
    assert (done.returncode, done.stdout) == (1, "")
    assert f"left out: {copy}: size and time are as they were" in done.stderr
    assert f"lensctl forget '{copy}'" in done.stderr


def test_black_and_grey_are_no_near_copies(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    for name, grey, size in (
        ("black", 0, (600, 400)),
        ("grey", 128, (240, 320)),
        ("darker", 60, (300, 200)),
    ):
        Image.new("RGB", size, (grey, grey, grey)).save(tmp_path / "photos" / f"{name}.jpg")
    done = run_in(tmp_path, "index", tmp_path / "photos")
    assert done.returncode == 0, done.stderr
    done = run_in(tmp_path, "duplicates", "--paths")
    assert (done.returncode, done.stdout) == (1, "")


def test_a_terminal_sees_how_far_it_is(place: Path) -> None:
    with sqlite3.connect(place / "library" / "catalog.sqlite") as catalog:
        catalog.execute("DELETE FROM looks")  # as a library of an older lensctl
    terminal = Terminal(["duplicates", "--paths"], environment_of(place))
    assert terminal.wait_for_exit() == 0
    for title in (b"looking at photos: ", b"comparing photos: ", b"reading copies: "):
        assert title in terminal.raw
    assert "%" not in terminal.text()  # the bars are gone when the work is done
