"""Kept embeddings are used again for the same data and backbone, and for nothing else."""

import os
from dataclasses import replace

import numpy as np
import pytest
import torch

from lensctl.errors import DataError, UsageError
from lensctl_training import datasets
from lensctl_training.data.embedded import NAMES, keep_embeddings
from lensctl_training.data.triplet import Problems
from lensctl_training.datasets import open_source, require_one_set
from lensctl_training.distributed import Processes
from lensctl_training.model import TripletEncoder, build_model, export_model
from support.training_runs import make_recipe, make_triplets, write_jsonl, write_shards

ALONE = Processes(0, 1, torch.device("cpu"))


@pytest.fixture(scope="module")
def start(tmp_path_factory):
    """Two model folders to start from."""
    names = ("one", "other")
    places = {name: tmp_path_factory.mktemp("start") / name for name in names}
    for seed, (name, place) in enumerate(places.items()):
        torch.manual_seed(seed)
        facts = dict.fromkeys(("licence", "description", "source"), "test") | {"name": name}
        export_model(TripletEncoder(build_model(make_recipe().model)), place, facts)
    return places


def open_frozen(out, start, problems=None, **data):
    """The kept matrices of a frozen run, opened as training opens them."""
    model = {"freeze_backbone": True, "start": str(start), "backbone": "", "preprocessing": {}}
    recipe = make_recipe(model=model, data=data)
    encoder = TripletEncoder(build_model(recipe.model)).eval()
    source = open_source(recipe, encoder, ALONE, out, problems or Problems())
    return [np.array(getattr(source.examples, name)) for name in NAMES]


def open_again(out, start, problems=None, **data):
    """As open_frozen, with nothing embedded: fails where something would have to be."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(datasets, "keep_embeddings", None)
        return open_frozen(out, start, problems, **data)


@pytest.fixture
def shards(tmp_path):
    write_shards(tmp_path / "shards", number=24, per_shard=12)
    return {"scenes": 0, "train": str(tmp_path / "shards")}


@pytest.mark.parametrize("kind", ["scenes", "shards"])
def test_the_same_data_and_backbone_are_embedded_once(tmp_path, start, shards, kind):
    data = shards if kind == "shards" else {}
    first = open_frozen(tmp_path / "out", start["one"], **data)
    again = open_again(tmp_path / "out", start["one"], **data)
    assert all(np.array_equal(*pair) for pair in zip(first, again, strict=True))
    assert len(first[0]) == (24 if kind == "shards" else 96)


def test_other_data_are_embedded_anew(tmp_path, start, shards):
    first = open_frozen(tmp_path / "out", start["one"], **shards)
    for path in (tmp_path / "shards").iterdir():
        path.unlink()
    write_shards(tmp_path / "shards", number=24, per_shard=12, seed=1)
    second = open_frozen(tmp_path / "out", start["one"], **shards)
    assert not np.allclose(first[0], second[0])
    assert len(open_frozen(tmp_path / "out", start["one"], scenes=16)[0]) == 16


def test_another_backbone_embeds_anew(tmp_path, start, shards):
    first = open_frozen(tmp_path / "out", start["one"], **shards)
    second = open_frozen(tmp_path / "out", start["other"], **shards)
    assert not np.allclose(first[0], second[0])


@pytest.mark.parametrize("size", [0, 60, 700])
def test_a_truncated_matrix_is_made_anew(tmp_path, start, shards, size):
    first = open_frozen(tmp_path / "out", start["one"], **shards)
    os.truncate(tmp_path / "out/embeddings/targets.npy", size)
    assert np.array_equal(first[1], open_frozen(tmp_path / "out", start["one"], **shards)[1])


def test_a_write_that_is_cut_short_leaves_nothing(tmp_path):
    def cut_short():
        yield from ()
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        keep_embeddings(
            cut_short(), build_model(make_recipe().model), tmp_path / "kept", {}, Problems()
        )
    assert not list(tmp_path.iterdir())


def test_what_a_kill_left_is_no_hindrance(tmp_path, start, shards):
    (tmp_path / "out/.embeddings.part").mkdir(parents=True)
    (tmp_path / "out/.embeddings.part/texts.npy").write_bytes(b"half")
    assert len(open_frozen(tmp_path / "out", start["one"], **shards)[0]) == 24
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["embeddings"]


def test_bad_examples_of_kept_embeddings_stay_counted(tmp_path, start):
    triplets = make_triplets(12)
    triplets[:3] = [replace(triplet, target=b"no image") for triplet in triplets[:3]]
    data = {"scenes": 0, "train": str(write_jsonl(tmp_path, triplets))}
    found = [Problems(), Problems()]
    open_frozen(tmp_path / "out", start["one"], found[0], **data)
    open_again(tmp_path / "out", start["one"], found[1], **data)
    assert found[0].total == 3 and found[1].listed() == found[0].listed()
    with pytest.raises(DataError, match="more than the 2 allowed"):
        open_again(tmp_path / "out", start["one"], Problems(limit=2), **data)
    (tmp_path / "out/embeddings/passed_over.json").unlink()  # as earlier versions left it
    assert len(open_again(tmp_path / "out", start["one"], **data)[0]) == 9


def test_data_without_a_usable_triplet_are_an_error(tmp_path, start):
    (tmp_path / "x-000000.tar").write_bytes(b"nonsense")
    with pytest.raises(DataError, match="no usable triplets"):
        open_frozen(tmp_path / "out", start["one"], scenes=0, train=str(tmp_path))


def test_two_data_sets_at_once_are_refused(shards):
    with pytest.raises(UsageError, match="names two data sets"):
        require_one_set(make_recipe(data={"scenes": 16, "train": shards["train"]}), 1)
