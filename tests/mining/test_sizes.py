"""What must not grow with the crawl: open files, files, tasks, memory, and looking up images."""

import json
import pickle
import random
import resource
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from lensctl_training.mining.config import MineConfig, PageLimits
from lensctl_training.mining.engine import InProcess, Work
from lensctl_training.mining.funnel import Funnel
from lensctl_training.mining.image_table import ImageTable, build_table
from lensctl_training.mining.pages import _Spread, read_pages, read_share
from lensctl_training.mining.pipeline import run_pipeline
from lensctl_training.mining.records import Page
from lensctl_training.mining.urls import stable_fraction
from lensctl_training.mining.workspace import Part, Workspace, digest
from mining.conftest import make_handbook


@contextmanager
def few_open_files(spare: int) -> Iterator[None]:
    """As under `ulimit -n`, with room for a few more than are open."""
    opened = len(list(Path("/dev/fd").iterdir()))
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (opened + spare, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)


def test_thousands_of_shares_are_one_file(tmp_path: Path) -> None:
    inputs = [make_handbook(tmp_path / f"copy{n}", seed=1000 * n) for n in range(3)]
    config = MineConfig(pages=PageLimits(site_parts=2000))
    with few_open_files(40):
        run_pipeline(inputs, tmp_path / "out", config, InProcess(), "pages")
    work = Workspace(tmp_path / "out")
    for part in work.parts("pages"):
        folder = work.part_folder("pages", part)
        names = {path.name for path in folder.iterdir()}
        assert names == {"done.json", "images.jsonl", "pages.jsonl", "shares.bin"}
        pages = list(read_pages(folder))
        assert len(pages) == 8
        for share in range(2000):
            mine = [page for page in pages if int(stable_fraction(page["site"]) * 2000) == share]
            assert list(read_share(folder, share)) == mine


def test_pages_of_many_sites_in_one_part(tmp_path: Path) -> None:
    """Sites in turn, as in a WARC file: every share gets its own, in the order they came."""
    pages = [Page(f"http://s{n % 7}.example/{n}", f"s{n % 7}.example", "ä", "") for n in range(50)]
    with _Spread(tmp_path, 5) as spread:
        for page in pages:
            spread.write(page)
    found = {
        share: [Page.from_json(row) for row in read_share(tmp_path, share)] for share in range(5)
    }
    for share, there in found.items():
        assert there == [p for p in pages if int(stable_fraction(p.site) * 5) == share]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["pages.jsonl", "shares.bin"]


class Weighing(InProcess):
    """Notes how many bytes a pool would send for each part."""

    def __init__(self) -> None:
        self.bytes: list[int] = []

    def run(self, work: Work, parts: Sequence[Part]) -> Generator[str]:
        self.bytes += [len(pickle.dumps((work, part))) for part in parts]
        yield from super().run(work, parts)


def test_a_task_does_not_grow_with_the_number_of_parts(tmp_path: Path) -> None:
    """Neither with that of the stage nor with that of the stage before."""
    most = []
    for count, per_part in ((1, 200), (3, 1)):
        inputs = [make_handbook(tmp_path / f"{count}" / f"c{n}", n) for n in range(count)]
        config, engine = MineConfig(pages=PageLimits(pages_per_part=per_part)), Weighing()
        for stage in ("pages", "groups"):
            run_pipeline(inputs, tmp_path / f"out{count}", config, engine, stage)
        most.append(max(engine.bytes))
    assert most[1] < most[0] + 100


def _note_images(work: Workspace, stage: str, part: str, rows: list[tuple[str, str, str]]) -> None:
    def write(folder: Path) -> Funnel:
        lines = [
            json.dumps(dict(zip(("url", "sha256", "reason"), row, strict=True))) for row in rows
        ]
        (folder / "images.jsonl").write_text("".join(line + "\n" for line in lines))
        return Funnel()

    work.make_part(stage, part, digest(rows), write)


def test_the_table_of_images_is_what_a_dictionary_says(tmp_path: Path) -> None:
    """The first file of an address counts, else the last reason; what was fetched comes last."""
    work, draw = Workspace(tmp_path), random.Random(5)
    said: dict[str, tuple[str, str]] = {}
    for stage in ("pages", "fetch"):
        for part in "abc":
            rows = []
            for number in range(60):
                sha256 = f"{stage}-{part}-{number}" if draw.random() < 0.3 else ""
                row = (f"http://a/{draw.randrange(80)}?ä", sha256, "" if sha256 else f"no {number}")
                rows.append(row)
                if not said.get(row[0], ("", ""))[0]:
                    said[row[0]] = row[1:]
            _note_images(work, stage, part, rows)
    for stage in ("pages", "fetch"):
        build_table(work, stage)  # type: ignore[arg-type]
    with ImageTable(work) as table:
        assert {url: table.find(url) for url in said} == said
        assert table.find("http://b") == ("", "image not in the input")


def test_the_table_of_images_is_made_anew_where_parts_are(tmp_path: Path) -> None:
    work, path = Workspace(tmp_path), tmp_path / "work" / "images.sqlite"

    def found(url: str) -> str:
        build_table(work, "pages")
        with ImageTable(work) as table:
            return table.find(url)[0]

    _note_images(work, "pages", "a", [("u", "1", "")])
    assert found("u") == "1"
    made = path.stat()
    assert found("u") == "1"
    assert (path.stat().st_ino, path.stat().st_mtime_ns) == (made.st_ino, made.st_mtime_ns)
    _note_images(work, "pages", "b", [("v", "2", "")])
    assert found("v") == "2"
    _note_images(work, "pages", "a", [("u", "3", "")])
    assert found("u") == "3"
    path.write_bytes(b"not a table of images" * 100)
    assert found("v") == "2"
