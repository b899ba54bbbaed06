"""Cold queries on a large library: wall time and peak memory, beside rclip in the same run.

    python benchmarks/large_library.py FOLDER [--photos 100000] [--model mini] [--runs 5]
        [--rclip COMMAND --rclip-data DIR]

Only the encoder is replaced: vectors are drawn at random around cluster centres and written into a
real catalog; everything else, from the command line to the printed paths, is what a user runs. One
photo is a real file, so that it can be the query. FOLDER is scratch space; the library is made once
and used again. With --rclip, its text and image queries run in turn with ours; DIR is an rclip data
folder with as many rows.
"""

import argparse
import itertools
import json
import os
import resource
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from measuring import Command, report, run_in_turn
from PIL import Image

from lensctl.library.catalog import from_floats
from lensctl.library.library import Library
from lensctl.library.recorder import Recorder, signed
from lensctl.library.vectors import refresh_search_files
from lensctl.models.interface import ModelInfo
from lensctl.models.registry import open_model

_BLOCK = 10_000
_CLUSTERS = 1000


Place = tuple[bytes, int, int, int, int, int]
"""(path, size, mtime_ns, device, inode, content id) of a photo."""


def library_folder(folder: Path, model_name: str, photos: int) -> Path:
    """Where the library of so many photos lies."""
    return folder / f"library-{Path(model_name).name}-{photos}"


def make_library(folder: Path, model_name: str, photos: int) -> Path:
    """A library of `photos` rows, and the one real photo in it; returns the photo's path."""
    photo = folder / "query.jpg"
    library = Library(library_folder(folder, model_name, photos))
    if library.exists():
        return photo
    folder.mkdir(parents=True, exist_ok=True)
    if not photo.exists():  # the catalogs of other libraries in the folder know it as it is
        noise = np.random.default_rng(1).integers(0, 255, (1200, 1600, 3), dtype=np.uint8)
        Image.fromarray(noise // 8 * 2 + 60).save(photo, quality=90)
    places = (_place(folder, number, photo) for number in range(1, photos + 1))
    fill(library, model_name, folder, places)
    return photo


def fill(library: Library, model_name: str, root: Path, places: Iterator[Place]) -> None:
    """A library of photos that are said to lie at these places; content ids count from 1."""
    model = open_model(model_name)
    with library.writing() as recorder:
        lens = recorder.register(model.info)
        recorder.set_fact("model", model_name)
        recorder.root_for(os.fsencode(root))
        while block := list(itertools.islice(places, _BLOCK)):
            with recorder.transaction():
                _write_block(recorder, model.info, block)
        side = model.query_side()
        refresh_search_files(library.search_folder, recorder, lens, model.info, side.text_keys)


def _write_block(recorder: Recorder, info: ModelInfo, places: list[Place]) -> None:
    ids = [place[-1] for place in places]
    sql = recorder.connection.executemany
    contents = [(i, i.to_bytes(16, "big"), "JPEG", 4000, 3000, _taken(i), "Pixel 8") for i in ids]
    sql(
        "INSERT INTO contents (id, hash, format, width, height, taken, camera)"
        " VALUES (?, ?, ?, ?, ?, ?, ?)",
        contents,
    )
    sql(
        "INSERT INTO photos (root_id, path, size, mtime_ns, device, inode, content_id, state)"
        " VALUES (1, ?, ?, ?, ?, ?, ?, 'present')",
        places,
    )
    # Positive, as pooled activations are: mini takes logarithms of some of them.
    embeddings = np.abs(clustered(info.embedding_dim, len(ids), ids[0]))
    sql(
        "INSERT INTO embeddings (encoder_id, content_id, vector, precision, device)"
        " VALUES (1, ?, ?, 'fp32', 'cpu')",
        ((i, from_floats(v * 10)) for i, v in zip(ids, embeddings, strict=True)),
    )
    targets = clustered(info.target_dim, len(ids), ids[0])
    sql(
        "INSERT INTO targets (lens_id, content_id, vector) VALUES (1, ?, ?)",
        ((i, from_floats(v)) for i, v in zip(ids, targets, strict=True)),
    )


def _taken(number: int) -> str:
    return f"{2005 + number % 20}-{number % 12 + 1:02}-{number % 28 + 1:02}T12:00:00"


def _place(folder: Path, number: int, photo: Path) -> Place:
    if number == 1:
        status = photo.stat()
        device, inode = signed(status.st_dev), signed(status.st_ino)
        return os.fsencode(photo), status.st_size, status.st_mtime_ns, device, inode, 1
    path = folder / f"{2005 + number % 20}" / f"{number % 12 + 1:02}" / f"IMG_{number:07}.jpg"
    return os.fsencode(path), 3_000_000 + number, number, 1, number, number


def clustered(dim: int, count: int, seed: int) -> np.ndarray:
    """(count, dim) float32 unit vectors around cluster centres that all seeds share."""
    centres = np.random.default_rng(0).standard_normal((_CLUSTERS, dim), dtype=np.float32)
    rng = np.random.default_rng(seed + 1)
    rows = centres[rng.integers(0, _CLUSTERS, count)]
    rows += 0.5 * rng.standard_normal((count, dim), dtype=np.float32)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def _ours(library: Path, photo: Path, outside: Path) -> Iterator[Command]:
    base = [sys.executable, "-m", "lensctl", "query", "--library", str(library), "--paths"]
    yield Command("lensctl library photo + instruction", [*base, str(photo), "inside view of"])
    yield Command("lensctl outside photo + instruction", [*base, str(outside), "inside view of"])
    yield Command("lensctl text", [*base, "a red barn"])
    yield Command("lensctl text, filtered", [*base, "a red barn", "--after", "2020"])


def _rclip(rclip: str, data: str, outside: Path) -> list[Command]:
    env = {"RCLIP_DATADIR": data, "HF_HUB_OFFLINE": "1"}
    base = [*shlex.split(rclip), "-n", "-f"]
    return [
        Command("rclip text", [*base, "a red barn"], env),
        Command("rclip image + text", [*base, str(outside), "+", "inside view of"], env),
    ]


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--photos", type=int, default=100_000)
    parser.add_argument("--model", default="mini")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--rclip", help="how to run rclip, a path or a command")
    parser.add_argument("--rclip-data", help="an rclip data folder with as many rows")
    options = parser.parse_args()
    folder = options.folder.resolve()
    photo = make_library(folder, options.model, options.photos)
    library = library_folder(folder, options.model, options.photos)
    outside = folder / "outside.jpg"
    Image.open(photo).rotate(180).save(outside, quality=90)
    commands = list(_ours(library, photo, outside))
    if options.rclip:
        commands += _rclip(options.rclip, options.rclip_data, outside)
    size = sum(one.stat().st_size for one in library.rglob("*") if one.is_file())
    print(
        json.dumps(
            {
                "photos": options.photos,
                "model": options.model,
                "bytes_per_photo": round(size / options.photos),
                "own_peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
            }
        )
    )
    report(run_in_turn(commands, options.runs), photos=options.photos)


if __name__ == "__main__":
    main()
