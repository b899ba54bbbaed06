"""CLIP weights of other projects: a transformers CLIPModel and open_clip state dicts."""

import gzip
import json
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import open_clip
import pytest
import torch
from safetensors.torch import load_file, save_file

from lensctl.errors import CheckpointError, UsageError
from lensctl.models.convert.convert import Conversion, convert
from lensctl.models.folder import ModelFolder
from lensctl.models.weights import load_module
from support.published import FIXTURES

Change = Callable[[torch.Tensor], torch.Tensor]
CONFIG = FIXTURES / "transformers_clip_config.json"


@pytest.fixture(autouse=True)
def models_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LENSCTL_MODELS", str(tmp_path / "models"))


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    path = tmp_path / "model.safetensors"
    data = (FIXTURES / "transformers_clip.safetensors.gz").read_bytes()
    path.write_bytes(gzip.decompress(data))
    return path


def _unit(x: np.ndarray) -> np.ndarray:
    return x / np.linalg.norm(x, axis=-1, keepdims=True)


def test_a_transformers_model(weights: Path) -> None:
    folder = convert(Conversion(weights, name="bge-vl-base", side_file=CONFIG))
    assert folder.info.licence == "MIT"
    assert not folder.config.sum_of_units
    with np.load(FIXTURES / "transformers_clip_expected.npz") as want:
        side, index = folder.query_side(exact=True), folder.index_side("cpu", "fp32")
        images = side.encode_images(want["pixels"])
        assert np.abs(_unit(images) - want["images"]).max() < 1e-5
        assert np.abs(_unit(index.encode_images(want["pixels"])) - want["images"]).max() < 1e-5
        module = load_module(folder.config, folder.file("model.safetensors"))
        with torch.inference_mode():
            texts = module.encode_text(torch.from_numpy(want["ids"])).numpy()
        assert np.abs(_unit(texts) - want["texts"]).max() < 1e-5
        assert np.abs(side.text_keys(images) - want["images"]).max() < 1e-5


def test_the_sum_of_bge_adds_embeddings_as_they_are(weights: Path) -> None:
    folder = convert(Conversion(weights, name="bge-vl-base", side_file=CONFIG))
    _check_sum(folder, unit_parts=False, weight=1.0)


@pytest.mark.parametrize("weight", [1.0, 0.3])
def test_other_sums_add_units(weights: Path, weight: float) -> None:
    conversion = Conversion(weights, name="clip", side_file=CONFIG, sum_weight=weight)
    _check_sum(convert(conversion), unit_parts=True, weight=weight)


def _check_sum(folder: ModelFolder, *, unit_parts: bool, weight: float) -> None:
    kept = np.random.default_rng(0).standard_normal((3, 24), dtype=np.float32)
    side, index = folder.query_side(exact=True), folder.index_side("cpu", "fp32")
    module = load_module(folder.config, folder.file("model.safetensors"))
    texts = ["a photo of a dog", "the same in winter", ""]
    with torch.inference_mode():
        from lensctl.models.tokenizer import tokenize

        words = module.encode_text(torch.from_numpy(tokenize(texts))).numpy()
    assert not words[2].any()
    words[:2] = _unit(words[:2]) if unit_parts else words[:2]
    want = _unit((_unit(kept) if unit_parts else kept) + weight * words)
    assert np.abs(side.make_queries(kept, texts) - want).max() < 1e-5
    assert np.abs(side.make_targets(kept) - _unit(kept)).max() < 1e-6
    assert np.abs(index.make_targets(kept) - _unit(kept)).max() < 1e-6


def test_an_architecture_must_be_named(weights: Path) -> None:
    with pytest.raises(UsageError) as refusal:
        convert(Conversion(weights, name="unknown"))
    assert "--backbone" in refusal.value.next_step


def test_the_wrong_architecture_is_refused(weights: Path) -> None:
    with pytest.raises(CheckpointError, match="not those of this model"):
        convert(Conversion(weights, name="m", backbone="ViT-B-16-quickgelu"))


@pytest.mark.parametrize(
    "change",
    [{"vision_config": 3}, {"text_config": {"hidden_act": "relu"}}, {"projection_dim": "x"}],
)
def test_a_wrong_config(change: dict, weights: Path, tmp_path: Path) -> None:
    config = tmp_path / "config.json"
    config.write_text(json.dumps(json.loads(CONFIG.read_text()) | change))
    with pytest.raises(CheckpointError):
        convert(Conversion(weights, name="m", side_file=config))


QUERY = "vision_model.encoder.layers.0.self_attn.q_proj.weight"


@pytest.mark.parametrize(
    ("name", "change"),
    [
        (QUERY, lambda t: t[:, :3]),
        (QUERY, lambda t: t[0, 0]),
        (QUERY, lambda t: t.to(torch.int64)),
        (QUERY, lambda t: t > 0),
        (QUERY, lambda t: t * float("nan")),
        (QUERY, lambda t: t.double() * 1e300),
        ("visual_projection.weight", lambda t: t.reshape(-1)),
        ("text_projection.weight", lambda t: t[None]),
        ("text_model.embeddings.position_embedding.weight", lambda t: t.to(torch.int32)),
    ],
)
def test_a_tensor_that_is_no_weight(name: str, change: Change, weights: Path) -> None:
    state = load_file(weights)
    state[name] = change(state[name]).contiguous()
    save_file(state, weights)
    with pytest.raises(CheckpointError) as refusal:
        convert(Conversion(weights, name="m", side_file=CONFIG))
    last = name.removesuffix(".weight").split(".")[-1]
    assert last.replace("position", "positional")[:10] in refusal.value.why


@pytest.mark.parametrize(
    ("part", "key", "value"),
    [
        ("text_config", "num_attention_heads", 5),
        ("vision_config", "num_attention_heads", 5),
        ("vision_config", "num_attention_heads", 0),
        ("vision_config", "intermediate_size", math.nan),
        ("vision_config", "intermediate_size", math.inf),
        ("text_config", "intermediate_size", 0),
        ("vision_config", "image_size", 1_000_000),
        ("vision_config", "image_size", 7),
    ],
)
def test_a_config_of_no_model(
    part: str, key: str, value: float, weights: Path, tmp_path: Path
) -> None:
    values = json.loads(CONFIG.read_text())
    values[part][key] = value
    config = tmp_path / "config.json"
    config.write_text(json.dumps(values))
    with pytest.raises(CheckpointError) as refusal:
        convert(Conversion(weights, name="m", side_file=config))
    assert refusal.value.why


@pytest.mark.parametrize("weight", [math.nan, math.inf, 1e300, -1e4])
def test_an_impossible_weight_of_the_words(weight: float, weights: Path) -> None:
    with pytest.raises(UsageError, match="out of range"):
        convert(Conversion(weights, name="m", side_file=CONFIG, sum_weight=weight))


def test_a_missing_tensor(weights: Path) -> None:
    state = load_file(weights)
    del state["visual_projection.weight"]
    save_file(state, weights)
    with pytest.raises(CheckpointError) as refusal:
        convert(Conversion(weights, name="m", side_file=CONFIG))
    assert "visual_projection.weight" in refusal.value.why


def test_an_open_clip_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tiny = {
        "embed_dim": 16,
        "vision_cfg": {"image_size": 32, "layers": 1, "width": 64, "patch_size": 16},
        "text_cfg": {"width": 32, "heads": 2, "layers": 1},
    }
    (tmp_path / "tiny-test.json").write_text(json.dumps(tiny))
    open_clip.add_model_config(tmp_path / "tiny-test.json")
    model = open_clip.create_model("tiny-test").eval()
    path = tmp_path / "open_clip_model.safetensors"
    save_file({k: v.contiguous() for k, v in model.state_dict().items()}, path)
    folder = convert(Conversion(path, name="tiny", backbone="tiny-test"))
    pixels = torch.randn(2, 3, 32, 32)
    ids = open_clip.tokenize(["a dog", "wow!!! (!)"])
    with torch.inference_mode():
        images, texts = model.encode_image(pixels), model.encode_text(ids, normalize=True)
    side = folder.query_side(exact=True)
    assert np.abs(side.encode_images(pixels.numpy()) - images.numpy()).max() < 1e-5
    assert np.abs(side.encode_texts(["a dog", "wow!!! (!)"]) - texts.numpy()).max() < 1e-5
