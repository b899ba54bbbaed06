"""Both fusions as ONNX graphs; mirrors `fusion.py` line by line."""

import math

import onnx

from lensctl.models.config import MagicLensConfig
from lensctl.models.fusion import (
    LAYER_NORM_EPS,
    LOGIT_CAP,
    SOFTPLUS_AT_ZERO_INVERSE,
)
from lensctl.models.onnx_graph import Graph, floats
from lensctl.models.vectors import UNIT_NORM_EPS


def fusion_model(graph: Graph, config: MagicLensConfig, width: int) -> onnx.ModelProto:
    """images (N, E) and texts (N, E), unnormalised -> vectors (N, D) of unit length."""
    fused = _sum(graph, config) if config.fusion == "sum" else _attend(graph, config, width)
    return graph.model(
        [floats("images", "batch", width), floats("texts", "batch", width)],
        graph.unit(fused, UNIT_NORM_EPS),
        floats("vectors", "batch", width),
    )


def _sum(graph: Graph, config: MagicLensConfig) -> str:
    images, texts = "images", "texts"
    if config.sum_of_units:
        images, texts = graph.unit(images, UNIT_NORM_EPS), graph.unit(texts, UNIT_NORM_EPS)
    weighted = graph.op("Mul", texts, graph.constant(config.sum_weight))
    return graph.op("Add", images, weighted)


def _attend(graph: Graph, config: MagicLensConfig, width: int) -> str:
    tokens = [graph.op("Unsqueeze", name, graph.ints(1)) for name in ("images", "texts")]
    x = graph.op("Reshape", graph.op("Concat", *tokens, axis=1), graph.ints(-1, width))
    for layer in range(config.layers):
        x = _layer(graph, x, f"fusion.encoder.layers.{layer}", config.heads)
    return _pool(graph, x, config.heads)


def _layer(graph: Graph, x: str, prefix: str, heads: int) -> str:
    """One pre-norm layer over flat tokens (N * 2, width)."""
    normed = _offset_layer_norm(graph, x, f"{prefix}.attention_norm")
    query = _linear(graph, normed, f"{prefix}.attention.query")
    head_dim = graph.shape_of(f"{prefix}.attention.query.weight")[0] // heads
    query = graph.op("Mul", query, graph.constant(head_dim**-0.5))
    attended = _attention(graph, query, 2, normed, f"{prefix}.attention", heads)
    x = graph.op("Add", x, attended)
    normed = _offset_layer_norm(graph, x, f"{prefix}.ffn_norm")
    hidden = graph.op("Relu", _linear(graph, normed, f"{prefix}.ffn_in"))
    return graph.op("Add", x, _linear(graph, hidden, f"{prefix}.ffn_out"))


def _pool(graph: Graph, tokens: str, heads: int) -> str:
    """The learned query over both tokens: (N * 2, width) -> (N, width)."""
    prefix = "fusion.pooler.attention"
    query = _linear(graph, graph.weight("fusion.pooler.query"), f"{prefix}.query")
    inner = graph.shape_of(f"{prefix}.query.weight")[0]
    query = graph.op("Reshape", query, graph.ints(1, heads, inner // heads))
    factor = SOFTPLUS_AT_ZERO_INVERSE / math.sqrt(inner // heads)
    learned = graph.op("Softplus", graph.weight(f"{prefix}.scale.per_dim_scale"))
    query = graph.op("Mul", query, graph.op("Mul", learned, graph.constant(factor)))
    pooled = _attention(graph, query, 1, tokens, prefix, heads)
    return _offset_layer_norm(graph, pooled, "fusion.pooler.norm")


def _attention(graph: Graph, query: str, queries: int, tokens: str, prefix: str, heads: int) -> str:
    """Capped attention of scaled queries to two tokens; all flat, (N * tokens, width)."""
    inner = graph.shape_of(f"{prefix}.query.weight")[0]
    head_dim = inner // heads
    key = _linear(graph, tokens, f"{prefix}.key")
    value = _linear(graph, tokens, f"{prefix}.value")
    shape = graph.ints(-1, 2, heads, head_dim)
    q = graph.op("Reshape", query, graph.ints(-1, queries, heads, head_dim))
    q = graph.transpose(q, 0, 2, 1, 3)
    k = graph.transpose(graph.op("Reshape", key, shape), 0, 2, 3, 1)
    v = graph.transpose(graph.op("Reshape", value, shape), 0, 2, 1, 3)
    probabilities = graph.op("Softmax", _cap(graph, graph.op("MatMul", q, k)), axis=-1)
    attended = graph.transpose(graph.op("MatMul", probabilities, v), 0, 2, 1, 3)
    flat = graph.op("Reshape", attended, graph.ints(-1, inner))
    return _linear(graph, flat, f"{prefix}.post")


def _cap(graph: Graph, logits: str) -> str:
    cap = graph.constant(LOGIT_CAP)
    return graph.op("Mul", graph.op("Tanh", graph.op("Div", logits, cap)), cap)


def _linear(graph: Graph, x: str, prefix: str) -> str:
    return graph.linear(x, f"{prefix}.weight", f"{prefix}.bias")


def _offset_layer_norm(graph: Graph, x: str, prefix: str) -> str:
    scale = graph.op("Add", graph.weight(f"{prefix}.scale"), graph.constant(1.0))
    bias = graph.weight(f"{prefix}.bias")
    return graph.op("LayerNormalization", x, scale, bias, epsilon=LAYER_NORM_EPS)
