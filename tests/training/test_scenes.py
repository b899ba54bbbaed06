"""The synthetic set: deterministic, its splits disjoint, its answers right."""

from itertools import islice
from random import Random

import numpy as np
import pytest
import torch

from lensctl.models.preprocessing import Preprocessing
from lensctl_training.data.batches import collate
from lensctl_training.gradcache import cached_backward
from lensctl_training.loss import Temperature, contrastive_loss
from lensctl_training.model import TripletEncoder, build_model
from lensctl_training.recipe import load_recipe
from lensctl_training.scenes.edits import KINDS, make_edit
from lensctl_training.scenes.examples import render_held_out, render_training_set
from lensctl_training.scenes.render import render
from lensctl_training.scenes.triplets import (
    HELD_OUT,
    random_scene,
    same_edit_other_scenes,
    same_scene_other_edits,
    scene_triplets,
)
from lensctl_training.scenes.world import CELLS, COLOURS, SHAPES, Group, Scene

PREPROCESSING = Preprocessing(size=32)


def test_every_pair_is_in_one_split_and_all_shapes_and_colours_are_in_training():
    assert not HELD_OUT["val"] & HELD_OUT["test"]
    pairs = set()
    for group in islice(scene_triplets("train", seed=5), 300):
        for triplet in group:
            pairs |= triplet.query.pairs | triplet.target.pairs
    assert not pairs & (HELD_OUT["val"] | HELD_OUT["test"])
    assert len(pairs) == len(SHAPES) * len(COLOURS) - len(HELD_OUT["val"] | HELD_OUT["test"])


@pytest.mark.parametrize("split", ["val", "test"])
def test_every_held_out_triplet_shows_a_pair_that_training_never_does(split):
    other = "test" if split == "val" else "val"
    for [triplet] in islice(scene_triplets(split, seed=1, edits_per_scene=1), 200):
        assert triplet.query.pairs & HELD_OUT[split]
        assert not (triplet.query.pairs | triplet.target.pairs) & HELD_OUT[other]


def test_all_kinds_of_edits_occur_and_keep_scenes_sound():
    seen = set()
    for group in islice(scene_triplets("train", seed=2), 400):
        assert len({t.target for t in group}) == len(group)
        for triplet in group:
            seen.add(triplet.edit.kind)
            cells = [c for g in triplet.target.groups for c in g.cells]
            assert len(cells) == len(set(cells)) and set(cells) <= set(range(CELLS))
            assert triplet.target == triplet.edit.change(triplet.query) != triplet.query
    assert seen == set(KINDS)


RED_RING = Group(SHAPES.index("ring"), COLOURS.index("red"), 0, (0,))
TWO_CROSSES = Group(SHAPES.index("cross"), COLOURS.index("green"), 1, (1, 3))
SCENE = Scene(tuple(sorted((RED_RING, TWO_CROSSES))))


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("swap colours", "cross"),
        ("mirror", "mirror the picture"),
        ("opposite colour", "opposite colour"),
        ("remove", "crosses"),
    ],
)
def test_instructions_say_what_happens(kind, words):
    rng = Random(0)
    made = [m for m in (make_edit(SCENE, rng, kind) for _ in range(80)) if m]
    assert any(words in edit.instruction for edit, _ in made)


def test_doing_it_twice_undoes_the_involutions():
    rng = Random(1)
    for kind in ("mirror", "swap places", "swap colours", "opposite colour", "other time"):
        edit, target = next(m for m in (make_edit(SCENE, rng, kind) for _ in range(50)) if m)
        assert edit.change(target) == SCENE


def test_distractors_are_what_they_are_called():
    rng = Random(2)
    for [triplet] in islice(scene_triplets("test", seed=3, edits_per_scene=1), 60):
        others = same_scene_other_edits(triplet, rng, 6)
        assert len(others) == 6 and triplet.target not in others and triplet.query not in others
        elsewhere = same_edit_other_scenes(triplet, rng, 2)
        assert len(elsewhere) == 2 and triplet.target not in elsewhere


def test_pictures_are_the_same_for_the_same_seed_and_differ_by_scene():
    first, again = (render_training_set(8, 4, 9, PREPROCESSING) for _ in range(2))
    assert np.array_equal(first.queries, again.queries)
    assert first.instructions == again.instructions
    a, b = (render(SCENE, np.random.default_rng(s)).astype(int) for s in (0, 1))
    other = render(SCENE.without_shape(RED_RING.shape), np.random.default_rng(0)).astype(int)
    assert 0 < np.abs(a - b).mean() < 12
    assert np.abs(a - other)[:16, :16].max() > 100


def test_the_held_out_gallery_holds_queries_and_distractors():
    found = render_held_out("test", 30, seed=0)
    assert len(found.targets) + len(found.gallery) == 30 * 10
    for index, reference in enumerate(found.references):
        assert found.candidate(reference) is found.queries[index]
        assert index in found.positives[index] and reference not in found.positives[index]


def test_small_pictures_need_no_resize_and_get_the_same_pixels():
    examples = render_training_set(4, 4, 0, PREPROCESSING)
    from PIL import Image

    expected = PREPROCESSING(Image.fromarray(examples.queries[0]))
    assert np.abs(examples.load(0).query - expected).max() < 1e-5
    assert random_scene(Random(0)).groups


@pytest.mark.parametrize("chunk", [0, 4, 3])
def test_a_query_that_edits_share_is_encoded_once_and_trains_the_same(chunk):
    examples = render_training_set(8, 4, seed=3, preprocessing=PREPROCESSING)
    shared = collate([examples.load(index) for index in range(8)], 24)
    apart = shared._replace(queries=shared.serve(shared.queries))
    assert len(shared.queries) == 2 and len(apart.queries) == 8
    assert np.array_equal(apart.queries[3], examples.load(3).query)
    gradients = [_gradients(batch, chunk) for batch in (shared, apart)]
    for name, gradient in gradients[0].items():
        assert gradient.abs().max() > 0, name
        assert torch.allclose(gradient, gradients[1][name], atol=1e-9), name


def _gradients(batch, chunk):
    torch.manual_seed(0)
    encoder = TripletEncoder(build_model(load_recipe("smoke").model)).double()
    batch = batch._replace(queries=batch.queries.double(), targets=batch.targets.double())
    scale = Temperature()()
    cached_backward(encoder, batch.chunks(chunk), lambda v: contrastive_loss(v, scale.detach()))
    return {n: p.grad for n, p in encoder.named_parameters() if p.grad is not None}
