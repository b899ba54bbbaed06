"""CLIP's byte-pair tokenizer without torch, exactly as the published models use it.

The vocabulary is the file that open_clip ships; it is found without importing open_clip.
"""

import gzip
import html
import importlib.util
import re
from collections.abc import Sequence
from functools import cache, lru_cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from lensctl.errors import DependencyError
from lensctl.models.config import CONTEXT_LENGTH

START_ID = 49406
END_ID = 49407

_FIRST_MERGED_ID = 512
_MERGES = 48894
_SPECIAL = {"<|startoftext|>": START_ID, "<|endoftext|>": END_ID}
_WORDS = r"<\|startoftext\|>|<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d|[{L}]+|[{N}]|[^\s{L}{N}]+"
_PLAIN_WORDS = re.compile(_WORDS.replace("{L}", "a-z").replace("{N}", "0-9"))


def token_ids(text: str) -> list[int]:
    """All tokens of a text, start and end included, of any length."""
    ids = [START_ID]
    for word in _words(text):
        ids.extend(_word_ids(word))
    return [*ids, END_ID]


def tokenize(texts: Sequence[str], context_length: int = CONTEXT_LENGTH) -> npt.NDArray[np.int64]:
    """N texts -> (N, context_length) ids, padded with 0; what is too long is cut before the end."""
    ids = np.zeros((len(texts), context_length), dtype=np.int64)
    for row, text in zip(ids, texts, strict=True):
        tokens = token_ids(text)
        if len(tokens) > context_length:
            tokens = [*tokens[: context_length - 1], END_ID]
        row[: len(tokens)] = tokens
    return ids


def is_truncated(text: str, context_length: int = CONTEXT_LENGTH) -> bool:
    """Whether `tokenize` cuts this text; the published tokenizer refuses such a text."""
    return len(token_ids(text)) > context_length


def _words(text: str) -> list[str]:
    """The pieces of a text that are cut into tokens one by one, in lower case.

    Text as most people type it, printable ASCII without "&", is left alone by what mends text:
    the two packages for that are imported for other text only, as they take longer than tokenizing.
    """
    if text.isascii() and text.isprintable() and "&" not in text:
        return _PLAIN_WORDS.findall(" ".join(text.split()).lower())
    import ftfy

    text = html.unescape(html.unescape(ftfy.fix_text(text)))
    return _any_words().findall(" ".join(text.split()).lower())


@cache
def _any_words() -> Any:
    import regex

    letters, numbers = r"\p{L}", r"\p{N}"
    return regex.compile(_WORDS.replace("{L}", letters).replace("{N}", numbers), regex.IGNORECASE)


@lru_cache(maxsize=65536)
def _word_ids(word: str) -> tuple[int, ...]:
    """One word's tokens: the pair of neighbours that was merged first in training goes first."""
    if word in _SPECIAL:
        return (_SPECIAL[word],)
    ranks = _ranks()
    letters, ids = _byte_symbols()
    symbols = [letters[byte] for byte in word.encode()]
    symbols[-1] += "</w>"
    known: dict[str, int] = {}
    while len(symbols) > 1:
        pairs = [f"{a} {b}" for a, b in pairwise(symbols)]
        best = min(pairs, key=lambda pair: ranks.get(pair, _MERGES))
        if best not in ranks:
            break
        symbols = _merge(symbols, best)
        known[best.replace(" ", "", 1)] = _FIRST_MERGED_ID + ranks[best]
    return tuple(known[symbol] if symbol in known else ids[symbol] for symbol in symbols)


def _merge(symbols: list[str], pair: str) -> list[str]:
    """Join every occurrence of the pair, from the left."""
    merged: list[str] = []
    for symbol in symbols:
        if merged and f"{merged[-1]} {symbol}" == pair:
            merged[-1] += symbol
        else:
            merged.append(symbol)
    return merged


@cache
def _ranks() -> dict[str, int]:
    """Merge rules "left right" -> their order. Product n has the id 512 + n."""
    spec = importlib.util.find_spec("open_clip")
    if spec is None or not spec.submodule_search_locations:
        raise DependencyError(
            "the CLIP vocabulary is missing",
            why="it comes with the package open_clip_torch, which is not installed",
            next_step="pip install open_clip_torch",
        )
    path = Path(next(iter(spec.submodule_search_locations))) / "bpe_simple_vocab_16e6.txt.gz"
    lines = gzip.decompress(path.read_bytes()).decode().split("\n")
    return dict(zip(lines[1 : _MERGES + 1], range(_MERGES), strict=True))


@cache
def _byte_symbols() -> tuple[list[str], dict[str, int]]:
    """A printable letter for every byte, as in GPT-2, and the ids of these letters.

    Printable Latin-1 stands for itself and comes first; the others are numbered from U+0100.
    """
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in set(printable)]
    letters = [""] * 256
    ids: dict[str, int] = {}
    for number, byte in enumerate(printable + others):
        rank_of_other = number - len(printable)
        letters[byte] = chr(byte) if rank_of_other < 0 else chr(256 + rank_of_other)
        ids[letters[byte]] = number
        ids[letters[byte] + "</w>"] = 256 + number
    return letters, ids
