"""Indexing whole folders, beside rclip in the same run, and beside the floors of this machine.

    python benchmarks/index_speed.py PHOTOS [--model mini]... [--runs 5] [--precision auto]
        [--rclip COMMAND --rclip-data DIR]

Prints, for every command, the medians of wall seconds, CPU seconds and peak memory (PSS of the
process tree) of indexing PHOTOS from nothing; then for each model what decoding alone and encoding
alone reach in images per second, in this process, with all cores; and what follows for both.
"""

import argparse
import json
import os
import shlex
import shutil
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from measuring import Command, report, run_in_turn

from lensctl.models.interface import IndexSide
from lensctl.models.registry import open_model
from lensctl.photos.reader import read_photo
from lensctl.photos.scan import FoundPhoto, ScanRules, scan


def our_command(model: str, photos: Path, scratch: Path, precision: str) -> Command:
    """Index from nothing with a model."""
    library = scratch / f"library-{Path(model).name}"
    line = [sys.executable, "-m", "lensctl", "index", str(photos), "--quiet"]
    line += ["--library", str(library), "--model", model, "--precision", precision]
    return Command(
        f"lensctl index, {Path(model).name}",
        line,
        before=lambda: shutil.rmtree(library, ignore_errors=True),
    )


def rclip_command(rclip: str, data: str, photos: Path) -> Command:
    """Index from nothing with rclip: it indexes where it stands, before a query."""

    def forget() -> None:
        for path in Path(data).glob("db.sqlite3*"):
            path.unlink()

    env = {"RCLIP_DATADIR": data, "HF_HUB_OFFLINE": "1"}
    return Command("rclip", [*shlex.split(rclip), "-f", "red"], env, photos, forget)


def floors(model: str, photos: Path, precision: str) -> dict[str, object]:
    """Images per second of decoding alone, of encoding alone, and of both on the same cores."""
    side = open_model(model).index_side(precision=precision)
    found = [one for one in scan(os.fsencode(photos), ScanRules()) if isinstance(one, FoundPhoto)]
    decode, encode = _decode_rate(side, found), _encode_rate(side, len(found))
    return {
        "what": f"floors, {Path(model).name}",
        "precision": side.precision,
        "decode_per_s": round(decode, 1),
        "encode_per_s": round(encode, 1),
        "both_per_s": round(1 / (1 / decode + 1 / encode), 1),
    }


_BATCH = 8


def _decode_rate(side: IndexSide, found: list[FoundPhoto]) -> float:
    def prepare(one: FoundPhoto) -> None:
        image = read_photo(one.path, at_least=side.info.decoded_side).image
        assert image is not None
        side.preprocess(image)

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        started = time.monotonic()
        list(pool.map(prepare, found))
        return len(found) / (time.monotonic() - started)


def _encode_rate(side: IndexSide, photos: int) -> float:
    size = side.info.image_size
    batch = np.random.default_rng(0).standard_normal((_BATCH, 3, size, size), dtype=np.float32)
    lanes = side.share_cores()
    side.encode_images(batch)
    rounds = lanes * max(2, min(photos // _BATCH, 8))
    with ThreadPoolExecutor(lanes) as pool:
        started = time.monotonic()
        list(pool.map(lambda _: side.make_targets(side.encode_images(batch)), range(rounds)))
        return rounds * _BATCH / (time.monotonic() - started)


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("photos", type=Path)
    parser.add_argument("--model", action="append")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--precision", default="auto")
    parser.add_argument("--rclip", help="how to run rclip, a path or a command")
    parser.add_argument("--rclip-data", help="an rclip data folder; its database is deleted")
    options = parser.parse_args()
    photos = options.photos.resolve()
    models = options.model or ["mini"]
    with tempfile.TemporaryDirectory() as scratch:
        commands = [
            our_command(model, photos, Path(scratch), options.precision) for model in models
        ]
        if options.rclip:
            commands.append(rclip_command(options.rclip, options.rclip_data, photos))
        report(run_in_turn(commands, options.runs), photos=sum(1 for _ in photos.rglob("*.jpg")))
    for model in models:
        print(json.dumps(floors(model, photos, options.precision)))


if __name__ == "__main__":
    main()
