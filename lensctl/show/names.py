"""File names as text. A name is bytes: not all of it need be printable, or even UTF-8."""

import os


def show_path(path: bytes) -> str:
    """A path as one printable line: control characters and broken UTF-8 are escaped."""
    return show_text(os.fsdecode(path))


def show_short_path(path: bytes) -> str:
    """As `show_path`, with ~ for the home folder: shells and people read it as well."""
    home = os.fsencode(os.path.expanduser("~")).rstrip(b"/") + b"/"  # noqa: PTH111 (bytes)
    return show_path(b"~/" + path[len(home) :] if path.startswith(home) else path)


def show_text(text: str, keep: str = "") -> str:
    """Text with whatever cannot be printed escaped, but for the characters in `keep`."""
    if text.isprintable():
        return text
    return "".join(one if one.isprintable() or one in keep else _escape(one) for one in text)


def _escape(character: str) -> str:
    code = ord(character)
    if 0xDC80 <= code <= 0xDCFF:
        return f"\\x{code - 0xDC00:02x}"
    return character.encode("unicode_escape").decode("ascii")
