"""What makes an instruction unfit, whoever wrote it."""

import re

from lensctl_training.mining.records import Pair, Picture
from lensctl_training.mining.text import names_a_file, words

_REFUSAL = re.compile(
    r"\bas an ai\b|\bi(?:'m| am) (?:sorry|unable|not able)|\bi can(?:no|')t\b|language model"
    r"|\bcannot (?:assist|help|comply)|\bunable to (?:assist|help|see|view)",
    re.IGNORECASE,
)
_POINTS_AT_QUERY = re.compile(
    r"\b(this|these|that|it|its|same|instead|rather|not|without|other|another|different|more|less"
    r"|before|after|next|previous|further|back|here|there|original|version|counterpart|compare\w*"
    r"|matching|corresponding|swap|change|replace|equivalent|from|also|again|now|but|\w+er|undo"
    r"|revert|parallel|alternative|beside|and)\b",
    re.IGNORECASE,
)
_MARKUP = re.compile(r"[{}<>]|https?:|\bwww\.|\\n|```")
_FEWEST_LETTERS = 6


def objection(instruction: str, pair: Pair, max_words: int) -> str:
    """Why an instruction is not to be used; "" where nothing speaks against it."""
    found = words(instruction)
    letters = sum(char.isalpha() for char in instruction)
    if letters < _FEWEST_LETTERS or len(found) < 2:
        return "instruction too short"
    if len(found) > max_words:
        return "instruction too long"
    if _REFUSAL.search(instruction):
        return "the writer refused"
    if _MARKUP.search(instruction) or letters < 0.6 * len(instruction):
        return "instruction is not plain language"
    if names_a_file(instruction):
        return "instruction leaks a file name"
    if copies(instruction, pair.target):
        return "instruction copies the target's text"
    if only_describes(instruction, pair):
        return "instruction only describes the target"
    if not set(found) - set(words(_all_text(pair.query))) - _EMPTY:
        return "instruction only repeats the query's text"
    return ""


_EMPTY = frozenset(["the", "a", "an", "of"])


def copies(instruction: str, target: Picture) -> bool:
    """Whether the instruction is an alternative text, title or caption with little around it."""
    said = " ".join(words(instruction))
    for text in (target.mention.alt, target.mention.title, target.mention.caption):
        source = " ".join(words(text))
        if len(source.split()) < 3:
            continue
        if said == source or (source in said and len(said.split()) - len(source.split()) <= 2):
            return True
        if len(said.split()) >= 5 and said in source:
            return True
    return False


def only_describes(instruction: str, pair: Pair) -> bool:
    """Whether nothing in the instruction points at the query image.

    A relation needs a word that does ("this", "instead of", "the next"), or a word that belongs
    to the query and not to the target.
    """
    if _POINTS_AT_QUERY.search(instruction):
        return False
    of_query = set(words(_all_text(pair.query))) - set(words(_all_text(pair.target)))
    return not of_query & set(words(instruction))


def _all_text(picture: Picture) -> str:
    mention = picture.mention
    return f"{mention.caption} {mention.alt} {mention.title} {mention.figure}"
