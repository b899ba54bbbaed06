"""Pack a folder of pages as WARC, mine both, compare the triplets, and time WARC reading.

    OMP_NUM_THREADS=1 python benchmarks/mine_warc.py FOLDER --out scratch/ [--read-only]

With --read-only nothing is mined: the WARC is read and its pages parsed, for records and pages
per CPU second.
"""

import argparse
import io
import mimetypes
import sys
import time
from pathlib import Path

from warcio.statusandheaders import StatusAndHeaders
from warcio.warcwriter import WARCWriter

from lensctl_training.data.shards import read_triplets
from lensctl_training.mining.config import MineConfig
from lensctl_training.mining.engine import InProcess
from lensctl_training.mining.funnel import Funnel
from lensctl_training.mining.html import decode_html, read_page
from lensctl_training.mining.pipeline import run_pipeline
from lensctl_training.mining.sources import base_url, url_of
from lensctl_training.mining.warc import read_warc


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--read-only", action="store_true")
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    warc = arguments.out / "pages.warc.gz"
    folder = arguments.folder.resolve()
    print(f"packed {pack(folder, warc)} files, {warc.stat().st_size / 2**20:.0f} MiB")
    if arguments.read_only:
        time_reading(warc)
        return
    found = {}
    for name, source in (("folder", folder), ("warc", warc)):
        run_pipeline([source], arguments.out / name, MineConfig(), InProcess())
        found[name] = {(t.key, t.instruction, t.query, t.target)
                       for t in read_triplets(arguments.out / name)}  # fmt: skip
    same = len(found["folder"] & found["warc"])
    print(f"folder: {len(found['folder'])}, WARC: {len(found['warc'])}, the same: {same}")
    if found["folder"] != found["warc"]:
        sys.exit("the two runs differ")


def pack(folder: Path, warc: Path) -> int:
    """Write all files of a folder as responses; returns how many."""
    base, count = base_url(folder, MineConfig()), 0
    with warc.open("wb") as stream:
        writer = WARCWriter(stream, gzip=True)
        for path in sorted(folder.rglob("*")):
            if not path.is_file() or not path.resolve().is_relative_to(folder):
                continue
            media_type = mimetypes.guess_type(path.name)[0] or "application/octet-stream"
            status = StatusAndHeaders("200 OK", [("Content-Type", media_type)], "HTTP/1.1")
            record = writer.create_warc_record(
                url_of(base, str(path.relative_to(folder))),
                "response",
                payload=io.BytesIO(path.read_bytes()),
                http_headers=status,
            )
            writer.write_record(record)
            count += 1
    return count


def time_reading(warc: Path) -> None:
    """Print the CPU seconds of reading alone and of parsing."""
    limits, funnel = MineConfig().pages, Funnel()
    reading = parsing = 0.0
    pages = size = 0
    records = read_warc(warc, limits, funnel)
    while True:
        start = time.process_time()
        record = next(records, None)
        reading += time.process_time() - start
        if record is None:
            break
        if record.media_type.startswith("image/"):
            continue
        start = time.process_time()
        read_page(decode_html(record.body, record.charset), record.url, limits, funnel)
        parsing += time.process_time() - start
        pages, size = pages + 1, size + len(record.body)
    print(f"{funnel.entered['records']} records, {pages} pages of {size / max(1, pages):.0f} bytes")
    print(f"reading {reading:.1f} CPU s, parsing {parsing:.1f} CPU s")
    print(
        f"{pages / (reading + parsing):.1f} pages per CPU s, {size / parsing / 1e6:.2f} MB/s parsed"
    )


if __name__ == "__main__":
    main()
