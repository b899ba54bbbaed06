"""CLIP's two towers as ONNX graphs: the architecture of open_clip's plain CLIP class."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx

from lensctl.models.onnx_graph import Graph, floats, integers

_QUICK_GELU_SLOPE = 1.702
_VISION_KEYS = {"image_size", "layers", "width", "head_width", "patch_size", "mlp_ratio"}
_TEXT_KEYS = {"context_length", "vocab_size", "width", "heads", "layers", "mlp_ratio"}
_CLIP_KEYS = {"embed_dim", "quick_gelu", "vision_cfg", "text_cfg"}


def is_plain_clip(backbone: Mapping[str, Any]) -> bool:
    """Whether these graphs cover an open_clip model configuration."""
    vision, text = backbone["vision_cfg"], backbone["text_cfg"]
    return (
        backbone.keys() <= _CLIP_KEYS
        and vision.keys() <= _VISION_KEYS
        and isinstance(vision["layers"], int)
        and vision["image_size"] % vision["patch_size"] == 0
        and text.keys() <= _TEXT_KEYS
    )


def image_model(graph: Graph, backbone: Mapping[str, Any], image_size: int) -> onnx.ModelProto:
    """pixels (N, 3, S, S) -> embeddings (N, E)."""
    vision = backbone["vision_cfg"]
    width, layers = vision["width"], vision["layers"]
    heads = width // vision.get("head_width", 64)
    patch = graph.shape_of("clip.visual.conv1.weight")[-1]
    grid = image_size // patch
    tokens = grid**2 + 1

    patches = graph.op("Reshape", "pixels", graph.ints(-1, 3, grid, patch, grid, patch))
    patches = graph.transpose(patches, 0, 2, 4, 1, 3, 5)
    patches = graph.op("Reshape", patches, graph.ints(-1, 3 * patch**2))
    patches = graph.linear(patches, "clip.visual.conv1.weight")
    patches = graph.op("Reshape", patches, graph.ints(-1, tokens - 1, width))
    batch = graph.op("Shape", "pixels", start=0, end=1)
    start_shape = graph.op("Concat", batch, graph.ints(1, width), axis=0)
    start = graph.op("Expand", graph.weight("clip.visual.class_embedding"), start_shape)
    x = graph.op("Concat", start, patches, axis=1)
    x = graph.op("Add", x, graph.weight("clip.visual.positional_embedding"))
    x = graph.op("Reshape", x, graph.ints(-1, width))
    x = graph.layer_norm(x, "clip.visual.ln_pre")
    shape = graph.ints(-1, tokens, heads, width // heads)
    prefix = "clip.visual.transformer"
    x = transformer(graph, x, prefix, layers, shape, width // heads, _activation(backbone))
    x = graph.op("Reshape", x, graph.ints(-1, tokens, width))
    x = graph.op("Gather", x, graph.constant(0, np.int64), axis=1)
    x = graph.layer_norm(x, "clip.visual.ln_post")
    result = graph.op("MatMul", x, graph.weight("clip.visual.proj"))
    return graph.model(
        [floats("pixels", "batch", 3, image_size, image_size)],
        result,
        floats("embeddings", "batch", backbone["embed_dim"]),
    )


def text_model(graph: Graph, backbone: Mapping[str, Any], mask_padding: bool) -> onnx.ModelProto:
    """ids (N, T), T at most the context length -> embeddings (N, E)."""
    text = backbone["text_cfg"]
    width, heads = text["width"], text["heads"]
    sizes = graph.op("Shape", "ids")
    length = graph.op("Shape", "ids", start=1, end=2)

    x = graph.op("Gather", graph.weight("clip.token_embedding.weight"), "ids")
    places = graph.weight("clip.positional_embedding")
    x = graph.op("Add", x, graph.op("Slice", places, graph.ints(0), length, graph.ints(0)))
    x = graph.op("Reshape", x, graph.ints(-1, width))
    shape = graph.op("Concat", sizes, graph.ints(heads, width // heads), axis=0)
    mask = _text_mask(graph, length, mask_padding)
    prefix = "clip.transformer"
    activation = _activation(backbone)
    x = transformer(graph, x, prefix, text["layers"], shape, width // heads, activation, mask)
    x = graph.op("Gather", x, _end_rows(graph, sizes, length), axis=0)
    x = graph.layer_norm(x, "clip.ln_final")
    result = graph.op("MatMul", x, graph.weight("clip.text_projection"))
    return graph.model(
        [integers("ids", "batch", "length")],
        result,
        floats("embeddings", "batch", backbone["embed_dim"]),
    )


def _text_mask(graph: Graph, length: str, mask_padding: bool) -> str:
    """Additive: (T, T) for causal attention, (N, 1, T, T) where keys of id 0 are hidden too."""
    square = graph.op("Concat", length, length, axis=0)
    hidden = graph.op("Expand", graph.constant([-np.inf]), square)
    causal = graph.op("Trilu", hidden, graph.constant(1, np.int64), upper=1)
    if not mask_padding:
        return causal
    padding = graph.op("Equal", "ids", graph.constant(0, np.int64))
    padding = graph.op("Unsqueeze", padding, graph.ints(1, 2))
    return graph.op("Where", padding, graph.constant(-np.inf), causal)


def _end_rows(graph: Graph, sizes: str, length: str) -> str:
    """Rows of the flat token matrix that hold each text's end: the token with the highest id."""
    zero = graph.constant(0, np.int64)
    ends = graph.op("ArgMax", "ids", axis=1, keepdims=0)
    count = graph.op("Gather", sizes, zero)
    rows = graph.op("Range", zero, count, graph.constant(1, np.int64))
    return graph.op("Add", graph.op("Mul", rows, length), ends)


def transformer(
    graph: Graph,
    x: str,
    prefix: str,
    layers: int,
    shape: str,
    head_dim: int,
    activation: str,
    mask: str | None = None,
) -> str:
    """open_clip's residual attention blocks over flat tokens (N * T, width).

    Args:
        shape: the tensor (N, T, heads, head_dim); one size may be -1.
        activation: `QuickGelu` or `Gelu`.
        mask: additive, broadcast to (N, heads, T, T).
    """
    for layer in range(layers):
        block = f"{prefix}.resblocks.{layer}"
        normed = graph.layer_norm(x, f"{block}.ln_1")
        x = graph.op("Add", x, _attention(graph, normed, f"{block}.attn", shape, head_dim, mask))
        normed = graph.layer_norm(x, f"{block}.ln_2")
        hidden = graph.linear(normed, f"{block}.mlp.c_fc.weight", f"{block}.mlp.c_fc.bias")
        hidden = _activate(graph, hidden, activation)
        out = graph.linear(hidden, f"{block}.mlp.c_proj.weight", f"{block}.mlp.c_proj.bias")
        x = graph.op("Add", x, out)
    return x


def _attention(
    graph: Graph, x: str, prefix: str, shape: str, head_dim: int, mask: str | None
) -> str:
    """nn.MultiheadAttention of tokens among themselves."""
    joined = graph.linear(x, f"{prefix}.in_proj_weight", f"{prefix}.in_proj_bias")
    parts = graph.ops("Split", 3, joined, axis=1, num_outputs=3)
    q, k, v = (graph.op("Reshape", part, shape) for part in parts)
    q = graph.op("Mul", graph.transpose(q, 0, 2, 1, 3), graph.constant(head_dim**-0.5))
    logits = graph.op("MatMul", q, graph.transpose(k, 0, 2, 3, 1))
    if mask is not None:
        logits = graph.op("Add", logits, mask)
    attended = graph.op(
        "MatMul", graph.op("Softmax", logits, axis=-1), graph.transpose(v, 0, 2, 1, 3)
    )
    width = graph.shape_of(f"{prefix}.out_proj.weight")[0]
    flat = graph.op("Reshape", graph.transpose(attended, 0, 2, 1, 3), graph.ints(-1, width))
    return graph.linear(flat, f"{prefix}.out_proj.weight", f"{prefix}.out_proj.bias")


def _activation(backbone: Mapping[str, Any]) -> str:
    return "QuickGelu" if backbone.get("quick_gelu") else "Gelu"


def _activate(graph: Graph, x: str, activation: str) -> str:
    if activation == "Gelu":
        return graph.op("Gelu", x)
    gate = graph.op("Sigmoid", graph.op("Mul", x, graph.constant(_QUICK_GELU_SLOPE)))
    return graph.op("Mul", x, gate)
