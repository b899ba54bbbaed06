"""Make the pictures of docs/results.md: real runs of lensctl, photographed.

    python docs/pictures.py [--font FONT.ttf] [NAME...]

Needs the test requirements, chromium and chromedriver, bash, zsh and fish. The photos are those
inside the scikit-image wheel. With names (query, shell, sheet, duplicates, export, watch,
completion) only those pictures are made.
"""

import argparse
import base64
import io
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from PIL import Image

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from terminal_picture import photograph, system_font

from support.browser import open_browser
from support.command import environment_of, run_in
from support.sample_photos import write_sample_photos
from support.terminal import Terminal

IMAGES = Path(__file__).parent / "images"
PROGRAMS = Path(sys.executable).parent
BACKGROUND = "1616/1515/1414"


class Studio:
    """A folder with photos that are indexed, and a font."""

    def __init__(self, folder: Path, font: str) -> None:
        self.folder = folder
        self.photos = folder / "home" / "Photos"
        self._font = font
        write_sample_photos(self.photos)

    def index(self) -> None:
        """Index the photos, and have the names of places ready."""
        run_in(self.folder, "index", self.photos)
        run_in(self.folder, "query", "coffee")

    def environment(self) -> dict[str, str]:
        """Of every program that is photographed."""
        path = f"{PROGRAMS}:{os.environ['PATH']}"
        return {**environment_of(self.folder), "PATH": path, "PS1": "$ ", "LC_ALL": "C.UTF-8"}

    def run(self, *arguments: str, lines: int = 46, graphics: str = "") -> Terminal:
        """lensctl in a terminal."""
        return Terminal(
            arguments,
            self.environment(),
            size=(lines, 104),
            graphics=graphics,
            background=BACKGROUND,
        )

    def open_shell(self, *program: str, lines: int = 30) -> Terminal:
        """A shell in a terminal, in the home folder."""
        return Terminal(
            [],
            self.environment(),
            size=(lines, 104),
            background=BACKGROUND,
            program=program,
            folder=self.folder / "home",
        )

    def save(self, terminal: Terminal, name: str) -> None:
        """Photograph a terminal."""
        photograph(terminal, self._font).save(IMAGES / f"{name}.png", optimize=True)


def photograph_query(studio: Studio) -> None:
    """Thumbnails: with kitty's graphics, and with half blocks."""
    studio.index()
    for graphics, name in (("", "query-half-blocks"), ("kitty", "query-kitty")):
        photo = str(studio.photos / "coffee.jpg")
        terminal = studio.run("query", photo, "a cat", "-k", "8", graphics=graphics)
        terminal.wait_for_exit()
        studio.save(terminal, name)


def photograph_shell(studio: Studio) -> None:
    """Two questions; then several photos, and "not"."""
    studio.index()
    _converse(studio, ("a cat", "1 in space"), "shell")
    _converse(studio, ("food", "food not coffee", "1 + 2"), "shell-several", graphics="kitty")


def _converse(studio: Studio, lines: Sequence[str], name: str, graphics: str = "") -> None:
    terminal = studio.run("shell", "-k", "4", lines=60, graphics=graphics)
    terminal.wait_for("lensctl>")
    for number, line in enumerate(lines, 1):
        terminal.type(f"{line}\r")
        terminal.wait_for("photos in", occurrences=number)
    terminal.type("\x04")
    terminal.wait_for_exit()
    studio.save(terminal, name)


def photograph_sheet(studio: Studio) -> None:
    """The page of a query: light, dark on a phone, a photo large."""
    studio.index()
    page = studio.folder / "results.html"
    photo = studio.photos / "coffee.jpg"
    run_in(studio.folder, "query", photo, "a cat", "-k", "8", "--html", page)
    with open_browser(studio.folder / "profile") as browser:
        browser.get(page.as_uri())
        _shoot(browser, "sheet-light", 1180, 1010)
        features = [{"name": "prefers-color-scheme", "value": "dark"}]
        browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
        _shoot(browser, "sheet-phone", 390, 844, scale=1.5)
        browser.execute_script("document.querySelectorAll('.view')[1].click()")
        _shoot(browser, "sheet-large", 1180, 760)


def photograph_duplicates(studio: Studio) -> None:
    """Copies, exact and altered: in the terminal and as a page."""
    shutil.copy(studio.photos / "rocket.jpg", studio.photos / "rocket (copy).jpg")
    with Image.open(studio.photos / "coffee.jpg") as coffee:
        coffee.resize((300, 200)).save(studio.photos / "coffee-small.jpg", quality=60)
    with Image.open(studio.photos / "chelsea.jpg") as cat:
        cat.convert("L").save(studio.photos / "chelsea-grey.jpg")
    studio.index()
    bash = studio.open_shell("bash", "--norc", "--noprofile")
    _enter(bash, "lensctl duplicates --html copies.html", "wrote")
    _leave(bash)
    studio.save(bash, "duplicates")
    with open_browser(studio.folder / "profile") as browser:
        browser.get((studio.folder / "home" / "copies.html").as_uri())
        _shoot(browser, "duplicates-page", 1180, 900)


def photograph_export(studio: Studio) -> None:
    """Copies of the best results, and links to them."""
    studio.index()
    bash = studio.open_shell("bash", "--norc", "--noprofile")
    _enter(bash, "lensctl export 'a cat' -k 2 --to cats", "2 photos in")
    _enter(bash, "lensctl export Photos/coffee.jpg 'a cat' -k 2 --to links --link", "in links")
    _enter(bash, "ls -F cats links", "links:")
    _leave(bash)
    studio.save(bash, "export")


def photograph_watch(studio: Studio) -> None:
    """Photos come, their disk goes and returns."""
    kept = studio.folder / "kept"
    kept.mkdir()
    for name in ("moon.jpg", "grass.jpg", "brick.jpg"):
        (studio.photos / name).rename(kept / name)
    bash = studio.open_shell("bash", "--norc", "--noprofile")
    _enter(bash, "lensctl watch Photos", "6 encoded")
    shutil.copy(kept / "moon.jpg", studio.photos)
    shutil.copy(kept / "grass.jpg", studio.photos)
    bash.wait_for("2 encoded")
    studio.photos.rename(studio.folder / "unmounted")
    bash.wait_for("nothing was forgotten")
    (studio.folder / "unmounted").rename(studio.photos)
    bash.wait_for("Photos: back")
    shutil.copy(kept / "brick.jpg", studio.photos)
    bash.wait_for("1 encoded")
    bash.type("\x03")
    _leave(bash)
    studio.save(bash, "watch")


def photograph_completion(studio: Studio) -> None:
    """Tab in three shells."""
    script = studio.folder / "script"
    for shell, options in (("bash", ["--norc", "--noprofile"]), ("zsh", ["-f"]), ("fish", [])):
        variable = {**os.environ, "_LENSCTL_COMPLETE": f"source_{shell}"}
        script.write_bytes(subprocess.check_output([PROGRAMS / "lensctl"], env=variable))
        terminal = studio.open_shell(shell, *options, lines=32)
        terminal.pause(2)
        for line in _PREPARE[shell]:
            terminal.type(line.format(script) + "\r")
        terminal.pause(1)
        terminal.type("clear\r")
        terminal.pause(1)
        for keys in _KEYS[shell]:
            terminal.type(keys)
            terminal.pause(1.5)
        studio.save(terminal, f"completion-{shell}")
        terminal.process.close(force=True)


_PREPARE = {
    "bash": ["source {}"],
    "zsh": ["PROMPT='$ '", "autoload -U compinit && compinit -u -D", "source {}"],
    "fish": ["set fish_greeting", "function fish_prompt; echo -n '$ '; end", "source {}"],
}
_KEYS = {
    "bash": ["lensctl \t", "\t", "ind\t", "--device \t", "\t", "cu\t"],
    "zsh": ["lensctl \t", "ind\t--\t"],
    "fish": ["lensctl query --\t"],
}


def _enter(terminal: Terminal, line: str, answer: str) -> None:
    terminal.type(f"{line}\r")
    terminal.wait_for(answer)
    terminal.pause(0.7)


def _leave(terminal: Terminal) -> None:
    terminal.pause(1)
    terminal.process.close(force=True)


def _shoot(browser, name: str, width: int, height: int, scale: float = 1) -> None:  # type: ignore[no-untyped-def]
    metrics = {"width": width, "height": height, "deviceScaleFactor": scale, "mobile": width < 500}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    shot = browser.execute_cdp_cmd("Page.captureScreenshot", {"format": "png"})
    image = Image.open(io.BytesIO(base64.b64decode(shot["data"]))).convert("RGB")
    image.quantize(256).save(IMAGES / f"{name}.png", optimize=True)


PICTURES = {
    "query": photograph_query,
    "shell": photograph_shell,
    "sheet": photograph_sheet,
    "duplicates": photograph_duplicates,
    "export": photograph_export,
    "watch": photograph_watch,
    "completion": photograph_completion,
}


def main() -> None:
    """Make them all, or those that are named."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("names", nargs="*", choices=[[], *PICTURES], metavar="NAME")
    parser.add_argument("--font", help="a monospaced font's file")
    options = parser.parse_args()
    IMAGES.mkdir(exist_ok=True)
    for name in options.names or PICTURES:
        with tempfile.TemporaryDirectory() as folder:
            PICTURES[name](Studio(Path(folder), options.font or system_font()))


if __name__ == "__main__":
    main()
