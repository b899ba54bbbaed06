"""`mini` on synthetic scenes: families of instructions for which there are no real photographs.

    python benchmarks/mini_scenes.py [--queries 400]

The test split of the rendered scenes (`lensctl_training.scenes`): few simple shapes in 32 x 32
pixels, so that the figures say what the lens does with such instructions, not how well it knows
photographs. `mini` was never trained on scenes. The gallery holds every target and, for every
query, scenes with another edit and the same edit of other scenes; the query image itself is left
out of its results. The sum is given its best weight for every kind.
"""

import argparse

import numpy as np
from mini_composed import Evaluation, Query

from lensctl.models.interface import Floats
from lensctl.models.mini import open_mini
from lensctl.models.mini.fusion import FILE, Fusion
from lensctl.models.mini.info import DATA
from lensctl.models.mini.sides import MiniSide
from lensctl.models.mini.tensors import TensorFile
from lensctl_training.data.held_out import HeldOut
from lensctl_training.scenes.examples import render_held_out, scene_pixels

BATCH = 64


def embed(side: MiniSide, held_out: HeldOut) -> Floats:
    """(R, E): the targets, then the rest of the gallery."""
    pictures = [*held_out.targets, *held_out.gallery]
    rows = []
    for start in range(0, len(pictures), BATCH):
        pixels = [
            scene_pixels(np.asarray(picture), side.preprocess)
            for picture in pictures[start : start + BATCH]
        ]
        rows.append(side.encode_images(np.stack(pixels)))
    return np.concatenate(rows)


def queries_by_kind(held_out: HeldOut) -> dict[str, list[Query]]:
    """All kinds together, then each."""
    queries = [
        Query(own, words, frozenset(right) - {own})
        for own, words, right in zip(
            held_out.references, held_out.instructions, held_out.positives, strict=True
        )
    ]
    kinds = sorted(set(held_out.kinds))
    return {"all": queries} | {
        kind: [query for query, of in zip(queries, held_out.kinds, strict=True) if of == kind]
        for kind in kinds
    }


def main() -> None:
    """Print R@1/R@10 of every method, a line for each kind of edit."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--queries", type=int, default=400)
    arguments = parser.parse_args()
    side = open_mini().query_side()
    held_out = render_held_out("test", arguments.queries, seed=0)
    embeddings = embed(side, held_out)
    fusion = Fusion(TensorFile(DATA / FILE))
    print(f"{len(held_out.queries)} queries, gallery {len(embeddings)}, R@1/R@10 in percent")
    for kind, queries in queries_by_kind(held_out).items():
        one = Evaluation(side, embeddings, queries)
        rows = one.baselines() | {"lens": one.fusion(fusion)}
        found = "  ".join(f"{name} {row['R@1']}/{row['R@10']}" for name, row in rows.items())
        print(f"{kind} ({len(queries)}): {found}")


if __name__ == "__main__":
    main()
