"""Two edits in one instruction, on real photographs never trained on: `mini` and baselines.

    python benchmarks/mini_pairs.py FOLDER [--fusion FILE ...] [--kept FILE.npy]
        [--kept-pairs FILE.npy] [--split validation]

FOLDER, the wordings and --kept are those of `mini_composed.py`. The query is a photograph and two
of its edits' wordings, joined ("in black and white, then upside down"); right is that photograph
after both. The gallery is that of `mini_composed.py` and four such pairs of every photograph, so
that it holds each edit alone, too. Pairs that undo each other (darker, brighter) are not asked for.
"""

import argparse
import json
from pathlib import Path

import numpy as np
from mini_composed import Evaluation, Query, kept_views
from mini_stamps import Stamp, find_photographs

from lensctl.models.interface import Floats
from lensctl.models.mini import open_mini
from lensctl.models.mini.fusion import FILE, Fusion
from lensctl.models.mini.info import DATA
from lensctl.models.mini.sides import MiniSide
from lensctl.models.mini.tensors import TensorFile
from lensctl.photos.decode import decode
from lensctl_training.mini.photo_edits import BENCHMARK_EDITS, EDITS

PAIRS = 4
JOINTS = ("{} and {}", "{}, {}", "{}, then {}", "{} and also {}")
UNDOING = [{"darker", "brighter"}, {"warmer", "colder"}, {"grey", "vivid"}]

Pair = tuple[str, str]
"""The names of two edits, in the order they are made."""


def draw_pairs(photographs: int, rng: np.random.Generator) -> list[list[Pair]]:
    """Of every photograph PAIRS pairs, no two of the same edits."""
    return [_pairs_of_one(rng) for _ in range(photographs)]


def _pairs_of_one(rng: np.random.Generator) -> list[Pair]:
    found: dict[frozenset[str], Pair] = {}
    while len(found) < PAIRS:
        first, second = rng.choice(BENCHMARK_EDITS, 2, replace=False).tolist()
        if {first, second} not in UNDOING:
            found.setdefault(frozenset({first, second}), (first, second))
    return list(found.values())


def embed_pairs(side: MiniSide, stamps: list[Stamp], pairs: list[list[Pair]]) -> Floats:
    """(P * PAIRS, E): each photograph after both edits of each of its pairs."""
    rows = []
    for stamp, asked in zip(stamps, pairs, strict=True):
        image = decode(stamp.path, at_least=side.info.decoded_side).image
        views = [EDITS[second].transform(EDITS[first].transform(image)) for first, second in asked]
        rows.append(side.encode_images(np.stack([side.preprocess(view) for view in views])))
    return np.concatenate(rows)


def make_queries(pairs: list[list[Pair]], split: str, rng: np.random.Generator) -> list[Query]:
    """A query for every pair; the pairs' rows come after all single edits'."""
    views = 1 + len(BENCHMARK_EDITS)
    queries = []
    for photo, asked in enumerate(pairs):
        for place, names in enumerate(asked):
            worded = [str(rng.choice(getattr(EDITS[name], split))) for name in names]
            right = views * len(pairs) + PAIRS * photo + place
            words = str(rng.choice(JOINTS)).format(*worded)
            queries.append(Query(views * photo, words, frozenset({right})))
    return queries


def main() -> None:
    """Print the rows as JSON, one a line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--fusion", type=Path, nargs="*", default=[DATA / FILE])
    parser.add_argument("--kept", type=Path, metavar="FILE.npy")
    parser.add_argument("--kept-pairs", type=Path, metavar="FILE.npy")
    parser.add_argument("--split", choices=("held_out", "validation"), default="held_out")
    arguments = parser.parse_args()
    rng = np.random.default_rng(7)
    side = open_mini().query_side()
    stamps = find_photographs(arguments.folder, every=arguments.split == "validation")
    pairs = draw_pairs(len(stamps), rng)
    single = kept_views(side, stamps, BENCHMARK_EDITS, arguments.kept)
    if arguments.kept_pairs and arguments.kept_pairs.is_file():
        double = np.load(arguments.kept_pairs)
    else:
        double = embed_pairs(side, stamps, pairs)
        if arguments.kept_pairs:
            np.save(arguments.kept_pairs, double)
    queries = make_queries(pairs, arguments.split, rng)
    one = Evaluation(side, np.concatenate([single, double]), queries)
    rows = one.baselines() | {
        f"lens {path.stem}": one.fusion(Fusion(TensorFile(path))) for path in arguments.fusion
    }
    print(f"{len(queries)} queries, gallery {len(single) + len(double)}")
    for name, row in rows.items():
        print(json.dumps({"method": name} | row))


if __name__ == "__main__":
    main()
