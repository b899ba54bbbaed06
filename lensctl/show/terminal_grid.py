"""Results as a grid of thumbnails in the terminal: kitty graphics, Sixel, or coloured half blocks.

`textual_image` finds out what the terminal can do by asking it. A row of the grid is one picture,
for a terminal places pictures one under the other only; captions follow as text.
"""

import io
import logging
import os
import re
import select
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

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

_Colour = tuple[int, int, int]


def can_show(file: TextIO) -> bool:
    """Whether thumbnails make sense: a person at a terminal, and not the dumbest of them."""
    if not (file.isatty() and sys.stdin.isatty()) or os.environ.get("TERM", "dumb") == "dumb":
        return False
    size = os.get_terminal_size(file.fileno())
    return size.columns > 0 and size.lines > 0  # a serial line or a script says nothing of it


def print_grid(
    results: Sequence[Result], file: TextIO, cache: ThumbnailCache, *, first: int = 1
) -> None:
    """Print numbered thumbnails, as many abreast as the window is wide.

    Photos that cannot be read, or whose disk is away, leave an empty frame. Where only coloured
    blocks could be drawn, and NO_COLOR forbids colours, nothing is; nor where the terminal tells
    no size of its cells that could be understood.
    """
    from rich.console import Console

    # The library warns, with a traceback, where a terminal does not tell the size of a cell.
    logging.getLogger("textual_image").setLevel(logging.ERROR)
    background = _ask_background() or (0, 0, 0)
    from textual_image._terminal import get_cell_size
    from textual_image.renderable import HalfcellImage
    from textual_image.renderable import Image as TerminalImage

    console = Console(file=file, highlight=False)
    if TerminalImage is HalfcellImage and console.no_color:
        return  # blocks without their colours show nothing
    try:
        cell = get_cell_size()
    except ValueError:  # an answer in a form that the library does not expect
        return
    columns = max(1, min(len(results), (console.width + _GAP_COLUMNS) // _CELL_COLUMNS))
    with ThreadPoolExecutor(_READERS) as readers:
        pictures = list(readers.map(lambda result: _thumbnail(result, cache), results))
    cache.trim()
    grid = _Grid(console, columns, background, TerminalImage, cell)
    if TerminalImage is HalfcellImage:
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


@cache
def _ask_background() -> _Colour | None:
    """The terminal's background colour; None where it does not say. Asked once.

    Keys that were typed ahead are lost with the answer.

    The question (OSC 11) is followed by one that every terminal answers (device attributes), so
    that silence is noticed without waiting.
    """
    import termios
    import tty

    terminal = sys.stdin.fileno()
    before = termios.tcgetattr(terminal)
    tty.setcbreak(terminal, termios.TCSANOW)
    try:
        sys.stdout.write("\x1b]11;?\x1b\\\x1b[c")
        sys.stdout.flush()
        answer = b""
        while not re.search(rb"\x1b\[\?[\d;]*c", answer):
            if not select.select([terminal], [], [], 0.2)[0]:
                break
            answer += os.read(terminal, 256)
    finally:
        termios.tcsetattr(terminal, termios.TCSANOW, before)
    found = re.search(rb"rgb:([0-9a-f]+)/([0-9a-f]+)/([0-9a-f]+)", answer, re.IGNORECASE)
    if not found:
        return None
    red, green, blue = (int(part[:2].ljust(2, b"0"), 16) for part in found.groups())
    return red, green, blue
