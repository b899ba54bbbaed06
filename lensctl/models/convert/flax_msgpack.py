"""Flax's msgpack serialisation of arrays, read with bounds.

An array is msgpack extension type 1 (a numpy scalar type 3): the packed triple (shape, dtype
name, C-order bytes). Arrays of more than 2^30 bytes come as a map of flat chunks.
"""

import math
from collections.abc import Mapping
from typing import Any

import msgpack
import numpy as np
import numpy.typing as npt

from lensctl.errors import CheckpointError

Arrays = dict[str, npt.NDArray[np.float32]]

_ARRAY_TYPES = (1, 3)
_CHUNKED = "__msgpack_chunked_array__"
_MAX_ENTRIES = 10_000
_MAX_DIMENSIONS = 8
_MAX_DEPTH = 16


def restore(payload: memoryview) -> Arrays:
    """A packed tree of float32 arrays -> flat names, joined with "/", and arrays.

    Memory stays within about twice the payload: lengths are bounded before anything is allocated.
    Raises CheckpointError for all that is not such a tree.
    """
    try:
        tree = msgpack.unpackb(
            payload,
            ext_hook=_array,
            raw=False,
            strict_map_key=True,
            max_str_len=1024,
            max_bin_len=0,
            max_array_len=0,
            max_map_len=_MAX_ENTRIES,
        )
    except CheckpointError:
        raise
    except (ValueError, TypeError, RecursionError, msgpack.UnpackException) as error:
        why = str(error) or type(error).__name__
        raise _refused(f"its msgpack data cannot be read: {why}") from error
    arrays: Arrays = {}
    _flatten(tree, "", arrays, depth=0)
    return arrays


def _array(code: int, data: bytes) -> npt.NDArray[np.float32]:
    if code not in _ARRAY_TYPES:
        raise _refused(f"it holds a value of the unknown extension type {code}")
    fields = msgpack.unpackb(
        data,
        raw=False,
        max_str_len=32,
        max_bin_len=len(data),
        max_array_len=_MAX_DIMENSIONS,
        max_map_len=0,
        max_ext_len=0,
    )
    if not isinstance(fields, list) or len(fields) != 3:
        raise _refused("an array is not (shape, dtype, bytes)")
    shape, dtype, buffer = fields
    if dtype != "float32":
        raise _refused(f"an array has the dtype {dtype!r}, not float32")
    shape = _checked_shape(shape)
    if not isinstance(buffer, bytes) or len(buffer) != 4 * math.prod(shape):
        raise _refused(f"an array of the shape {shape} has the wrong number of bytes")
    return np.frombuffer(buffer, dtype="<f4").reshape(shape)


def _checked_shape(shape: Any) -> tuple[int, ...]:
    sizes = shape if isinstance(shape, list | tuple) else [None]
    if any(type(n) is not int or n < 0 for n in sizes):
        raise _refused(f"an array has the impossible shape {shape!r}")
    return tuple(sizes)


def _flatten(node: Any, name: str, arrays: Arrays, depth: int) -> None:
    if isinstance(node, np.ndarray):
        arrays[name] = node
    elif isinstance(node, dict) and _CHUNKED in node:
        arrays[name] = _joined(node)
    elif isinstance(node, dict) and depth < _MAX_DEPTH:
        for key, child in node.items():
            _flatten(child, f"{name}/{key}" if name else str(key), arrays, depth + 1)
    else:
        raise _refused(f"there is something other than an array at {name or 'its root'!r}")
    if len(arrays) > _MAX_ENTRIES:
        raise _refused(f"it holds more than {_MAX_ENTRIES} arrays")


def _joined(node: Mapping[str, Any]) -> npt.NDArray[np.float32]:
    """The whole of an array that was cut into flat chunks."""
    try:
        shape = _checked_shape(_in_order(node["shape"]))
        chunks = _in_order(node["chunks"])
    except (KeyError, TypeError, AttributeError) as error:
        raise _refused("a chunked array is incomplete") from error
    if not chunks or any(not isinstance(c, np.ndarray) or c.ndim != 1 for c in chunks):
        raise _refused("a chunked array holds something other than flat chunks")
    if sum(chunk.size for chunk in chunks) != math.prod(shape):
        raise _refused(f"the chunks of an array of the shape {shape} do not fill it")
    return np.concatenate(chunks).reshape(shape)


def _in_order(entries: Mapping[str, Any]) -> list[Any]:
    """{"0": a, "1": b} -> [a, b]."""
    return [entries[str(i)] for i in range(len(entries))]


def _refused(why: str) -> CheckpointError:
    return CheckpointError(
        "the file does not hold MagicLens weights",
        why=why,
        next_step="get the file again from its publisher",
    )
