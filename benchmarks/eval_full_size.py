"""Peak memory and time of `lensctl eval` on data sets of the true size.

    python benchmarks/eval_full_size.py [NAME ...] [--encoder mini|stored] [--work DIR]

Each benchmark's folder is generated in its own format with the true numbers of images and queries;
the images are 64 synthetic JPEGs under hard links, the answers are drawn at random, so the scores
mean nothing. Each benchmark runs in a process of its own, which prints its peak resident memory
(memory-mapped vectors that the system keeps in RAM are counted in it).

`--encoder mini` encodes every image with the embedded model: hours on a CPU for CIRCO. `--encoder
stored` replaces the encoder, and nothing else, by drawn vectors that are as wide as mini's: every
file is still read, hashed, decoded and resized, and everything after the encoder is as it is.
"""

import argparse
import json
import os
import platform
import random
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

MASTERS = 64
SIDE = (320, 240)
WIDTH = 1024
"""Of the stored vectors, where mini is not at hand to say its own."""


class Folder:
    """A data set in the making: writes lists and hard-links images."""

    def __init__(self, root: Path, masters: Sequence[Path]) -> None:
        self.root = root
        self.draw = random.Random(0)
        self._masters = masters
        self._made: set[Path] = set()

    def image(self, place: str) -> str:
        path = self.root / place
        if path.parent not in self._made:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._made.add(path.parent)
        os.link(self.draw.choice(self._masters), path)
        return place

    def json(self, place: str, content: Any) -> None:
        (self.root / place).parent.mkdir(parents=True, exist_ok=True)
        (self.root / place).write_text(json.dumps(content))

    def lines(self, place: str, rows: Iterable[str]) -> None:
        (self.root / place).parent.mkdir(parents=True, exist_ok=True)
        (self.root / place).write_text("\n".join(rows) + "\n")

    def pick(self, items: Sequence[Any], count: int) -> list[Any]:
        return self.draw.sample(items, count)


def make_fashioniq(folder: Folder) -> None:
    sizes = {"dress": (3817, 2017), "shirt": (6346, 2038), "toptee": (5373, 1961)}
    for category, (images, queries) in sizes.items():
        names = [f"{category}{n:05d}" for n in range(images)]
        for name in names:
            folder.image(f"images/{name}.png")
        folder.json(f"image_splits/split.{category}.val.json", names)
        rows = []
        for _ in range(queries):
            candidate, target = folder.pick(names, 2)
            rows.append({"candidate": candidate, "target": target, "captions": ["is red", "long"]})
        folder.json(f"captions/cap.{category}.val.json", rows)


def make_cirr(folder: Folder) -> None:
    for split, stem, images, queries in (
        ("val", "dev", 2297, 4181),
        ("test1", "test1", 2315, 4148),
    ):
        names = [f"{stem}-{n}" for n in range(images)]
        paths = {name: f"./{stem}/{name}.png" for name in names}
        for path in paths.values():
            folder.image(f"img_raw/{path}")
        folder.json(f"image_splits/split.rc2.{split}.json", paths)
        rows = []
        for number in range(queries):
            members = folder.pick(names, 6)
            row = {"pairid": number, "reference": members[0], "caption": f"{number} more dogs"}
            row["img_set"] = {"members": members}
            rows.append(row | ({"target_hard": members[1]} if split == "val" else {}))
        folder.json(f"captions/cap.rc2.{split}.json", rows)


def make_circo(folder: Folder) -> None:
    ids = list(range(1, 123_404))
    base = "COCO2017_unlabeled"
    for number in ids:
        folder.image(f"{base}/unlabeled2017/{number:012d}.jpg")
    info = [{"id": n, "file_name": f"{n:012d}.jpg"} for n in ids]
    folder.json(f"{base}/annotations/image_info_unlabeled2017.json", {"images": info})
    for split, count in (("val", 220), ("test", 800)):
        rows = []
        for number in range(count):
            reference, *right = folder.pick(ids, 5)
            row = {"id": number, "reference_img_id": reference, "shared_concept": "a dog"}
            row["relative_caption"] = f"has {number} more dogs"
            answers = {"target_img_id": right[0], "gt_img_ids": right, "semantic_aspects": []}
            rows.append(row | (answers if split == "val" else {}))
        folder.json(f"annotations/{split}.json", rows)


def make_genecis(folder: Folder) -> None:
    coco, genome = list(range(1, 5001)), list(range(1, 20_001))
    for number in coco:
        folder.image(f"val2017/{number:012d}.jpg")
    for number in genome:
        folder.image(f"VG_100K/{number}.jpg")
    for task, templates, size in (
        ("focus_attribute", 2000, 9),
        ("change_attribute", 2112, 14),
        ("focus_object", 1960, 14),
        ("change_object", 1960, 14),
    ):

        def entry(number: int, task: str = task) -> dict[str, Any]:
            if task.endswith("object"):
                return {"val_image_id": number}
            return {"image_id": number, "instance_bbox": [60, 40, 90, 80]}

        rows = []
        for number in range(templates):
            pool = coco if task.endswith("object") else genome
            reference, target, *gallery = map(entry, folder.pick(pool, size + 2))
            row = {"reference": reference, "target": target, "gallery": gallery}
            rows.append(row | {"condition": f"thing {number % 300}"})
        folder.json(f"genecis/{task}.json", rows)


def make_dtin(folder: Folder) -> None:
    targets, queries = [], []
    for number in range(10_000):
        path = folder.image(f"real/n{number % 200}/{number}.JPEG")
        targets.append(f"imgnet/{path} {6000 + number % 200}")
        queries.append(f"imgnet/{path} {number % 200}")
    for domain, count in enumerate((3726, 550, 1511, 1196)):
        for number in range(count):
            path = folder.image(f"imagenet-r/n{number % 200}/{domain}_{number}.jpg")
            targets.append(f"imgnet/{path} {1000 * domain + number % 200}")
    folder.lines("imgnet_targets.txt", targets)
    folder.lines("imgnet_real_query.txt", queries)


def make_tu_berlin(folder: Folder) -> None:
    for kind, ending, count in (("png_ready", "png", 2400), ("ImageResized_ready", "JPEG", 27_989)):
        rows = []
        for number in range(count):
            path = folder.image(f"{kind}/class {number % 30}/{number}.{ending}")
            rows.append(f"{path} {number % 30}")
        folder.lines(f"zeroshot/{kind}_filelist_zero.txt", rows)


def make_flickr30k(folder: Folder) -> None:
    rows = ["image,caption"]
    for number in range(1000):
        folder.image(f"flickr30k-images/{number}.jpg")
        rows += [f"{number}.jpg,A dog, number {number}, seen {n} times" for n in range(5)]
    folder.lines("flickr30k_test_karpathy.txt", rows)


def make_coco(folder: Folder) -> None:
    images, captions = [], []
    for number in range(1, 5001):
        name = f"COCO_val2014_{number:012d}.jpg"
        folder.image(f"val2014/{name}")
        images.append({"id": number, "file_name": name})
        seen = range(6 if number <= 10 else 5)
        captions += [{"image_id": number, "caption": f"dog {number} seen {n} times"} for n in seen]
    folder.json("coco_test_karpathy.json", {"images": images, "annotations": captions})


MAKERS: dict[str, Callable[[Folder], None]] = {
    "fashioniq": make_fashioniq,
    "cirr": make_cirr,
    "circo": make_circo,
    "genecis": make_genecis,
    "dtin": make_dtin,
    "tu-berlin": make_tu_berlin,
    "flickr30k": make_flickr30k,
    "coco": make_coco,
}


class StoredVectors:
    """In place of an encoder: drawn vectors. Not a model of anything."""

    device, precision = "cpu", "fp32"

    def __init__(self) -> None:
        from lensctl.models.interface import ModelInfo
        from lensctl.models.preprocessing import Preprocessing

        embedding, target, text = _widths()
        self.preprocess = Preprocessing()
        self._encoded = 0
        self.info = ModelInfo(
            name="stored",
            encoder_fingerprint="stored",
            lens_fingerprint="stored",
            image_size=224,
            embedding_dim=embedding,
            target_dim=target,
            text_dim=text,
            licence="Apache-2.0",
            description="drawn vectors, in place of an encoder",
        )

    def index_side(self, device: str = "auto", precision: str = "auto") -> "StoredVectors":
        return self

    def query_side(self) -> "StoredVectors":
        return self

    def encode_images(self, pixels: np.ndarray) -> np.ndarray:
        """A vector of its own for every image: the hard links make thousands of equal pixels."""
        self._encoded += len(pixels)
        first = self._encoded - len(pixels)
        width = self.info.embedding_dim
        return np.stack([_noise(seed, width) for seed in range(first, self._encoded)])

    def make_targets(self, embeddings: np.ndarray) -> np.ndarray:
        return _unit(_fit(embeddings, self.info.target_dim))

    def text_keys(self, embeddings: np.ndarray) -> np.ndarray:
        return _unit(_fit(embeddings, self.info.text_dim))

    def make_queries(self, embeddings: np.ndarray, instructions: Sequence[str]) -> np.ndarray:
        words = np.stack([_noise(_seed(text), self.info.target_dim) for text in instructions])
        return _unit(_fit(embeddings, self.info.target_dim) + words)

    def encode_texts(self, texts: Sequence[str]) -> np.ndarray:
        return _unit(np.stack([_noise(_seed(text), self.info.text_dim) for text in texts]))

    def truncated(self, text: str) -> bool:
        return False


def _widths() -> tuple[int, int, int]:
    from lensctl.errors import LensctlError
    from lensctl.models.registry import open_model

    try:
        info = open_model("mini").info
    except LensctlError:
        return WIDTH, WIDTH, WIDTH
    return info.embedding_dim, info.target_dim, info.text_dim


def _seed(text: str) -> int:
    return int.from_bytes(text.encode()[:32], "little") % 2**63


def _noise(seed: int, width: int) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(width, dtype=np.float32)


def _fit(rows: np.ndarray, width: int) -> np.ndarray:
    """Cut or repeat columns to the width."""
    return rows[:, np.arange(width) % rows.shape[1]]


def _unit(rows: np.ndarray) -> np.ndarray:
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def make_masters(folder: Path) -> list[Path]:
    """Synthetic JPEGs: coloured noise, smooth enough to compress as photos do."""
    folder.mkdir(parents=True)
    paths = []
    for number in range(MASTERS):
        coarse = np.random.default_rng(number).integers(0, 256, (15, 20, 3), dtype=np.uint8)
        path = folder / f"{number}.jpg"
        Image.fromarray(coarse).resize(SIDE, Image.Resampling.BICUBIC).save(path, quality=90)
        paths.append(path)
    return paths


def run_child(name: str, encoder: str, data: Path, work: Path) -> None:
    """Evaluate one benchmark and print one JSON line: sizes, seconds, peak memory."""
    from lensctl.models.registry import open_model
    from lensctl_training.benchmarks.registry import LoadOptions
    from lensctl_training.benchmarks.run import EvalOptions, run_benchmark, write_results

    model: Any = open_model("mini") if encoder == "mini" else StoredVectors()
    options = EvalOptions(cache=work / "cache", workers=os.cpu_count() or 1)
    start = time.perf_counter()
    report = run_benchmark(name, data, [model], LoadOptions(), options)
    write_results(report, work / "results")
    found = {
        "benchmark": name,
        "images": len(report.benchmark.images),
        "queries": sum(len(task.queries) for task in report.benchmark.tasks),
        "embedding": model.info.embedding_dim,
        "target": model.info.target_dim,
        "seconds": round(time.perf_counter() - start, 1),
        "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
    }
    print(json.dumps(found))


def measure(name: str, encoder: str, work: Path) -> dict[str, Any]:
    """Generate one data set, evaluate it in a fresh process, and remove it."""
    place = Path(tempfile.mkdtemp(dir=work, prefix=f"{name}-"))
    try:
        MAKERS[name](Folder(place / "data", make_masters(place / "masters")))
        command = [sys.executable, __file__, name, "--encoder", encoder, "--child", str(place)]
        ended = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
        return json.loads(ended.stdout.splitlines()[-1])
    finally:
        shutil.rmtree(place)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help="benchmarks; none: all eight")
    parser.add_argument("--encoder", choices=("mini", "stored"), default="stored")
    parser.add_argument("--work", type=Path, default=Path(tempfile.gettempdir()))
    parser.add_argument("--child", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        run_child(options.names[0], options.encoder, options.child / "data", options.child)
        return
    print(f"encoder: {options.encoder}; {os.cpu_count()} CPUs, {platform.processor()}")
    for name in options.names or MAKERS:
        found = measure(name, options.encoder, options.work)
        print(
            f"{name:10} {found['images']:7,} images {found['queries']:7,} queries "
            f"vectors {found['embedding']}/{found['target']} "
            f"{found['seconds']:8.1f} s  peak {found['peak_mb']:5,} MB",
            flush=True,
        )


if __name__ == "__main__":
    main()
