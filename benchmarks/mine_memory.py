"""What each page, address and triplet takes in the stages whose memory grows with the input.

    OMP_NUM_THREADS=1 python benchmarks/mine_memory.py --count 200000 --out scratch/

Pages with ten images each, addresses and triplets are made up, of the size that they have on the
web. Each measurement runs in a process of its own; its figure is the growth of the process's peak.
"""

import argparse
import hashlib
import json
import random
import resource
import shutil
import time
from collections.abc import Callable
from functools import partial
from multiprocessing import get_context
from pathlib import Path

import numpy as np

from lensctl.photos.near_duplicates import NearIndex
from lensctl_training.mining.config import MineConfig
from lensctl_training.mining.fetch import fetch_missing
from lensctl_training.mining.funnel import Funnel
from lensctl_training.mining.groups import _load
from lensctl_training.mining.image_table import build_table
from lensctl_training.mining.pages import _Spread
from lensctl_training.mining.records import (
    Instructed,
    Mention,
    Page,
    Pair,
    Picture,
    write_rows,
)
from lensctl_training.mining.report import Tally
from lensctl_training.mining.row_index import RowIndex
from lensctl_training.mining.splits import LEFT_OUT, divide
from lensctl_training.mining.workspace import Workspace

IMAGES = 10


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=200_000)
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    for measure in (share, addresses, fetch, write, near):
        folder = arguments.out / measure.__name__
        shutil.rmtree(folder, ignore_errors=True)
        process = get_context("spawn").Process(target=measure, args=(folder, arguments.count))
        process.start()
        process.join()
        shutil.rmtree(folder, ignore_errors=True)


def address(image: int) -> str:
    site, name = image // 200, f"photo-{image}-1024x768.jpg"
    return f"https://site{site}.example/wp-content/uploads/2026/11/{name}"


def mention(image: int) -> Mention:
    return Mention(
        (address(image),),
        image % IMAGES,
        alt=f"Photo {image} of the old harbour at night",
        caption=f"Figure {image}: the old harbour, seen from the pier",
        headings=("Guide", "Harbours"),
        before="some words before the picture which tell of it " * 3,
        after="and some words after the picture " * 3,
    )


def with_pages(folder: Path, pages: int) -> Workspace:
    def make(out: Path) -> Funnel:
        (out / "images.jsonl").write_text("")
        with _Spread(out, 1) as spread:
            for page in range(pages):
                first = page * IMAGES
                mentions = tuple(map(mention, range(first, first + IMAGES)))
                spread.write(Page(f"https://a.example/{page}", "a.example", "A", "en", mentions))
        return Funnel()

    work = Workspace(folder)
    work.make_part("pages", "a", "key", make)
    return work


def report(what: str, count: int, work: Callable[[], object]) -> None:
    """Growth of the peak and CPU time, for each of `count`."""
    before, cpu = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.process_time()
    kept = work()
    cpu = time.process_time() - cpu
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024
    print(
        f"{what}\t{count}\t{grown / count:.0f} bytes\t{1e6 * cpu / count:.1f} us each", flush=True
    )
    del kept


def share(folder: Path, count: int) -> None:
    pages = max(1, count // IMAGES)
    work = with_pages(folder, pages)
    report("groups: pages of a share", pages, lambda: list(_load(work, 0, Funnel())))


def addresses(folder: Path, count: int) -> None:
    draw = random.Random(0)

    def make(out: Path) -> Funnel:
        with (out / "images.jsonl").open("w") as file:
            for image in draw.sample(range(count), count):
                row = {"url": address(image), "sha256": f"{image:064x}", "reason": ""}
                file.write(json.dumps(row) + "\n")
        return Funnel()

    work = Workspace(folder)
    work.make_part("pages", "a", "key", make)
    report("table of images: addresses", count, lambda: build_table(work, "pages"))
    size = (work.folder / "images.sqlite").stat().st_size
    print(f"... on disk\t{count}\t{size / count:.0f} bytes")


def fetch(folder: Path, count: int) -> None:
    work = with_pages(folder, count // IMAGES)
    build_table(work, "pages")
    with (work.folder / "fetched.jsonl").open("w") as file:
        for image in range(count):
            file.write(json.dumps([address(image), f"sha256:{image:064x}"]) + "\n")
    report("fetch: addresses, all settled", count, lambda: fetch_missing(work, MineConfig()))


def write(folder: Path, count: int) -> None:
    draw = random.Random(0)

    def picture(image: int) -> Picture:
        sha256 = hashlib.sha256(str(image).encode()).hexdigest()
        bits = draw.getrandbits(64)
        facts = (800, 600, 0.5, 40.0, 10.0)
        return Picture(mention(image), address(image), sha256, *facts, perceptual_hash=bits)

    def row(n: int) -> Instructed:
        key = hashlib.sha256(str(n).encode()).hexdigest()[:20]
        site, scores = f"site{n // 50}.example", {"image": 0.5, "text": 0.3}
        ends = picture(2 * n), picture(2 * n + 1)
        pair = Pair(key, f"https://{site}/{n}", site, "A guide", "en", *ends, scores)
        return Instructed(pair, f"the same at dusk, variant {n}", "rule-based", "1", "r", "f")

    def last_stage() -> object:
        index = RowIndex([folder / "rows.jsonl"])
        splits = divide(index, MineConfig(), Funnel())
        tally = Tally(60)
        for each in index.rows(np.flatnonzero(splits != LEFT_OUT)):
            tally.add(each)
        return tally.facts()

    folder.mkdir(parents=True)
    write_rows(folder / "rows.jsonl", map(row, range(count)))
    report("write: triplets, without their images", count, last_stage)


def near(folder: Path, count: int) -> None:
    draw = np.random.default_rng(0)
    asked = draw.integers(0, 2**64, 131_072, dtype=np.uint64)
    for known in (10_000, 100_000, 1_400_000):
        index = NearIndex(draw.integers(0, 2**64, known, dtype=np.uint64), 4)
        report(f"val test, {known} val images", len(asked), partial(index.holds_near, asked))


if __name__ == "__main__":
    main()
