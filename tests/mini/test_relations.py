"""Inside, outside, part and whole: how they are asked for, and what answers."""

import numpy as np
import pytest

from lensctl.models.mini.fusion import LOOK
from lensctl.models.mini.image_tower import FEATURES
from lensctl.models.mini.info import DATA
from lensctl.models.mini.relations import FILE, RELATIONS, Relations
from lensctl.models.mini.tensors import TensorFile
from lensctl.models.mini.words import CLASSES, MEANINGS
from lensctl_training.mini.relations import read_relation
from lensctl_training.mini.seen_as import class_names
from lensctl_training.mini.word_maps import make_tree
from lensctl_training.mini.wordnet import DICTIONARY, load_nouns

CHURCH, ALTAR, VAULT, COLLIE = 497, 406, 884, 231


@pytest.fixture(scope="module")
def relations():
    return Relations(TensorFile(DATA / FILE))


@pytest.fixture(scope="module")
def church(query_side, embeddings):
    """The embedding of a photo, pushed until the network sees a church."""
    matrix, _ = query_side.lens.classifier
    pushed = embeddings[:1].copy()
    away = matrix[:, CHURCH] - matrix.mean(axis=1)
    pushed[0, :FEATURES] = np.maximum(8 * away / np.abs(away).max(), 0)
    assert query_side.text_keys(pushed)[0].argmax() == CHURCH
    return pushed


@pytest.mark.parametrize(
    ("words", "relation"),
    [
        ("inside view of", "inside"),
        ("What is it like in there, inside?", "inside"),
        ("the outside of this", "outside"),
        ("one of its parts", "part"),
        ("what is it part of?", "whole"),
        ("darker", None),
        ("in black and white", None),
        ("a close-up of it", None),
        ("a dog", None),
        ("another kind of bird", None),
        ("without the hat", None),
    ],
)
def test_words_ask_for_a_relation_or_for_something_else(query_side, relations, words, relation):
    expected = 0 if relation is None else 1 + RELATIONS.index(relation)
    assert relations.asked(query_side.words.sentences([words])).tolist() == [expected]


def test_the_inside_of_a_church_is_an_altar(query_side, church):
    query = query_side.make_queries(church, ["inside view of"])[0]
    assert set(np.argsort(query[:CLASSES])[::-1][:2]) == {ALTAR, VAULT}
    assert not query[MEANINGS:].any(), "neither the look nor the light of the outside is wanted"
    assert np.linalg.norm(query) == pytest.approx(1, abs=1e-5)
    dark = query_side.make_queries(church, ["darker"])[0]
    assert dark[MEANINGS : MEANINGS + LOOK].any()


def test_every_photo_is_asked_about_by_its_own_words(query_side, church):
    both = np.concatenate([church, church])
    queries = query_side.make_queries(both, ["inside view of", "darker"])
    for query, words in zip(queries, ["inside view of", "darker"], strict=True):
        alone = query_side.make_queries(church, [words])[0]
        np.testing.assert_allclose(query, alone, atol=1e-5)


def test_a_thing_that_the_list_does_not_know_has_no_inside(query_side, relations):
    probabilities = np.zeros((2, CLASSES), np.float32)
    probabilities[0, COLLIE] = 1
    probabilities[1, [COLLIE, CHURCH]] = 0.4, 0.6
    sentences = query_side.words.sentences(["inside view of"] * 2)
    rows, answers = relations(probabilities, sentences)
    assert rows.tolist() == [1]
    assert answers[0].argmax() == ALTAR


def test_a_line_that_cannot_be_meant_is_refused(tmp_path):
    classes = [f"class {number}" for number in range(CLASSES)]
    lines = tmp_path / "part.txt"
    lines.write_text("class 1 | class 2: class 3 30, class 4 10\n")
    shares = read_relation("part", classes, tmp_path)
    assert shares[2, [3, 4]] == pytest.approx([0.75, 0.25])
    assert shares.any(axis=1).sum() == 2
    for wrong in ("class 1: class 5 1\n", "no class: class 5 1\n", "class 7: no class 1\n"):
        lines.write_text("class 1 | class 2: class 3 30\n" + wrong)
        with pytest.raises(ValueError, match=r"part\.txt"):
            read_relation("part", classes, tmp_path)


@pytest.mark.skipif(
    not (DICTIONARY / "data.noun").is_file(), reason="the package wordnet-base is not installed"
)
def test_the_shipped_lists_are_those_of_the_shipped_file():
    nouns = load_nouns()
    classes = class_names([nouns[one] for one in make_tree(nouns).classes], nouns)
    tensors = TensorFile(DATA / FILE)
    for name in RELATIONS:
        shares = np.zeros((CLASSES, CLASSES), np.float32)
        places = tensors[f"{name}.classes"], tensors[f"{name}.answers"]
        shares[places] = tensors[f"{name}.shares"] / np.float32(255)
        np.testing.assert_allclose(shares, read_relation(name, classes), atol=0.5 / 255)
