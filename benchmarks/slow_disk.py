"""A library on a slow disk: photos, library, caches and all behind FUSE that answers late.

    python benchmarks/slow_disk.py PHOTOS SCRATCH [--photos 1000] [--seek 0.012] [--speed 40e6]

PHOTOS is a folder of JPEGs; where it holds fewer than wanted they are used again, with other bytes
at the end. SCRATCH takes the library, which is made once, without delay. Then every command runs on
a disk that was mounted just before, so that nothing of it is in memory: once without delay, once
with 12 ms for every new place and 40 MB/s, as of an old portable disk. Seconds of the clock; for
the shell, from the key to the answer.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from slow_mount import slow_mount

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from support.command import environment_of
from support.terminal import Terminal

Action = Callable[[Path], float]


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("source", type=Path)
    parser.add_argument("scratch", type=Path)
    parser.add_argument("--photos", type=int, default=1000)
    parser.add_argument("--seek", type=float, default=0.012, help="seconds")
    parser.add_argument("--speed", type=float, default=40e6, help="bytes per second")
    options = parser.parse_args()
    scratch = options.scratch.resolve()
    make_library(options.source, scratch, options.photos)
    for name, action in ACTIONS.items():
        fast = measure(action, scratch, 0.0, 1e12)
        slow = measure(action, scratch, options.seek, options.speed)
        row = {"what": name, "no_delay_s": round(fast, 2), "slow_disk_s": round(slow, 2)}
        print(json.dumps(row), flush=True)


def make_library(source: Path, scratch: Path, count: int) -> None:
    """The photos and their index, made once, behind a mount without delay."""
    disk = scratch / "disk"
    if (disk / "cache").exists():
        return
    found = sorted(source.rglob("*.jpg"))
    for number in range(count):
        place = disk / "home" / f"{2000 + number % 20}" / f"{number:05}.jpg"
        place.parent.mkdir(parents=True, exist_ok=True)
        data = found[number % len(found)].read_bytes()
        if place.exists():
            continue
        place.write_bytes(data + (str(number).encode() if number >= len(found) else b""))
    with slow_mount(disk, scratch / "mounted", 0.0, 1e12) as place:
        run(place, "index", str(place / "home"))
        run(place, "query", "a red barn")  # the names of places are prepared once


def measure(action: Action, scratch: Path, seek: float, speed: float) -> float:
    """Seconds of an action on the library, which is put back as it was."""
    shutil.rmtree(scratch / "away", ignore_errors=True)
    shutil.copytree(scratch / "disk" / "library", scratch / "away")
    with slow_mount(scratch / "disk", scratch / "mounted", seek, speed) as place:
        seconds = action(place)
    shutil.rmtree(scratch / "disk" / "library")
    shutil.move(scratch / "away", scratch / "disk" / "library")
    return seconds


def run(place: Path, *arguments: str) -> float:
    """Seconds of a command in a pipe."""
    started = time.monotonic()
    subprocess.run(
        [sys.executable, "-m", "lensctl", *arguments],
        env={**os.environ, **environment_of(place)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        check=arguments[0] != "duplicates",  # which ends with 1 where there are none
    )
    return time.monotonic() - started


def command(*arguments: str) -> Action:
    """A command; `{}` in an argument is the disk."""
    return lambda place: run(place, *(one.format(place) for one in arguments))


def in_terminal(*arguments: str) -> Action:
    """A command in a terminal with kitty's graphics."""

    def act(place: Path) -> float:
        started = time.monotonic()
        names = [one.format(place) for one in arguments]
        terminal = Terminal(names, environment_of(place), graphics="kitty", background="0/0/0")
        if status := terminal.wait_for_exit():
            sys.exit(f"{arguments} ended with {status}:\n{terminal.text()}")
        return time.monotonic() - started

    return act


def without_copies(action: Action) -> Action:
    """The same with no small copies kept by earlier runs."""

    def act(place: Path) -> float:
        copies = place.with_name("disk") / "cache" / "lensctl" / "thumbnails"
        shutil.rmtree(copies, ignore_errors=True)
        return action(place)

    return act


def shell_answer(number: int) -> Action:
    """The first, second, ... answer of one shell, without thumbnails."""
    lines = ["a red barn", "1 at night", "1 + 2 by the sea not people"]

    def act(place: Path) -> float:
        terminal = Terminal(["shell", "--no-thumbs"], environment_of(place))
        terminal.wait_for("lensctl>")
        for count, line in enumerate(lines[:number], 1):
            started = time.monotonic()
            terminal.type(f"{line}\r")
            terminal.wait_for("photos in", occurrences=count)
            seconds = time.monotonic() - started
        terminal.type("\x04")
        terminal.wait_for_exit()
        return seconds

    return act


def export(*options: str) -> Action:
    """Ten results brought to an empty folder of the same disk."""

    def act(place: Path) -> float:
        shutil.rmtree(place.with_name("disk") / "chosen", ignore_errors=True)
        return run(place, "export", "a dog", "--to", str(place / "chosen"), *options)

    return act


_THUMBS = in_terminal("query", "a red barn")
_PAGE = command("query", "a red barn", "--html", "{}/page.html")
ACTIONS: dict[str, Action] = {
    "status": command("status"),
    "index, nothing new": command("index"),
    "query: words": command("query", "a red barn"),
    "query: photo and words": command("query", "{}/home/2000/00000.jpg", "at night"),
    "query with thumbnails, first time": without_copies(_THUMBS),
    "query with thumbnails, again": _THUMBS,
    "query --html, first time": without_copies(_PAGE),
    "query --html, again": _PAGE,
    "shell: first answer": shell_answer(1),
    "shell: second answer": shell_answer(2),
    "shell: third answer": shell_answer(3),
    "export, 10 copies": export(),
    "export --link": export("--link"),
    "duplicates --exact": command("duplicates", "--exact"),
}


if __name__ == "__main__":
    main()
