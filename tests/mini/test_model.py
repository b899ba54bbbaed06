"""`mini` behind the interface: shapes, unit lengths, exactness, and what it finds."""

import numpy as np
import pytest

from lensctl.errors import UsageError
from lensctl.models.mini import open_mini
from lensctl_training.mini.photo_edits import EDITS


def test_widths_are_as_the_info_says(query_side, embeddings):
    info = query_side.info
    assert embeddings.shape == (4, info.embedding_dim)
    assert query_side.make_targets(embeddings).shape == (4, info.target_dim)
    assert query_side.text_keys(embeddings).shape == (4, info.text_dim)
    assert query_side.encode_texts(["a", "b"]).shape == (2, info.text_dim)


def test_everything_searched_has_length_one_in_float32(query_side, embeddings):
    for vectors in (
        query_side.make_targets(embeddings),
        query_side.text_keys(embeddings),
        query_side.encode_texts(["a cat", ""]),
        query_side.make_queries(embeddings, ["darker", "", "a dog", "at night"]),
    ):
        assert vectors.dtype == np.float32
        np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)


def test_an_empty_instruction_is_exactly_the_target(query_side, embeddings):
    targets = query_side.make_targets(embeddings)
    np.testing.assert_array_equal(query_side.make_queries(embeddings, [""] * 4), targets)
    mixed = query_side.make_queries(embeddings, ["", "a dog", "", "a dog"])
    np.testing.assert_array_equal(mixed[::2], targets[::2])
    assert not np.allclose(mixed[1::2], targets[1::2])


def test_no_photos_give_no_rows(query_side):
    none = np.zeros((0, query_side.info.embedding_dim), dtype=np.float32)
    assert query_side.make_targets(none).shape == (0, query_side.info.target_dim)
    assert query_side.text_keys(none).shape == (0, query_side.info.text_dim)


def test_a_photo_encodes_alike_alone_and_in_a_batch(query_side, photos, embeddings):
    alone = query_side.encode_images(query_side.preprocess(photos[2])[None])
    np.testing.assert_allclose(alone[0], embeddings[2], atol=1e-4)


def test_both_sides_agree(query_side, photos, embeddings):
    index_side = open_mini().index_side()
    pixels = np.stack([index_side.preprocess(photo) for photo in photos])
    np.testing.assert_allclose(index_side.encode_images(pixels), embeddings, atol=1e-4)
    np.testing.assert_array_equal(
        index_side.make_targets(embeddings), query_side.make_targets(embeddings)
    )


def test_words_find_their_photo(query_side, embeddings, descriptions):
    scores = query_side.encode_texts(descriptions) @ query_side.text_keys(embeddings).T
    assert scores[:2].argmax(axis=1).tolist() == [0, 1]


def test_a_photo_finds_itself_first(query_side, embeddings):
    targets = query_side.make_targets(embeddings)
    assert (targets @ targets.T).argmax(axis=1).tolist() == [0, 1, 2, 3]


def test_two_edits_in_one_instruction_find_the_photo_after_both(query_side, photos, embeddings):
    """Before a gallery that holds each edit alone, too."""
    grey, over = (EDITS[name].transform for name in ("grey", "upside_down"))
    views = [[photo, grey(photo), over(photo), over(grey(photo))] for photo in photos]
    gallery = [
        query_side.make_targets(
            query_side.encode_images(np.stack([query_side.preprocess(one) for one in own]))
        )
        for own in views
    ]
    words = ["black and white and upside down"] * len(photos)
    queries = query_side.make_queries(embeddings, words)
    found = [int((own @ query).argmax()) for own, query in zip(gallery, queries, strict=True)]
    assert found.count(3) > len(photos) / 2


def test_a_long_text_is_reported_as_cut(query_side):
    assert not query_side.truncated("a cat on a mat")
    assert query_side.truncated("cat " * 200)


@pytest.mark.parametrize("asked", [{"device": "cuda"}, {"precision": "bf16"}])
def test_a_device_it_does_not_run_on_is_refused(asked):
    with pytest.raises(UsageError, match="mini does not run"):
        open_mini().index_side(**asked)


def test_neither_side_imports_torch(run_python):
    done = run_python(
        "import sys\n"
        "from lensctl.models.mini import open_mini\n"
        "from lensctl.models.mini.image_tower import SIZE\n"
        "import numpy as np\n"
        "model = open_mini()\n"
        "query = model.query_side()\n"
        "query.encode_texts(['a cat'])\n"
        "model.index_side().encode_images(np.zeros((1, 3, SIZE, SIZE), np.float32))\n"
        "print([name for name in ('torch', 'sentence_transformers') if name in sys.modules])"
    )
    assert done.stdout.strip() == "[]", done.stderr
