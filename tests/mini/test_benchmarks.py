"""The benchmark's pictures and queries."""

import struct
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))

from mini_composed import Asking, Query, recalls
from mini_pairs import PAIRS, UNDOING, draw_pairs, make_queries
from mini_stamps import Stamp
from unpack_gcompris import name_of, read_resources

from lensctl_training.mini import photo_edits

EDITS = ("grey", "darker")


def resource_file(files):
    """A version 1 Qt resource: a root with files, names without hashes."""
    names, data, nodes = b"", b"", [struct.pack(">IHII", 0, 2, len(files), 1)]
    for name, (content, packed) in files.items():
        stored = struct.pack(">I", len(content)) + zlib.compress(content) if packed else content
        nodes.append(struct.pack(">IHII", len(names), int(packed), 0, len(data)))
        names += struct.pack(">HI", len(name), 0) + name.encode("utf-16-be")
        data += struct.pack(">I", len(stored)) + stored
    tree = b"".join(nodes)
    start = 20
    places = (start, start + len(tree), start + len(tree) + len(data))
    return struct.pack(">4s4I", b"qres", 1, *places) + tree + data + names


def test_resources_are_read_plain_and_packed():
    files = {"cow.webp": (b"moo" * 9, True), "hen.png": (b"cluck", False)}
    found = dict(read_resources(resource_file(files)))
    assert found == {f"/{name}": content for name, (content, _) in files.items()}


@pytest.mark.parametrize(
    ("stem", "name"), [("northernCardinal2", "northern cardinal"), ("bent-pyramid", "bent pyramid")]
)
def test_a_picture_is_named_by_its_file(stem, name):
    assert name_of(stem) == name


@pytest.fixture
def stamps():
    words = ["A crow.", "A gull.", "An owl.", "A crow.", "A rock."]
    folders = ["birds"] * 4 + ["stones"]
    return [
        Stamp(Path(f"{f}/{n}.png"), w) for n, (f, w) in enumerate(zip(folders, words, strict=True))
    ]


def test_queries_of_the_three_families(stamps):
    asked = Asking(stamps, EDITS, "validation").queries()
    assert [len(asked[family]) for family in ("edits", "subject", "kind")] == [10, 5, 4]
    assert asked["edits"][3].row == 3 and asked["edits"][3].right == {5}
    crow = asked["subject"][0]
    assert crow.words == "A crow." and crow.right == {0, 1, 2, 9, 10, 11}
    assert crow.row // 3 not in (0, 3)
    owl = asked["kind"][2]
    assert owl.row == 6 and owl.right == {0, 1, 2, 3, 4, 5, 9, 10, 11}


def test_queries_for_two_edits():
    pairs = draw_pairs(50, np.random.default_rng(0))
    assert all(len({frozenset(pair) for pair in own}) == PAIRS for own in pairs)
    assert not any(set(pair) in UNDOING for own in pairs for pair in own)
    queries = make_queries(pairs, "validation", np.random.default_rng(0))
    assert [query.row for query in queries[: PAIRS + 1]] == [*[0] * PAIRS, 10]
    assert [set(query.right) for query in queries] == [{500 + n} for n in range(50 * PAIRS)]
    first, second = (photo_edits.EDITS[name].validation for name in pairs[0][0])
    assert any(queries[0].words.startswith(words) for words in first)
    assert any(queries[0].words.endswith(words) for words in second)


def test_the_query_photo_does_not_count_and_ties_do():
    queries = [Query(0, "", frozenset({2})), Query(1, "", frozenset({2}))]
    scores = np.array([[9.0, 1.0, 5.0], [5.0, 9.0, 5.0]])
    assert recalls(scores, queries) == {"R@1": 50.0, "R@10": 100.0}
