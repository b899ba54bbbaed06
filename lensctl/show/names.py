"""File names as text. A name is bytes: not all of it need be printable, or even UTF-8."""

import os
import re


def show_path(path: bytes) -> str:
    """A path as one line, with whatever `show_text` escapes."""
    return show_text(os.fsdecode(path))


def show_short_path(path: bytes) -> str:
    """As `show_path`, with ~ for the home folder: shells and people read it as well."""
    home = os.fsencode(os.path.expanduser("~")).rstrip(b"/") + b"/"  # noqa: PTH111 (bytes)
    return show_path(b"~/" + path[len(home) :] if path.startswith(home) else path)


def show_text(text: str, keep: str = "") -> str:
    r"""Text with what would move the cursor or turn the line escaped, but for what is in `keep`.

    That is: control characters, line and paragraph separators, controls of the writing direction,
    and the surrogates of broken UTF-8. Other text stays as it is, and so a name that can be copied:
    also no-break spaces, and what joins an emoji's parts. Where anything is escaped, a \ is, too.
    """
    if not (unsafe := set(_UNSAFE.findall(text)) - set(keep)):
        return text
    escaped = {ord(one): _escape(one) for one in (*unsafe, "\\")}
    return text.translate(escaped)


_UNSAFE = re.compile(
    "[\x00-\x1f\x7f-\x9f\u2028\u2029\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]"
)


def _escape(character: str) -> str:
    code = ord(character)
    if 0xDC80 <= code <= 0xDCFF:
        return f"\\x{code - 0xDC00:02x}"
    return character.encode("unicode_escape").decode("ascii")
