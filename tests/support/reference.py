"""MagicLens in float64 numpy, straight on arrays of the published layout.

Slow and written for the eye: the published einsums are spelled out, so that a mapping into torch
of any dimensions can be compared with it. The fixtures tie the same formulas to the published code.
"""

from typing import Any

import numpy as np

from lensctl.models.convert.shapes import FUSION_LAYER, POOLER, TEXT_BLOCK, VISION_BLOCK, Sizes

Array = np.ndarray[Any, Any]
Tree = dict[str, Array]


def embed_image(tree: Tree, sizes: Sizes, pixels: Array) -> Array:
    """(N, H, W, 3) normalised pixels -> (N, E)."""
    kernel = tree["clip/visual/conv1/kernel"]
    patch, side = sizes.patch_size, sizes.image_size // sizes.patch_size
    rows = []
    for row in range(side):
        for column in range(side):
            block = pixels[:, row * patch :, column * patch :][:, :patch, :patch]
            rows.append(np.einsum("nhwc,hwcd->nd", block, kernel))
    patches = np.stack(rows, axis=1)
    start = np.broadcast_to(tree["clip/visual/class_embedding"], (len(pixels), 1, kernel.shape[-1]))
    x = np.concatenate([start, patches], axis=1) + tree["clip/visual/positional_embedding"]
    x = _norm(tree, "clip/visual/ln_pre", x, 1e-5)
    for layer in range(sizes.vision.layers):
        x = _clip_block(tree, VISION_BLOCK.format(layer), x, None)
    x = _norm(tree, "clip/visual/ln_post", x[:, 0], 1e-5)
    return x @ tree["clip/visual/proj/kernel"]


def embed_text(tree: Tree, sizes: Sizes, ids: Array) -> Array:
    """(N, T) ids -> (N, E); causal, and blind to tokens of id 0."""
    length = ids.shape[1]
    x = tree["clip/text/token_embedding/embedding"][ids]
    x = x + tree["clip/text/positional_embedding"][:length]
    allowed = np.tril(np.ones((length, length), bool))[None, None] & (ids > 0)[:, None, None, :]
    for layer in range(sizes.text.layers):
        x = _clip_block(tree, TEXT_BLOCK.format(layer), x, allowed)
    x = _norm(tree, "clip/text/ln_final", x, 1e-5)
    x = x[np.arange(len(ids)), ids.argmax(axis=1)]
    return x @ tree["clip/text/text_projection/kernel"]


def fuse(tree: Tree, sizes: Sizes, images: Array, texts: Array) -> Array:
    """(N, E) and (N, E) -> (N, E), unit length."""
    x = np.stack([images, texts], axis=1)
    for layer in range(sizes.fusion.layers):
        name = FUSION_LAYER.format(layer)
        normed = _offset_norm(tree, f"{name}/layer_norm", x)
        x = x + _capped(tree, f"{name}/self_attention", normed, normed)
        hidden = _offset_norm(tree, f"{name}/ff_layer/layer_norm", x)
        for number in (1, 2):
            ffn = f"{name}/ff_layer/ffn_layer{number}"
            hidden = hidden @ tree[f"{ffn}/linear/w"] + tree[f"{ffn}/bias/b"]
            hidden = np.maximum(hidden, 0) if number == 1 else hidden
        x = x + hidden
    query = np.broadcast_to(
        tree[f"{POOLER}/pooling_attn_query"], (len(x), sizes.query_tokens, sizes.embed_dim)
    )
    pooled = _capped(tree, f"{POOLER}/pool_attn", query, x)
    pooled = _offset_norm(tree, f"{POOLER}/pool_attn_ln", pooled)[:, 0]
    return pooled / np.sqrt((pooled**2).sum(axis=-1, keepdims=True) + 1e-12)


def _capped(tree: Tree, name: str, queries: Array, tokens: Array) -> Array:
    def heads(x: Array, part: str) -> Array:
        return np.einsum("btd,dnh->btnh", x, tree[f"{name}/{part}/w"]) + tree[f"{name}/{part}/b"]

    q, k, v = heads(queries, "query"), heads(tokens, "key"), heads(tokens, "value")
    scale = tree.get(f"{name}/per_dim_scale/per_dim_scale")
    size = q.shape[-1] ** -0.5
    q = q * (size if scale is None else 1.442695041 * size * np.log1p(np.exp(scale)))
    logits = 50 * np.tanh(np.einsum("btnh,bsnh->bnts", q, k) / 50)
    encoded = np.einsum("bnts,bsnh->btnh", _softmax(logits), v)
    return np.einsum("btnh,dnh->btd", encoded, tree[f"{name}/post/w"]) + tree[f"{name}/post/b"]


def _clip_block(tree: Tree, name: str, x: Array, allowed: Array | None) -> Array:
    def heads(part: str) -> Array:
        kernel, bias = (tree[f"{name}/attn/{part}/{kind}"] for kind in ("kernel", "bias"))
        return np.einsum("btd,dnh->btnh", normed, kernel) + bias

    normed = _norm(tree, f"{name}/ln_1", x, 1e-5)
    q, k, v = heads("query"), heads("key"), heads("value")
    logits = np.einsum("btnh,bsnh->bnts", q, k) * q.shape[-1] ** -0.5
    if allowed is not None:
        logits = np.where(allowed, logits, -1e30)
    encoded = np.einsum("bnts,bsnh->btnh", _softmax(logits), v)
    x = x + np.einsum("btnh,nhd->btd", encoded, tree[f"{name}/attn/out/kernel"])
    x = x + tree[f"{name}/attn/out/bias"]
    hidden = _norm(tree, f"{name}/ln_2", x, 1e-5) @ tree[f"{name}/mlp/c_fc/kernel"]
    hidden = hidden + tree[f"{name}/mlp/c_fc/bias"]
    hidden = hidden / (1 + np.exp(-1.702 * hidden))
    return x + hidden @ tree[f"{name}/mlp/c_proj/kernel"] + tree[f"{name}/mlp/c_proj/bias"]


def _norm(tree: Tree, name: str, x: Array, epsilon: float) -> Array:
    return _standardised(x, epsilon) * tree[f"{name}/scale"] + tree[f"{name}/bias"]


def _offset_norm(tree: Tree, name: str, x: Array) -> Array:
    return _standardised(x, 1e-6) * (1 + tree[f"{name}/scale"]) + tree[f"{name}/bias"]


def _standardised(x: Array, epsilon: float) -> Array:
    centred = x - x.mean(axis=-1, keepdims=True)
    return centred / np.sqrt((centred**2).mean(axis=-1, keepdims=True) + epsilon)


def _softmax(logits: Array) -> Array:
    weights = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return weights / weights.sum(axis=-1, keepdims=True)
