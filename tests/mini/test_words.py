"""Words into classes: relatives through WordNet, and texts as people type them."""

import numpy as np
import pytest

from lensctl.models.mini.words import MEANINGS, bare, clauses, softmax
from lensctl.models.vectors import unit

TABBY, TENCH, GOLDEN_RETRIEVER, SPORTS_CAR, BANANA = 281, 0, 207, 817, 954


@pytest.mark.parametrize(
    ("typed", "name"),
    [
        ("A frog.", "frog"),
        ("the Eiffel Tower!", "Eiffel Tower"),
        ("ant", "ant"),
        ("another kind of dog", "dog"),
        ("more tools, but not these", "tools"),
        ("statue of liberty", "statue of liberty"),
        ("a forget-me-not", "forget-me-not"),
        ("not this one", "not this one"),
        ("some of these", "some of these"),
        (" an  apple ", "apple"),
    ],
)
def test_a_text_is_stripped_to_a_dictionary_name(typed, name):
    assert bare(typed) == name


@pytest.mark.parametrize(
    ("typed", "parts"),
    [
        ("darker", []),
        ("in Black and White", []),
        ("black and white, then upside down", ["black-and-white", "upside down"]),
        ("blurred AND darker; also warmer,", ["blurred", "darker", "also warmer"]),
        ("a handbag from thence", []),
        (", ", []),
        ("sepia, and then mirrored", ["sepia", "mirrored"]),
    ],
)
def test_a_text_is_split_into_what_it_asks_for(typed, parts):
    assert clauses(typed) == parts


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a banana", BANANA),
        ("A golden retriever.", GOLDEN_RETRIEVER),
        ("sports car", SPORTS_CAR),
        ("tench, a freshwater fish", TENCH),
    ],
)
def test_a_class_is_named(query_side, text, expected):
    assert query_side.encode_texts([text])[0].argmax() == expected


def test_what_is_no_class_votes_for_its_relatives(query_side):
    """Capybaras are no class; rodents are 333 to 338, and the beaver and marmot are among them."""
    votes = query_side.encode_texts(["a capybara"])[0]
    rodents = {333, 334, 335, 336, 337, 338}
    assert len(rodents & set(np.argsort(votes)[::-1][:8].tolist())) >= 4


def test_a_category_votes_for_all_of_its_kinds(query_side):
    """Classes 151 to 268 are dogs."""
    top = np.argsort(query_side.encode_texts(["a dog"])[0])[::-1][:50]
    assert ((top >= 151) & (top <= 275)).mean() > 0.8


def test_texts_encode_alike_alone_and_together(query_side):
    texts = ["a dog", "", "two red apples on a plate"]
    together = query_side.encode_texts(texts)
    alone = np.concatenate([query_side.encode_texts([text]) for text in texts])
    assert together.shape == (3, MEANINGS)
    np.testing.assert_allclose(together, alone, atol=1e-5)


def test_no_text_gives_no_row(query_side):
    assert query_side.encode_texts([]).shape == (0, MEANINGS)


def test_softmax_and_unit_of_extremes():
    np.testing.assert_allclose(softmax(np.array([[1000.0, 1000.0, -1000.0]])), [[0.5, 0.5, 0.0]])
    np.testing.assert_array_equal(unit(np.zeros((1, 3), np.float32)), np.zeros((1, 3)))
