"""A terminal photographed: what its emulator holds, drawn cell by cell.

Pictures sent by kitty's graphics protocol are put where the emulator was told to put them.
"""

import base64
import io
import re
import subprocess

from PIL import Image, ImageDraw, ImageFont

from support.terminal import Terminal

CELL = (10, 20)
INK, PAPER = "#d8d4cd", "#161514"
NAMED = {
    "default": INK,
    "black": "#161514",
    "brightblack": "#8a857d",
    "red": "#e0695f",
    "green": "#7fb77e",
    "brown": "#d9a05b",
    "blue": "#7aa6da",
    "magenta": "#c397d8",
    "cyan": "#70c0b1",
    "white": INK,
}
PLACEHOLDER = "\U0010eeee"


def photograph(terminal: Terminal, font_file: str) -> Image.Image:
    """All that can be seen and what has scrolled out above, without empty lines at the end."""
    font = ImageFont.truetype(font_file, 16)
    screen = terminal.screen
    rows = [*screen.history.top, *(screen.buffer[y] for y in range(screen.lines))]
    while rows and not any(rows[-1][x].data.strip() for x in range(screen.columns)):
        rows.pop()
    picture = Image.new("RGB", (screen.columns * CELL[0] + 24, len(rows) * CELL[1] + 24), PAPER)
    pen = ImageDraw.Draw(picture)
    for y, row in enumerate(rows):
        for x in range(screen.columns):
            _draw_cell(pen, 12 + x * CELL[0], 12 + y * CELL[1], row[x], font)
    _paste_kitty_pictures(picture, terminal, rows)
    return picture.quantize(256)


def _draw_cell(pen, x: int, y: int, cell, font) -> None:  # type: ignore[no-untyped-def]
    across, down = CELL
    back = _colour(cell.bg, PAPER)
    if back != PAPER:
        pen.rectangle((x, y, x + across - 1, y + down - 1), fill=back)
    if cell.data == "▀":
        pen.rectangle((x, y, x + across - 1, y + down // 2 - 1), fill=_colour(cell.fg, INK))
    elif cell.data.strip() and PLACEHOLDER not in cell.data:
        pen.text((x, y), cell.data, fill=_colour(cell.fg, INK), font=font)


def _colour(name: str, default: str) -> str:
    if name == "default":
        return default
    named = NAMED.get(name) or NAMED.get(name.replace("bright", ""))
    return named or (f"#{name}" if re.fullmatch(r"[0-9a-f]{6}", name) else INK)


def _paste_kitty_pictures(picture: Image.Image, terminal: Terminal, rows) -> None:  # type: ignore[no-untyped-def]
    sent: dict[bytes, bytes] = {}
    for keys, payload in re.findall(rb"\x1b_G([^;\x1b]*);([^\x1b]*)\x1b\\", terminal.raw):
        if b"f=100" in keys:
            number = re.search(rb"i=(\d+)", keys)[1]
            sent[number] = sent.get(number, b"") + payload
    columns = range(terminal.screen.columns)
    starts = [y for y, row in enumerate(rows) if PLACEHOLDER in row[0].data]
    tops = [y for y in starts if y - 1 not in starts]
    for top, data in zip(tops, sent.values(), strict=True):
        image = Image.open(io.BytesIO(base64.b64decode(data))).convert("RGB")
        high = next(n for n in range(1, 99) if top + n not in starts)
        wide = sum(PLACEHOLDER in rows[top][x].data for x in columns)
        image = image.resize((wide * CELL[0], high * CELL[1]))
        picture.paste(image, (12, 12 + top * CELL[1]))


def system_font() -> str:
    """The file of the system's monospaced font."""
    found = subprocess.run(
        ["fc-match", "-f", "%{file}", "monospace"], capture_output=True, text=True
    )
    return found.stdout
