"""The numbers of the published code, and the comparison of a port with them.

`tests/models/fixtures/FIXTURES.txt` says what each array is. The fixtures were made by the
unmodified published code on a small random checkpoint.
"""

import gzip
import json
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from lensctl.models.convert.official import read_official
from lensctl.models.magiclens import MagicLens
from lensctl.models.preprocessing import Preprocessing
from lensctl.models.tokenizer import tokenize
from lensctl.models.weights import assign_weights

FIXTURES = Path(__file__).parent.parent / "models" / "fixtures"
PIXELS_WITHIN = 1e-4
WITHIN = 1e-5

PIPELINES = ("direct", "eval")
"""direct: image / 255, the largest centre square; eval: divided by its maximum, squashed."""


@cache
def expected() -> dict[str, np.ndarray[Any, Any]]:
    with np.load(FIXTURES / "tiny_a_expected.npz") as arrays:
        return dict(arrays)


@cache
def stated() -> dict[str, Any]:
    return json.loads((FIXTURES / "tiny_a_config.json").read_text())


def checkpoint_bytes() -> bytes:
    """The small checkpoint in the published container."""
    return gzip.decompress((FIXTURES / "tiny_a.pkl.gz").read_bytes())


def port(folder: Path) -> MagicLens:
    """Our model with the small checkpoint's weights."""
    path = folder / "tiny_a.pkl"
    path.write_bytes(checkpoint_bytes())
    config, state = read_official(path, FIXTURES / "tiny_a_config.json")
    tensors = {name: torch.from_numpy(array) for name, array in state.items()}
    return assign_weights(config, tensors, path)


def preprocessing(pipeline: str, model: MagicLens) -> Preprocessing:
    size = model.config.preprocessing.size
    direct = Preprocessing(size=size, mode="crop")
    return direct if pipeline == "direct" else model.config.preprocessing


def distances(model: MagicLens) -> dict[str, float]:
    """How far the port is from every published number, as a share of the tolerance.

    Pixels and unit vectors are compared absolutely, all others relative to the tensor's largest
    value. A value above 1 is a failure.
    """
    want = expected()
    found: dict[str, float] = {}
    with torch.inference_mode():
        texts = model.encode_text(torch.from_numpy(tokenize(want["texts"].tolist())))
        found["text_embed"] = _relative(texts, want["text_embed"])
        for pipeline in PIPELINES:
            found |= _pipeline(model, pipeline, texts)
        found |= _extra_texts(model)
    return found


def _pipeline(model: MagicLens, pipeline: str, texts: torch.Tensor) -> dict[str, float]:
    want = {k.removeprefix(f"{pipeline}_"): v for k, v in expected().items()}
    preprocess = preprocessing(pipeline, model)
    pixels = np.stack([preprocess(Image.fromarray(want[f"image_{i}"])) for i in range(3)])
    images = model.encode_image(torch.from_numpy(pixels))
    left, right = images[want["pair_image"]], texts[want["pair_text"]]
    layers = []
    hooks = [
        layer.register_forward_hook(lambda _m, _i, out: layers.append(out))
        for layer in model.fusion.encoder.layers
    ]
    pooled = model.fusion.pool(left, right)
    for hook in hooks:
        hook.remove()
    unit = model.fuse(left, right)
    found = {
        "pixels": _absolute(pixels.transpose(0, 2, 3, 1), want["pixels"]) / PIXELS_WITHIN,
        "image_embed": _relative(images, want["image_embed"]),
        "multimodal_embed": _relative(pooled, want["multimodal_embed"]),
        "multimodal_embed_norm": _absolute(unit, want["multimodal_embed_norm"]) / WITHIN,
    }
    for number, layer in enumerate(layers):
        found[f"fusion_layer_{number}"] = _relative(layer, want["fusion_layers"][:, number])
    return {f"{pipeline}_{key}": value for key, value in found.items()}


def _extra_texts(model: MagicLens) -> dict[str, float]:
    """A text with token id 0 inside and one of exactly 77 tokens, on a grey image."""
    want = expected()
    texts = model.encode_text(torch.from_numpy(tokenize(want["extra_texts"].tolist())))
    pixels = model.config.preprocessing
    grey = (0.5 - np.array(pixels.mean)) / np.array(pixels.std)
    image = np.broadcast_to(grey[:, None, None], (1, 3, pixels.size, pixels.size))
    embedding = model.encode_image(torch.from_numpy(image.astype(np.float32)))
    fused = model.fuse(embedding.expand(len(texts), -1), texts)
    return {
        "extra_text_embed": _relative(texts, want["extra_text_embed"]),
        "extra_norm": _absolute(fused, want["extra_multimodal_embed_norm"]) / WITHIN,
    }


def _absolute(found: Any, want: np.ndarray[Any, Any]) -> float:
    return float(np.abs(np.asarray(found) - want).max())


def _relative(found: Any, want: np.ndarray[Any, Any]) -> float:
    return _absolute(found, want) / float(np.abs(want).max()) / WITHIN
