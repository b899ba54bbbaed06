"""What the image network says when it is shown something, as language models told it.

A line of a file in `seen_as/` names a thing, its synonyms behind bars, and the classes that an
ImageNet classifier would give a hundred varied photographs of it, with their shares:

    windmill | windmills: lighthouse 25, water tower 20, barn 12

The files in `specific/` came later: species, breeds, dishes, landmarks, particular objects;
those in `second/` are second opinions on everyday names, written without sight of the first.
WordNet knows that a windmill is a mill, and not that it looks like a lighthouse. Language models
wrote the lines from general knowledge of things and of such classifiers, domain by domain, without
sight of a benchmark's pictures or list of names; no line was fitted to a picture.
"""

from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from lensctl.models.interface import Floats
from lensctl.models.mini.words import CLASSES
from lensctl_training.mini.wordnet import Synset

FOLDER = Path(__file__).parent / "seen_as"


@dataclass(frozen=True)
class SeenAs:
    """N names.

    Args:
        names: each once, in the order of the files.
        shares: (N, 1000), rows that add to one.
    """

    names: list[str]
    shares: Floats


def class_names(classes: list[Synset], nouns: dict[str, Synset]) -> list[str]:
    """A name for every class: its first lemma, with its parent's where two classes share it."""
    counts = Counter(one.lemmas[0] for one in classes)
    return [
        name
        if counts[name := one.lemmas[0]] == 1
        else f"{name} ({nouns[one.parents[0]].lemmas[0]})"
        for one in classes
    ]


def read_seen_as(classes: list[str], folder: Path = FOLDER) -> SeenAs:
    """All files; a name that stands in several lines gets their mean.

    Args:
        classes: the 1000 names, see `class_names`.
        folder: of the files.

    Raises:
        ValueError: a line names no class, or no share.
    """
    place = {name.lower(): row for row, name in enumerate(classes)}
    found: dict[str, list[Floats]] = defaultdict(list)
    for things, shares in read_shares(sorted(folder.rglob("*.txt")), place):
        for thing in things:
            found[thing].append(shares)
    return SeenAs(list(found), np.stack([np.mean(rows, axis=0) for rows in found.values()]))


def read_shares(files: list[Path], place: dict[str, int]) -> Iterator[tuple[list[str], Floats]]:
    """The names before the colon of each line, in small letters, and (1000,) shares behind it.

    Raises ValueError as `read_seen_as`; `place` has the classes' numbers by their names.
    """
    for where, things, told in _lines(files):
        try:
            yield things, _shares(told, place)
        except (KeyError, ValueError) as error:
            raise ValueError(f"{where}: {error}") from error


def known_names(folder: Path = FOLDER) -> set[str]:
    """Every name of the general files, which the text tower is taught with; no folder's."""
    files = sorted(folder.glob("*.txt"))
    return {thing for _, things, _ in _lines(files) for thing in things}


def _lines(files: list[Path]) -> Iterator[tuple[str, list[str], str]]:
    """Where a line stands, the names before its colon, what is told behind it."""
    for path in files:
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
            if line.strip() and not line.startswith("#"):
                things, _, told = line.partition(":")
                names = [thing.strip().lower() for thing in things.split("|")]
                yield f"{path}, line {number}", names, told


def _shares(told: str, place: dict[str, int]) -> Floats:
    """(1000,) of "lighthouse 25, water tower 20"."""
    shares = np.zeros(CLASSES, dtype=np.float32)
    for part in told.split(","):
        name, _, share = part.strip().rpartition(" ")
        shares[place[name.lower()]] += int(share)
    return shares / shares.sum()
