"""Imports of open sets of triplets with bad records, and imports that were killed."""

import json
import subprocess
import sys

import pytest
from filelock import FileLock
from PIL import Image

from lensctl.errors import DataError
from lensctl_training.data.imports import import_triplets
from lensctl_training.data.shards import find_shards, read_triplets

MEGAPAIR = {"q_img": "0.png", "q_text": ["bluer"], "t_img": "1.png", "hns": []}
CIRR = {"pairid": 3, "reference": "0", "target_hard": "1", "caption": "more sheep"}
FASHION = {"candidate": "0", "target": "1", "captions": ["is red", "has sleeves"]}
HALF = "half of \ud83d"


@pytest.fixture
def images(tmp_path):
    """A folder with 0.png and 1.png, where each kind of data set has them."""
    folder = tmp_path / "images"
    folder.mkdir()
    for number in range(2):
        Image.new("RGB", (30, 20), (number * 20, 50, 80)).save(folder / f"{number}.png")
    return folder


def imported(kind, tmp_path, records):
    """Import one set of the records; the triplets written and the problems' counts."""
    if kind == "megapairs":
        (tmp_path / "a.jsonl").write_text("\n".join(map(json.dumps, records)))
        arguments = [tmp_path / "a.jsonl", tmp_path / "images"]
    else:
        name = {"cirr": "cap.rc2.val.json", "fashioniq": "cap.dress.val.json"}[kind]
        (tmp_path / "captions").mkdir()
        (tmp_path / "captions" / name).write_text(json.dumps(records))
        (tmp_path / "image_splits").mkdir()
        places = {number: f"images/{number}.png" for number in "01"} | {"null": None}
        (tmp_path / "image_splits/split.rc2.val.json").write_text(json.dumps(places))
        arguments = [tmp_path, "val"]
    written, problems = import_triplets(kind, arguments, tmp_path / "out")
    return written, dict(problems.counts)


@pytest.mark.parametrize(
    ("kind", "good", "bad", "reason"),
    [
        ("megapairs", MEGAPAIR, MEGAPAIR | {"q_text": None}, "record without"),
        ("megapairs", MEGAPAIR, MEGAPAIR | {"q_text": 7}, "record without"),
        ("megapairs", MEGAPAIR, MEGAPAIR | {"q_text": [None]}, "record without"),
        ("megapairs", MEGAPAIR, MEGAPAIR | {"q_text": HALF}, "text or path"),
        ("megapairs", MEGAPAIR, MEGAPAIR | {"t_img": "a\0b"}, "path outside"),
        ("megapairs", MEGAPAIR, 7, "record without"),
        ("cirr", CIRR, CIRR | {"caption": None}, "record without"),
        ("cirr", CIRR, {"target_hard": "1", "caption": "more sheep"}, "record without"),
        ("cirr", CIRR, 7, "record without"),
        ("cirr", CIRR, CIRR | {"img_set": None}, "record without"),
        ("cirr", CIRR, CIRR | {"img_set": {"members": [["0"]]}}, "record without"),
        ("cirr", CIRR, CIRR | {"reference": "null"}, "image without a path"),
        ("fashioniq", FASHION, FASHION | {"captions": None}, "record without"),
        ("fashioniq", FASHION, FASHION | {"captions": [None, "a"]}, "record without"),
        ("fashioniq", FASHION, FASHION | {"captions": "is red"}, "record without"),
        ("fashioniq", FASHION, FASHION | {"candidate": None}, "record without"),
        ("fashioniq", FASHION, 7, "record without"),
    ],
)
def test_a_bad_record_is_a_problem(kind, good, bad, reason, tmp_path, images):
    written, counts = imported(kind, tmp_path, [bad, good])
    assert written == 1
    [(found, count)] = counts.items()
    assert count == 1 and found.startswith(reason)


@pytest.mark.parametrize("line", [b'{"q_img": ', b'{"q_text": "caf\xe9"}', b"[" * 100_000])
def test_a_bad_line_is_a_problem(line, tmp_path, images):
    good = json.dumps(MEGAPAIR).encode()
    (tmp_path / "a.jsonl").write_bytes(b"\n".join([good, line, good]))
    arguments = [tmp_path / "a.jsonl", images]
    written, problems = import_triplets("megapairs", arguments, tmp_path / "out")
    assert written == 2
    assert problems.lines() == ["1 x line that is not JSON: a.jsonl:2"]


def test_a_list_with_a_bad_place_says_what_to_do(tmp_path, images):
    (tmp_path / "a.json").write_text("[{]")
    with pytest.raises(DataError, match="cannot be read") as caught:
        import_triplets("megapairs", [tmp_path / "a.json", images], tmp_path / "out")
    assert caught.value.next_step


@pytest.mark.parametrize("kind", ["cirr", "fashioniq"])
def test_annotations_that_are_no_list(kind, tmp_path, images):
    with pytest.raises(DataError, match="not a list of annotations") as caught:
        imported(kind, tmp_path, {"a": 1})
    assert caught.value.next_step


KILLED = """
import os, sys
from functools import partial
from pathlib import Path
from lensctl_training.data import imports
imports.ShardWriter = partial(imports.ShardWriter, max_count=1)
as_jpeg, calls = imports.as_jpeg, []
def dying(*arguments):
    calls.append(1)
    if len(calls) > 4:
        os._exit(9)
    return as_jpeg(*arguments)
imports.as_jpeg = dying
file, images, out = map(Path, sys.argv[1:])
imports.import_triplets("megapairs", [file, images], out)
"""


@pytest.mark.parametrize("exists", [False, True])
def test_a_killed_import_leaves_no_shard_and_the_next_one_is_whole(exists, tmp_path, images):
    out = tmp_path / "out"
    if exists:
        out.mkdir()
        (out / "licence.txt").write_text("of the images")
    (tmp_path / "a.jsonl").write_text("\n".join([json.dumps(MEGAPAIR)] * 4))
    places = [tmp_path / "a.jsonl", images, out]
    command = [sys.executable, "-c", KILLED, *map(str, places)]
    assert subprocess.run(command, check=False, timeout=300).returncode == 9
    hidden = out / ".importing" if exists else tmp_path / ".out.importing"
    assert len(list(hidden.glob("*.tar"))) == 2
    assert not list(out.glob("*.tar")) and out.exists() == exists
    written, _ = import_triplets("megapairs", places[:2], out)
    assert written == len(list(read_triplets(out))) == 4
    assert len(find_shards(out)) == 1
    left = {path.name for path in (*out.iterdir(), *tmp_path.iterdir())}
    assert not any("importing" in name for name in left)


def test_a_failed_import_leaves_nothing(tmp_path, images):
    (tmp_path / "a.jsonl").write_text("{}")
    with pytest.raises(DataError, match="no triplet of megapairs"):
        import_triplets("megapairs", [tmp_path / "a.jsonl", images], tmp_path / "out")
    assert {path.name for path in tmp_path.iterdir()} == {"a.jsonl", "images"}


def test_two_imports_into_one_folder(tmp_path, images):
    (tmp_path / "a.jsonl").write_text(json.dumps(MEGAPAIR))
    arguments = [tmp_path / "a.jsonl", images]
    with FileLock(tmp_path / ".out.importing.lock"), pytest.raises(DataError, match="is running"):
        import_triplets("megapairs", arguments, tmp_path / "out")
    import_triplets("megapairs", arguments, tmp_path / "out")
    with pytest.raises(DataError, match="already holds shards"):
        import_triplets("megapairs", arguments, tmp_path / "out")
