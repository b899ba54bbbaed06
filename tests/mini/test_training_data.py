"""Where the lens's training data come from: imagined classes, drawings, batches, WordNet's tree."""

import re

import numpy as np
import pytest
from PIL import Image

from lensctl.models.mini import statistics
from lensctl.models.mini.image_tower import FEATURES, SIZE
from lensctl_training.mini.build import names_to_keys
from lensctl_training.mini.drawn import Drawings, name_of, on_white
from lensctl_training.mini.instructions import (
    IMAGINED_VIEWS,
    PER_CLASS,
    Instructions,
    Portions,
    imagine,
)
from lensctl_training.mini.photo_edits import EDITS
from lensctl_training.mini.word_maps import make_tree, tree_maps
from lensctl_training.mini.wordnet import DICTIONARY, load_nouns

needs_wordnet = pytest.mark.skipif(
    not (DICTIONARY / "data.noun").is_file(), reason="the package wordnet-base is not installed"
)


@pytest.fixture(scope="module")
def classifier(query_side):
    return query_side.lens.classifier


@pytest.fixture(scope="module")
def views(embeddings):
    """Four photos with stand-ins for their edits."""
    rng = np.random.default_rng(0)
    noise = rng.normal(size=(len(embeddings), len(EDITS), embeddings.shape[1])) * 0.01
    edited = np.clip(embeddings[:, None] + noise, 0, 6)
    return np.concatenate([embeddings[:, None], edited], axis=1).astype(np.float32)


def test_an_imagined_embedding_is_of_its_class(views, classifier):
    imagined = imagine(views, classifier, np.random.default_rng(0))[:, 0]
    matrix, bias = classifier
    logits = imagined[:, :FEATURES] @ matrix + bias
    own = logits[np.arange(len(logits)), np.repeat(np.arange(1000), PER_CLASS)]
    rank = (logits > own[:, None]).sum(axis=1)
    assert (rank == 0).mean() > 0.6
    assert (rank < 5).mean() > 0.9
    assert imagined[:, :FEATURES].min() >= 0


def test_imagined_relatives_are_alike_and_copies_more_so(views, classifier, query_side):
    """As among real pictures: what makes "another kind of" learnable."""
    imagined = imagine(views, classifier, np.random.default_rng(0))
    pictures = imagined.reshape(1000, PER_CLASS, IMAGINED_VIEWS, -1)[:, 0]
    keys = query_side.text_keys(pictures[:, :2].reshape(2000, -1)).reshape(1000, 2, -1)
    copies = (keys[:, 0] * keys[:, 1]).sum(axis=1).mean()
    birds = slice(10, 20)
    relatives = (keys[birds, 0] @ keys[birds, 0].T)[~np.eye(10, dtype=bool)].mean()
    strangers = (keys[birds, 0] @ keys[500:510, 0].T).mean()
    assert copies > relatives + 0.05 > strangers + 0.35


def test_every_edit_changes_a_photo_and_has_wordings_of_its_own(photos):
    photo = photos[0].convert("RGB")
    for name, edit in EDITS.items():
        edited = edit.transform(photo)
        assert edited.mode == "RGB", name
        assert edited.resize((32, 32)).tobytes() != photo.resize((32, 32)).tobytes(), name
        worded = [*edit.wordings, *edit.validation, *edit.held_out]
        assert len(worded) == len({text.lower() for text in worded}), name
    trained = [text for edit in EDITS.values() for text in edit.wordings]
    assert len(trained) == len(set(trained))


@pytest.fixture(scope="module")
def drawings(embeddings):
    names = np.array(["lobster", "lobster", "teapot", "kite"])
    return Drawings(names, np.array([0, 1, 0, 1]), embeddings)


SMALL = Portions(photos=2, edits=5, subjects=8, drawn=0.25, groups=6, siblings=3, beyond=8)


@needs_wordnet
def test_batches_hold_what_their_texts_ask_for(views, drawings, classifier):
    taught = Instructions(views, drawings, classifier, seed=3)
    edits, subjects, kinds, _ = taught.draw(SMALL)
    asked = taught.edits_asked()
    for query, text, (place,) in zip(edits.queries, edits.texts, edits.right, strict=True):
        assert edits.gallery[place] == query + asked[text] > query
    first = views.shape[0] * views.shape[1]
    for text, right in zip(subjects.texts, subjects.right, strict=True):
        assert asked[text] == 0
        assert all(subjects.gallery[place] >= first for place in right)
    for query, right in zip(kinds.queries, kinds.right, strict=True):
        assert query in kinds.gallery
        assert query not in [kinds.gallery[place] for place in right]
    drawn = len(taught.embeddings) - len(drawings.names)
    for batch in (subjects, kinds):
        answers = [[batch.gallery[place] for place in right] for right in batch.right]
        imagined = [[row - first for row in rows if row < drawn] for rows in answers]
        assert any(imagined)
        for rows in imagined:
            pictures = {row // IMAGINED_VIEWS for row in rows}
            assert len(rows) == len(set(rows)) == IMAGINED_VIEWS * len(pictures)


@needs_wordnet
def test_another_kind_shuns_the_views_of_its_own_picture(views, drawings, classifier):
    taught = Instructions(views, drawings, classifier, seed=3)
    edits, subjects, kinds, beyond = taught.draw(SMALL)
    for batch in (edits, subjects, beyond):
        assert (batch.counts(8.0) == 1).all()
    for query, right, counts in zip(kinds.queries, kinds.mask(), kinds.counts(8.0), strict=True):
        shunned = {kinds.gallery[place] for place in np.flatnonzero(counts == 8)}
        assert query == min(shunned)
        assert shunned == set(range(query, query + len(shunned)))
        assert not (right & (counts == 8)).any()


@needs_wordnet
def test_names_of_things_without_pictures_are_among_those_that_ask_for_nothing(
    views, drawings, classifier
):
    taught = Instructions(views, drawings, classifier, seed=0)
    assert any(
        re.fullmatch(r"((an?|the|some) )?soccer player\.?", name, re.IGNORECASE)
        for name in taught.names
    )


@needs_wordnet
def test_what_cannot_be_done_is_answered_by_the_picture_itself(views, drawings, classifier):
    taught = Instructions(views, drawings, classifier, seed=3)
    beyond = taught.draw(SMALL)[3]
    assert len(beyond.queries) == 8
    for query, text, (place,) in zip(beyond.queries, beyond.texts, beyond.right, strict=True):
        assert beyond.gallery[place] == query
        assert taught.edits_asked()[text] == 1 + len(EDITS)
        assert "{" not in taught.texts[text]


@needs_wordnet
def test_a_drawn_thing_is_any_drawing_of_that_name(views, drawings, classifier):
    taught = Instructions(views, drawings, classifier, seed=0)
    rows = len(taught.embeddings)
    found = [
        {subjects.gallery[place] for place in right}
        for _ in range(5)
        for subjects in [taught.draw(SMALL)[1]]
        for right in subjects.right
        if subjects.gallery[right[0]] >= rows - 4
    ]
    assert found and all(len(one) == 1 for one in found)


@needs_wordnet
def test_a_seed_draws_the_same(views, drawings, classifier):
    one, other = (Instructions(views, drawings, classifier, seed=5) for _ in range(2))
    assert one.texts == other.texts
    np.testing.assert_array_equal(one.embeddings, other.embeddings)
    assert one.draw(SMALL) == other.draw(SMALL)


@pytest.mark.parametrize(
    ("stem", "name"),
    [
        ("ladybug_nicu_01", "ladybug"),
        ("hot_dog_by_someone", "hot dog"),
        ("HotDog_02", "hot dog"),
        ("apples_01", "apple"),
        ("01_xyzzy", None),
    ],
)
def test_clip_art_is_named_by_its_file(stem, name):
    assert name_of(stem, {"ladybug", "hot", "hot dog", "dog", "apple"}) == name


def test_a_drawing_stands_in_the_middle_of_white():
    drawn = Image.new("RGBA", (40, 30), (0, 0, 0, 0))
    assert on_white(drawn) is None
    drawn.paste((200, 0, 0, 255), (5, 5, 15, 25))
    ground = on_white(drawn)
    assert ground.size == (21, 21)
    assert ground.getpixel((0, 0)) == (255, 255, 255)
    assert ground.getpixel((10, 10)) == (200, 0, 0)


def test_names_are_mapped_to_keys_whatever_the_style():
    rng = np.random.default_rng(0)
    sentences = rng.normal(size=(400, 8)).astype(np.float32)
    known = rng.normal(size=(8, 6)).astype(np.float32)
    sources = rng.integers(2, size=400)
    keys = sentences @ known + 30.0 * sources[:, None]
    np.testing.assert_allclose(names_to_keys(sentences, keys, sources), known, atol=0.5)


@needs_wordnet
def test_the_shipped_tree_is_the_one_that_wordnet_gives(query_side):
    maps = tree_maps(make_tree(load_nouns()))
    shipped = query_side.words._tensors
    for name in ("node_classes", "synset_nodes", "node_information", "class_information"):
        np.testing.assert_array_equal(shipped[name], maps[name])


def test_statistics_tell_what_a_classifier_forgets():
    rng = np.random.default_rng(0)
    image = rng.random((3, SIZE, SIZE), dtype=np.float32)
    image[:, : SIZE // 2] *= 0.3
    grey = np.repeat(image.mean(axis=0, keepdims=True), 3, axis=0)
    smooth = np.asarray(
        Image.fromarray((image.transpose(1, 2, 0) * 255).astype(np.uint8))
        .resize((SIZE // 4, SIZE // 4))
        .resize((SIZE, SIZE)),
        dtype=np.float32,
    ).transpose(2, 0, 1)
    views = np.stack([image, image * 0.4, grey, image[:, ::-1], smooth / 255])
    plain, dark, colourless, flipped, blurred = statistics.measure(views)
    assert plain.shape == (statistics.WIDTH,)
    picture = slice(0, statistics.PICTURE)
    assert dark[picture].mean() < 0.5 * plain[picture].mean()
    assert colourless[-1] > 0.99 > plain[-1]
    shape = (3, statistics.SMALL, statistics.SMALL)
    np.testing.assert_allclose(
        flipped[picture].reshape(shape)[:, ::-1].ravel(), plain[picture], atol=0.02
    )
    assert blurred[-6] < plain[-6]


def test_no_image_gives_no_statistics():
    empty = np.zeros((0, 3, SIZE, SIZE), dtype=np.float32)
    assert statistics.measure(empty).shape == (0, statistics.WIDTH)
