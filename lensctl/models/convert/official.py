"""The published MagicLens parameter tree -> a configuration and a state dict. No torch.

Sizes are taken from shapes and every name and shape is checked (`shapes.py`) before a tensor is
laid out as torch wants it: a wrong mapping would load cleanly and return garbage.
"""

import json
from collections.abc import Iterator, Mapping
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from lensctl.errors import CheckpointError
from lensctl.models.config import MagicLensConfig
from lensctl.models.convert.flax_msgpack import Arrays, restore
from lensctl.models.convert.pickled_bytes import pickled_bytes
from lensctl.models.convert.shapes import (
    FUSION_LAYER,
    POOLER,
    TEXT_BLOCK,
    VISION_BLOCK,
    Sizes,
    check_shapes,
    read_sizes,
    refused,
)
from lensctl.models.preprocessing import Preprocessing

Array = np.ndarray[Any, Any]
State = dict[str, Array]
"""By the names of `MagicLens.state_dict`."""

_ROOT = "params/"
_MAX_SIDE_FILE = 2**20


def read_official(path: Path, side_file: Path | None = None) -> tuple[MagicLensConfig, State]:
    """A published checkpoint (a pickle of Flax msgpack bytes) of any dimensions.

    Args:
        path: the `.pkl` file.
        side_file: JSON that states dimensions; see `shapes.read_sizes`.

    Raises CheckpointError for a wrong, damaged or hostile file; nothing in it is executed.
    """
    with pickled_bytes(path) as payload:
        arrays = restore(payload)
    stray = [name for name in arrays if not name.startswith(_ROOT)]
    if stray:
        raise refused(f"there is {stray[0]!r} beside its params")
    arrays = {name.removeprefix(_ROOT): array for name, array in arrays.items()}
    sizes = read_sizes(arrays, _read_side_file(side_file) if side_file else None)
    check_shapes(arrays, sizes)
    for name, array in arrays.items():
        if not np.isfinite(array).all():
            raise refused(f"{name} holds values that are not finite")
    return to_config(sizes), to_state(arrays, sizes)


def to_config(sizes: Sizes) -> MagicLensConfig:
    """The configuration of a checkpoint, with the published evaluation's preprocessing."""
    vision, text = sizes.vision, sizes.text
    return MagicLensConfig(
        backbone={
            "embed_dim": sizes.embed_dim,
            "quick_gelu": True,
            "vision_cfg": {
                "image_size": sizes.image_size,
                "layers": vision.layers,
                "width": vision.width,
                "head_width": vision.width // vision.heads,
                "patch_size": sizes.patch_size,
                "mlp_ratio": vision.mlp_width / vision.width,
            },
            "text_cfg": {
                "context_length": sizes.context_length,
                "vocab_size": sizes.vocab_size,
                "width": text.width,
                "heads": text.heads,
                "layers": text.layers,
                "mlp_ratio": text.mlp_width / text.width,
            },
        },
        preprocessing=Preprocessing(size=sizes.image_size, mode="squash", divide_by_max=True),
        layers=sizes.fusion.layers,
        heads=sizes.fusion.heads,
        ffn_width=sizes.fusion.mlp_width,
        pooler_width=sizes.pooler_width,
        mask_padding=True,
    )


def to_state(arrays: Arrays, sizes: Sizes) -> State:
    """Checked official arrays -> the state dict of `MagicLens`.

    Empties `arrays` on the way, so that the weights are in memory once.
    """
    entries = chain(_clip_entries(arrays, sizes), _fusion_entries(arrays, sizes))
    return {name: np.array(array, order="C") for name, array in entries}


def heads_in(w: Array) -> Array:
    """Query, key, value: (in, heads, head_dim) -> nn.Linear's (heads * head_dim, in)."""
    return w.reshape(w.shape[0], -1).T


def heads_out(w: Array) -> Array:
    """The fusion's `post`: (out, heads, head_dim), contracted over its last two axes, as it is."""
    return w.reshape(w.shape[0], -1)


def _clip_entries(arrays: Arrays, sizes: Sizes) -> Iterator[tuple[str, Array]]:
    visual, text = "clip/visual", "clip/text"
    yield "clip.logit_scale", arrays.pop("clip/logit_scale")
    kernel = arrays.pop(f"{visual}/conv1/kernel")
    yield "clip.visual.conv1.weight", kernel.transpose(3, 2, 0, 1)
    yield "clip.visual.class_embedding", arrays.pop(f"{visual}/class_embedding")
    yield "clip.visual.positional_embedding", arrays.pop(f"{visual}/positional_embedding")
    yield "clip.visual.proj", arrays.pop(f"{visual}/proj/kernel")
    yield from _norm(arrays, f"{visual}/ln_pre", "clip.visual.ln_pre")
    yield from _norm(arrays, f"{visual}/ln_post", "clip.visual.ln_post")
    yield "clip.positional_embedding", arrays.pop(f"{text}/positional_embedding")
    yield "clip.token_embedding.weight", arrays.pop(f"{text}/token_embedding/embedding")
    yield "clip.text_projection", arrays.pop(f"{text}/text_projection/kernel")
    yield from _norm(arrays, f"{text}/ln_final", "clip.ln_final")
    for layer in range(sizes.vision.layers):
        target = f"clip.visual.transformer.resblocks.{layer}"
        yield from _block_entries(arrays, VISION_BLOCK.format(layer), target)
    for layer in range(sizes.text.layers):
        target = f"clip.transformer.resblocks.{layer}"
        yield from _block_entries(arrays, TEXT_BLOCK.format(layer), target)


def _block_entries(arrays: Arrays, source: str, target: str) -> Iterator[tuple[str, Array]]:
    """One CLIP residual block; torch keeps query, key and value in one matrix."""
    parts = ("query", "key", "value")
    kernels = [heads_in(arrays.pop(f"{source}/attn/{part}/kernel")) for part in parts]
    biases = [arrays.pop(f"{source}/attn/{part}/bias").reshape(-1) for part in parts]
    out = arrays.pop(f"{source}/attn/out/kernel")
    yield f"{target}.attn.in_proj_weight", np.concatenate(kernels)
    yield f"{target}.attn.in_proj_bias", np.concatenate(biases)
    yield f"{target}.attn.out_proj.weight", out.reshape(-1, out.shape[-1]).T
    yield f"{target}.attn.out_proj.bias", arrays.pop(f"{source}/attn/out/bias")
    for norm in ("ln_1", "ln_2"):
        yield from _norm(arrays, f"{source}/{norm}", f"{target}.{norm}")
    for linear in ("c_fc", "c_proj"):
        yield f"{target}.mlp.{linear}.weight", arrays.pop(f"{source}/mlp/{linear}/kernel").T
        yield f"{target}.mlp.{linear}.bias", arrays.pop(f"{source}/mlp/{linear}/bias")


def _fusion_entries(arrays: Arrays, sizes: Sizes) -> Iterator[tuple[str, Array]]:
    for layer in range(sizes.fusion.layers):
        source, target = FUSION_LAYER.format(layer), f"fusion.encoder.layers.{layer}"
        yield from _offset_norm(arrays, f"{source}/layer_norm", f"{target}.attention_norm")
        yield from _attention(arrays, f"{source}/self_attention", f"{target}.attention")
        yield from _offset_norm(arrays, f"{source}/ff_layer/layer_norm", f"{target}.ffn_norm")
        for number, name in ((1, "ffn_in"), (2, "ffn_out")):
            linear = f"{source}/ff_layer/ffn_layer{number}"
            yield f"{target}.{name}.weight", arrays.pop(f"{linear}/linear/w").T
            yield f"{target}.{name}.bias", arrays.pop(f"{linear}/bias/b")
    # The published code reads the first pooled token only; further queries change nothing.
    yield "fusion.pooler.query", arrays.pop(f"{POOLER}/pooling_attn_query")[:1]
    yield from _attention(arrays, f"{POOLER}/pool_attn", "fusion.pooler.attention")
    scale = arrays.pop(f"{POOLER}/pool_attn/per_dim_scale/per_dim_scale")
    yield "fusion.pooler.attention.scale.per_dim_scale", scale
    yield from _offset_norm(arrays, f"{POOLER}/pool_attn_ln", "fusion.pooler.norm")


def _attention(arrays: Arrays, source: str, target: str) -> Iterator[tuple[str, Array]]:
    for part in ("query", "key", "value"):
        yield f"{target}.{part}.weight", heads_in(arrays.pop(f"{source}/{part}/w"))
        yield f"{target}.{part}.bias", arrays.pop(f"{source}/{part}/b").reshape(-1)
    yield f"{target}.post.weight", heads_out(arrays.pop(f"{source}/post/w"))
    yield f"{target}.post.bias", arrays.pop(f"{source}/post/b")


def _norm(arrays: Arrays, source: str, target: str) -> Iterator[tuple[str, Array]]:
    yield f"{target}.weight", arrays.pop(f"{source}/scale")
    yield f"{target}.bias", arrays.pop(f"{source}/bias")


def _offset_norm(arrays: Arrays, source: str, target: str) -> Iterator[tuple[str, Array]]:
    yield f"{target}.scale", arrays.pop(f"{source}/scale")
    yield f"{target}.bias", arrays.pop(f"{source}/bias")


def _read_side_file(path: Path) -> Mapping[str, Any]:
    try:
        if path.stat().st_size > _MAX_SIDE_FILE:
            raise ValueError(f"it is larger than {_MAX_SIDE_FILE} bytes")
        values = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(values, dict):
            raise ValueError("it holds no object")
        return values
    except (ValueError, RecursionError) as error:
        raise CheckpointError(
            f"the side file {path.name} cannot be read",
            why=str(error),
            next_step='it should be JSON like {"clip": {"text_num_heads": 8}}',
        ) from error
