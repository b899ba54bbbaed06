"""Results as a grid of thumbnails in the terminal: kitty graphics, Sixel, or coloured half blocks.

What the terminal can do, it is asked. A row of the grid is one picture, for a terminal places
pictures one under the other only; captions follow as text.
"""

import io
import logging
import os
import re
import select
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, TextIO

from lensctl.errors import PhotoError
from lensctl.show.names import show_path
from lensctl.show.result import Result
from lensctl.show.thumb_cache import ThumbnailCache

if TYPE_CHECKING:
    from PIL import Image
    from rich.console import Console
    from textual_image._terminal import CellSize

_DRAWN_SIDE = 512
_CELL_COLUMNS = 24
_GAP_COLUMNS = 2
_READERS = 8
_PATIENCE = 2.0
"""Seconds for a terminal's answer: it may be at the far end of a slow network."""

_Colour = tuple[int, int, int]


def can_show(file: TextIO) -> bool:
    """Whether thumbnails make sense: a person at a terminal, and not the dumbest of them."""
    if not (file.isatty() and sys.stdin.isatty()) or os.environ.get("TERM", "dumb") == "dumb":
        return False
    if not _in_foreground(sys.stdin.fileno()):  # who asks the terminal from there is stopped
        return False
    size = os.get_terminal_size(file.fileno())
    return size.columns > 0 and size.lines > 0  # a serial line or a script says nothing of it


def print_grid(
    results: Sequence[Result], file: TextIO, cache: ThumbnailCache, *, first: int = 1
) -> None:
    """Print numbered thumbnails, as many abreast as the window is wide.

    Photos that cannot be read, or whose disk is away, leave an empty frame. Where only coloured
    blocks could be drawn, and NO_COLOR forbids colours, nothing is.
    """
    from rich.console import Console

    answers = _ask()
    if answers is None:
        _ask.cache_clear()
        answers = b""
    _answer_for_the_terminal(answers)
    from textual_image._terminal import get_cell_size
    from textual_image.renderable import HalfcellImage, SixelImage, TGPImage

    console = Console(file=file, highlight=False)
    attributes = _ATTRIBUTES.search(answers)
    terminal_image: Any = HalfcellImage
    if attributes and b"4" in attributes[1].split(b";"):
        terminal_image = SixelImage
    elif b"\x1b_Gi=1;OK" in answers:
        terminal_image = TGPImage
    elif console.no_color:
        return  # blocks without their colours show nothing
    columns = max(1, min(len(results), (console.width + _GAP_COLUMNS) // _CELL_COLUMNS))
    with ThreadPoolExecutor(_READERS) as readers:
        pictures = list(readers.map(lambda result: _thumbnail(result, cache), results))
    cache.trim()
    grid = _Grid(console, columns, _background(answers), terminal_image, get_cell_size())
    if terminal_image is HalfcellImage:
        grid.pixels = (1, 2)  # drawn at the resolution that is shown, nothing bleeds into the gaps
    for start in range(0, len(results), columns):
        grid.print_row(
            first + start, results[start : start + columns], pictures[start : start + columns]
        )


class _Grid:
    """Rows of cells of one size."""

    def __init__(
        self,
        console: "Console",
        columns: int,
        background: _Colour,
        terminal_image: Any,
        cell: "CellSize",
    ) -> None:
        self._console = console
        self._background = background
        self._terminal_image = terminal_image
        self._width = min((console.width + _GAP_COLUMNS) // columns, 2 * _CELL_COLUMNS)
        self.pixels = (cell.width, cell.height)
        inner = (self._width - _GAP_COLUMNS) * cell.width
        self._height = max(4, min(round(inner * 0.75 / cell.height), console.height - 4))

    def print_row(
        self, start: int, results: Sequence[Result], pictures: Sequence["Image.Image | None"]
    ) -> None:
        from rich.text import Text

        if start > 1:
            self._console.print()
        strip = self._strip(pictures)
        cells = self._width * len(pictures) - _GAP_COLUMNS
        self._console.print(self._terminal_image(strip, width=cells, height=self._height), end="")
        captions = Text(no_wrap=True, overflow="crop")
        for number, result in enumerate(results, start):
            label = f"{number} "
            name = show_path(os.path.basename(result.path))
            room = self._width - _GAP_COLUMNS
            caption = Text.assemble((label, "bold"), f"{result.score:.2f} ", (name, "dim"))
            caption.truncate(room, overflow="ellipsis")
            caption.pad_right(self._width - caption.cell_len)
            captions.append(caption)
        self._console.print(captions)

    def _strip(self, pictures: Sequence["Image.Image | None"]) -> "Image.Image":
        from PIL import Image

        across, down = self.pixels
        step, room = self._width * across, (self._width - _GAP_COLUMNS) * across
        size = (step * len(pictures) - _GAP_COLUMNS * across, self._height * down)
        strip = Image.new("RGB", size, self._background)
        for place, picture in enumerate(pictures):
            if picture is None:
                frame = Image.new("RGB", (room, size[1]), (128, 128, 128))
                frame.paste(self._background, (1, 1, room - 1, size[1] - 1))
                strip.paste(frame, (place * step, 0))
                continue
            fitted = _fit(picture, room, size[1])
            # Against the left and the bottom: near its number.
            strip.paste(fitted, (place * step, size[1] - fitted.height))
        return strip


def _fit(picture: "Image.Image", width: int, height: int) -> "Image.Image":
    scale = min(width / picture.width, height / picture.height)
    size = (max(1, round(picture.width * scale)), max(1, round(picture.height * scale)))
    return picture.resize(size, reducing_gap=2.0)


def _thumbnail(result: Result, cache: ThumbnailCache) -> "Image.Image | None":
    from PIL import Image

    try:
        jpeg = cache.copy_of(Path(os.fsdecode(result.path)), result.content_hash.hex())
    except PhotoError:
        return None
    picture = Image.open(io.BytesIO(jpeg))
    picture.draft("RGB", (_DRAWN_SIDE, _DRAWN_SIDE))
    return picture.convert("RGB")


def _in_foreground(terminal: int) -> bool:
    try:
        return os.tcgetpgrp(terminal) == os.getpgrp()
    except OSError:  # it does not control our jobs
        return True


@cache
def _ask() -> bytes | None:
    """What the terminal answers about itself. Asked once.

    None where keys that were typed ahead wait: nothing is asked then, for the answer would have to
    be told from them. Keys that are typed while the answer is awaited are lost.

    Every terminal answers the last question (device attributes), and in order: when that answer is
    here, no other one comes any more, and none is left for the shell to read as a command.
    """
    import termios
    import tty

    terminal = sys.stdin.fileno()
    before = termios.tcgetattr(terminal)
    tty.setcbreak(terminal, termios.TCSANOW)
    try:
        if select.select([terminal], [], [], 0)[0]:
            return None
        sys.stdout.write(_questions())
        sys.stdout.flush()
        answer = b""
        end = time.monotonic() + _PATIENCE
        while not _ATTRIBUTES.search(answer):
            if not select.select([terminal], [], [], max(0.0, end - time.monotonic()))[0]:
                termios.tcflush(terminal, termios.TCIFLUSH)
                break
            if not (block := os.read(terminal, 256)):  # it was closed
                break
            answer += block
    finally:
        termios.tcsetattr(terminal, termios.TCSANOW, before)
    return answer


_ATTRIBUTES = re.compile(rb"\x1b\[\?\d*([;\d]*)c")


def _questions() -> str:
    background, cell, attributes = "\x1b]11;?\x1b\\", "\x1b[16t", "\x1b[c"
    kitty = "\x1b_Gi=1,s=1,v=1,a=q,t=d,f=24;AAAA\x1b\\"
    if os.environ.get("TERM", "").startswith(("tmux", "screen")):
        kitty = ""  # they would show it as a title
    return background + cell + kitty + attributes


def _background(answers: bytes) -> _Colour:
    found = re.search(rb"rgb:([0-9a-f]+)/([0-9a-f]+)/([0-9a-f]+)", answers, re.IGNORECASE)
    if not found:
        return (0, 0, 0)
    red, green, blue = (int(part[:2].ljust(2, b"0"), 16) for part in found.groups())
    return red, green, blue


def _answer_for_the_terminal(answers: bytes) -> None:
    """Keep `textual_image` from asking by itself, as it is imported: it waits a tenth of a second.

    What answers later would be left for the shell to read.
    """
    from textual_image import _terminal

    def silence(*_: object, **__: object) -> NoReturn:
        raise TimeoutError

    _terminal.capture_terminal_response = silence
    # The library warns, with a traceback, where a terminal does not tell the size of a cell.
    logging.getLogger("textual_image").setLevel(logging.ERROR)
    if size := re.search(rb"\x1b\[6;(\d+);(\d+)t", answers):
        cell = _terminal.CellSize(height=int(size[1]), width=int(size[2]))
        _terminal.get_cell_size._result = cell  # type: ignore[attr-defined]
