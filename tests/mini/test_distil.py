"""The student of the sentence encoder: its start, its lessons, and a run that was stopped."""

import numpy as np
import pytest
import torch

from lensctl_training.mini import distil
from lensctl_training.mini.distil import (
    NAMES,
    DistilConfig,
    Encoder,
    cosines,
    make_lessons,
    open_text,
    read_by_teacher,
    start_from,
    teach,
    used_pieces,
)
from lensctl_training.mini.photo_edits import EDITS
from lensctl_training.mini.wordnet import DICTIONARY

PIECES = 30
LAYERS = 3


@pytest.fixture(scope="module")
def arrays():
    """Random weights by the names of the published file."""
    torch.manual_seed(0)
    found = {}
    for name, one in Encoder(PIECES, LAYERS).state_dict().items():
        if name.startswith("layers."):
            _, layer, part, kind = name.split(".")
            name = f"encoder.layer.{layer}.{NAMES[part]}.{kind}"
        found[name] = one.numpy()
    for ours, theirs in (
        ("pieces.weight", "embeddings.word_embeddings.weight"),
        ("places.weight", "embeddings.position_embeddings.weight"),
        ("norm.weight", "embeddings.LayerNorm.weight"),
        ("norm.bias", "embeddings.LayerNorm.bias"),
    ):
        found[theirs] = found.pop(ours)
    found["embeddings.token_type_embeddings.weight"] = np.zeros((2, 384), np.float32)
    return found


@pytest.fixture(scope="module")
def lessons(arrays):
    """What the teacher says of 200 random texts, as lessons and held out."""
    rng = np.random.default_rng(0)
    ids = [rng.integers(PIECES, size=rng.integers(3, 6)).tolist() for _ in range(200)]
    teacher = start_from(arrays, tuple(range(LAYERS)), list(range(PIECES)))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(distil, "FEWEST", 5)
        return make_lessons(ids, read_by_teacher(teacher, ids))


@pytest.fixture(autouse=True)
def often_kept(monkeypatch):
    monkeypatch.setattr(distil, "KEPT_EVERY", 4)


def test_all_layers_are_the_teacher(arrays, lessons):
    student = start_from(arrays, tuple(range(LAYERS)), list(range(PIECES)))
    assert cosines(student, lessons[1]).min() > 0.999


def test_no_text_is_learned_and_held_out(lessons):
    learned, held_out = (sum(len(one.ids) for one in part) for part in lessons)
    assert held_out == 100 and learned <= 100


def test_a_student_of_fewer_layers_learns(arrays, lessons, tmp_path, capfd):
    student = start_from(arrays, (0, 2), list(range(PIECES)))
    missed = 1 - cosines(student, lessons[1]).mean()
    teach(student, lessons[0], DistilConfig(steps=40, tokens=300, rate=1e-3), tmp_path / "kept")
    assert 1 - cosines(student, lessons[1]).mean() < missed / 2
    assert capfd.readouterr().err == "", "a bar is for terminals alone"


def test_a_stopped_run_ends_as_one_that_was_not(arrays, lessons, tmp_path, monkeypatch):
    config = DistilConfig(steps=10, tokens=100)
    whole, stopped, resumed = (start_from(arrays, (0, 2), list(range(PIECES))) for _ in range(3))
    teach(whole, lessons[0], config, tmp_path / "whole")

    def stop(*_):
        raise KeyboardInterrupt

    clip = torch.nn.utils.clip_grad_norm_
    calls = iter(range(100))
    monkeypatch.setattr(
        distil.nn.utils,
        "clip_grad_norm_",
        lambda *given: (clip if next(calls) < 6 else stop)(*given),
    )
    with pytest.raises(KeyboardInterrupt):
        teach(stopped, lessons[0], config, tmp_path / "kept")
    monkeypatch.undo()
    teach(resumed, lessons[0], config, tmp_path / "kept")
    for name, one in whole.state_dict().items():
        assert torch.equal(one, resumed.state_dict()[name]), name


def test_pieces_that_are_used_and_single_characters_are_kept():
    vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "cat", "dog", "x", "##s", "##ing", "日"]
    kept = used_pieces(["cats", "cat cat", "dog"], vocabulary, least=3)
    assert [vocabulary[one] for one in kept] == ["[UNK]", "[CLS]", "[SEP]", "cat", "x", "##s"]


@pytest.mark.skipif(
    not (DICTIONARY / "data.noun").is_file(), reason="the package wordnet-base is not installed"
)
def test_what_is_held_out_is_not_learned():
    """But for two that arise by themselves: one stands in WordNet, one in a frame."""
    texts = set(open_text())
    assert len(texts) > 300_000 and {"greyscale", "lighthouse"} <= texts
    kept_back = {words for edit in EDITS.values() for words in (*edit.held_out, *edit.validation)}
    assert texts & kept_back == {"turn the lights on", "make it fuzzy"}
