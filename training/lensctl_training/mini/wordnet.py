"""WordNet's nouns from its dictionary files (wndb(5WN)): lemmas, glosses, hypernyms.

WordNet 3.0, Princeton University; its licence allows use and distribution with the notice.
"""

from dataclasses import dataclass
from pathlib import Path

DICTIONARY = Path("/usr/share/wordnet")
"""Where the Debian package `wordnet-base` puts them."""


@dataclass(frozen=True)
class Synset:
    """One meaning.

    Args:
        lemmas: its words, the most usual first.
        gloss: its definition, without examples.
        parents: offsets of its hypernyms.
    """

    lemmas: list[str]
    gloss: str
    parents: list[str]


def load_nouns(dictionary: Path = DICTIONARY) -> dict[str, Synset]:
    """All noun synsets by their eight-digit offset, which ImageNet ids carry after their n."""
    lines = (dictionary / "data.noun").read_text(encoding="utf-8").splitlines()
    return dict(_parse(line) for line in lines if not line.startswith("  "))


def _parse(line: str) -> tuple[str, Synset]:
    data, _, gloss = line.partition(" | ")
    fields = data.split()
    words = int(fields[3], 16)
    lemmas = [fields[4 + 2 * n].replace("_", " ") for n in range(words)]
    first = 4 + 2 * words
    pointers = [fields[first + 1 + 4 * n :][:2] for n in range(int(fields[first]))]
    parents = [target for kind, target in pointers if kind in ("@", "@i")]
    return fields[0], Synset(lemmas, gloss.split(";")[0].strip(), parents)


def first_senses(dictionary: Path = DICTIONARY) -> dict[str, str]:
    """The offset of every noun's most usual synset, by its lower-case lemma."""
    lines = (dictionary / "index.noun").read_text(encoding="utf-8").splitlines()
    fields = (line.split() for line in lines if not line.startswith("  "))
    return {one[0].replace("_", " "): one[-int(one[2])] for one in fields}


def ancestors(nouns: dict[str, Synset], offset: str) -> dict[str, int]:
    """The synset and all above it, each with its least distance."""
    found: dict[str, int] = {}
    level, depth = [offset], 0
    while level:
        for one in level:
            found.setdefault(one, depth)
        level = [up for one in level for up in nouns[one].parents if up not in found]
        depth += 1
    return found
