"""Which form of kept vectors answers a question best: float32, float16, int8, hnswlib.

    python benchmarks/search_forms.py FOLDER [--photos 100000] [--dim 512] [--real PHOTOS]...
        [--forms float32 float16 int8 hnsw] [--runs 5] [--queries 100]

Prints for every form: bytes of file per photo; wall and CPU seconds of one question in a fresh
process that imports, maps or loads, and answers; anonymous memory of that process; milliseconds of
a question once it is open; recall@10 against exact search in float32.

The vectors are drawn around 1,000 cluster centres, or, with --real, are text keys of `mini`: crops
of the photos in those folders are encoded, the embeddings of random pairs are blended until there
are enough, and the questions are words. FOLDER is scratch space.
"""

import argparse
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import hnswlib
import numpy as np
import simsimd
from large_library import clustered
from PIL import Image

FORMS = ("float32", "float16", "int8", "hnsw")
_BLOCK = 10_000
_RESCORED = 100
_CROPS = 4
_SUBJECTS = [
    "barn",
    "boat",
    "cat",
    "dog",
    "bridge",
    "flower",
    "mountain",
    "street",
    "castle",
    "bird",
    "horse",
    "car",
]
_MANNERS = (
    "a photo of a {}", "red {}", "{} in the snow", "{} at night", "a {} by the sea", "an old {}",
    "two {}s in a field", "a small white {}", "{} under a blue sky",
)  # fmt: skip


def write_forms(folder: Path, photos: int, dim: int, real: list[Path]) -> np.ndarray:
    """Write all forms but the graph; returns the (Q, dim) questions."""
    blocks, questions = _real(photos, real) if real else _drawn(photos, dim)
    with (
        (folder / "float32").open("wb") as full,
        (folder / "float16").open("wb") as half,
        (folder / "int8").open("wb") as small,
    ):
        for start in range(0, photos, _BLOCK):
            rows = blocks(start, min(_BLOCK, photos - start))
            full.write(rows.astype("<f4").tobytes())
            half.write(rows.astype("<f2").tobytes())
            small.write(to_int8(rows).tobytes())
    return questions


def to_int8(rows: np.ndarray) -> np.ndarray:
    """(N, D) -> (N, D) int8, every row scaled to use the whole range."""
    return np.rint(rows * (127 / np.abs(rows).max(axis=1, keepdims=True))).astype(np.int8)


def _drawn(photos: int, dim: int) -> tuple[Callable[[int, int], np.ndarray], np.ndarray]:
    return lambda start, count: clustered(dim, count, start), clustered(dim, 1000, photos + 1)


def _real(photos: int, folders: list[Path]) -> tuple[Callable[[int, int], np.ndarray], np.ndarray]:
    from lensctl.models.registry import open_model

    model = open_model("mini")
    side, query_side = model.index_side(), model.query_side()
    paths = sorted(one for folder in folders for one in folder.rglob("*.[jp][pn]g"))
    rng = np.random.default_rng(0)
    embeddings = np.concatenate([side.encode_images(_crops(path, side, rng)) for path in paths])

    def blended(start: int, count: int) -> np.ndarray:
        rng = np.random.default_rng(start)
        left, right = rng.integers(0, len(embeddings), (2, count))
        share = rng.random((count, 1), dtype=np.float32)
        return side.text_keys(share * embeddings[left] + (1 - share) * embeddings[right])

    words = [manner.format(subject) for manner in _MANNERS for subject in _SUBJECTS]
    return blended, query_side.encode_texts(words)


def _crops(path: Path, side, rng: np.random.Generator) -> np.ndarray:  # type: ignore[no-untyped-def]
    with Image.open(path) as image:
        image.draft(None, (800, 800))
        photo = image.convert("RGB")
    crops = []
    for _ in range(_CROPS):
        part = rng.uniform(0.4, 1.0)
        width, height = max(1, int(photo.width * part)), max(1, int(photo.height * part))
        left = int(rng.integers(0, photo.width - width + 1))
        top = int(rng.integers(0, photo.height - height + 1))
        crops.append(side.preprocess(photo.crop((left, top, left + width, top + height))))
    return np.stack(crops)


def write_graph(folder: Path, dim: int) -> float:
    """Build and save the graph from the float32 rows; returns the seconds."""
    rows = _mapped(folder / "float32", "<f4", dim)
    started = time.monotonic()
    graph = hnswlib.Index(space="ip", dim=dim)
    graph.init_index(len(rows), M=32, ef_construction=200)
    for start in range(0, len(rows), _BLOCK):
        graph.add_items(np.ascontiguousarray(rows[start : start + _BLOCK]))
    graph.save_index(str(folder / "hnsw"))
    return time.monotonic() - started


def opened(folder: Path, form: str, dim: int) -> Callable[[np.ndarray], np.ndarray]:
    """A function: (D,) question -> the ten nearest rows."""
    if form == "hnsw":
        graph = hnswlib.Index(space="ip", dim=dim)
        graph.load_index(str(folder / "hnsw"))
        graph.set_ef(128)
        return lambda question: graph.knn_query(question[None], k=10, num_threads=1)[0][0]
    if form == "float32":
        rows = _mapped(folder / form, "<f4", dim)
        return lambda question: _top(rows @ question, 10)
    half = _mapped(folder / "float16", "<f2", dim)
    if form == "float16":
        return lambda question: _top(_products(half, question.astype("<f2"), "dot"), 10)
    small = _mapped(folder / form, np.int8, dim)

    def by_int8(question: np.ndarray) -> np.ndarray:
        near = _top(-_products(small, to_int8(question[None])[0], "cosine"), _RESCORED)
        return near[_top(half[near].astype(np.float32) @ question, 10)]

    return by_int8


def _products(rows: np.ndarray, question: np.ndarray, metric: str) -> np.ndarray:
    return np.asarray(simsimd.cdist(question[None], rows, metric))[0]


def _mapped(path: Path, dtype: object, dim: int) -> np.ndarray:
    return np.asarray(np.memmap(path, dtype=dtype, mode="r").reshape(-1, dim))


def _top(scores: np.ndarray, count: int) -> np.ndarray:
    rows = np.argpartition(-scores, count)[:count]
    return rows[np.argsort(-scores[rows], kind="stable")]


def measure(folder: Path, form: str, questions: np.ndarray, truth: list, runs: int) -> dict:  # type: ignore[type-arg]
    """One line of the table."""
    line = [sys.executable, __file__, str(folder), "--ask", form, "--dim", str(questions.shape[1])]
    cold = []
    for _ in range(runs + 1):
        started = time.monotonic()
        done = subprocess.run(line, capture_output=True, check=True)
        wall = time.monotonic() - started
        cold.append({"wall": wall, **json.loads(done.stdout)})
    ask = opened(folder, form, questions.shape[1])
    hits, spent = 0, []
    for question, right in zip(questions, truth, strict=True):
        started = time.monotonic()
        found = ask(question)
        spent.append(time.monotonic() - started)
        hits += len({*found.tolist()} & {*right.tolist()})
    middle = {key: statistics.median(one[key] for one in cold[1:]) for key in cold[0]}
    return {
        "form": form,
        "file_gb": round((folder / form).stat().st_size / 1e9, 3),
        "cold_wall_s": round(middle["wall"], 3),
        "cold_cpu_s": round(middle["cpu"], 3),
        "anonymous_mb": round(middle["anonymous_mb"]),
        "open_ms": round(1000 * statistics.median(spent), 1),
        "recall_at_10": round(hits / (10 * len(questions)), 4),
    }


def ask_once(folder: Path, form: str, dim: int) -> None:
    """What a fresh process does."""
    opened(folder, form, dim)(np.load(folder / "questions.npy")[0])
    text = Path("/proc/self/smaps_rollup").read_text()
    anonymous = next(int(row.split()[1]) for row in text.splitlines() if row[:10] == "Anonymous:")
    print(json.dumps({"cpu": time.process_time(), "anonymous_mb": anonymous / 1024}))


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--photos", type=int, default=100_000)
    parser.add_argument("--dim", type=int, default=512)
    parser.add_argument("--real", type=Path, action="append", default=[])
    parser.add_argument("--forms", nargs="+", choices=FORMS, default=FORMS)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--queries", type=int, default=100)
    parser.add_argument("--ask", choices=FORMS, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.ask:
        ask_once(options.folder, options.ask, options.dim)
        return
    options.folder.mkdir(parents=True, exist_ok=True)
    questions = write_forms(options.folder, options.photos, options.dim, options.real)
    questions = questions[: options.queries].astype(np.float32)
    np.save(options.folder / "questions.npy", questions)
    exact = opened(options.folder, "float32", questions.shape[1])
    truth = [exact(question) for question in questions]
    facts = {"photos": options.photos, "dim": questions.shape[1], "real": bool(options.real)}
    for form in options.forms:
        built = write_graph(options.folder, questions.shape[1]) if form == "hnsw" else 0.0
        row = measure(options.folder, form, questions, truth, options.runs)
        print(json.dumps({**facts, **row, "build_s": round(built)}), flush=True)


if __name__ == "__main__":
    main()
