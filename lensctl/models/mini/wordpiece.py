"""BERT's uncased WordPiece tokenization, from a list of pieces.

The `tokenizers` library does the same; importing it and reading its JSON takes 80 ms where
a list of pieces takes 8, and a query runs in a fresh process. The tests compare the two.
Source: Devlin et al. 2019, and Wu et al. 2016 for WordPiece's greedy longest match.
"""

import unicodedata
from collections.abc import Iterator, Sequence

LONGEST_WORD = 100


class WordPiece:
    """Text -> token ids, `[CLS] ... [SEP]`.

    Args:
        tokens: the pieces, in the order of their ids; those within a word begin with "##".
    """

    def __init__(self, tokens: Sequence[str]) -> None:
        self._ids = {token: index for index, token in enumerate(tokens)}
        self._unknown, self._start, self._end = (
            self._ids[name] for name in ("[UNK]", "[CLS]", "[SEP]")
        )

    def encode(self, text: str) -> list[int]:
        """All ids of the text, untruncated, with the start and end tokens."""
        pieces = [piece for word in _words(text) for piece in self._pieces(word)]
        return [self._start, *pieces, self._end]

    def _pieces(self, word: str) -> list[int]:
        """Greedy longest match from the left; a word that cannot be covered is unknown."""
        if len(word) > LONGEST_WORD:
            return [self._unknown]
        pieces: list[int] = []
        start = 0
        while start < len(word):
            prefix = "##" if start else ""
            for end in range(len(word), start, -1):
                found = self._ids.get(prefix + word[start:end])
                if found is not None:
                    break
            else:
                return [self._unknown]
            pieces.append(found)
            start = end
        return pieces


def _words(text: str) -> Iterator[str]:
    """Clean, lower, drop accents; split at blanks; punctuation and ideographs stand alone."""
    word = ""
    for char in unicodedata.normalize("NFD", _clean(text).lower()):
        if unicodedata.category(char) == "Mn":
            continue
        if char.isspace() or _stands_alone(char):
            if word:
                yield word
            word = ""
            if not char.isspace():
                yield char
        else:
            word += char
    if word:
        yield word


def _clean(text: str) -> str:
    """Without control characters; every kind of blank becomes a space."""
    kept = []
    for char in text:
        category = unicodedata.category(char)
        if char in "\t\n\r" or category == "Zs":
            kept.append(" ")
        elif char not in "\0\ufffd" and not category.startswith("C"):
            kept.append(char)
    return "".join(kept)


def _stands_alone(char: str) -> bool:
    return _is_punctuation(char) or _is_ideograph(ord(char))


def _is_punctuation(char: str) -> bool:
    """Unicode punctuation, and all of ASCII that is neither letter, digit nor blank."""
    if char.isascii():
        return not (char.isalnum() or char.isspace())
    return unicodedata.category(char).startswith("P")


def _is_ideograph(code: int) -> bool:
    """The CJK blocks that BERT's tokenizer splits into single characters."""
    return (
        0x4E00 <= code <= 0x9FFF
        or 0x3400 <= code <= 0x4DBF
        or 0x20000 <= code <= 0x2CEAF
        or 0xF900 <= code <= 0xFAFF
        or 0x2F800 <= code <= 0x2FA1F
    )
