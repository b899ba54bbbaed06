import io
import json
import tarfile

import pytest
from PIL import Image

from lensctl.errors import DataError
from lensctl_training.data.shards import ShardWriter, find_shards, read_triplets
from lensctl_training.data.triplet import Problems, Triplet


def jpeg(colour="red", size=(16, 12)):
    buffer = io.BytesIO()
    Image.new("RGB", size, colour).save(buffer, "JPEG")
    return buffer.getvalue()


def triplet(number, **changes):
    facts = {
        "key": f"t{number:04d}",
        "query": jpeg("red"),
        "target": jpeg("blue"),
        "instruction": f"make it blue, version {number}",
        "provenance": {"source": "test", "number": number},
    }
    return Triplet(**(facts | changes))


def write(folder, triplets, **options):
    with ShardWriter(folder, "set", **options) as writer:
        for item in triplets:
            writer.write(item)
    return writer


def add_files(path, files):
    with tarfile.open(path, "w") as tar:
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))


def test_triplets_come_back_as_written(tmp_path):
    negatives = tuple(jpeg((0, 20 * n, 0)) for n in range(12))
    written = [triplet(n, negatives=negatives[: n % 13]) for n in range(25)]
    writer = write(tmp_path, written, max_count=10)
    assert [p.name for p in writer.shards] == [f"set-{i:06d}.tar" for i in range(3)]
    assert list(read_triplets(tmp_path)) == written


def test_a_shard_is_on_the_disk_before_it_has_its_name(tmp_path, synced_and_renamed):
    write(tmp_path, [triplet(n) for n in range(2)], max_count=1)
    assert synced_and_renamed == ["synced", "renamed"] * 2


def test_shards_close_at_max_bytes_and_numbering_goes_on(tmp_path):
    assert len(write(tmp_path, [triplet(n) for n in range(4)], max_bytes=1).shards) == 4
    write(tmp_path, [triplet(9)])
    assert [p.name for p in find_shards(tmp_path)][-1] == "set-000004.tar"
    assert len(list(read_triplets(tmp_path))) == 5


def test_an_interrupted_writer_leaves_only_complete_shards(tmp_path):
    with pytest.raises(KeyboardInterrupt), ShardWriter(tmp_path, "set", max_count=2) as writer:
        for n in range(3):
            writer.write(triplet(n))
        raise KeyboardInterrupt
    assert [p.name for p in tmp_path.iterdir()] == ["set-000000.tar"]
    assert len(list(read_triplets(tmp_path))) == 2


@pytest.mark.parametrize(
    "changes",
    [{"key": "a.b"}, {"key": "a/b"}, {"instruction": "  "}, {"target": b"GIF89a"}],
)
def test_what_a_shard_cannot_hold_is_refused(tmp_path, changes):
    with pytest.raises(DataError), ShardWriter(tmp_path) as writer:
        writer.write(triplet(0, **changes))


@pytest.mark.parametrize("keep", [0.3, 0.5, 0.77])
def test_a_truncated_shard_gives_what_is_whole_and_says_so(tmp_path, keep):
    [path] = write(tmp_path, [triplet(n) for n in range(30)]).shards
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * keep)])
    problems = Problems()
    read = list(read_triplets(tmp_path, problems))
    assert read == [triplet(n) for n in range(len(read))]
    assert 0 < len(read) < 30
    assert problems.counts["truncated shard"] == 1


def test_truncation_at_a_file_border_is_seen(tmp_path):
    [path] = write(tmp_path, [triplet(n) for n in range(3)]).shards
    with tarfile.open(path) as tar:
        border = tar.getmembers()[3].offset
    path.write_bytes(path.read_bytes()[:border])
    problems = Problems()
    assert len(list(read_triplets(tmp_path, problems))) == 1
    assert problems.counts == {"truncated shard": 1}


def test_bad_members_are_counted_by_reason_and_named(tmp_path):
    good = {"query.jpg": jpeg(), "target.jpg": jpeg(), "json": b'{"instruction": "x"}'}
    samples = {
        "a": good,
        "b": {k: v for k, v in good.items() if k != "target.jpg"},
        "c": good | {"json": b"{"},
        "d": good | {"json": json.dumps({"instruction": " "}).encode()},
        "e": good | {"json": b"[1]"},
    }
    files = {f"{key}.{name}": data for key, s in samples.items() for name, data in s.items()}
    add_files(tmp_path / "x-000000.tar", files)
    problems = Problems()
    assert [t.key for t in read_triplets(tmp_path, problems)] == ["a"]
    assert problems.counts == {
        "missing target.jpg": 1,
        "json without an instruction": 2,
        "empty instruction": 1,
    }
    assert "x-000000.tar:b" in "\n".join(problems.lines())


def test_the_limit_stops_and_names_the_cause(tmp_path):
    add_files(tmp_path / "x-000000.tar", {f"{n}.query.jpg": jpeg() for n in range(4)})
    with pytest.raises(DataError, match="3 bad examples, more than the 2 allowed") as caught:
        list(read_triplets(tmp_path, Problems(limit=2)))
    assert "missing target.jpg, json" in caught.value.why


def test_without_a_count_the_first_fault_raises(tmp_path):
    add_files(tmp_path / "x-000000.tar", {"a.query.jpg": jpeg()})
    with pytest.raises(DataError):
        list(read_triplets(tmp_path))


def test_no_shards_is_an_error_that_says_what_to_do(tmp_path):
    with pytest.raises(DataError) as caught:
        find_shards(tmp_path)
    assert "lensctl train import" in caught.value.next_step
