"""Make the pictures of docs/results.md: real runs of lensctl, photographed.

    python docs/pictures.py [FONT.ttf]

Needs the test requirements, chromium and chromedriver. The photos are those inside the scikit-image
wheel. A terminal is photographed by drawing what its emulator holds, cell by cell; pictures sent by
kitty's graphics protocol are put where the emulator was told to put them.
"""

import base64
import io
import re
import subprocess
import sys
import tempfile
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "tests"))

from support.browser import open_browser  # noqa: E402
from support.command import environment_of, run_in  # noqa: E402
from support.sample_photos import write_sample_photos  # noqa: E402
from support.terminal import Terminal  # noqa: E402

IMAGES = ROOT / "docs" / "images"
CELL = (10, 20)
INK, PAPER = "#d8d4cd", "#161514"
NAMED = {
    "default": INK,
    "black": "#161514",
    "red": "#e0695f",
    "green": "#7fb77e",
    "brown": "#d9a05b",
    "blue": "#7aa6da",
    "magenta": "#c397d8",
    "cyan": "#70c0b1",
    "white": INK,
}
PLACEHOLDER = "\U0010eeee"


def main() -> None:
    """Make them all."""
    IMAGES.mkdir(exist_ok=True)
    font = sys.argv[1] if len(sys.argv) > 1 else _system_font()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_sample_photos(folder / "home" / "Photos")
        run_in(folder, "index", folder / "home" / "Photos")
        _photograph_query(folder, font)
        _photograph_shell(folder, font)
        _photograph_sheet(folder)


def _photograph_query(folder: Path, font: str) -> None:
    arguments = ["query", str(folder / "home" / "Photos" / "coffee.jpg"), "a cat", "-k", "8"]
    for graphics, name in (("", "query-half-blocks"), ("kitty", "query-kitty")):
        terminal = Terminal(
            arguments,
            environment_of(folder),
            size=(46, 104),
            graphics=graphics,
            background="1616/1515/1414",
        )
        terminal.wait_for_exit()
        _draw(terminal, font).save(IMAGES / f"{name}.png", optimize=True)


def _photograph_shell(folder: Path, font: str) -> None:
    terminal = Terminal(
        ["shell", "-k", "4"], environment_of(folder), size=(44, 104), background="1616/1515/1414"
    )
    terminal.wait_for("lensctl>")
    for number, line in enumerate(("a cat", "1 in space"), 1):
        terminal.type(f"{line}\r")
        terminal.wait_for("photos in", occurrences=number)
    terminal.type("\x04")
    terminal.wait_for_exit()
    _draw(terminal, font).save(IMAGES / "shell.png", optimize=True)


def _photograph_sheet(folder: Path) -> None:
    page = folder / "results.html"
    photo = folder / "home" / "Photos" / "coffee.jpg"
    run_in(folder, "query", photo, "a cat", "-k", "8", "--html", page)
    with open_browser(folder / "profile") as browser:
        browser.get(page.as_uri())
        _shoot(browser, "sheet-light", 1180, 1010)
        features = [{"name": "prefers-color-scheme", "value": "dark"}]
        browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
        _shoot(browser, "sheet-phone", 390, 844, scale=1.5)
        browser.execute_script("document.querySelectorAll('.view')[1].click()")
        _shoot(browser, "sheet-large", 1180, 760)


def _shoot(browser, name: str, width: int, height: int, scale: float = 1) -> None:  # type: ignore[no-untyped-def]
    metrics = {"width": width, "height": height, "deviceScaleFactor": scale, "mobile": width < 500}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    shot = browser.execute_cdp_cmd("Page.captureScreenshot", {"format": "png"})
    image = Image.open(io.BytesIO(base64.b64decode(shot["data"]))).convert("RGB")
    image.quantize(256).save(IMAGES / f"{name}.png", optimize=True)


def _draw(terminal: Terminal, font_file: str) -> Image.Image:
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
    return NAMED.get(name.replace("bright", ""), f"#{name}" if len(name) == 6 else INK)


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


def _system_font() -> str:
    found = subprocess.run(
        ["fc-match", "-f", "%{file}", "monospace"], capture_output=True, text=True
    )
    return found.stdout


if __name__ == "__main__":
    main()
