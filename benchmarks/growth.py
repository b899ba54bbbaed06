"""What a photo costs as a library grows: nothing new, new photos, a query, disk, memory; a plot.

    python benchmarks/growth.py FOLDER [--sizes 1000 10000 100000 1000000] [--model mini] [--runs 3]
        [--plot docs/images/growth.png]

FOLDER is scratch space (4 kB and a vector's bytes for each photo). Every size gets so many small
files and a library that knows them; then a run that finds nothing new, a run that finds 64 new
photos, and a cold query are measured as whole commands. The plot needs matplotlib.
"""

import argparse
import json
import os
import shutil
import sys
from pathlib import Path

import numpy as np
from known_photos import make_files, places
from large_library import fill
from measuring import Command, Cost, run_in_turn
from PIL import Image

from lensctl.library.library import Library

_NEW = 64


def measure(folder: Path, photos: int, model: str, runs: int) -> dict[str, float]:
    """Costs at one size; the library is made for it and removed."""
    root, library = folder / "photos", folder / "library"
    for old in (root, library):
        shutil.rmtree(old, ignore_errors=True)
    make_files(root, photos, renamed=0)
    fill(Library(library), model, root, places(root))
    size = sum(one.stat().st_size for one in library.rglob("*") if one.is_file())
    base = [sys.executable, "-m", "lensctl"]
    line = [*base, "index", str(root), "--library", str(library)]
    question = [*base, "query", "--library", str(library), "--paths", "a red barn"]
    commands = [
        Command("same", line),
        Command("new", line, before=lambda: add_photos(root)),
        Command("query", question),
    ]
    costs = run_in_turn(commands, runs)
    for old in (root, library):
        shutil.rmtree(old)
    return {"photos": photos, "bytes_per_photo": size / photos, **_figures(costs, photos)}


def add_photos(root: Path) -> None:
    """64 photos that no library knows."""
    folder = root / f"new-{os.urandom(6).hex()}"
    folder.mkdir()
    rng = np.random.default_rng()
    for number in range(_NEW):
        small = rng.integers(0, 255, (60, 80, 3), dtype=np.uint8)
        image = Image.fromarray(small).resize((1280, 960))
        image.save(folder / f"{number:02}.jpg", quality=90)


def _figures(costs: dict[str, Cost], photos: int) -> dict[str, float]:
    same, new, query = costs["same"], costs["new"], costs["query"]
    return {
        "same_s": same.wall,
        "same_cpu_us_per_photo": 1e6 * same.cpu / photos,
        "same_anonymous_mb": same.anonymous_mb,
        "new_cpu_ms_per_new_photo": 1e3 * (new.cpu - same.cpu) / _NEW,
        "new_anonymous_mb": new.anonymous_mb,
        "query_s": query.wall,
        "query_cpu_s": query.cpu,
        "query_anonymous_mb": query.anonymous_mb,
    }


def plot(rows: list[dict[str, float]], path: Path) -> None:
    """Six small plots over the number of photos, on a logarithmic axis."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    titles = {
        "same_s": "index, nothing new: seconds",
        "same_cpu_us_per_photo": "index, nothing new: CPU µs per photo",
        "new_cpu_ms_per_new_photo": "index: CPU ms per new photo",
        "new_anonymous_mb": "index: anonymous memory, MB",
        "query_cpu_s": "cold query in words: CPU seconds",
        "bytes_per_photo": "library: bytes on disk per photo",
    }
    figure, axes = pyplot.subplots(2, 3, figsize=(11, 5.5), layout="constrained")
    for axis, (key, title) in zip(axes.flat, titles.items(), strict=True):
        axis.plot([row["photos"] for row in rows], [row[key] for row in rows], "o-")
        axis.set_xscale("log")
        axis.set_ylim(bottom=0)
        axis.set_title(title, fontsize=10)
        axis.grid(alpha=0.3)
    figure.supxlabel("photos in the library", fontsize=10)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--sizes", type=int, nargs="+", default=[1000, 10_000, 100_000, 1_000_000])
    parser.add_argument("--model", default="mini")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--plot", type=Path)
    options = parser.parse_args()
    rows = []
    for photos in options.sizes:
        rows.append(measure(options.folder.resolve(), photos, options.model, options.runs))
        print(json.dumps({key: round(value, 2) for key, value in rows[-1].items()}), flush=True)
    if options.plot:
        plot(rows, options.plot)


if __name__ == "__main__":
    main()
