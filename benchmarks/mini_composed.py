"""Image and instruction on real photographs never trained on: `mini`'s lens and baselines.

    python benchmarks/mini_composed.py FOLDER [--fusion FILE ...] [--kept FILE.npy] [--json]

FOLDER holds the unpacked Debian package `tuxpaint-stamps-default`; its photographs are those of
`mini_stamps.py`. The gallery is every photograph, as it is and after each of nine edits
(`BENCHMARK_EDITS` of `lensctl_training.mini.photo_edits`). Three families of queries, in wordings
held out of training:

- edits: photo, "a darker version of this" -> that photo, edited; its other edits are there, too.
- subject: another photo, the description of a photo -> any view of a photo so described.
- kind: photo of a bird, "other birds than this" -> any view of another photo in that folder.

The query photo itself is left out of its results; ties count against. The sum is given its best
weight for every family separately. Several --fusion files (seeds) give a row each. --kept keeps the
gallery's embeddings in a file, or reads them where they were kept.
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
from lensctl.models.mini.words import unit
from lensctl.photos.decode import decode
from lensctl_training.mini.photo_edits import BENCHMARK_EDITS, EDITS

KIND_WORDINGS = ("other {}s than this", "a {} of a different kind", "more {}s, but not this one")
FEWEST_OF_A_KIND = 4
SUM_WEIGHTS = (0.25, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0)
RANKS = (1, 10)
VIEWS = 1 + len(BENCHMARK_EDITS)


@dataclass(frozen=True)
class Query:
    """A row of the gallery, words, and the rows that are right; `photo` hides its own view."""

    row: int
    words: str
    right: frozenset[int]


def make_queries(stamps: list[Stamp], seed: int = 0) -> dict[str, list[Query]]:
    """All queries of the three families; rows count VIEWS for every stamp."""
    rng = np.random.default_rng(seed)
    return {
        "edits": _edit_queries(len(stamps), rng),
        "subject": _subject_queries(stamps, rng),
        "kind": _kind_queries(stamps, rng),
    }


def _edit_queries(number: int, rng: np.random.Generator) -> list[Query]:
    return [
        Query(VIEWS * photo, str(rng.choice(edit.held_out)), frozenset({VIEWS * photo + 1 + place}))
        for photo in range(number)
        for place, edit in enumerate(EDITS[name] for name in BENCHMARK_EDITS)
    ]


def _subject_queries(stamps: list[Stamp], rng: np.random.Generator) -> list[Query]:
    queries = []
    for stamp in stamps:
        others = [row for row, other in enumerate(stamps) if other.words != stamp.words]
        right = [row for row, other in enumerate(stamps) if other.words == stamp.words]
        queries.append(Query(VIEWS * int(rng.choice(others)), stamp.words, _all_views(right)))
    return queries


def _kind_queries(stamps: list[Stamp], rng: np.random.Generator) -> list[Query]:
    """A stamp's folder names its kind; folders with few photographs are left out."""
    kinds: dict[str, list[int]] = {}
    for row, stamp in enumerate(stamps):
        kinds.setdefault(stamp.path.parent.name, []).append(row)
    queries = []
    for kind, rows in sorted(kinds.items()):
        if len(rows) < FEWEST_OF_A_KIND:
            continue
        for row in rows:
            words = str(rng.choice(KIND_WORDINGS)).format(kind.removesuffix("s"))
            queries.append(Query(VIEWS * row, words, _all_views([r for r in rows if r != row])))
    return queries


def _all_views(photos: list[int]) -> frozenset[int]:
    return frozenset(VIEWS * photo + view for photo in photos for view in range(VIEWS))


def embed_views(side: MiniSide, stamps: list[Stamp]) -> Floats:
    """(P * VIEWS, E): each photograph as it is, then once for every edit."""
    rows = []
    for number, stamp in enumerate(stamps):
        image = decode(stamp.path, at_least=2 * side.info.image_size).image
        views = [image, *(EDITS[name].transform(image) for name in BENCHMARK_EDITS)]
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
        self._sentences, self._votes = side.words.read([query.words for query in queries])
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
        queries = fusion(self._asked, self._sentences, self._votes)
        return recalls(queries @ self._targets.T, self._queries)


def kept_views(side: MiniSide, stamps: list[Stamp], kept: Path | None) -> Floats:
    """The gallery's embeddings, from the file where there is one."""
    if kept is not None and kept.is_file():
        return np.load(kept).astype(np.float32)
    embeddings = embed_views(side, stamps)
    if kept is not None:
        np.save(kept, embeddings.astype(np.float16))
    return embeddings


def evaluate(
    side: MiniSide, stamps: list[Stamp], embeddings: Floats, fusions: list[Path]
) -> dict[str, dict]:
    """All families, all methods."""
    found: dict[str, dict] = {}
    for family, queries in make_queries(stamps).items():
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
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    side = open_mini().query_side()
    stamps = find_photographs(arguments.folder)
    embeddings = kept_views(side, stamps, arguments.kept)
    found = evaluate(side, stamps, embeddings, arguments.fusion)
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
