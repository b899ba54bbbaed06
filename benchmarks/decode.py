"""Milliseconds and memory per photo, by format, on one thread.

    python benchmarks/decode.py [--megapixels 12] [--at-least 448] [--repeat 5] [--memory]

The photos are synthetic (octaves of noise, about as hard to compress as a real one). Columns:
`pillow` decodes the whole photo to RGB by Pillow alone, the floor for formats without reduced
decoding; `draft` is Pillow's draft alone, the floor for JPEG; `decode` is what the indexer does for
the pixels, `read` adds hash and facts. With --memory each photo is decoded in a process of its own
and its peak is set beside `decode_cost` (Linux only).
"""

import argparse
import io
import json
import math
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pillow_heif
from PIL import Image

from lensctl.photos.decode import decode, decode_cost
from lensctl.photos.reader import read_photo

KINDS: dict[str, tuple[str, dict[str, Any]]] = {
    "JPEG": ("JPEG", {"quality": 90}),
    "JPEG 4:4:4": ("JPEG", {"quality": 90, "subsampling": 0}),
    "JPEG progressive": ("JPEG", {"quality": 90, "subsampling": 0, "progressive": True}),
    "PNG": ("PNG", {"compress_level": 3}),
    "PNG alpha": ("PNG", {"compress_level": 3, "alpha": True}),
    "WebP": ("WEBP", {"quality": 85}),
    "GIF": ("GIF", {}),
    "TIFF": ("TIFF", {}),
    "TIFF LZW": ("TIFF", {"compression": "tiff_lzw"}),
    "BMP": ("BMP", {}),
    "AVIF": ("AVIF", {"quality": 70, "speed": 9}),
    "JPEG 2000": ("JPEG2000", {"quality_mode": "rates", "quality_layers": [12]}),
    "HEIF": ("HEIF", {"quality": 60}),
}

_CHILD = """
import json, pathlib, sys
import numpy, pi_heif, PIL.ImageCms
from lensctl.photos.decode import decode

def peak():
    status = pathlib.Path("/proc/self/status").read_text()
    return 1024 * int(status.split("VmHWM:")[1].split()[0])

data = open(sys.argv[1], "rb")
before = peak()
decode(data, at_least=int(sys.argv[2]), max_pixels=10**10)
print(json.dumps(peak() - before))
"""


def picture(megapixels: float) -> Image.Image:
    """A landscape of noise in octaves, 4:3."""
    height = round(math.sqrt(megapixels * 1e6 * 3 / 4))
    width = height * 4 // 3
    rng = np.random.default_rng(0)
    total = np.zeros((height, width, 3), np.float32)
    for octave in range(2, 11):
        coarse = rng.normal(0, 60 / 1.6**octave, (2**octave * 3 // 4, 2**octave, 3))
        for channel in range(3):
            layer = Image.fromarray(coarse[..., channel].astype(np.float32))
            total[..., channel] += np.asarray(
                layer.resize((width, height), Image.Resampling.BICUBIC)
            )
    return Image.fromarray((total + 128 + rng.normal(0, 2, total.shape)).clip(0, 255).astype("u1"))


def milliseconds(work: Callable[[], object], repeat: int) -> float:
    """The best of several runs."""
    times = []
    for _ in range(repeat):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return 1000 * min(times)


def by_pillow(path: Path, draft: int = 0) -> None:
    with Image.open(path) as image:
        if draft:
            image.draft(None, (draft, draft))
        image.convert("RGB")


def timings(path: Path, name: str, arguments: argparse.Namespace) -> str:
    """One line of the table."""
    at_least, repeat = arguments.at_least, arguments.repeat
    whole = milliseconds(lambda: by_pillow(path), repeat)
    draft = math.nan
    if name == "JPEG":
        draft = milliseconds(lambda: by_pillow(path, at_least), repeat)
    decoded = milliseconds(lambda: decode(path, at_least=at_least), repeat)
    read = milliseconds(lambda: read_photo(os.fsencode(path), at_least=at_least), repeat)
    return f"{whole:9.1f} {draft:9.1f} {decoded:9.1f} {read:9.1f}"


def memory(path: Path, kind: str, size: tuple[int, int], at_least: int) -> str:
    """Peak of one decode in a process of its own, and what decode_cost allows, in MB."""
    name = KINDS[kind][0]
    run = subprocess.run(
        [sys.executable, "-c", _CHILD, str(path), str(at_least)], stdout=subprocess.PIPE, check=True
    )
    peak = json.loads(run.stdout)
    bound = decode_cost(*size, name, at_least=at_least, progressive="progressive" in kind)
    pixels = size[0] * size[1]
    return f"{peak / 1e6:9.0f} {bound / 1e6:9.0f} {peak / pixels:9.1f}"


def write(image: Image.Image, folder: Path, kind: str) -> Path:
    name, options = KINDS[kind]
    options = dict(options)
    if options.pop("alpha", False):
        image = image.copy()
        image.putalpha(200)
    stream = io.BytesIO()
    image.save(stream, name, **options)
    path = folder / kind.replace(" ", "_").replace(":", "")
    path.write_bytes(stream.getvalue())
    return path


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--megapixels", type=float, default=12)
    parser.add_argument("--at-least", type=int, default=448)
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--memory", action="store_true")
    parser.add_argument("--only", nargs="*", default=list(KINDS))
    arguments = parser.parse_args()
    pillow_heif.register_heif_opener()
    image = picture(arguments.megapixels)
    print(f"{platform.platform()}, {os.cpu_count()} CPUs; {image.width} x {image.height} pixels")
    columns = ("peak MB", "cost MB", "B/pixel") if arguments.memory else (
        "pillow", "draft", "decode", "read"
    )  # fmt: skip
    print(f"{'format':18s} {'file MB':>8s} " + " ".join(f"{column:>9s}" for column in columns))
    with tempfile.TemporaryDirectory() as folder:
        for kind in arguments.only:
            path = write(image, Path(folder), kind)
            if arguments.memory:
                line = memory(path, kind, image.size, arguments.at_least)
            else:
                line = timings(path, KINDS[kind][0], arguments)
            print(f"{kind:18s} {path.stat().st_size / 1e6:8.1f} {line}", flush=True)


if __name__ == "__main__":
    main()
