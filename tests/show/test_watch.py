"""`lensctl watch` as a process, over folders that change, vanish and come back."""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from lensctl.library.watching import FolderWatch, WatchOptions
from support.command import environment_of, run_in
from support.photo_files import write_photo

QUICK = WatchOptions(quiet=0.3, patience=2.0, rescan=0)


@pytest.fixture
def watched(tmp_path: Path) -> Iterator[tuple[Path, FolderWatch]]:
    folder = tmp_path / "photos"
    (folder / "sub").mkdir(parents=True)
    watch = FolderWatch([os.fsencode(folder)], folder / "library", QUICK, lambda text: None)
    assert _told(watch, 10) == [os.fsencode(folder)]  # everything is looked at once
    yield folder, watch
    watch.close()


def _told(watch: FolderWatch, seconds: float) -> list[bytes]:
    end = time.monotonic() + seconds
    return watch.wait(lambda: time.monotonic() > end)


def test_a_photo_in_a_subfolder_is_told_once_it_is_quiet(watched) -> None:
    folder, watch = watched
    for number in range(5):
        write_photo(folder / "sub" / f"{number}.png", number)
    assert _told(watch, 10) == [os.fsencode(folder)]
    assert _told(watch, 1.5) == []


def test_what_is_no_photo_is_not_told(watched) -> None:
    folder, watch = watched
    (folder / "notes.txt").write_text("x")
    (folder / "library").mkdir()
    write_photo(folder / "library" / "thumb.png", 1)
    (folder / "sub" / "more.txt").write_text("x")
    assert _told(watch, 1.5) == []
    (folder / "new").mkdir()
    assert _told(watch, 10) == [os.fsencode(folder)]  # it may have come with photos in it


def test_constant_change_is_told_after_a_while(watched) -> None:
    folder, watch = watched
    end = time.monotonic() + 6

    def still_changing() -> bool:
        write_photo(folder / "a.png", int(time.monotonic() * 10))
        return time.monotonic() > end

    assert watch.wait(still_changing) == [os.fsencode(folder)]


def test_a_folder_that_vanishes_and_returns_is_heard_again(watched) -> None:
    folder, watch = watched
    away = folder.with_name("away")
    folder.rename(away)
    assert _told(watch, 15) == [os.fsencode(folder)]
    away.rename(folder)
    assert _told(watch, 15) == [os.fsencode(folder)]
    write_photo(folder / "sub" / "after.png", 7)
    assert _told(watch, 10) == [os.fsencode(folder)]


def test_a_library_is_kept_current(tmp_path: Path) -> None:
    photos = tmp_path / "photos"
    write_photo(photos / "0.png", 0)
    process = subprocess.Popen(
        [sys.executable, "-m", "lensctl", "watch", str(photos), "--after-quiet", "0.3"],
        env={**os.environ, **environment_of(tmp_path)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert "1 photo found: 1 encoded" in process.stdout.readline()
        write_photo(photos / "new" / "1.png", 1)
        assert "1 encoded" in process.stdout.readline()
        shutil.copy(photos / "0.png", photos / "copy.png")
        assert "1 known by content" in process.stdout.readline()
        photos.rename(tmp_path / "unmounted")
        assert "nothing new" not in process.stdout.readline()
        assert '"searchable": 3' in run_in(tmp_path, "status", "--json").stdout
    finally:
        process.send_signal(signal.SIGINT)
        output = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "Traceback" not in output[1]
    assert "nothing was forgotten" in output[1]
