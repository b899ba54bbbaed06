"""`lensctl watch` as a process, over folders that change, vanish and come back."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from lensctl.library import watching
from lensctl.library.watching import FolderWatch, WatchOptions
from support.command import environment_of, run_in
from support.photo_files import write_photo

QUICK = WatchOptions(quiet=0.3, patience=2.0, rescan=0)


@pytest.fixture
def watched(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[tuple[Path, FolderWatch]]:
    """A folder and its watch, which has the parameter's options, QUICK without one."""
    monkeypatch.setattr(watching, "TICK_SECONDS", 0.05)
    folder = tmp_path / "photos"
    (folder / "sub").mkdir(parents=True)
    options = getattr(request, "param", QUICK)
    watch = FolderWatch([os.fsencode(folder)], folder / "library", options, lambda text, path: None)
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
    (folder / "sub" / ".lensctlignore").write_text("*.png")
    assert _told(watch, 10) == [os.fsencode(folder)]


@pytest.mark.parametrize("watched", [WatchOptions(1.0, patience=1.2, rescan=0)], indirect=True)
def test_constant_change_is_told_after_a_while(watched) -> None:
    """Without a second's quiet, of which there is none."""
    folder, watch = watched
    end = time.monotonic() + 5

    def still_changing() -> bool:
        write_photo(folder / "a.png", 1)
        return time.monotonic() > end

    assert watch.wait(still_changing) == [os.fsencode(folder)]


@pytest.mark.parametrize("watched", [WatchOptions(0.1, patience=2, rescan=0.4)], indirect=True)
def test_a_share_that_tells_of_no_change_is_looked_through_now_and_then(watched) -> None:
    folder, watch = watched
    started = time.monotonic()
    for _ in range(2):
        assert _told(watch, 5) == [os.fsencode(folder)]
    assert time.monotonic() - started >= 0.4


def test_a_folder_that_vanishes_and_returns_is_heard_again(watched) -> None:
    folder, watch = watched
    away = folder.with_name("away")
    folder.rename(away)
    assert _told(watch, 15) == [os.fsencode(folder)]
    away.rename(folder)
    assert _told(watch, 15) == [os.fsencode(folder)]
    write_photo(folder / "sub" / "after.png", 7)
    assert _told(watch, 10) == [os.fsencode(folder)]


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Callable[[Path], None]]:
    """Mounts one and the same disk, which keeps its files, at a path; skips where that is not
    permitted."""
    if os.geteuid() != 0:
        pytest.skip("only root may mount")
    store = tmp_path / "store"
    store.mkdir()
    if subprocess.run(
        ["mount", "-t", "tmpfs", "none", store], stderr=subprocess.DEVNULL
    ).returncode:
        pytest.skip("mounting is not permitted here")
    mounted: set[Path] = set()

    def mount(place: Path) -> None:
        (store / place.name).mkdir(exist_ok=True)
        mounted.add(place)
        subprocess.run(["mount", "--bind", store / place.name, place], check=True)

    yield mount
    for place in (*mounted, store):
        subprocess.run(["umount", "--lazy", place], stderr=subprocess.DEVNULL)


def test_a_disk_is_really_unmounted_and_mounted_again(
    tmp_path: Path, disk: Callable[[Path], None]
) -> None:
    """One that is watched itself, and one inside a folder that is watched."""
    whole, outer = tmp_path / "whole", tmp_path / "outer"
    disks = [whole, outer / "inner"]
    for number, place in enumerate(disks):
        place.mkdir(parents=True)
        disk(place)
        write_photo(place / "sub" / "before.png", number)
    write_photo(outer / "beside.png", 2)
    with _watching(tmp_path, whole, outer) as process:
        _wait_for_states(tmp_path, searchable=3, offline=0)
        for place in disks:
            subprocess.run(["umount", place], check=True)
        _wait_for_states(tmp_path, searchable=3, offline=2)
        for number, place in enumerate(disks):
            disk(place)
            write_photo(place / "sub" / "while-away.png", 10 + number)
        _wait_for_states(tmp_path, searchable=5, offline=0)
        for number, place in enumerate(disks):
            write_photo(place / "sub" / "after.png", 20 + number)
        _wait_for_states(tmp_path, searchable=7, offline=0)
    out, err = process.communicate()
    for place in disks:
        assert f"{place}: away; waiting for it to come back" in err
        assert f"{place}: back" in err
    assert " gone" not in out
    assert "Traceback" not in err


@contextmanager
def _watching(home: Path, *folders: Path) -> Iterator["subprocess.Popen[str]"]:
    """`lensctl watch`, ended as Ctrl-C ends it."""
    process = subprocess.Popen(
        [sys.executable, "-m", "lensctl", "watch", *folders, "--after-quiet", "0.3"],
        env={**os.environ, **environment_of(home)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        yield process
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(timeout=60)


def _wait_for_states(home: Path, *, searchable: int, offline: int) -> None:
    end = time.monotonic() + 40
    while time.monotonic() < end:
        told = run_in(home, "status", "--json").stdout  # nothing while there is no library yet
        states = json.loads(told)["photos"] if told else {}
        if (states.get("searchable"), states.get("offline")) == (searchable, offline):
            return
        time.sleep(0.5)
    raise AssertionError(f"never {searchable} searchable, {offline} offline: {states}")


def test_a_library_is_kept_current(tmp_path: Path) -> None:
    photos = tmp_path / "photos"
    write_photo(photos / "0.png", 0)
    with _watching(tmp_path, photos) as process:
        assert "photos: 1 encoded; 1 photo seen" in process.stdout.readline()
        write_photo(photos / "new" / "1.png", 1)
        assert "1 encoded" in process.stdout.readline()
        shutil.copy(photos / "0.png", photos / "copy.png")
        assert "1 known by content" in process.stdout.readline()
        photos.rename(tmp_path / "unmounted")
        assert "3 offline; nothing was forgotten" in process.stdout.readline()
        assert '"searchable": 3' in run_in(tmp_path, "status", "--json").stdout
    _, err = process.communicate()
    assert process.returncode == 130
    assert "Traceback" not in err
    assert "away; waiting for it to come back" in err


@pytest.mark.parametrize(
    ("limit", "told"), [("max_inotify_watches", "watches no more"), ("max_inotify_instances", "")]
)
def test_the_systems_limits_are_left_for_polling(tmp_path: Path, limit: str, told: str) -> None:
    photos = tmp_path / "photos"
    for number in range(8):
        (photos / str(number)).mkdir(parents=True)
    command = f"echo 4 > /proc/sys/user/{limit} && exec {sys.executable} -m lensctl watch {photos}"
    if limit.endswith("instances"):
        command = command.replace("echo 4", "echo 0")
    started = subprocess.Popen(
        ["unshare", "-Ur", "sh", "-c", f"{command} --after-quiet 0.3"],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=os.environ | environment_of(tmp_path),
    )
    assert started.stdout is not None
    try:
        lines = iter(started.stdout.readline, "")
        first = next(lines)
        if "Operation not permitted" in first or "ermission denied" in first:
            pytest.skip("this system lets no user make a namespace")
        polling = first if "polling" in first else next(line for line in lines if "polling" in line)
        assert told in polling
        write_photo(photos / "7" / "new.png", 1)
        assert any("1 encoded" in line for line in lines)
    finally:
        started.send_signal(signal.SIGINT)
        started.communicate(timeout=30)
