"""What is seen as what: the format of the lines, and what words make of the shipped ones."""

import numpy as np
import pytest

from lensctl_training.mini.seen_as import class_names, known_names, read_seen_as
from lensctl_training.mini.word_maps import make_tree
from lensctl_training.mini.wordnet import DICTIONARY, Synset, load_nouns

CLASSES = [f"class {number}" for number in range(1000)]


def test_names_share_a_line_and_lines_share_a_name(tmp_path):
    (tmp_path / "a.txt").write_text("# a comment\n\nPony | ponies: class 3 30, class 5 10\n")
    (tmp_path / "b.txt").write_text("pony: class 5 7\n")
    found = read_seen_as(CLASSES, tmp_path)
    assert found.names == ["pony", "ponies"]
    assert known_names(tmp_path) == {"pony", "ponies"}
    pony, ponies = found.shares
    assert pony[[3, 5]] == pytest.approx([0.375, 0.625])
    assert ponies[[3, 5]] == pytest.approx([0.75, 0.25])


@pytest.mark.parametrize(
    "line", ["pony: no such class 3", "pony: class 3", "pony", "pony: class 3 x"]
)
def test_a_wrong_line_is_named(line, tmp_path):
    (tmp_path / "a.txt").write_text(f"# first\n{line}\n")
    with pytest.raises(ValueError, match=r"a\.txt, line 2"):
        read_seen_as(CLASSES, tmp_path)


def test_classes_of_one_name_are_told_apart():
    nouns = {"1": Synset(["wading bird"], "", []), "2": Synset(["machine"], "", [])}
    cranes = [Synset(["crane"], "", ["1"]), Synset(["crane"], "", ["2"]), Synset(["hen"], "", [])]
    assert class_names(cranes, nouns) == ["crane (wading bird)", "crane (machine)", "hen"]


@pytest.mark.skipif(
    not (DICTIONARY / "data.noun").is_file(), reason="the package wordnet-base is not installed"
)
def test_every_line_that_is_shipped_can_be_read():
    nouns = load_nouns()
    found = read_seen_as(class_names([nouns[one] for one in make_tree(nouns).classes], nouns))
    assert len(found.names) > 10_000
    np.testing.assert_allclose(found.shares.sum(axis=1), 1, atol=1e-5)


def test_a_thing_that_is_no_class_votes_for_what_it_looks_like(query_side):
    """WordNet puts a windmill beside mills."""
    lighthouse, snowmobile = 437, 802
    votes = query_side.encode_texts(["a windmill"])[0]
    assert lighthouse in np.argsort(votes)[::-1][:8]
    assert votes[snowmobile] < votes[lighthouse] / 4
