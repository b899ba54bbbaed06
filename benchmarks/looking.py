"""How long results take to be seen: shell answers, thumbnails, the sheet, shell completion.

    python benchmarks/looking.py FOLDER [--photos 100000] [--model mini] [--runs 20]

FOLDER is scratch space; the library of stored vectors of large_library.py is made once in it and
used again. Times are in milliseconds: median and worst of the clock, median of the CPU.
"""

import argparse
import functools
import io
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from large_library import library_folder, make_library
from PIL import Image

from lensctl.library.composition import compose
from lensctl.library.library import Library
from lensctl.library.session import open_session
from lensctl.models.registry import open_model
from lensctl.show.query_sheet import write_query_sheet
from lensctl.show.result import Result
from lensctl.show.thumb_cache import ThumbnailCache


def main() -> None:
    """Print one line a measurement."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--photos", type=int, default=100_000)
    parser.add_argument("--model", default="mini")
    parser.add_argument("--runs", type=int, default=20)
    options = parser.parse_args()
    make_library(options.folder, options.model, options.photos)
    place = library_folder(options.folder, options.model, options.photos)
    measure_shell(place, options.model, options.photos, options.runs)
    results = write_photos(options.folder / "twelve-megapixels")
    measure_thumbnails(options.folder, results, options.runs)
    measure_sheet(options.folder, results)
    measure_completion(options.runs)


def measure_shell(place: Path, model: str, photos: int, runs: int) -> None:
    """Answers of a resident session; the first one, which loads the model, apart."""
    with open_session(Library(place), open_model(model)) as session:

        def ask(contents: list[int], words: str, without: str = "") -> None:
            question = compose(session, contents, words, without)
            session.find(question, 10)

        first = _milliseconds(lambda: ask([1], "at night"))
        print(f"shell, {photos:,} photos, first answer: {first:.0f} ms")
        words = iter(range(10_000))
        for name, contents, without in (
            ("words", [], ""),
            ("photo and words", [1], ""),
            ("two photos, words, not", [1, 2], "people"),
        ):
            run = lambda c=contents, w=without: ask(c, f"red barn {next(words)}", w)  # noqa: E731
            _report(f"shell, {photos:,} photos, {name}", run, runs)


def write_photos(folder: Path, count: int = 10) -> list[Result]:
    """JPEGs of 12 megapixels, with much and with little detail."""
    folder.mkdir(parents=True, exist_ok=True)
    results = []
    for number in range(count):
        path = folder / f"{number}.jpg"
        if not path.exists():
            coarse = np.random.default_rng(number).integers(0, 255, (300, 400, 3), dtype=np.uint8)
            Image.fromarray(coarse).resize((4000, 3000), Image.Resampling.BICUBIC).save(path)
        name = f"{number:032x}"
        results.append(Result(os.fsencode(path), 0.5, 0.5, content_hash=bytes.fromhex(name)))
    return results


def measure_thumbnails(folder: Path, results: list[Result], runs: int) -> None:
    """Ten thumbnails, read from photos of 12 megapixels, then from the cache, and drawn."""
    from lensctl.show import terminal_grid

    cache = ThumbnailCache(folder / "thumbnails")
    for kept in cache.folder.glob("*"):
        kept.unlink()
    # Drawing is measured without a terminal to ask: half blocks, the costliest for the process.
    terminal_grid._ask = functools.cache(lambda: b"")

    def draw() -> None:
        terminal_grid.print_grid(results, io.StringIO(), cache)

    print(f"thumbnails, 10 of 12 megapixels, not cached: {_milliseconds(draw):.0f} ms")
    _report("thumbnails, 10 cached", draw, runs)


def measure_sheet(folder: Path, results: list[Result]) -> None:
    """A page of ten photos of 12 megapixels."""
    page = folder / "page.html"
    spent = _milliseconds(lambda: write_query_sheet(page, None, "red barn", results))
    print(f"sheet, 10 of 12 megapixels: {spent:.0f} ms, {page.stat().st_size / 1e6:.1f} MB")


def measure_completion(runs: int) -> None:
    """What pressing Tab after `lensctl qu` costs: a whole process."""
    environment = {**os.environ, "_LENSCTL_COMPLETE": "complete_bash", "COMP_CWORD": "1"}
    environment["COMP_WORDS"] = "lensctl qu"
    command = [Path(sys.executable).with_name("lensctl")]
    _report(
        "completion in bash",
        lambda: subprocess.run(command, env=environment, check=True, capture_output=True),
        runs,
    )


def _report(name: str, run: Callable[[], object], runs: int) -> None:
    spent, busy = [], []
    for _ in range(runs):
        before = _cpu_seconds()
        spent.append(_milliseconds(run))
        busy.append(1000 * (_cpu_seconds() - before))
    median, worst = statistics.median(spent), max(spent)
    print(f"{name}: median {median:.0f} ms, worst {worst:.0f}; CPU {statistics.median(busy):.0f}")


def _cpu_seconds() -> float:
    """Of this process and its children: what a busy machine does not change."""
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


def _milliseconds(run: Callable[[], object]) -> float:
    started = time.perf_counter()
    run()
    return 1000 * (time.perf_counter() - started)


if __name__ == "__main__":
    main()
