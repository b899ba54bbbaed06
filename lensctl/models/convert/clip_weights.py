"""CLIP weights of other projects -> a sum-fusion model over an open_clip backbone."""

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from lensctl.errors import CheckpointError
from lensctl.models.backbone import backbone_config
from lensctl.models.config import MagicLensConfig, check_backbone
from lensctl.models.preprocessing import Preprocessing
from lensctl.models.safetensors_file import read_layout

State = dict[str, Tensor]
Backbone = str | Mapping[str, Any]

_MAX_CONFIG = 2**20
_LAYER_NORM_EPS = 1e-5
_ACTIVATIONS = {"quick_gelu": True, "gelu": False}


def read_open_clip(path: Path, backbone: Backbone) -> tuple[MagicLensConfig, State]:
    """An open_clip state dict in safetensors, with the backbone that it belongs to."""
    state = {f"clip.{name}": tensor for name, tensor in _read(path).items()}
    decoder = [name for name in state if name.startswith("clip.text_decoder.")]
    for name in decoder:  # CoCa's captioner, which no retrieval reads
        del state[name]
    return sum_config(backbone), state


def read_transformers(path: Path, backbone: Backbone) -> tuple[MagicLensConfig, State]:
    """A transformers CLIPModel in safetensors, with the open_clip backbone of the same sizes."""
    tensors = _read(path)
    try:
        return sum_config(backbone), dict(_open_clip_entries(tensors))
    except KeyError as error:
        raise _refused(path, f"the tensor {error} is missing") from error
    except ValueError as error:
        raise _refused(path, str(error)) from error


def sum_config(backbone: Backbone) -> MagicLensConfig:
    """The sum fusion over a backbone, with CLIP's own preprocessing."""
    size = backbone_config(backbone)["vision_cfg"].get("image_size", 224)
    pixels = Preprocessing(size=size, mode="crop", interpolation="bicubic")
    return MagicLensConfig(backbone=backbone, preprocessing=pixels, fusion="sum")


def transformers_backbone(config_file: Path) -> dict[str, Any]:
    """The open_clip configuration of a transformers CLIP `config.json`. Raises CheckpointError."""
    try:
        if config_file.stat().st_size > _MAX_CONFIG:
            raise ValueError(f"it is larger than {_MAX_CONFIG} bytes")
        values = json.loads(config_file.read_text(encoding="utf-8"))
        backbone = _backbone_of(values)
        check_backbone(backbone)
        return backbone
    except (
        ArithmeticError,
        AttributeError,
        KeyError,
        RecursionError,
        TypeError,
        ValueError,
    ) as error:
        raise _refused(config_file, f"{type(error).__name__}: {error}") from error


def _backbone_of(values: Mapping[str, Any]) -> dict[str, Any]:
    """Defaults are those of transformers' CLIPTextConfig and CLIPVisionConfig."""
    text, vision = values["text_config"], values["vision_config"]
    activation = text.get("hidden_act", "quick_gelu")
    if vision.get("hidden_act", "quick_gelu") != activation or activation not in _ACTIVATIONS:
        raise ValueError(f"unsupported activation {activation!r}")
    for part in (text, vision):
        if abs(part.get("layer_norm_eps", _LAYER_NORM_EPS) - _LAYER_NORM_EPS) > 1e-9:
            raise ValueError("unsupported layer_norm_eps")
    width, heads = vision.get("hidden_size", 768), vision.get("num_attention_heads", 12)
    if width % heads:
        raise ValueError(f"the image tower's width {width} is not divisible by {heads} heads")
    text_width = text.get("hidden_size", 512)
    return {
        "embed_dim": values.get("projection_dim", 512),
        "quick_gelu": _ACTIVATIONS[activation],
        "vision_cfg": {
            "image_size": vision.get("image_size", 224),
            "patch_size": vision.get("patch_size", 32),
            "layers": vision.get("num_hidden_layers", 12),
            "width": width,
            "head_width": width // heads,
            "mlp_ratio": vision.get("intermediate_size", 3072) / width,
        },
        "text_cfg": {
            "context_length": text.get("max_position_embeddings", 77),
            "vocab_size": text.get("vocab_size", 49408),
            "layers": text.get("num_hidden_layers", 12),
            "width": text_width,
            "heads": text.get("num_attention_heads", 8),
            "mlp_ratio": text.get("intermediate_size", 2048) / text_width,
        },
    }


def _open_clip_entries(tensors: Mapping[str, Tensor]) -> Iterator[tuple[str, Tensor]]:
    vision, text = "vision_model", "text_model"
    yield "clip.logit_scale", tensors["logit_scale"]
    yield "clip.visual.class_embedding", tensors[f"{vision}.embeddings.class_embedding"]
    yield "clip.visual.conv1.weight", tensors[f"{vision}.embeddings.patch_embedding.weight"]
    places = tensors[f"{vision}.embeddings.position_embedding.weight"]
    yield "clip.visual.positional_embedding", places
    yield "clip.visual.proj", _transposed(tensors, "visual_projection.weight")
    yield "clip.token_embedding.weight", tensors[f"{text}.embeddings.token_embedding.weight"]
    yield "clip.positional_embedding", tensors[f"{text}.embeddings.position_embedding.weight"]
    yield "clip.text_projection", _transposed(tensors, "text_projection.weight")
    norms = {
        f"{vision}.pre_layrnorm": "clip.visual.ln_pre",
        f"{vision}.post_layernorm": "clip.visual.ln_post",
        f"{text}.final_layer_norm": "clip.ln_final",
    }
    for source, target in norms.items():
        yield from _copied(tensors, source, target)
    for source, target in ((vision, "clip.visual.transformer"), (text, "clip.transformer")):
        for layer in range(_count_layers(tensors, source)):
            block = f"{target}.resblocks.{layer}"
            yield from _block_entries(tensors, f"{source}.encoder.layers.{layer}", block)


def _block_entries(
    tensors: Mapping[str, Tensor], source: str, target: str
) -> Iterator[tuple[str, Tensor]]:
    for kind, joined in (("weight", "in_proj_weight"), ("bias", "in_proj_bias")):
        names = [f"{source}.self_attn.{part}_proj.{kind}" for part in "qkv"]
        yield f"{target}.attn.{joined}", _stacked(tensors, names)
    others = {
        "self_attn.out_proj": "attn.out_proj",
        "layer_norm1": "ln_1",
        "layer_norm2": "ln_2",
        "mlp.fc1": "mlp.c_fc",
        "mlp.fc2": "mlp.c_proj",
    }
    for old, new in others.items():
        yield from _copied(tensors, f"{source}.{old}", f"{target}.{new}")


def _copied(
    tensors: Mapping[str, Tensor], source: str, target: str
) -> Iterator[tuple[str, Tensor]]:
    for kind in ("weight", "bias"):
        yield f"{target}.{kind}", tensors[f"{source}.{kind}"]


def _transposed(tensors: Mapping[str, Tensor], name: str) -> Tensor:
    if tensors[name].ndim != 2:
        raise ValueError(f"{name} is no matrix: its shape is {tuple(tensors[name].shape)}")
    return tensors[name].T.contiguous()


def _stacked(tensors: Mapping[str, Tensor], names: Sequence[str]) -> Tensor:
    """Query, key and value, which torch keeps in one tensor."""
    parts = [tensors[name] for name in names]
    for name, part in zip(names, parts, strict=True):
        shape, first = tuple(part.shape), tuple(parts[0].shape)
        if not part.is_floating_point() or not shape:
            raise ValueError(f"{name} holds {part.dtype} of the shape {shape}")
        if shape != first:
            raise ValueError(f"{name} has the shape {shape}, {names[0]} {first}")
    return torch.cat(parts)


def _count_layers(tensors: Mapping[str, Tensor], model: str) -> int:
    prefix = f"{model}.encoder.layers."
    return len({name[len(prefix) :].split(".")[0] for name in tensors if name.startswith(prefix)})


def _read(path: Path) -> dict[str, Tensor]:
    """All tensors; floating-point numbers as float32, and finite."""
    read_layout(path)
    try:
        tensors = load_file(path)
    except SafetensorError as error:
        raise _refused(path, str(error)) from error
    for name, tensor in tensors.items():
        if tensor.is_floating_point():
            tensors[name] = tensor.float()
            if not tensors[name].isfinite().all():
                raise _refused(path, f"{name} holds values that are not finite")
    return tensors


def _refused(path: Path, why: str) -> CheckpointError:
    return CheckpointError(
        f"{path.name} is not a CLIP model that can be converted",
        why=why,
        next_step="check that it is the safetensors file of a CLIP model, with its config.json",
    )
