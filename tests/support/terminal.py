"""A real pseudo-terminal with an emulator behind it that answers what programs ask."""

import contextlib
import os
import re
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import pexpect
import pyte

DEVICE_ATTRIBUTES = b"\x1b[c"
CELL_SIZE = b"\x1b[16t"
CURSOR = b"\x1b[6n"
_SIZE = ("COLUMNS", "LINES")
_PICTURE = re.compile(rb"\x1b[P_].*?\x1b\\|\x1b\].*?(?:\x07|\x1b\\)", re.DOTALL)
_QUESTION = re.compile(
    rb"\x1b\]11;\?\x1b\\|\x1b\[c|\x1b\[16t|\x1b\[6n|\x1b_G[^\x1b]*a=q[^\x1b]*\x1b\\"
)


class Terminal:
    """Runs `lensctl`, or another program, in a window of its own.

    Args:
        arguments: after `lensctl`, or the other program.
        environment: replaces variables of ours.
        graphics: what the emulator says it can do: "", "sixel" or "kitty".
        background: as the emulator tells it, "rrrr/gggg/bbbb"; "" where it keeps silent.
        program: what to run.
        folder: to run it in.
    """

    def __init__(
        self,
        arguments: Sequence[str],
        environment: Mapping[str, str],
        *,
        size: tuple[int, int] = (40, 100),
        graphics: str = "",
        background: str = "",
        program: Sequence[str] = (sys.executable, "-m", "lensctl"),
        folder: Path | None = None,
    ) -> None:
        self._graphics = graphics
        self._background = background
        self.raw = b""
        self._answered = 0
        self._held = b""
        self.screen = pyte.HistoryScreen(size[1], size[0], history=1000)
        self._stream = pyte.ByteStream(self.screen)
        # COLUMNS and LINES, which some test runners set, would win over the window's real size.
        ours = {name: value for name, value in os.environ.items() if name not in _SIZE}
        colours = {"TERM": "xterm-256color", "COLORTERM": "truecolor"}
        self.process = pexpect.spawn(
            program[0],
            [*program[1:], *arguments],
            cwd=folder,
            env={**ours, **colours, **environment},
            dimensions=size,
            timeout=60,
        )

    def type(self, text: str) -> None:
        """Send keys."""
        self.process.send(text)

    def wait_for(self, text: str, seconds: float = 60.0, *, occurrences: int = 1) -> str:
        """Read until some text is on the screen, so many times; returns the screen."""
        end = time.monotonic() + seconds
        while self.text().count(text) < occurrences:
            if time.monotonic() > end or not self._read_or_fail():
                raise AssertionError(f"{text!r} never came; the screen:\n{self.text()}")
        return self.text()

    def pause(self, seconds: float) -> None:
        """Read what comes within so many seconds."""
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            with contextlib.suppress(pexpect.TIMEOUT):
                if not self._read(left):
                    return

    def wait_for_exit(self) -> int:
        """Read to the end; the exit status."""
        while self._read_or_fail():
            pass
        self.process.close()
        return int(self.process.exitstatus or 0)

    def text(self) -> str:
        """What can be seen, and what has scrolled out above."""
        lines = [
            "".join(line[column].data for column in range(self.screen.columns)).rstrip()
            for line in self.screen.history.top
        ]
        return "\n".join([*lines, *(line.rstrip() for line in self.screen.display)])

    def _read_or_fail(self) -> bool:
        try:
            return self._read(30)
        except pexpect.TIMEOUT:
            raise AssertionError(f"nothing more came; the screen:\n{self.text()}") from None

    def _read(self, seconds: float) -> bool:
        """Read some output, answer its questions; False at the end. Raises pexpect.TIMEOUT."""
        try:
            data = self.process.read_nonblocking(65536, timeout=seconds)
        except pexpect.EOF:
            return False
        self.raw += data
        self._feed(data)
        self._answer()
        return True

    def _feed(self, data: bytes) -> None:
        """Give the emulator what it understands: pictures are taken out, whole ones only."""
        self._held += data
        plain = _PICTURE.sub(b"", self._held)
        begun = re.search(rb"\x1b(?:[P_\]].*)?\Z", plain, re.DOTALL)
        end = begun.start() if begun else len(plain)
        self._stream.feed(plain[:end])
        self._held = plain[end:]

    def _answer(self) -> None:
        """Answer the questions that arrived since the last call."""
        fresh = self.raw[self._answered :]
        for question in _QUESTION.finditer(fresh):
            self._answered = len(self.raw)
            if question.group().startswith(b"\x1b]11"):
                if self._background:
                    self.process.send(f"\x1b]11;rgb:{self._background}\x1b\\")
            elif question.group() == DEVICE_ATTRIBUTES:
                self.process.send("\x1b[?62;4c" if self._graphics == "sixel" else "\x1b[?62c")
            elif question.group() == CURSOR:
                cursor = self.screen.cursor
                self.process.send(f"\x1b[{cursor.y + 1};{cursor.x + 1}R")
            elif question.group() == CELL_SIZE:
                self.process.send("\x1b[6;20;10t")
            elif self._graphics == "kitty":
                self.process.send("\x1b_Gi=1;OK\x1b\\")
