"""kill -9 at random moments of an index run: what is left, and does the resumed run end the same.

    python benchmarks/kill_index.py FOLDER [--photos 1000] [--kills 50] [--seed 0]

FOLDER is scratch space. Photos are random crops of scikit-image's sample photos. After every kill
the library must open and `check` must find nothing; at the end, rows, vectors and the answers to
20 queries are compared with those of an undisturbed run. Prints a summary; exits 1 on a difference.
"""

import argparse
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from PIL import Image

from lensctl.cli.opening import session_of
from lensctl.config import load_settings
from lensctl.library.catalog import to_floats
from lensctl.library.check import check
from lensctl.library.library import Library


def make_photos(folder: Path, count: int, seed: int) -> None:
    """Write `count` JPEGs of 320 x 240."""
    spec = find_spec("skimage")
    assert spec is not None and spec.origin is not None
    names = ("astronaut.png", "chelsea.png", "coffee.png", "rocket.jpg", "motorcycle_left.png")
    data = Path(spec.origin).parent / "data"
    sources = [Image.open(data / name).convert("RGB").resize((640, 480)) for name in names]
    rng = random.Random(seed)
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(count):
        left, top = rng.randrange(320), rng.randrange(240)
        crop = rng.choice(sources).crop((left, top, left + 320, top + 240))
        crop.rotate(rng.randrange(4) * 90).save(folder / f"{number:05}.jpg", quality=90)


def start(photos: Path, library: Path) -> subprocess.Popen[bytes]:
    """Start an index run."""
    command = [sys.executable, "-m", "lensctl", "index", photos, "--library", library]
    return subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, start_new_session=True
    )


def finish(photos: Path, library: Path) -> float:
    """Run an index to its end; returns the seconds it took."""
    started = time.monotonic()
    process = start(photos, library)
    _, err = process.communicate()
    if process.returncode != 0:
        sys.exit(f"the index run failed:\n{err.decode()}")
    return time.monotonic() - started


def kill_often(photos: Path, library: Path, kills: int, seconds: float, seed: int) -> list[int]:
    """Kill index runs at random moments; returns the photos committed at each kill."""
    rng = random.Random(seed)
    committed = []
    while len(committed) < kills:
        process = start(photos, library)
        try:
            process.wait(rng.uniform(0.05, 0.2 * seconds))
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
            committed.append(inspect(library))
            print(f"kill {len(committed)}: {committed[-1]} photos committed", flush=True)
        else:
            # It ended before the kill: begin anew, so that kills meet every stage.
            process.communicate()
            shutil.rmtree(library)
    return committed


def inspect(folder: Path) -> int:
    """Open the library after a kill; exits where anything is wrong."""
    library = Library(folder)
    if not library.exists():
        return 0
    with library.writing():
        pass
    problems = check(library)
    if problems:
        sys.exit(f"after a kill: {problems}")
    with library.reading() as catalog:
        return int(catalog.connection.execute("SELECT count(*) FROM photos").fetchone()[0])


def contents(library: Library) -> dict[bytes, tuple[bytes, np.ndarray, np.ndarray]]:
    """Path -> content hash, embedding, target."""
    sql = (
        "SELECT path, hash, embeddings.vector, targets.vector FROM photos"
        " JOIN contents ON contents.id = photos.content_id"
        " JOIN embeddings ON embeddings.content_id = contents.id"
        " JOIN targets ON targets.content_id = contents.id"
    )
    with library.reading() as catalog:
        rows = catalog.connection.execute(sql)
        return {row[0]: (row[1], to_floats(row[2]), to_floats(row[3])) for row in rows}


def answers(library: Library, photos: Path, queries: int) -> list[list[bytes]]:
    """The top 20 of some queries: photos of the library, half of them with an instruction."""
    names = sorted(photos.iterdir())[:: max(1, len(list(photos.iterdir())) // queries)][:queries]
    with session_of(load_settings(library=library.folder)) as session:
        return [
            [
                match.facts.path
                for match in session.find(
                    session.ask_photo(name, "darker" if number % 2 else ""), 20
                )
            ]
            for number, name in enumerate(names)
        ]


def least_cosine(
    one: dict[bytes, tuple[bytes, np.ndarray, np.ndarray]],
    other: dict[bytes, tuple[bytes, np.ndarray, np.ndarray]],
) -> float:
    """The smallest cosine between vectors of the same photo."""
    return min(
        float(a @ b / (np.linalg.norm(a) * np.linalg.norm(b)))
        for path, row in one.items()
        for a, b in zip(row[1:], other[path][1:], strict=True)
    )


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--photos", type=int, default=1000)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--queries", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    photos = options.folder / "photos"
    make_photos(photos, options.photos, options.seed)
    calm, killed = options.folder / "calm", options.folder / "killed"
    seconds = finish(photos, calm)
    committed = kill_often(photos, killed, options.kills, seconds, options.seed)
    finish(photos, killed)
    before, after = contents(Library(calm)), contents(Library(killed))
    same_rows = {path: row[0] for path, row in before.items()} == {
        path: row[0] for path, row in after.items()
    }
    cosine = least_cosine(before, after) if same_rows else 0.0
    queries = options.queries
    same = answers(Library(calm), photos, queries) == answers(Library(killed), photos, queries)
    print(f"undisturbed run: {len(before)} photos in {seconds:.1f} s")
    print(f"{len(committed)} kills")
    print(f"check after each kill: nothing found; rows equal: {same_rows}")
    print(f"least cosine of vectors: {cosine:.6f}; top 20 of {queries} queries equal: {same}")
    sys.exit(0 if same_rows and cosine >= 0.9999 and same else 1)


if __name__ == "__main__":
    main()
