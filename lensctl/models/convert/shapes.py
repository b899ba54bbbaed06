"""The sizes of a published checkpoint, and the names and shapes that follow from them."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from typing import Any

from lensctl.errors import CheckpointError
from lensctl.models.convert.flax_msgpack import Arrays
from lensctl.models.tokenizer import END_ID

Shape = tuple[int, ...]
Shapes = dict[str, Shape]

VISION_BLOCK = "clip/visual/transformer/resblocks_{}"
TEXT_BLOCK = "clip/text/transformer/resblocks_{}"
FUSION_LAYER = "multimodal_encoder/x_layers_{}"
POOLER = "contrastive_multimodal_pooler"


@dataclass(frozen=True)
class Tower:
    """Sizes of one CLIP transformer."""

    width: int
    heads: int
    layers: int
    mlp_width: int


@dataclass(frozen=True)
class Sizes:
    """All sizes of a MagicLens checkpoint."""

    embed_dim: int
    image_size: int
    patch_size: int
    vocab_size: int
    context_length: int
    vision: Tower
    text: Tower
    fusion: Tower
    pooler_width: int
    query_tokens: int


def read_sizes(arrays: Arrays, stated: Mapping[str, Any] | None = None) -> Sizes:
    """Sizes from the shapes of a few tensors.

    Args:
        arrays: by official name, without the leading "params/".
        stated: a side file's content, of the form {"image_size": .., "clip": {..}, "magiclens":
            {..}} with the official names of dimensions; whatever it states must hold.

    Raises CheckpointError where a tensor is missing or a statement contradicts the shapes.
    """
    try:
        sizes = _from_shapes({name: array.shape for name, array in arrays.items()}, stated or {})
    except (KeyError, ValueError, IndexError) as error:
        raise refused(f"a tensor is missing or has the wrong number of axes: {error}") from error
    _check_statements(sizes, stated or {})
    return sizes


def _from_shapes(shapes: Mapping[str, Shape], stated: Mapping[str, Any]) -> Sizes:
    patch, _, _, _ = shapes["clip/visual/conv1/kernel"]
    positions, _ = shapes["clip/visual/positional_embedding"]
    context_length, _ = shapes["clip/text/positional_embedding"]
    vocab_size, _ = shapes["clip/text/token_embedding/embedding"]
    _, embed_dim = shapes["clip/visual/proj/kernel"]
    _, pooler_heads, pooler_head_dim = shapes[f"{POOLER}/pool_attn/query/w"]
    query_tokens, _ = shapes[f"{POOLER}/pooling_attn_query"]
    return Sizes(
        embed_dim=embed_dim,
        image_size=_image_size(positions, patch, stated.get("image_size")),
        patch_size=patch,
        vocab_size=vocab_size,
        context_length=context_length,
        vision=_clip_tower(shapes, VISION_BLOCK),
        text=_clip_tower(shapes, TEXT_BLOCK),
        fusion=_fusion_tower(shapes),
        pooler_width=pooler_heads * pooler_head_dim,
        query_tokens=query_tokens,
    )


def _image_size(positions: int, patch: int, stated: Any) -> int:
    """A grid of patches and one class token; a stated size may leave a rest at the border."""
    side = math.isqrt(max(positions - 1, 0))
    if side * side != positions - 1 or side == 0 or patch == 0:
        raise refused(f"{positions} image positions are not a square of patches and one token")
    if isinstance(stated, int) and stated // patch == side:
        return stated
    return side * patch


def _clip_tower(shapes: Mapping[str, Shape], block: str) -> Tower:
    first = block.format(0)
    width, heads, _ = shapes[f"{first}/attn/query/kernel"]
    _, mlp_width = shapes[f"{first}/mlp/c_fc/kernel"]
    return Tower(width, heads, _count(shapes, block), mlp_width)


def _fusion_tower(shapes: Mapping[str, Shape]) -> Tower:
    first = FUSION_LAYER.format(0)
    width, heads, _ = shapes[f"{first}/self_attention/query/w"]
    _, mlp_width = shapes[f"{first}/ff_layer/ffn_layer1/linear/w"]
    return Tower(width, heads, _count(shapes, FUSION_LAYER), mlp_width)


def _count(shapes: Mapping[str, Shape], block: str) -> int:
    prefix = block.removesuffix("{}")
    numbers = {name[len(prefix) :].split("/")[0] for name in shapes if name.startswith(prefix)}
    return len(numbers)


_STATEMENTS = {
    "image_size": lambda s: s.image_size,
    "clip.embed_dim": lambda s: s.embed_dim,
    "clip.vocab_size": lambda s: s.vocab_size,
    "clip.vision_num_layers": lambda s: s.vision.layers,
    "clip.vision_features": lambda s: s.vision.width,
    "clip.vision_num_heads": lambda s: s.vision.heads,
    "clip.vision_patch_size": lambda s: s.patch_size,
    "clip.text_features": lambda s: s.text.width,
    "clip.text_num_heads": lambda s: s.text.heads,
    "clip.text_num_layers": lambda s: s.text.layers,
    "magiclens.embed_dim": lambda s: s.embed_dim,
    "magiclens.ff_hidden_size": lambda s: s.fusion.mlp_width,
    "magiclens.num_layers": lambda s: s.fusion.layers,
    "magiclens.num_heads": lambda s: s.fusion.heads,
    "magiclens.num_query_token": lambda s: s.query_tokens,
    "context_length": lambda s: s.context_length,
}


def _check_statements(sizes: Sizes, stated: Mapping[str, Any]) -> None:
    flat = dict(stated)
    for group in ("clip", "magiclens"):
        if isinstance(inner := stated.get(group), Mapping):
            flat |= {f"{group}.{key}": value for key, value in inner.items()}
    for key, read in _STATEMENTS.items():
        if key in flat and flat[key] != read(sizes):
            raise refused(f"the side file states {key} = {flat[key]}, the shapes say {read(sizes)}")


def check_shapes(arrays: Arrays, sizes: Sizes) -> None:
    """Every expected tensor, of its expected shape, and nothing else. Raises CheckpointError."""
    _check_legal(sizes)
    expected = expected_shapes(sizes)
    found = {name: array.shape for name, array in arrays.items()}
    problems = [f"{name} is missing" for name in sorted(expected.keys() - found.keys())]
    problems += [f"{name} is unknown" for name in sorted(found.keys() - expected.keys())]
    problems += [
        f"{name} has the shape {found[name]} instead of {shape}"
        for name, shape in expected.items()
        if name in found and found[name] != shape
    ]
    if problems:
        more = f" (and {len(problems) - 3} more)" if len(problems) > 3 else ""
        raise refused("; ".join(problems[:3]) + more)


def _check_legal(sizes: Sizes) -> None:
    for tower in (sizes.vision, sizes.text, sizes.fusion):
        values = [getattr(tower, field.name) for field in fields(tower)]
        if min(values) < 1 or tower.width % tower.heads:
            raise refused(f"impossible sizes: {tower}")
    heads = sizes.fusion.heads
    if sizes.fusion.width != sizes.embed_dim or sizes.pooler_width % heads:
        raise refused("the fusion does not fit the CLIP embeddings")
    if min(sizes.pooler_width, sizes.query_tokens, sizes.context_length - 1) < 1:
        raise refused("a size is zero")
    if sizes.vocab_size <= END_ID:
        raise refused(f"its vocabulary of {sizes.vocab_size} words is smaller than CLIP's")


def expected_shapes(sizes: Sizes) -> Shapes:
    """Official names and shapes of a checkpoint of these sizes."""
    return dict(_clip_shapes(sizes)) | dict(_fusion_shapes(sizes))


def _clip_shapes(sizes: Sizes) -> Iterator[tuple[str, Shape]]:
    width, patch = sizes.vision.width, sizes.patch_size
    positions = (sizes.image_size // patch) ** 2 + 1
    yield "clip/logit_scale", ()
    yield "clip/visual/conv1/kernel", (patch, patch, 3, width)
    yield "clip/visual/class_embedding", (width,)
    yield "clip/visual/positional_embedding", (positions, width)
    yield from _norm("clip/visual/ln_pre", width)
    yield from _norm("clip/visual/ln_post", width)
    yield "clip/visual/proj/kernel", (width, sizes.embed_dim)
    yield from _tower_shapes(VISION_BLOCK, sizes.vision)
    width = sizes.text.width
    yield "clip/text/positional_embedding", (sizes.context_length, width)
    yield "clip/text/token_embedding/embedding", (sizes.vocab_size, width)
    yield from _norm("clip/text/ln_final", width)
    yield "clip/text/text_projection/kernel", (width, sizes.embed_dim)
    yield from _tower_shapes(TEXT_BLOCK, sizes.text)


def _tower_shapes(block: str, tower: Tower) -> Iterator[tuple[str, Shape]]:
    width, heads = tower.width, tower.heads
    for layer in range(tower.layers):
        name = block.format(layer)
        yield from _norm(f"{name}/ln_1", width)
        yield from _norm(f"{name}/ln_2", width)
        for part in ("query", "key", "value"):
            yield f"{name}/attn/{part}/kernel", (width, heads, width // heads)
            yield f"{name}/attn/{part}/bias", (heads, width // heads)
        yield f"{name}/attn/out/kernel", (heads, width // heads, width)
        yield f"{name}/attn/out/bias", (width,)
        yield f"{name}/mlp/c_fc/kernel", (width, tower.mlp_width)
        yield f"{name}/mlp/c_fc/bias", (tower.mlp_width,)
        yield f"{name}/mlp/c_proj/kernel", (tower.mlp_width, width)
        yield f"{name}/mlp/c_proj/bias", (width,)


def _fusion_shapes(sizes: Sizes) -> Iterator[tuple[str, Shape]]:
    width, hidden, heads = sizes.embed_dim, sizes.fusion.mlp_width, sizes.fusion.heads
    for layer in range(sizes.fusion.layers):
        name = FUSION_LAYER.format(layer)
        yield from _norm(f"{name}/layer_norm", width)
        yield from _attention(f"{name}/self_attention", width, heads, width // heads)
        yield from _norm(f"{name}/ff_layer/layer_norm", width)
        yield f"{name}/ff_layer/ffn_layer1/linear/w", (width, hidden)
        yield f"{name}/ff_layer/ffn_layer1/bias/b", (hidden,)
        yield f"{name}/ff_layer/ffn_layer2/linear/w", (hidden, width)
        yield f"{name}/ff_layer/ffn_layer2/bias/b", (width,)
    head_dim = sizes.pooler_width // heads
    yield f"{POOLER}/pooling_attn_query", (sizes.query_tokens, width)
    yield from _attention(f"{POOLER}/pool_attn", width, heads, head_dim)
    yield f"{POOLER}/pool_attn/per_dim_scale/per_dim_scale", (head_dim,)
    yield from _norm(f"{POOLER}/pool_attn_ln", width)


def _attention(name: str, width: int, heads: int, head_dim: int) -> Iterator[tuple[str, Shape]]:
    for part in ("query", "key", "value"):
        yield f"{name}/{part}/w", (width, heads, head_dim)
        yield f"{name}/{part}/b", (heads, head_dim)
    yield f"{name}/post/w", (width, heads, head_dim)
    yield f"{name}/post/b", (width,)


def _norm(name: str, width: int) -> Iterator[tuple[str, Shape]]:
    yield f"{name}/scale", (width,)
    yield f"{name}/bias", (width,)


def refused(why: str) -> CheckpointError:
    """The error of a checkpoint that is not what it should be."""
    return CheckpointError(
        "the file does not hold a MagicLens model",
        why=why,
        next_step="check that it is magic_lens_clip_base.pkl, magic_lens_clip_large.pkl or alike",
    )
