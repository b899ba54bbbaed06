"""Image and instruction on real photographs never trained on: `mini`'s lens and baselines.

    python benchmarks/mini_composed.py FOLDER [--fusion FILE ...] [--kept FILE.npy] [--json]
        [--split validation] [--all-edits]

FOLDER holds the unpacked Debian package `tuxpaint-stamps-default`; its photographs are those of
`mini_stamps.py`. The gallery is every photograph, as it is and after each of nine edits
(`BENCHMARK_EDITS` of `lensctl_training.mini.photo_edits`). Three families of queries, in wordings
held out of training:

- edits: photo, "a darker version of this" -> that photo, edited; its other edits are there, too.
- subject: another photo, the description of a photo -> any view of a photo so described.
- kind: photo of a bird, "other birds than this" -> any view of another photo in that folder.

The query photo itself is left out of its results; ties count against. The sum is given its best
weight for every family separately. Several --fusion files (seeds) give a row each. --kept keeps the
gallery's embeddings in a file, or reads them where they were kept. --split validation asks in the
wordings by which choices are made (FOLDER: see `unpack_gcompris.py`). --all-edits makes the gallery
of all nineteen edits and asks for each.
"""

import argparse
import json
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from mini_stamps import Stamp, find_photographs

from lensctl.models.interface import Floats
from lensctl.models.mini import open_mini
from lensctl.models.mini.fusion import FILE, Fusion
from lensctl.models.mini.info import DATA
from lensctl.models.mini.sides import MiniSide
from lensctl.models.mini.tensors import TensorFile
from lensctl.models.vectors import unit
from lensctl.photos.decode import decode
from lensctl_training.mini.photo_edits import BENCHMARK_EDITS, EDITS

KIND_WORDINGS = ("other {}s than this", "a {} of a different kind", "more {}s, but not this one")
FEWEST_OF_A_KIND = 4
SUM_WEIGHTS = (0.25, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0)
RANKS = (1, 10)


@dataclass(frozen=True)
class Query:
    """A row of the gallery, words, and the rows that are right; `photo` hides its own view."""

    row: int
    words: str
    right: frozenset[int]


class Asking:
    """Makes the queries of the three families.

    Args:
        stamps: the photographs; rows of the gallery count 1 + edits for each.
        edits: by name.
        split: of the wordings: "held_out" or "validation".
        seed: of the draws.
    """

    def __init__(
        self, stamps: list[Stamp], edits: tuple[str, ...], split: str, seed: int = 0
    ) -> None:
        self._stamps = stamps
        self._wordings: list[tuple[str, ...]] = [getattr(EDITS[name], split) for name in edits]
        self._views = 1 + len(edits)
        self._rng = np.random.default_rng(seed)

    def queries(self) -> dict[str, list[Query]]:
        """By family."""
        return {"edits": self._edits(), "subject": self._subjects(), "kind": self._kinds()}

    def _edits(self) -> list[Query]:
        rows = range(0, self._views * len(self._stamps), self._views)
        return [
            Query(row, str(self._rng.choice(wordings)), frozenset({row + place}))
            for row in rows
            for place, wordings in enumerate(self._wordings, 1)
        ]

    def _subjects(self) -> list[Query]:
        queries = []
        for stamp in self._stamps:
            others = [n for n, other in enumerate(self._stamps) if other.words != stamp.words]
            right = [n for n, other in enumerate(self._stamps) if other.words == stamp.words]
            row = self._views * int(self._rng.choice(others))
            queries.append(Query(row, stamp.words, self._all_views(right)))
        return queries

    def _kinds(self) -> list[Query]:
        """A stamp's folder names its kind; folders with few photographs are left out."""
        kinds: dict[str, list[int]] = {}
        for number, stamp in enumerate(self._stamps):
            kinds.setdefault(stamp.path.parent.name, []).append(number)
        queries = []
        for kind, members in sorted(kinds.items()):
            for own in members if len(members) >= FEWEST_OF_A_KIND else ():
                words = str(self._rng.choice(KIND_WORDINGS)).format(kind.removesuffix("s"))
                right = self._all_views([one for one in members if one != own])
                queries.append(Query(self._views * own, words, right))
        return queries

    def _all_views(self, photos: list[int]) -> frozenset[int]:
        starts = (self._views * photo for photo in photos)
        return frozenset(row for start in starts for row in range(start, start + self._views))


def embed_views(side: MiniSide, stamps: list[Stamp], edits: tuple[str, ...]) -> Floats:
    """(P * (1 + edits), E): each photograph as it is, then once for every edit."""
    rows = []
    for number, stamp in enumerate(stamps):
        image = decode(stamp.path, at_least=side.info.decoded_side).image
        views = [image, *(EDITS[name].transform(image) for name in edits)]
        rows.append(side.encode_images(np.stack([side.preprocess(view) for view in views])))
        if number % 50 == 0:
            print(f"{number} of {len(stamps)} photographs", file=sys.stderr)
    return np.concatenate(rows)


def recalls(scores: Floats, queries: list[Query]) -> dict[str, float]:
    """(Q, R) scores -> R@1 and R@10 in percent."""
    ranks = []
    for row, query in zip(scores, queries, strict=True):
        right = np.zeros(len(row), dtype=bool)
        right[list(query.right)] = True
        wrong = ~right
        wrong[query.row] = False
        ranks.append(int((row[wrong] >= row[right].max()).sum()))
    return {f"R@{k}": round(float(100 * (np.array(ranks) < k).mean()), 1) for k in RANKS}


class Evaluation:
    """Scores one family by every method.

    Args:
        side: the query side of mini.
        embeddings: of the gallery.
        queries: of one family.
    """

    def __init__(self, side: MiniSide, embeddings: Floats, queries: list[Query]) -> None:
        self._queries = queries
        rows = [query.row for query in queries]
        self._gallery = side.lens.blocks(embeddings)
        self._asked = self._gallery[rows]
        words = side.words
        assert words is not None
        texts = [query.words for query in queries]
        self._sentences, self._votes = words.read(texts)
        self._clauses = words.clauses(texts)
        self._pointing = words.pointing(texts)
        self._targets = side.make_targets(embeddings)
        self._own = self._targets[rows]

    def baselines(self) -> dict[str, dict[str, float]]:
        """Image only, text only, and the sum at the best of its weights by R@1."""
        sums = {f"sum {weight:g}": self._sum(weight) for weight in SUM_WEIGHTS}
        best = max(sums, key=lambda name: sums[name]["R@1"])
        return {
            "image only": recalls(self._own @ self._targets.T, self._queries),
            "text only": recalls(self._votes @ self._gallery.meaning.T, self._queries),
            f"best sum ({best[4:]})": sums[best],
        }

    def _sum(self, weight: float) -> dict[str, float]:
        mixed = self._own.copy()
        width = self._votes.shape[1]
        share = np.linalg.norm(self._own[0, :width])
        mixed[:, :width] += weight * share * self._votes
        return recalls(unit(mixed) @ self._targets.T, self._queries)

    def fusion(self, fusion: Fusion) -> dict[str, float]:
        """The trained lens."""
        queries = fusion(self._asked, self._sentences, self._votes, self._clauses, self._pointing)
        return recalls(queries @ self._targets.T, self._queries)


def kept_views(
    side: MiniSide, stamps: list[Stamp], edits: tuple[str, ...], kept: Path | None
) -> Floats:
    """The gallery's embeddings, from the file where there is one."""
    if kept is not None and kept.is_file():
        return np.load(kept).astype(np.float32)
    embeddings = embed_views(side, stamps, edits)
    if kept is not None:
        np.save(kept, embeddings.astype(np.float16))
    return embeddings


def evaluate(
    side: MiniSide, asked: dict[str, list[Query]], embeddings: Floats, fusions: list[Path]
) -> dict[str, dict]:
    """All families, all methods."""
    found: dict[str, dict] = {}
    for family, queries in asked.items():
        one = Evaluation(side, embeddings, queries)
        found[family] = {"queries": len(queries)} | one.baselines()
        for path in fusions:
            found[family][f"lens {path.stem}"] = one.fusion(Fusion(TensorFile(path)))
    return found


def main() -> None:
    """Print the table or the JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--fusion", type=Path, nargs="*", default=[DATA / FILE])
    parser.add_argument("--kept", type=Path, metavar="FILE.npy")
    parser.add_argument("--split", choices=("held_out", "validation"), default="held_out")
    parser.add_argument("--all-edits", action="store_true")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    side = open_mini().query_side()
    stamps = find_photographs(arguments.folder, every=arguments.split == "validation")
    edits = tuple(EDITS) if arguments.all_edits else BENCHMARK_EDITS
    embeddings = kept_views(side, stamps, edits, arguments.kept)
    asked = Asking(stamps, edits, arguments.split).queries()
    found = evaluate(side, asked, embeddings, arguments.fusion)
    if arguments.json:
        print(json.dumps(found, indent=1))
        return
    for family, rows in found.items():
        print(f"{family} ({rows.pop('queries')} queries)")
        for name, row in rows.items():
            print(
                f"  {name:20}" + "".join(f"{rank:>6} {value:5.1f}" for rank, value in row.items())
            )


if __name__ == "__main__":
    main()
