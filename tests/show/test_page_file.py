"""A page replaces nothing but an earlier page."""

import errno
import os
from functools import partial
from pathlib import Path

import pytest

from lensctl.errors import StorageError, UsageError
from lensctl.show.page_file import require_page_path, write_page
from lensctl.whole import temporary_folder
from support.command import Run, run_in
from support.full_disk import no_file_above
from support.photo_files import write_photo

PAGE = "<!doctype html>\n<title>earlier</title>"


@pytest.fixture
def run(tmp_path: Path) -> Run:
    write_photo(tmp_path / "photos" / "1.png", 1)
    write_photo(tmp_path / "photos" / "2.png", 2)
    started = partial(run_in, tmp_path, cwd=tmp_path)
    assert started("index", "photos").returncode == 0
    return started


@pytest.mark.parametrize("command", [["query", "red"], ["duplicates"]])
def test_a_photo_is_never_replaced(run: Run, tmp_path: Path, command: list[str]) -> None:
    photo = tmp_path / "photos" / "1.png"
    before = photo.read_bytes()
    for place in (photo, "-", tmp_path / "photos", "nodir/x.html"):
        done = run(*command, "--html", place)
        assert (done.returncode, done.stdout) == (2, "")
        assert "next:" in done.stderr
    assert "there is no folder nodir" in done.stderr
    assert photo.read_bytes() == before
    assert not (tmp_path / "-").exists()


def test_neither_is_a_photo_of_another_name_nor_a_device(tmp_path: Path) -> None:
    hidden = write_photo(tmp_path / "1.png", 1).rename(tmp_path / "scan.html")
    (tmp_path / "link.html").symlink_to(hidden)
    for path in (hidden, tmp_path / "link.html", Path("/dev/null"), tmp_path):
        with pytest.raises(UsageError, match="is no page"):
            require_page_path(path)
        with pytest.raises(UsageError, match="is no page"):
            write_page(path, PAGE)


def test_neither_a_photo_to_be_nor_a_circle_of_links(tmp_path: Path) -> None:
    (tmp_path / "away.html").symlink_to(tmp_path / "offline.jpg")
    (tmp_path / "circle.html").symlink_to(tmp_path / "circle.html")
    for name in ("away.html", "circle.html"):
        with pytest.raises(UsageError):
            require_page_path(tmp_path / name)
    assert not (tmp_path / "offline.jpg").exists()


def test_an_earlier_page_is_replaced_and_its_link_stays(tmp_path: Path) -> None:
    page, link = tmp_path / "page.html", tmp_path / "link.html"
    write_page(page, PAGE)
    link.symlink_to(page)
    write_page(link, PAGE.upper())
    assert link.is_symlink()
    assert page.read_text() == PAGE.upper()
    assert os.stat(page).st_mode & 0o777 == 0o600
    assert sorted(one.name for one in tmp_path.iterdir()) == ["link.html", "page.html"]


def test_a_page_may_have_the_longest_name(tmp_path: Path) -> None:
    page = tmp_path / f"{'p' * 250}.html"
    write_page(page, PAGE)
    assert [one.name for one in tmp_path.iterdir()] == [page.name]


def test_a_full_disk_is_named_by_the_page_that_it_has_no_room_for(tmp_path: Path) -> None:
    page = tmp_path / "results.html"
    with no_file_above(4096), pytest.raises(OSError) as full:
        write_page(page, "<!doctype html>" + 5000 * " ")
    assert (full.value.errno, full.value.filename) == (errno.EFBIG, str(page))


def test_a_full_temporary_folder_names_what_chooses_another() -> None:
    with (
        no_file_above(4096),
        pytest.raises(StorageError, match="temporary folder") as full,
        temporary_folder("lensctl-test-") as place,
    ):
        (place / "file").write_bytes(bytes(5000))
    assert "TMPDIR=" in full.value.next_step


def test_no_results_write_no_page_and_say_so(run: Run, tmp_path: Path) -> None:
    done = run("query", "red", "--after", "2999", "--html", "page.html")
    assert done.returncode == 1
    assert "no page was written" in done.stderr
    assert not (tmp_path / "page.html").exists()
