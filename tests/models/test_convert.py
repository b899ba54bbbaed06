"""Checkpoints of many dimensions, converted and compared with a float64 reference."""

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from lensctl.errors import CheckpointError, ModelError, UsageError
from lensctl.models.convert.convert import Conversion, convert
from lensctl.models.convert.shapes import Sizes, Tower
from lensctl.models.interface import Floats
from lensctl.models.query_side import OnnxQuerySide
from lensctl.models.registry import list_models, open_model
from lensctl.models.tokenizer import tokenize
from lensctl.models.weights import load_module
from support import published, reference
from support.official_checkpoint import SMALL, random_arrays, write_checkpoint

TEXTS = ["", "inside view of", "wow!!! really!? (!) !!", "the same place in winter " * 20]

VARIANTS = {
    "small": SMALL,
    "one layer each": replace(
        SMALL,
        vision=replace(SMALL.vision, layers=1),
        fusion=Tower(width=48, heads=1, layers=1, mlp_width=7),
    ),
    "patch 14, one patch": replace(SMALL, patch_size=14, image_size=14),
    "heads of width one": replace(SMALL, text=Tower(width=6, heads=6, layers=2, mlp_width=24)),
    "wide pooler, three queries": replace(SMALL, pooler_width=24, query_tokens=3),
    "more words": replace(SMALL, vocab_size=49500, context_length=96),
    "twelve layers": replace(SMALL, vision=Tower(width=16, heads=2, layers=12, mlp_width=64)),
}


@pytest.fixture(autouse=True)
def models_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    home = tmp_path / "models"
    monkeypatch.setenv("LENSCTL_MODELS", str(home))
    return home


def _checkpoint(tmp_path: Path, sizes: Sizes, **options: int) -> tuple[Path, reference.Tree]:
    arrays = random_arrays(sizes)
    path = write_checkpoint(tmp_path / "weights.pkl", arrays, **options)
    tree = {name.removeprefix("params/"): a.astype(np.float64) for name, a in arrays.items()}
    return path, tree


def _not_a_number(row: Floats) -> Floats:
    return row * np.float32(np.nan)


def _a_little_off(row: Floats) -> Floats:
    """At a cosine of 0.99987; three rows of which two agree have a mean of 0.99996."""
    across = np.roll(row, 1)
    across -= row * (across @ row) / (row @ row)
    return row + 0.016 * across * np.linalg.norm(row) / np.linalg.norm(across)


@pytest.mark.parametrize("part", ["encode_images", "make_queries"])
@pytest.mark.parametrize("spoil", [_not_a_number, _a_little_off])
def test_one_bad_row_of_several_fails_a_conversion(
    part: str, spoil: Callable[[Floats], Floats], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = getattr(OnnxQuerySide, part)

    def spoiled(side: OnnxQuerySide, *given: object) -> Floats:
        vectors = np.array(made(side, *given))
        vectors[1] = spoil(vectors[1])
        return vectors

    monkeypatch.setattr(OnnxQuerySide, part, spoiled)
    path, _ = _checkpoint(tmp_path, SMALL)
    with pytest.raises(ModelError, match="does not agree"):
        convert(Conversion(path, name="any"))


@pytest.mark.parametrize("sizes", VARIANTS.values(), ids=VARIANTS.keys())
def test_any_legal_dimensions(sizes: Sizes, tmp_path: Path) -> None:
    path, tree = _checkpoint(tmp_path, sizes, chunk_bytes=40_000)
    folder = convert(Conversion(path, name="any"))
    side = folder.query_side(exact=True)
    shape = (len(TEXTS), 3, sizes.image_size, sizes.image_size)
    pixels = np.random.default_rng(1).standard_normal(shape, dtype=np.float32)
    ids = tokenize(TEXTS, sizes.context_length)

    images = reference.embed_image(tree, sizes, pixels.transpose(0, 2, 3, 1))
    texts = reference.embed_text(tree, sizes, ids)
    queries = reference.fuse(tree, sizes, images, texts)

    module = load_module(folder.config, folder.file("model.safetensors"))
    with torch.inference_mode():
        torch_texts = module.encode_text(torch.from_numpy(ids)).numpy()
    kept = side.encode_images(pixels)
    index = folder.index_side(device="cpu", precision="fp32")
    for found, want in (
        (kept, images),
        (index.encode_images(pixels), images),
        (torch_texts, texts),
        (side.encode_texts(TEXTS), texts / np.linalg.norm(texts, axis=1, keepdims=True)),
        (side.make_queries(kept, TEXTS), queries),
        (index.make_targets(kept)[:1], queries[:1]),
        (side.make_targets(kept)[:1], queries[:1]),
    ):
        assert np.abs(found - want).max() < 1e-5 * max(1.0, np.abs(want).max())


def test_the_published_small_checkpoint(models_home: Path, tmp_path: Path) -> None:
    path = tmp_path / "magic_lens_clip_base.pkl"
    path.write_bytes(published.checkpoint_bytes())
    side_file = published.FIXTURES / "tiny_a_config.json"
    folder = convert(Conversion(path, side_file=side_file))
    assert folder.path == models_home / "magiclens-base"
    assert "a5be51ec293a359517b9c46d9487b11996446414487a2469a42d59b7c542ee58" in folder.info.source
    assert folder.info.licence.startswith("CC-BY-4.0")
    opened = open_model("magiclens-base")
    assert opened.info == folder.info
    listed = {model.name: model for model in list_models()}
    assert listed["magiclens-base"].present
    assert not listed["magiclens-large"].present

    want = published.expected()
    texts = want["texts"].tolist()
    for row, (image, text) in enumerate(zip(want["pair_image"], want["pair_text"], strict=True)):
        query = opened.query_side(exact=True).make_queries(
            want["eval_image_embed"][[image]], [texts[text]]
        )
        assert np.abs(query[0] - want["eval_multimodal_embed_norm"][row]).max() < 1e-5


def test_an_existing_model_is_kept(tmp_path: Path) -> None:
    path, _ = _checkpoint(tmp_path, SMALL)
    first = convert(Conversion(path, name="mine"))
    with pytest.raises(ModelError, match="already"):
        convert(Conversion(path, name="mine"))
    again = convert(Conversion(path, name="mine", overwrite=True))
    assert again.info == first.info


@pytest.mark.parametrize(
    ("factor", "why"),
    [
        (np.nan, "clip/visual/conv1/kernel holds values that are not finite"),
        (np.inf, "clip/visual/conv1/kernel holds values that are not finite"),
        (1e38, "the vector that they give for a photo is zero or not finite"),
    ],
)
def test_weights_that_diverged(factor: float, why: str, tmp_path: Path) -> None:
    arrays = random_arrays(SMALL)
    arrays["params/clip/visual/conv1/kernel"] += np.float32(factor)
    with pytest.raises(CheckpointError) as refusal:
        convert(Conversion(write_checkpoint(tmp_path / "w.pkl", arrays), name="m"))
    assert refusal.value.why == why


def test_weights_of_nothing(tmp_path: Path, models_home: Path) -> None:
    arrays = {name: np.zeros_like(array) for name, array in random_arrays(SMALL).items()}
    weights = write_checkpoint(tmp_path / "w.pkl", arrays)
    command = [sys.executable, "-m", "lensctl", "models", "convert", str(weights)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 5 and "zero or not finite" in done.stderr
    assert "Warning" not in done.stderr and list(models_home.iterdir()) == []


@pytest.mark.parametrize("name", ["../up", "A", "", ".hidden", "a/b", "x" * 65])
def test_impossible_names(name: str, tmp_path: Path) -> None:
    path, _ = _checkpoint(tmp_path, SMALL)
    if name:
        with pytest.raises(UsageError, match="name"):
            convert(Conversion(path, name=name))


def test_a_side_file_must_agree(tmp_path: Path) -> None:
    path, _ = _checkpoint(tmp_path, SMALL)
    side_file = tmp_path / "side.json"
    side_file.write_text(json.dumps({"clip": {"text_num_heads": 4}}))
    with pytest.raises(CheckpointError) as refusal:
        convert(Conversion(path, name="m", side_file=side_file))
    assert "text_num_heads = 4, the shapes say 2" in refusal.value.why
    side_file.write_text("[1]")
    with pytest.raises(CheckpointError, match="side file"):
        convert(Conversion(path, name="m", side_file=side_file))


def test_a_side_file_beside_the_weights_is_found(tmp_path: Path) -> None:
    path, _ = _checkpoint(tmp_path, SMALL)
    path.with_name("weights_config.json").write_text(json.dumps({"magiclens": {"num_layers": 9}}))
    with pytest.raises(CheckpointError) as refusal:
        convert(Conversion(path, name="m"))
    assert "num_layers = 9" in refusal.value.why


def test_a_stated_image_size_may_leave_a_border(tmp_path: Path) -> None:
    path, _ = _checkpoint(tmp_path, SMALL)
    side_file = tmp_path / "side.json"
    side_file.write_text(json.dumps({"image_size": 46, "magiclens": {"num_heads": 6}}))
    folder = convert(Conversion(path, name="m", side_file=side_file))
    assert folder.config.preprocessing.size == 46
    pixels = np.zeros((1, 3, 46, 46), np.float32)
    side, index = folder.query_side(exact=True), folder.index_side("cpu", "fp32")
    assert np.allclose(side.encode_images(pixels), index.encode_images(pixels), atol=1e-5)
