"""Indexing what is known already: nothing changed, and a folder was renamed.

    python benchmarks/known_photos.py FOLDER [--photos 100000] [--renamed 10000] [--runs 5]

FOLDER is scratch space. It gets so many small files in folders of 500, and a library that knows
them. No file is a photo: whatever is opened to be decoded comes back as unreadable, so that a run
which reports none has decoded none. Medians of whole commands: a run that finds nothing new, and
one that finds `--renamed` files in a folder of another name.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from large_library import Place, fill
from measuring import Command, report, run_in_turn

from lensctl.library.library import Library
from lensctl.library.recorder import signed

_IN_FOLDER = 500


def make_files(root: Path, photos: int, renamed: int) -> None:
    """Small files with the names of photos; those to be renamed lie in a folder of their own."""
    for number in range(photos):
        part = "old" if number < renamed else "other"
        folder = root / part / f"{number // _IN_FOLDER:05}"
        if number % _IN_FOLDER == 0:
            folder.mkdir(parents=True, exist_ok=True)
        (folder / f"IMG_{number:07}.jpg").write_bytes(b"no photo " + str(number).encode())


def places(root: Path) -> Iterator[Place]:
    """What an index run would have noted of the files."""
    files = (one for one in sorted(root.rglob("*.jpg")))
    for number, path in enumerate(files, 1):
        status = path.stat()
        device, inode = signed(status.st_dev), signed(status.st_ino)
        yield os.fsencode(path), status.st_size, status.st_mtime_ns, device, inode, number


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--photos", type=int, default=100_000)
    parser.add_argument("--renamed", type=int, default=10_000)
    parser.add_argument("--model", default="mini")
    parser.add_argument("--runs", type=int, default=5)
    options = parser.parse_args()
    folder = options.folder.resolve()
    root, library = folder / "photos", folder / "library"
    for old in (root, library):
        shutil.rmtree(old, ignore_errors=True)
    make_files(root, options.photos, options.renamed)
    fill(Library(library), options.model, root, places(root))
    line = [sys.executable, "-m", "lensctl", "index", str(root), "--library", str(library)]

    def rename() -> None:
        old, new = root / "old", root / "new"
        (new if new.exists() else old).rename(old if new.exists() else new)

    same = Command("index, nothing new", line)
    moved = Command("index, a folder renamed", line, before=rename)
    report(run_in_turn([same, moved], options.runs), photos=options.photos)
    rename()
    told = subprocess.run(line, capture_output=True, check=True, text=True)
    print(json.dumps({"the last run said": (told.stdout + told.stderr).strip().splitlines()[-3:]}))


if __name__ == "__main__":
    main()
