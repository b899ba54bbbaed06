"""Small helpers for text from pages."""

import re
import unicodedata

_BLANKS = re.compile(r"\s+")
_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\u200b-\u200f\u2028-\u202e\ufeff\ufffd]")
_FILE_NAME = re.compile(
    r"[\w%-]+\.(?:jpe?g|png|gif|webp|svg|bmp|tiff?|avif|html?)\b", re.IGNORECASE
)
_WORD = re.compile(r"[^\W_]+(?:['’][^\W_]+)?")


def collapse(text: str) -> str:
    """One line: blanks collapsed, invisible and control characters removed, NFC."""
    return _BLANKS.sub(" ", unicodedata.normalize("NFC", _CONTROL.sub("", text[:20_000]))).strip()


def cut(text: str, most: int) -> str:
    """At most `most` characters, ended at a word's end."""
    if len(text) <= most:
        return text
    return text[:most].rsplit(" ", 1)[0]


def word_set(text: str) -> frozenset[str]:
    """The blank-separated words of a literal: a list of words that reads as text."""
    return frozenset(text.split())


def words(text: str) -> list[str]:
    """Lower-case words, without punctuation."""
    return _WORD.findall(text.lower())


def names_a_file(text: str) -> bool:
    """Whether a file name or its like stands in the text: `IMG_2033.jpg`, `fig_01`, `DSC00012`."""
    if _FILE_NAME.search(text):
        return True
    return any(_looks_like_a_name(token) for token in text.split())


def _looks_like_a_name(token: str) -> bool:
    token = token.strip("()[].,;:!?\"'“”")
    if "/" in token and token.count("/") >= 2:
        return True
    if "_" in token and not token.isupper():
        return True
    return bool(re.fullmatch(r"(?:IMG|DSC|DSCN|P|image|img|fig|photo)[-_]?\d{3,}", token))
