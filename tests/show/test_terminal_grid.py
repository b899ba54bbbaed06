"""Thumbnails in a real pseudo-terminal, in the three ways a terminal can show them."""

import base64
import io
import os
import re
import sys
import time
from pathlib import Path

import pexpect
import pytest
from PIL import Image

from lensctl.show.thumb_cache import ThumbnailCache
from support.command import Run, environment_of
from support.terminal import CELL_SIZE, DEVICE_ATTRIBUTES, Terminal


@pytest.fixture(scope="module")
def query(home: Path):
    def run(*arguments: str, **options: object) -> Terminal:
        chosen = ["query", "a cat", "-k", "4", *arguments]
        terminal = Terminal(chosen, environment_of(home), **options)
        assert terminal.wait_for_exit() == 0, terminal.text()
        return terminal

    return run


def test_half_blocks_show_the_photo_itself(query, home: Path) -> None:
    terminal = query(size=(40, 100), background="1010/2020/3030")
    lines = terminal.text().splitlines()
    caption = next(n for n, line in enumerate(lines) if re.search(r"1 [01]\.\d\d", line))
    assert "chelsea.jpg" in lines[caption]
    assert "".join(lines).count("▀") > 500
    # The picture's corner cells have the colours of the photo's corners.
    photo = Image.open(home / "photos" / "chelsea.jpg").resize((22, 16))
    screen_row = caption - len(terminal.screen.history.top) - 1
    cell = terminal.screen.buffer[screen_row][0]
    shown = tuple(int(cell.bg[at : at + 2], 16) for at in (0, 2, 4))
    wanted = photo.getpixel((0, 15))
    assert max(abs(a - b) for a, b in zip(shown, wanted, strict=True)) < 30


def test_the_grid_fits_the_window(query) -> None:
    for columns in (30, 60, 130):
        terminal = query(size=(40, columns))
        captions = [
            line for line in terminal.text().splitlines() if re.match(r"\d [01]\.\d\d ", line)
        ]
        abreast = (columns + 2) // 24 if columns >= 48 else 1
        assert len(re.findall(r"(?:^|  )\d [01]\.\d\d ", captions[0])) == min(abreast, 4)
        assert max(map(len, terminal.text().splitlines())) <= columns


def test_sixel(query) -> None:
    terminal = query(graphics="sixel")
    (picture,) = re.findall(rb"\x1bP[\d;]*q\"1;1;(\d+);(\d+)(.*?)\x1b\\", terminal.raw, re.DOTALL)
    width, height, body = int(picture[0]), int(picture[1]), picture[2]
    assert width == (4 * 25 - 2) * 10  # cells of 10 by 20 pixels
    assert body.count(b"-") + 1 >= height // 6
    assert b"\x1b_G" not in terminal.raw.split(b"a=q")[-1][40:]


def test_kitty_graphics(query) -> None:
    terminal = query(graphics="kitty")
    messages = re.findall(rb"\x1b_G([^;\x1b]*);([^\x1b]*)\x1b\\", terminal.raw)
    chunks = [payload for keys, payload in messages if b"f=100" in keys]
    picture = Image.open(io.BytesIO(base64.b64decode(b"".join(chunks))))
    assert picture.width == (4 * 25 - 2) * 10
    assert "\U0010eeee".encode() in terminal.raw


def test_gaps_have_the_terminals_own_colour(query) -> None:
    terminal = query(graphics="kitty", background="ffff/ffff/ffff")
    messages = re.findall(rb"\x1b_G([^;\x1b]*);([^\x1b]*)\x1b\\", terminal.raw)
    chunks = [payload for keys, payload in messages if b"f=100" in keys]
    picture = Image.open(io.BytesIO(base64.b64decode(b"".join(chunks)))).convert("RGB")
    assert picture.getpixel((23 * 10 + 5, picture.height - 1)) == (255, 255, 255)


def test_no_thumbs_where_they_are_not_wanted(query) -> None:
    for terminal in (query("--no-thumbs"), query("--paths"), query("--json")):
        assert "▀" not in terminal.text()
        assert b"\x1b_G" not in terminal.raw


def test_blocks_without_colours_are_not_drawn(home: Path) -> None:
    environment = {**environment_of(home), "NO_COLOR": "1"}
    terminal = Terminal(["query", "a cat", "-k", "2"], environment, size=(40, 200))
    assert terminal.wait_for_exit() == 0
    assert "▀" not in terminal.text()
    assert "chelsea.jpg" in terminal.text()


@pytest.mark.parametrize(("columns", "facts"), [(40, ""), (70, "taken"), (120, "taken camera")])
def test_a_narrow_table_leaves_room_for_the_path(query, columns: int, facts: str) -> None:
    lines = query("--no-thumbs", size=(40, columns)).text().splitlines()
    header = next(line for line in lines if "score" in line)
    assert header.split()[3:] == facts.split()
    (best,) = (line for line in lines if line.startswith(" 1 "))
    assert "/photos/chelsea.jpg" in "".join(best.split()) or columns < 100
    assert max(map(len, lines)) <= columns


def test_no_thumbs_in_a_pipe(lensctl: Run) -> None:
    done = lensctl("query", "a cat", "--thumbs", "-k", "2")
    assert done.stdout.count("\n") == 2
    assert "\x1b" not in done.stdout


def test_nothing_is_written_beside_the_photos(query, home: Path) -> None:
    before = sorted((home / "photos").iterdir())
    query()
    assert sorted((home / "photos").iterdir()) == before
    cache = home / "cache" / "lensctl" / "thumbnails"
    assert len(list(cache.iterdir())) >= 4
    assert cache.stat().st_mode & 0o777 == 0o700


def test_a_photo_on_a_disk_that_is_away_is_shown_from_the_cache(query, home: Path) -> None:
    query()
    photos, away = home / "photos", home / "away"
    photos.rename(away)
    try:
        terminal = query()
    finally:
        away.rename(photos)
    assert "▀" in terminal.text()


def test_the_cache_keeps_its_bound_and_what_was_used_last(tmp_path: Path) -> None:
    cache = ThumbnailCache(tmp_path / "thumbs", max_bytes=10_000)
    for number in range(10):
        cache.get(f"{number:02}", lambda: b"x" * 1000)
        os.utime(tmp_path / "thumbs" / f"{number:02}.jpg", (number, number))
    assert cache.get("00", pytest.fail) == b"x" * 1000
    cache.get("10", lambda: b"y" * 1000)
    cache.trim()
    kept = {one.stem for one in (tmp_path / "thumbs").iterdir()}
    assert {"00", "10"} <= kept
    assert len(kept) == 8
    assert "01" not in kept


def test_a_cache_that_cannot_be_written_is_no_obstacle(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    cache = ThumbnailCache(tmp_path / "file" / "thumbs")
    assert cache.get("a", lambda: b"made") == b"made"
    cache.trim()


def test_a_damaged_copy_is_made_again(home: Path, tmp_path: Path) -> None:
    cache = ThumbnailCache(tmp_path / "thumbs")
    photo = home / "photos" / "coffee.jpg"
    copy = cache.copy_of(photo, "ab")
    (kept,) = cache.folder.iterdir()
    kept.write_bytes(copy[:-100])
    assert cache.copy_of(photo, "ab") == copy
    assert kept.read_bytes() == copy


def test_a_terminal_of_no_size_gets_the_table_alone(home: Path) -> None:
    """What `script` without a terminal, expect and serial lines give."""
    ours = {name: value for name, value in os.environ.items() if name not in ("COLUMNS", "LINES")}
    process = pexpect.spawn(
        sys.executable,
        ["-m", "lensctl", "query", "a cat", "-k", "1"],
        env={**ours, **environment_of(home), "TERM": "xterm"},
        dimensions=(0, 0),
        timeout=60,
        encoding="utf-8",
    )
    told = process.read()
    process.close()
    assert process.exitstatus == 0, told
    assert re.search(r"[01]\.\d\d", told), told
    assert "Traceback" not in told


class _Mumbling(Terminal):
    """Leaves the width out where it is asked for the size of a cell."""

    def _answer(self) -> None:
        if CELL_SIZE in self.raw[self._answered :]:
            self._answered = len(self.raw)
            self.process.send("\x1b[6;20t\x1b[?62c")
        super()._answer()


def test_a_terminal_of_unknown_cells_gets_the_usual_ones(home: Path) -> None:
    terminal = _Mumbling(["query", "a cat", "-k", "1"], environment_of(home), size=(40, 200))
    assert terminal.wait_for_exit() == 0, terminal.text()
    assert CELL_SIZE in terminal.raw
    assert "▀" in terminal.text()


class _Far(Terminal):
    """Its answers take their time, as over a slow network."""

    def _answer(self) -> None:
        if DEVICE_ATTRIBUTES in self.raw[self._answered :]:
            time.sleep(0.4)
        super()._answer()


_AS_A_SHELL = """
import os, select, subprocess, sys, termios, time, tty
background = sys.argv[1] == "background"
os.read(0, int(sys.argv[2]))
query = [sys.executable, "-m", "lensctl", "query", "a cat", "-k", "1"]
started = subprocess.Popen(query, process_group=0 if background else None)
_, status = os.waitpid(started.pid, os.WUNTRACED)
print("stopped" if os.WIFSTOPPED(status) else f"ended {os.waitstatus_to_exitcode(status)}")
started.kill()
tty.setcbreak(0, termios.TCSANOW)
left = b""
while select.select([0], [], [], 0.5)[0]:
    left += os.read(0, 100)
print("left", left)
"""


def _as_a_shell(home: Path, how: str, kind: type[Terminal] = Terminal, typed: str = "") -> Terminal:
    """A query, started as a shell does that reads the next command afterwards."""
    program = (sys.executable, "-c", _AS_A_SHELL)
    # The first key is waited for, so that the others are there before the query begins.
    arguments = [how, "1" if typed else "0"]
    terminal = kind(arguments, environment_of(home), graphics="sixel", program=program)
    terminal.type(typed)
    assert terminal.wait_for_exit() == 0, terminal.text()
    return terminal


def test_answers_that_come_late_are_not_left_for_the_shell(home: Path) -> None:
    terminal = _as_a_shell(home, "foreground", _Far)
    assert "left b''" in terminal.text()
    assert b"\x1bP" in terminal.raw  # and they are believed


def test_what_was_typed_ahead_is_left_for_the_shell(home: Path) -> None:
    terminal = _as_a_shell(home, "foreground", typed="\ndate\nwho")
    assert "date" in terminal.text().split("left")[1]
    assert "who" in terminal.text().split("left")[1]
    assert "▀" in terminal.text()
    assert DEVICE_ATTRIBUTES not in terminal.raw


def test_a_query_in_the_background_is_not_stopped(home: Path) -> None:
    terminal = _as_a_shell(home, "background")
    assert "ended 0" in terminal.text()
    assert DEVICE_ATTRIBUTES not in terminal.raw
