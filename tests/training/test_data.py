"""Order, streams, held-out sets, JSONL, the check of a data set and the imports."""

import json
import re
import weakref
from collections import Counter
from dataclasses import replace
from itertools import islice
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data._utils.pin_memory import pin_memory

from lensctl.errors import DataError, TrainingError
from lensctl.models.preprocessing import Preprocessing
from lensctl_training.data import source, stream
from lensctl_training.data.batches import BadExampleError, GlobalOrder
from lensctl_training.data.check import check_data
from lensctl_training.data.held_out import hold_out
from lensctl_training.data.imports import import_triplets
from lensctl_training.data.jsonl import JsonlExamples, read_rows
from lensctl_training.data.shards import ShardWriter, find_shards, read_shard, read_triplets
from lensctl_training.data.source import MapSource, StreamSource
from lensctl_training.data.stream import ShardStream, decode_triplet
from lensctl_training.data.triplet import Problems
from support.training_runs import make_jpeg, make_triplets, write_shards
from support.training_runs import write_jsonl as jsonl_of

SMALL = Preprocessing(size=8)


def test_the_global_batch_does_not_depend_on_the_number_of_processes():
    order = GlobalOrder(examples=44, group=2, batch=8, seed=1)
    assert order.steps_per_epoch == 5
    for step in range(12):
        whole = order.indices(step)
        assert [i for rank in range(4) for i in order.indices(step, rank, 4)] == whole
        assert all(b == a + 1 and a % 2 == 0 for a, b in zip(whole[::2], whole[1::2], strict=True))


def test_an_epoch_shows_everything_once_and_the_next_in_another_order():
    order = GlobalOrder(examples=40, group=1, batch=8, seed=1)
    epochs = [[i for s in range(5) for i in order.indices(e * 5 + s)] for e in range(2)]
    assert sorted(epochs[0]) == sorted(epochs[1]) == list(range(40))
    assert epochs[0] != epochs[1] and epochs[0] != list(range(40))
    assert GlobalOrder(examples=40, group=1, batch=8, seed=2).indices(0) != order.indices(0)


def stream_batches(shards, count, *, batch=4, workers=0, state=None, rank=0, world=1):
    stream = ShardStream(shards, SMALL, 16, batch, seed=3, shuffle_buffer=8, rank=rank, world=world)
    source = StreamSource(stream, workers)
    fetched = list(islice(source.start(state), count))
    return [f.fingerprint for f in fetched], source.state(), fetched


@pytest.mark.parametrize("workers", [0, 2])
def test_a_stream_goes_on_where_it_was_left(tmp_path, workers):
    shards = write_shards(tmp_path, number=40, per_shard=8)
    whole, _, _ = stream_batches(shards, 14, workers=workers)
    first, state, _ = stream_batches(shards, 5, workers=workers)
    rest, _, _ = stream_batches(shards, 9, workers=workers, state=json.loads(json.dumps(state)))
    assert first + rest == whole


def test_batches_are_refused_where_shared_memory_is_too_small(monkeypatch):
    """Five batches of two workers, in each of four processes: 20 of a byte."""
    usage = SimpleNamespace(free=20)
    monkeypatch.setattr(source.shutil, "disk_usage", lambda _: usage)
    source.refuse_too_little_shared_memory(1, 2, 4)
    source.refuse_too_little_shared_memory(99, 0, 1)
    usage.free = 19
    with pytest.raises(TrainingError, match="too small for the batches of 2 data"):
        source.refuse_too_little_shared_memory(1, 2, 4)


def test_a_batch_is_kept_no_longer_than_it_is_in_use(tmp_path):
    shards = write_shards(tmp_path, number=40, per_shard=8)
    batches = StreamSource(ShardStream(shards, SMALL, 16, 4, seed=3, shuffle_buffer=8)).start(None)
    first = weakref.ref(next(batches).batch.targets)
    next(batches)
    assert first() is None


@pytest.mark.parametrize("pinned", [True, False])
def test_loaders_pin_where_they_are_told(tmp_path, monkeypatch, pinned):
    asked, loader = [], source.DataLoader

    def watched(*arguments, pin_memory, **named):
        asked.append(pin_memory)
        return loader(*arguments, **named)

    monkeypatch.setattr(source, "DataLoader", watched)
    stream = ShardStream(write_shards(tmp_path, number=8), SMALL, 16, 4, seed=3, shuffle_buffer=8)
    examples = JsonlExamples(read_rows(jsonl_of(tmp_path, make_triplets(8)), Problems()), SMALL)
    order = GlobalOrder(examples=8, group=1, batch=4, seed=1)
    for one in (StreamSource(stream, 0, pinned), MapSource(examples, 16, order, pinned=pinned)):
        next(one.start(None))
    assert asked == [pinned] * 2


def test_pinning_reaches_every_tensor_of_a_batch_and_changes_nothing_else(tmp_path, monkeypatch):
    """As a DataLoader does it, where there is a GPU."""
    pinned = []
    monkeypatch.setattr(torch.Tensor, "pin_memory", lambda self: pinned.append(id(self)) or self)
    [fetched] = stream_batches(write_shards(tmp_path, number=8), 1)[2]
    assert pin_memory(fetched) == fetched
    assert pinned == [id(part) for part in fetched.batch if part is not None]


def rows(fetched):
    """What tells the triplets of a batch apart."""
    return [query.numpy().tobytes() for query in fetched.batch.queries]


@pytest.mark.parametrize("workers", [0, 2])
def test_no_batch_of_a_stream_holds_a_triplet_twice(tmp_path, workers):
    """Epochs end in the middle of a batch: 45 triplets in batches of 16."""
    shards = write_shards(tmp_path, number=45, per_shard=6)
    whole, _, fetched = stream_batches(shards, 20, batch=16, workers=workers)
    assert all(len(set(rows(one))) == 16 for one in fetched)
    for done in (1, 5):  # in the first epoch and in a later one
        first, state, _ = stream_batches(shards, done, batch=16, workers=workers)
        rest, _, _ = stream_batches(shards, 20 - done, batch=16, workers=workers, state=state)
        assert first + rest == whole


@pytest.fixture
def opened(monkeypatch):
    """The names of the shards that are opened, in order."""
    names = []

    def noted(path, problems):
        names.append(path.name)
        return read_shard(path, problems)

    monkeypatch.setattr(stream, "read_shard", noted)
    return names


@pytest.mark.parametrize("world", [1, 2])  # two processes share the last of the 21 shards
@pytest.mark.parametrize("done", [4, 15, 59])  # in epochs 0, 0 or 1, 2 or 5
def test_going_on_opens_no_shard_that_is_not_needed(tmp_path, opened, done, world):
    """The begun shard and those with triplets in the buffer of 8, of 21 or 11 in an epoch."""
    shards = write_shards(tmp_path, number=82, per_shard=4)
    whole, after, _ = stream_batches(shards, done + 6, world=world)
    _, state, _ = stream_batches(shards, done, world=world)
    rest, again, _ = stream_batches(shards, 6, state=json.loads(json.dumps(state)), world=world)
    assert rest == whole[done:] and again == after
    opened.clear()
    stream_batches(shards, 1, state=state, world=world)
    assert 1 <= len(opened) <= 8, opened


def test_going_on_from_an_earlier_version_reads_the_epoch_or_is_refused(tmp_path):
    shards = write_shards(tmp_path, number=40, per_shard=8)
    whole, _, _ = stream_batches(shards, 19)
    [(epoch, taken, _)] = stream_batches(shards, 16)[1]["positions"]
    assert epoch == 1
    assert stream_batches(shards, 3, state={"positions": [(1, taken)], "turn": 0})[0] == whole[16:]
    with pytest.raises(DataError, match="of an earlier version"):
        stream_batches(shards, 3, state={"positions": [64], "turn": 0})


def test_a_triplet_that_is_gone_when_a_run_goes_on_is_a_bad_example(tmp_path):
    [shard] = write_shards(tmp_path, number=3)
    unread = stream.Unread()
    places = [unread.put(stream.Place(shard, number)) for number in (0, 2, 3)]
    assert [unread.take(place).key for place in places[:2]] == ["k0000", "k0002"]
    with pytest.raises(BadExampleError, match=r"shard: set-000000\.tar, number 3"):
        unread.take(places[2])


@pytest.mark.parametrize("per_shard", [2, 7, 100])
@pytest.mark.parametrize("workers", [0, 2])
def test_no_step_shows_a_triplet_on_two_ranks(tmp_path, per_shard, workers):
    """Over many epochs, which end at different steps on ranks that have different shares."""
    shards = write_shards(tmp_path, number=44, per_shard=per_shard)
    ranks = [
        stream_batches(shards, 15, batch=5, workers=workers, rank=rank, world=3)[2]
        for rank in range(3)
    ]
    for step in zip(*ranks, strict=True):
        assert len({row for one in step for row in rows(one)}) == 15
    seen = [len({row for one in rank for row in rows(one)}) for rank in ranks]
    assert max(seen) - min(seen) <= 6  # whole shards in equal number, the rest divided


@pytest.mark.parametrize("workers", [0, 2])
def test_a_batch_larger_than_an_epoch_is_refused(tmp_path, workers):
    shards = write_shards(tmp_path, number=12, per_shard=3)
    with pytest.raises(DataError) as caught:
        stream_batches(shards, 1, batch=20, workers=workers)
    assert "must fill a batch by itself" in caught.value.what
    assert "too few triplets to fill a batch" in caught.value.why


def test_workers_that_cannot_each_fill_a_batch_become_fewer(tmp_path, capsys):
    shards = write_shards(tmp_path, number=40, per_shard=20)
    whole, _, fetched = stream_batches(shards, 9, batch=8, workers=12)
    assert all(len(set(rows(one))) == 8 for one in fetched)
    assert capsys.readouterr().err.count("data.workers is 3 instead of 12") == 1
    assert whole == stream_batches(shards, 9, batch=8, workers=3)[0]
    first, state, _ = stream_batches(shards, 4, batch=8, workers=12)
    rest, _, _ = stream_batches(shards, 5, batch=8, workers=12, state=state)
    assert first + rest == whole and len(state["positions"]) == 3


@pytest.mark.parametrize("per_shard", [4, 100])
def test_ranks_share_the_triplets_also_where_shards_are_few(tmp_path, per_shard):
    shards = write_shards(tmp_path, number=32, per_shard=per_shard)
    seen = []
    for rank in range(4):
        _, _, fetched = stream_batches(shards, 2, rank=rank, world=4)
        seen += [row for one in fetched for row in rows(one)]
    assert len(set(seen)) == 32


def test_a_stream_without_usable_triplets_ends_with_an_error(tmp_path):
    (tmp_path / "x-000000.tar").write_bytes(b"nonsense")
    with pytest.raises(DataError, match="no usable triplets"):
        stream_batches(find_shards(tmp_path), 1)


@pytest.mark.parametrize("workers", [0, 2])
def test_a_stream_of_bad_examples_ends_too(tmp_path, workers):
    shards = write_shards(tmp_path, number=8, per_shard=4)
    stream = ShardStream(shards, SMALL, 16, 4, seed=3, shuffle_buffer=8, negatives=1)
    with pytest.raises(DataError) as caught:
        next(StreamSource(stream, workers).start(None))
    assert "fewer than 1 hard negatives" in caught.value.why
    assert "Traceback" not in caught.value.what


def test_bad_images_and_missing_negatives_are_told_apart():
    [good] = make_triplets(1)
    assert decode_triplet(good, SMALL).query.shape == (3, 8, 8)
    for change, reason in (({"target": b"\xff\xd8no"}, "undecodable"), ({}, "fewer than 2")):
        broken = type(good)(**(vars(good) | change))
        with pytest.raises(BadExampleError) as caught:
            decode_triplet(broken, SMALL, negatives=0 if change else 2)
        assert reason in caught.value.reason


def test_held_out_sets_hold_each_image_once_and_all_right_answers():
    triplets = make_triplets(4)
    same_target = type(triplets[1])(**(vars(triplets[1]) | {"target": triplets[0].target}))
    found = hold_out([triplets[0], same_target, *triplets[2:]], most=10)
    assert found.positives[:2] == [[0], [0]] and found.repeated == [1]
    assert found.references == [4, 5, 6, 7] and len(found.gallery) == 4
    assert found.candidate(5) == triplets[1].query
    assert len(hold_out(triplets, most=2).queries) == 2


def write_jsonl(folder, lines):
    for number in range(3):
        (folder / f"{number}.jpg").write_bytes(make_jpeg((number * 60, 9, 9)))
    path = folder / "set.jsonl"
    path.write_text(
        "\n".join(line if isinstance(line, str) else json.dumps(line) for line in lines)
    )
    return path


def test_jsonl_lines_are_read_relative_to_the_file_and_bad_ones_named(tmp_path):
    good = {"query": "0.jpg", "target": "1.jpg", "instruction": "redder", "negatives": ["2.jpg"]}
    lines = [good, "{", {**good, "instruction": ""}, {"query": "0.jpg"}, {**good, "target": "no"}]
    path = write_jsonl(tmp_path, lines)
    problems = Problems()
    rows = read_rows(path, problems)
    assert len(rows) == 2 and problems.total == 3
    assert problems.counts["missing target"] == 1
    examples = JsonlExamples(rows, SMALL, negatives=1)
    assert examples.load(0).negatives[0].shape == (3, 8, 8)
    with pytest.raises(BadExampleError, match="unreadable image file"):
        examples.load(1)


def test_jsonl_lines_end_with_line_feeds_alone(tmp_path):
    """Other separators may stand inside a string, and Windows begins a file with a mark."""
    good = {"query": "0.jpg", "target": "1.jpg", "instruction": "the same\u2028at\u0085night"}
    path = write_jsonl(tmp_path, [json.dumps(good, ensure_ascii=False)] * 2)
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes().replace(b"\n", b"\r\n"))
    problems = Problems()
    assert [row.instruction for row in read_rows(path, problems)] == [good["instruction"]] * 2
    assert problems.total == 0


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"negatives": "2.jpg"}, "negatives that are no list"),
        ({"negatives": None}, "line that is no JSON object of strings"),
        ({"provenance": None}, "provenance that is no object"),
        ({"provenance": "mine"}, "provenance that is no object"),
        ({"instruction": "at \ud800 night"}, "text that is no Unicode"),
        ({"provenance": {"by": "\ud800"}}, "text that is no Unicode"),
        ({"query": "a\0b.jpg"}, "unreadable image file"),
        ({"target": "\ud800.jpg"}, "unreadable image file"),
    ],
)
def test_odd_values_in_a_jsonl_line_are_problems(tmp_path, change, reason):
    good = {"query": "0.jpg", "target": "1.jpg", "instruction": "redder", "key": "\ud801"}
    path = write_jsonl(tmp_path, [good, {**good, **change}, "[" * 100_000])
    found = check_data(path, sheet=tmp_path / "sheet.html")
    assert found.triplets == 1
    assert found.problems.counts == Counter({reason: 1}) + Counter(
        {"line that is no JSON object of strings": 1}
    )


def test_a_bad_example_gives_its_place_to_one_that_is_not_in_the_batch(tmp_path):
    """A neighbour that is in it already would be there twice, its own false negative."""
    path = jsonl_of(tmp_path, make_triplets(12))
    (tmp_path / "k0003.target.jpg").write_bytes(b"no image")
    examples = JsonlExamples(read_rows(path, Problems()), SMALL)
    for world in (1, 2):
        seen = set()
        for rank in range(world):
            order = GlobalOrder(len(examples), 1, 8, seed=0)
            source = MapSource(examples, 16, order, rank, world)
            for step, fetched in enumerate(islice(source.start(None), 6)):
                seen |= {(step, row) for row in rows(fetched)}
        assert len(seen) == 6 * 8
    order = GlobalOrder(len(examples), 1, 12, seed=0)
    with pytest.raises(DataError, match="must fill a batch") as caught:
        next(MapSource(examples, 16, order).start(None))
    assert "12, of which 12 are in the batch" in caught.value.why


@pytest.mark.parametrize("damaged", [b"no image at all", make_jpeg((9, 9, 9))[:250]])
def test_a_bad_image_is_the_same_one_every_time(damaged):
    [good] = make_triplets(1)
    problems = Problems(limit=1)
    for _ in range(3):
        with pytest.raises(BadExampleError) as caught:
            decode_triplet(replace(good, target=damaged), SMALL)
        problems.add(caught.value.reason, caught.value.where)
    assert problems.total == 1 and " at 0x" not in problems.lines()[0]


def test_a_stream_goes_on_after_many_epochs_with_bad_examples(tmp_path, monkeypatch):
    """What was met before the place where it goes on has been told, and counts no more."""
    monkeypatch.setattr(stream, "MOST_PENDING", 20)
    triplets = make_triplets(24)
    triplets[::3] = [replace(triplet, instruction="") for triplet in triplets[::3]]
    monkeypatch.setattr("lensctl_training.data.shards._refuse_unstorable", lambda triplet: None)
    with ShardWriter(tmp_path, "set") as writer:
        for triplet in triplets:
            writer.write(triplet)
    whole, _, _ = stream_batches(writer.shards, 21)
    first, state, _ = stream_batches(writer.shards, 20)
    rest, _, _ = stream_batches(writer.shards, 1, state=state)
    assert first + rest == whole


def test_check_counts_names_and_draws(tmp_path):
    shards = write_shards(tmp_path / "set", number=12, per_shard=6, negatives=1)
    data = shards[1].read_bytes()
    shards[1].write_bytes(data[: len(data) // 2])
    found = check_data(tmp_path / "set", sheet=tmp_path / "sheet.html", samples=3)
    facts = found.facts()
    assert facts["shards"] == "2" and 6 <= found.triplets < 12
    assert facts["image sides"] == "32 to 40" and found.with_negatives == found.triplets
    assert found.problems.counts["truncated shard"] == 1
    page = (tmp_path / "sheet.html").read_text()
    assert page.count("make it number") == 3 and "truncated shard" in page


def test_the_samples_of_a_page_reach_from_the_first_triplet_to_the_last(tmp_path):
    write_shards(tmp_path / "set", number=19, per_shard=10)
    check_data(tmp_path / "set", sheet=tmp_path / "sheet.html", samples=8)
    shown = re.findall(r"make it number (\d+)", (tmp_path / "sheet.html").read_text())
    assert len(shown) == 8 and (shown[0], shown[-1]) == ("0", "18")


def test_check_sees_duplicates_and_undecodable_images(tmp_path):
    triplets = make_triplets(3)
    lines = [
        {"key": key, "query": f"{q}.jpg", "target": f"{t}.jpg", "instruction": "x"}
        for key, q, t in (("a", 0, 1), ("a", 0, 2), ("b", 1, 1), ("c", 0, 7))
    ]
    path = write_jsonl(tmp_path, lines)
    (tmp_path / "7.jpg").write_bytes(triplets[0].query[:300])
    counts = check_data(path).problems.counts
    assert set(counts) == {
        "key that occurs twice",
        "target that is the query image",
        "undecodable image",
    }


def make_images(folder, names, size=(30, 20)):
    folder.mkdir(parents=True, exist_ok=True)
    for number, name in enumerate(names):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", size, (number * 20 % 255, 50, 80)).save(folder / name)


def test_import_megapairs(tmp_path):
    make_images(tmp_path / "images", ["a/0.png", "1.jpg", "2.jpg"])
    record = {"q_img": "a/0.png", "q_text": ["bluer", "darker"], "t_img": "1.jpg", "hns": ["2.jpg"]}
    lines = [record, {**record, "t_img": "../../etc/passwd"}, {**record, "t_img": "gone.jpg"}, {}]
    (tmp_path / "a.jsonl").write_text("\n".join(map(json.dumps, lines)))
    out = tmp_path / "out"
    arguments = [tmp_path / "a.jsonl", tmp_path / "images"]
    written, problems = import_triplets("megapairs", arguments, out)
    triplets = list(read_triplets(out))
    assert written == 2 and [t.instruction for t in triplets] == ["bluer", "darker"]
    assert triplets[0].query.startswith(b"\xff\xd8") and len(triplets[0].negatives) == 1
    assert problems.counts == {
        "path outside the image folder": 1,
        "unreadable image file": 1,
        "record without q_img, q_text or t_img": 1,
    }


def test_instructions_of_one_megapair_are_not_side_by_side(tmp_path):
    """They have one target, which is a negative of all that share its batch."""
    make_images(tmp_path, ["0.png", "1.jpg", "2.jpg"])
    lines = [
        {"q_img": "0.png", "q_text": ["a", "b", " "], "t_img": "1.jpg"},
        {"q_img": "0.png", "q_text": "c", "t_img": "2.jpg"},
        {"q_img": "1.jpg", "q_text": ["d", "e"], "t_img": "2.jpg"},
    ]
    (tmp_path / "a.jsonl").write_text("\n".join(map(json.dumps, lines)))
    _, problems = import_triplets("megapairs", [tmp_path / "a.jsonl", tmp_path], tmp_path / "out")
    assert [one.instruction for one in read_triplets(tmp_path / "out")] == list("acdbe")
    assert problems.counts == {"empty instruction": 1}


@pytest.mark.parametrize("images", ["", "img_raw"])
def test_import_cirr(tmp_path, images):
    make_images(tmp_path / images, ["dev/x.png", "dev/y.png", "dev/z.png"])
    (tmp_path / "captions").mkdir()
    (tmp_path / "image_splits").mkdir()
    record = {
        "pairid": 3,
        "reference": "x",
        "target_hard": "y",
        "caption": "more sheep",
        "img_set": {"members": ["x", "y", "z"]},
    }
    (tmp_path / "captions/cap.rc2.val.json").write_text(json.dumps([record]))
    places = {name: f"./dev/{name}.png" for name in "xyz"}
    (tmp_path / "image_splits/split.rc2.val.json").write_text(json.dumps(places))
    written, problems = import_triplets("cirr", [tmp_path, "val"], tmp_path / "out")
    [triplet] = read_triplets(tmp_path / "out")
    assert written == 1 and not problems.total
    assert triplet.instruction == "more sheep" and len(triplet.negatives) == 1
    assert triplet.provenance == {
        "key": "cap.rc2.val.json:3",
        "source": "CIRR",
        "split": "val",
    }


def test_import_fashioniq_joins_the_captions(tmp_path):
    make_images(tmp_path / "images", ["B1.png", "B2.jpg"], size=(1200, 900))
    (tmp_path / "captions").mkdir()
    records = [
        {"candidate": "B1", "target": "B2", "captions": ["is red", "has sleeves "]},
        {"candidate": "B1", "target": "B9", "captions": ["is red"]},
        {"candidate": "B1", "target": "B2", "captions": ["", " "]},
    ]
    (tmp_path / "captions/cap.dress.train.json").write_text(json.dumps(records))
    written, problems = import_triplets("fashioniq", [tmp_path, "train"], tmp_path / "out")
    [triplet] = read_triplets(tmp_path / "out")
    assert written == 1 and triplet.instruction == "is red and has sleeves"
    assert problems.counts == {"missing image": 1, "empty instruction": 1}
    found = check_data(tmp_path / "out")
    assert found.facts()["image sides"] == "384 to 512"


def test_import_of_nothing_is_an_error(tmp_path):
    (tmp_path / "a.jsonl").write_text("")
    with pytest.raises(DataError, match="no triplet of jsonl"):
        import_triplets("jsonl", [tmp_path / "a.jsonl"], tmp_path / "out")
    assert np.all([not list((tmp_path / "out").glob("*.tar"))])
