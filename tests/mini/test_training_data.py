"""Where the lens's training data come from: imagined classes, triplets, WordNet's tree."""

import numpy as np
import pytest
from PIL import Image

from lensctl.models.mini import statistics
from lensctl.models.mini.image_tower import FEATURES
from lensctl_training.mini.instructions import PER_CLASS, Instructions, imagine
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
    imagined = imagine(views[:, 0], classifier, np.random.default_rng(0))
    matrix, bias = classifier
    logits = imagined[:, :FEATURES] @ matrix + bias
    own = logits[np.arange(len(logits)), np.repeat(np.arange(1000), PER_CLASS)]
    rank = (logits > own[:, None]).sum(axis=1)
    assert (rank == 0).mean() > 0.6
    assert (rank < 5).mean() > 0.9
    assert imagined[:, :FEATURES].min() >= 0


def test_every_edit_changes_a_photo_and_has_wordings_of_its_own(photos):
    photo = photos[0].convert("RGB")
    for name, edit in EDITS.items():
        edited = edit.transform(photo)
        assert edited.mode == "RGB", name
        assert edited.resize((32, 32)).tobytes() != photo.resize((32, 32)).tobytes(), name
        assert not set(edit.wordings) & set(edit.held_out), name
    trained = [text for edit in EDITS.values() for text in edit.wordings]
    assert len(trained) == len(set(trained))


@needs_wordnet
def test_drawn_rows_are_what_the_texts_ask_for(views, classifier):
    drawn = Instructions(views, classifier, seed=3, classes=5)
    first = len(views) * views.shape[1]
    assert len(drawn.embeddings) == first + 1000 * PER_CLASS
    batch = drawn.draw(200)
    edits = [text for edit in EDITS.values() for text in edit.wordings]
    for query, target, decoy, text in zip(
        batch.queries, batch.targets, batch.decoys, batch.texts, strict=True
    ):
        if drawn.texts[text] in edits:
            assert query % views.shape[1] == 0
            assert query < target < query + views.shape[1]
            assert decoy not in (query, target)
        else:
            assert target >= first
            assert (target - first) // PER_CLASS != (query - first) // PER_CLASS


@needs_wordnet
def test_the_shipped_tree_is_the_one_that_wordnet_gives(query_side):
    maps = tree_maps(make_tree(load_nouns()))
    shipped = query_side.words._tensors
    for name in ("node_classes", "synset_nodes", "node_information", "class_information"):
        np.testing.assert_array_equal(shipped[name], maps[name])


def test_statistics_tell_what_a_classifier_forgets():
    rng = np.random.default_rng(0)
    image = rng.random((3, 260, 260), dtype=np.float32)
    image[:, :130] *= 0.3
    grey = np.repeat(image.mean(axis=0, keepdims=True), 3, axis=0)
    smooth = np.asarray(
        Image.fromarray((image.transpose(1, 2, 0) * 255).astype(np.uint8))
        .resize((65, 65))
        .resize((260, 260)),
        dtype=np.float32,
    ).transpose(2, 0, 1)
    views = np.stack([image, image * 0.4, grey, image[:, ::-1], smooth / 255])
    plain, dark, colourless, flipped, blurred = statistics.measure(views)
    assert plain.shape == (statistics.WIDTH,)
    assert dark[:48].mean() < 0.5 * plain[:48].mean()
    assert colourless[-1] > 0.99 > plain[-1]
    np.testing.assert_allclose(
        flipped[:48].reshape(3, 4, 4)[:, ::-1].ravel(), plain[:48], atol=1e-5
    )
    assert blurred[-6] < plain[-6]


def test_no_image_gives_no_statistics():
    empty = np.zeros((0, 3, 260, 260), dtype=np.float32)
    assert statistics.measure(empty).shape == (0, statistics.WIDTH)
