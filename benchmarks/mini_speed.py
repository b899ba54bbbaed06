"""What `mini` adds to its bare parts: statistics to the image tower, the lens to a query.

    python benchmarks/mini_speed.py [--batch 16] [--runs 20]

Encoding: pixels of one batch through the bare tower with average pooling, and through the whole
encoder, every core with a batch of its own, as when photos are indexed. Query: a photo's embedding
and an instruction to a query, against the two things that are needed without a trained lens:
reading the words, and adding them to the photo's target. Opening: the trained lens's file, read and
widened to float32. Medians, what is compared in turn; run on a quiet machine.
"""

import argparse
import os
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from statistics import median

import numpy as np

from lensctl.models.blas import suited_to
from lensctl.models.interface import Floats
from lensctl.models.mini import open_mini
from lensctl.models.mini.fusion import FILE, Fusion
from lensctl.models.mini.image_tower import SIZE
from lensctl.models.mini.info import DATA
from lensctl.models.mini.sides import MiniSide
from lensctl.models.mini.tensors import TensorFile

INSTRUCTION = "the same in black and white"


def milliseconds(runs: int, *calls: Callable[[], object]) -> list[float]:
    """The medians of several calls, each in turn with the others, after one that does not count."""
    spent: list[list[float]] = [[] for _ in calls]
    for _ in range(1 + runs):
        for row, call in zip(spent, calls, strict=True):
            start = time.perf_counter()
            call()
            row.append(1000 * (time.perf_counter() - start))
    return [median(row[1:]) for row in spent]


def encode_times(side: MiniSide, pixels: Floats, runs: int) -> tuple[float, float]:
    """A photo through the bare tower, and through the encoder, a batch for every core."""
    lanes = side.share_cores()
    tower, batches = side.encode_images.tower, [pixels] * lanes
    with ThreadPoolExecutor(lanes) as pool:
        bare, whole = milliseconds(
            runs,
            lambda: list(pool.map(lambda one: tower.feature_map(one).mean(axis=(2, 3)), batches)),
            lambda: list(pool.map(side.encode_images, batches)),
        )
    return bare / len(pixels) / lanes, whole / len(pixels) / lanes


def query_times(side: MiniSide, runs: int) -> tuple[float, float]:
    """A query as a plain sum, and by the trained lens."""
    rng = np.random.default_rng(0)
    embedding = rng.random((1, side.info.embedding_dim), dtype=np.float32)

    def plain_sum() -> Floats:
        with suited_to(1):
            queries = side.make_targets(embedding)
            _, votes = side.words.read([INSTRUCTION])
            queries[:, : votes.shape[1]] += votes
        return queries / np.linalg.norm(queries)

    summed, trained = milliseconds(
        runs, plain_sum, lambda: side.make_queries(embedding, [INSTRUCTION])
    )
    return summed, trained


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--runs", type=int, default=20)
    arguments = parser.parse_args()
    side = open_mini().query_side()
    pixels = np.random.default_rng(0).random((arguments.batch, 3, SIZE, SIZE), dtype=np.float32)
    bare, whole = encode_times(side, pixels, arguments.runs)
    summed, trained = query_times(side, arguments.runs)
    [opened] = milliseconds(arguments.runs, lambda: Fusion(TensorFile(DATA / FILE)))
    print(f"load average {os.getloadavg()[0]:.1f}, {os.cpu_count()} cores")
    more = 100 * (whole / bare - 1)
    print(f"encode a photo: bare {bare:.2f} ms, mini {whole:.2f} ms (+{more:.1f} %)")
    print(f"query: sum {summed:.2f} ms, trained lens {trained:.2f} ms (+{trained - summed:.2f} ms)")
    print(f"opening the trained lens: {opened:.2f} ms")


if __name__ == "__main__":
    main()
