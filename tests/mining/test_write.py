"""The last stage against the ways that hold everything: order, splits, report; memory; kills."""

import random
import tracemalloc
from collections import Counter
from collections.abc import Generator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from lensctl_training.data.shards import read_triplets
from lensctl_training.mining import write
from lensctl_training.mining.config import GroupLimits, MineConfig, WriteSettings
from lensctl_training.mining.engine import InProcess, Processes, Work
from lensctl_training.mining.funnel import Funnel
from lensctl_training.mining.pipeline import run_pipeline
from lensctl_training.mining.records import Instructed, Mention, Pair, Picture, write_rows
from lensctl_training.mining.report import Tally, is_icon, shows_interface
from lensctl_training.mining.row_index import RowIndex
from lensctl_training.mining.splits import LEFT_OUT, TRAIN, VAL, divide
from lensctl_training.mining.urls import stable_fraction
from lensctl_training.mining.workspace import Part, Workspace
from mining.conftest import as_bytes, make_handbook, picture


def a_row(draw: random.Random, hashes: Sequence[int], number: int = 0) -> Instructed:
    """Of one of ten sites; images, keys and words are often those of another row, too."""
    query, target = (
        Picture(
            Mention(("http://a/x.jpg",), place, caption=draw.choice(["Gimp options", "A lake"])),
            "http://a/x.jpg",
            f"sha-{draw.randrange(300)}",
            draw.choice([64, 300]),
            64,
            *(0.5, 40.0, 10.0),
            perceptual_hash=draw.choice(hashes),
            label=draw.choice("abc"),
        )
        for place in (0, 1)
    )
    site = f"site{draw.randrange(10)}.example"
    key = f"{draw.randrange(2**20):05x}"[: draw.choice([3, 5])] if not number else f"k{number:09d}"
    scores = {"image": draw.random()}
    pair = Pair(key, f"http://{site}/", site, "Title", "en", query, target, scores)
    words = " ".join(["word"] * draw.randrange(1, 30))
    return Instructed(pair, words, "rule-based", "1", draw.choice(["r", "s"]), draw.choice("fgé"))


def write_files(folder: Path, count: int, each: int) -> tuple[list[Path], list[Instructed]]:
    """Files of rows, one of them missing -> their paths, and all rows in order."""
    draw = random.Random(count)
    base = [draw.getrandbits(64) for _ in range(150)]
    hashes = [0, *base, *(h ^ (1 << draw.randrange(64)) ^ (1 << draw.randrange(64)) for h in base)]
    files, rows = [folder / "missing.jsonl"], []
    for number in range(count):
        mine = [a_row(draw, hashes) for _ in range(each)]
        files.append(folder / f"{number}.jsonl")
        write_rows(files[-1], mine)
        rows += mine
    return files, rows


def test_an_index_reads_rows_in_the_order_of_their_keys(tmp_path: Path) -> None:
    files, rows = write_files(tmp_path, 4, 60)
    index = RowIndex(files)
    ordered = sorted(rows, key=lambda row: row.pair.key)
    assert len({row.pair.key for row in rows}) < len(rows) == len(index)
    assert list(index.rows(np.arange(len(index)))) == ordered
    some = np.array([7, 3, 200])
    assert list(index.rows(some)) == [ordered[place] for place in some]
    looks = {place: (query[0], target[1]) for place, query, target in index.looks(some)}
    pairs = {place: ordered[place].pair for place in some.tolist()}
    assert looks == {n: (p.query.sha256, p.target.perceptual_hash) for n, p in pairs.items()}
    assert len(RowIndex([])) == len(RowIndex(files[:1])) == 0


@pytest.mark.parametrize("distance", [0, 4])
def test_the_division_is_that_of_a_scan(distance: int, tmp_path: Path) -> None:
    files, rows = write_files(tmp_path, 3, 100)
    rows.sort(key=lambda row: row.pair.key)
    held_out = "site3.example"
    settings = WriteSettings(val_share=0.0, val_sites=(held_out,))
    config = MineConfig(write=settings, groups=GroupLimits(hash_distance=distance))
    funnel = Funnel()
    splits = divide(RowIndex(files), config, funnel)
    held = [p for r in rows if r.pair.site == held_out for p in (r.pair.query, r.pair.target)]
    expected = []
    for row in rows:
        shows = any(
            mine.sha256 == other.sha256
            or (
                mine.perceptual_hash
                and other.perceptual_hash
                and (mine.perceptual_hash ^ other.perceptual_hash).bit_count() <= distance
            )
            for mine in (row.pair.query, row.pair.target)
            for other in held
        )
        expected.append(VAL if row.pair.site == held_out else LEFT_OUT if shows else TRAIN)
    assert splits.tolist() == expected
    assert set(expected) == {VAL, LEFT_OUT, TRAIN}
    assert funnel.rejected["triplets"]["shares an image with val"] == expected.count(LEFT_OUT)


def test_a_tally_counts_as_sets_do(tmp_path: Path) -> None:
    _, rows = write_files(tmp_path, 2, 150)
    tally = Tally(sample=20)
    for row in rows:
        tally.add(row)
    facts = tally.facts()
    assert facts["triplets"] == str(len(rows))
    assert facts["distinct instructions"] == str(len({row.instruction for row in rows}))
    assert facts["distinct forms (slots blanked)"] == "3"
    assert facts["distinct query images"] == str(len({r.pair.query.sha256 for r in rows}))
    assert facts["distinct target images"] == str(len({r.pair.target.sha256 for r in rows}))
    targets = sum(shows_interface(row.pair.target) for row in rows)
    either = sum(any(map(shows_interface, (r.pair.query, r.pair.target))) for r in rows)
    icons = sum(any(map(is_icon, (row.pair.query, row.pair.target))) for row in rows)
    shares = [f"{100 * count / len(rows):.1f} %" for count in (targets, either, icons)]
    assert list(facts.values())[6:9] == shares
    assert len({*shares, "0.0 %", "100.0 %"}) == 5
    assert tally.sites == Counter(row.pair.site for row in rows)
    drawn = sorted(rows, key=lambda row: stable_fraction(f"sample {row.pair.key}"))
    assert tally.sample() == drawn[:20]


def fill(folder: Path, count: int) -> Workspace:
    """A folder in which everything before the last stage is done, with one picture."""
    work, draw = Workspace(folder), random.Random(1)
    sha256 = work.store_image(as_bytes(picture(1)))

    def instruct(out: Path) -> Funnel:
        rows = []
        for number in range(1, count + 1):
            row = a_row(draw, [0], number)
            ends = {n: replace(getattr(row.pair, n), sha256=sha256) for n in ("query", "target")}
            rows.append(replace(row, pair=replace(row.pair, **ends)))
        write_rows(out / "rows.jsonl", rows)
        (out / "annotator.json").write_text('"mini"')
        return Funnel()

    work.make_part("instruct", "a", "key", instruct)
    return work


def test_memory_does_not_grow_with_the_triplets(tmp_path: Path) -> None:
    """A row takes 2.7 kB. The first count is for what is loaded and kept once."""
    config, peaks = MineConfig(write=WriteSettings(sheet_rows=5, triplets_per_shard=50)), []
    for count in (50, 200, 700):
        work = fill(tmp_path / f"{count}", count)
        tracemalloc.start()
        try:
            write.write_shards(work, config, InProcess())
            peaks.append(tracemalloc.get_traced_memory()[1])
        finally:
            tracemalloc.stop()
    assert peaks[2] - peaks[1] < 500 * 600


class DiesAfter(InProcess):
    """Interrupted once some parts are made; notes all that it makes."""

    def __init__(self, count: int) -> None:
        self.left = count
        self.made: list[str] = []

    def run(self, work: Work, parts: Sequence[Part]) -> Generator[str]:
        for name in super().run(work, parts):
            self.made.append(name)
            self.left -= 1
            yield name
            if not self.left:
                raise KeyboardInterrupt


def shards(out: Path) -> dict[str, bytes]:
    return {str(p.relative_to(out)): p.read_bytes() for p in write.shards_in(out)}


def test_a_killed_run_goes_on_after_its_finished_shards(tmp_path: Path) -> None:
    config = MineConfig(write=WriteSettings(triplets_per_shard=10, sheet_rows=2))
    write.write_shards(fill(tmp_path / "whole", 65), config, InProcess())
    whole = shards(tmp_path / "whole")
    assert len(whole) >= 7
    work, engine = fill(tmp_path / "out", 65), DiesAfter(3)
    with pytest.raises(KeyboardInterrupt):
        write.write_shards(work, config, engine)
    assert shards(tmp_path / "out") == {}
    again = DiesAfter(-1)
    write.write_shards(work, config, again)
    assert not {*engine.made} & {*again.made}
    assert shards(tmp_path / "out") == whole
    assert not (tmp_path / "out" / "work" / "shards").exists()


def test_a_run_killed_while_it_moves_shards_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = MineConfig(write=WriteSettings(triplets_per_shard=10, sheet_rows=2))
    work, moved = fill(tmp_path / "out", 45), []
    move = Path.replace

    def dies(path: Path, place: Path) -> Path:
        if path.suffix == ".tar" and place.parent == tmp_path / "out":
            moved.append(path)
            if len(moved) == 3:
                raise KeyboardInterrupt
        return move(path, place)

    monkeypatch.setattr(Path, "replace", dies)
    with pytest.raises(KeyboardInterrupt):
        write.write_shards(work, config, InProcess())
    monkeypatch.undo()
    again = DiesAfter(-1)
    write.write_shards(work, config, again)
    assert len(again.made) == 2
    write.write_shards(fill(tmp_path / "whole", 45), config, InProcess())
    assert shards(tmp_path / "out") == shards(tmp_path / "whole")


@pytest.mark.usefixtures("stub")
def test_workers_write_the_same_shards(tmp_path: Path) -> None:
    inputs = [make_handbook(tmp_path / f"copy{n}", seed=1000 * n) for n in range(2)]
    settings = WriteSettings(val_sites=("copy1.invalid",), triplets_per_shard=9)
    config, out = MineConfig(write=settings), tmp_path / "out"
    run_pipeline(inputs, out, config, InProcess())
    one = shards(out)
    (out / "work" / "write" / "done.json").unlink()
    write.write_shards(Workspace(out), config, Processes(2))
    assert shards(out) == one
    assert len(one) > 4
    keys = [t.key for t in read_triplets(sorted(out.glob("*.tar")))]
    assert keys == sorted(keys)
