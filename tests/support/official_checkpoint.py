"""Random checkpoints of any size in the published container, written without Flax."""

import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgpack
import numpy as np

from lensctl.models.convert.shapes import Sizes, Tower, expected_shapes

Arrays = dict[str, np.ndarray[Any, Any]]

BASE = Sizes(
    embed_dim=512,
    image_size=224,
    patch_size=16,
    vocab_size=49408,
    context_length=77,
    vision=Tower(width=768, heads=12, layers=12, mlp_width=3072),
    text=Tower(width=512, heads=8, layers=12, mlp_width=2048),
    fusion=Tower(width=512, heads=8, layers=4, mlp_width=2048),
    pooler_width=2048,
    query_tokens=1,
)
LARGE = Sizes(
    embed_dim=768,
    image_size=224,
    patch_size=14,
    vocab_size=49408,
    context_length=77,
    vision=Tower(width=1024, heads=16, layers=24, mlp_width=4096),
    text=Tower(width=768, heads=12, layers=12, mlp_width=3072),
    fusion=Tower(width=768, heads=16, layers=4, mlp_width=3072),
    pooler_width=3072,
    query_tokens=1,
)
SMALL = Sizes(
    embed_dim=48,
    image_size=40,
    patch_size=8,
    vocab_size=49408,
    context_length=77,
    vision=Tower(width=96, heads=3, layers=3, mlp_width=160),
    text=Tower(width=32, heads=2, layers=1, mlp_width=128),
    fusion=Tower(width=48, heads=6, layers=2, mlp_width=80),
    pooler_width=192,
    query_tokens=1,
)
"""Nothing square, nothing equal: a mixed-up axis cannot hide."""


def random_arrays(sizes: Sizes, seed: int = 0) -> Arrays:
    """Values of the magnitudes of trained weights: matrices shrink with their fan-in."""
    rng = np.random.default_rng(seed)
    arrays = {}
    for name, shape in expected_shapes(sizes).items():
        values = rng.standard_normal(shape, dtype=np.float32)
        if name.endswith("scale") and "layer_norm" not in name and "_ln/" not in name:
            values = 1.0 + 0.1 * values
        elif len(shape) > 1:
            values = values * np.float32(_fan_in(name, shape) ** -0.5)
        else:
            values = values * np.float32(0.1)
        arrays[f"params/{name}"] = np.asarray(values, dtype=np.float32)
    return arrays


def _fan_in(name: str, shape: tuple[int, ...]) -> int:
    if "embedding" in name:
        return shape[-1]
    if name.endswith(("post/w", "out/kernel")):
        return shape[-1] * shape[-2] if name.endswith("post/w") else shape[0] * shape[1]
    return shape[0] if "conv1" not in name else shape[0] * shape[1] * shape[2]


def write_checkpoint(path: Path, arrays: Mapping[str, Any], chunk_bytes: int = 2**30) -> Path:
    """Names joined with "/" -> nested maps -> msgpack -> a pickle of bytes, as published."""
    payload = msgpack.packb(_nested(arrays, chunk_bytes), strict_types=True)
    with path.open("wb") as file:
        pickle.dump(payload, file)
    return path


def _nested(arrays: Mapping[str, Any], chunk_bytes: int) -> dict[str, Any]:
    tree: dict[str, Any] = {}
    for name, array in arrays.items():
        *folders, leaf = name.split("/")
        node = tree
        for folder in folders:
            node = node.setdefault(folder, {})
        node[leaf] = _packed(np.asarray(array), chunk_bytes)
    return tree


def _packed(array: np.ndarray[Any, Any], chunk_bytes: int) -> Any:
    if array.nbytes <= chunk_bytes:
        return pack_array(array)
    flat, step = array.reshape(-1), chunk_bytes // array.itemsize
    chunks = [pack_array(flat[i : i + step]) for i in range(0, flat.size, step)]
    return {
        "__msgpack_chunked_array__": True,
        "shape": {str(i): n for i, n in enumerate(array.shape)},
        "chunks": {str(i): chunk for i, chunk in enumerate(chunks)},
    }


def pack_array(array: np.ndarray[Any, Any]) -> msgpack.ExtType:
    """Flax's extension type 1."""
    fields = (list(array.shape), array.dtype.name, array.tobytes())
    return msgpack.ExtType(1, msgpack.packb(fields))
