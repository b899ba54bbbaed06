"""The layout of a safetensors file: read with bounds before any library maps it. No torch.

A file is an 8-byte little-endian header length, a JSON header, and the tensors' bytes.
"""

import json
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lensctl.errors import CheckpointError

MAX_HEADER = 16 * 2**20
_ITEM_SIZES = {
    "F64": 8, "F32": 4, "F16": 2, "BF16": 2,
    "I64": 8, "I32": 4, "I16": 2, "I8": 1, "U8": 1, "BOOL": 1,
}  # fmt: skip


@dataclass(frozen=True)
class TensorPlace:
    """Where a tensor's bytes lie in its file."""

    dtype: str
    shape: tuple[int, ...]
    offset: int
    length: int


def read_layout(path: Path) -> dict[str, TensorPlace]:
    """Names and places of all tensors; reads the header only, of at most MAX_HEADER bytes.

    Raises CheckpointError where lengths, shapes and the file's size contradict each other.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        prefix = file.read(8)
        header_length = struct.unpack("<Q", prefix)[0] if len(prefix) == 8 else 0
        if not 2 <= header_length <= MAX_HEADER or 8 + header_length > size:
            raise _refused(path, f"its header claims {header_length} bytes")
        header = file.read(header_length)
    try:
        entries = json.loads(header)
        entries.pop("__metadata__", None)
        start = 8 + header_length
        return {name: _place(entry, start, size) for name, entry in entries.items()}
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise _refused(path, f"its header is wrong: {error}") from error


def _place(entry: dict[str, Any], start: int, file_size: int) -> TensorPlace:
    begin, end = entry["data_offsets"]
    shape = tuple(entry["shape"])
    if any(not isinstance(n, int) or n < 0 for n in (begin, end, *shape)):
        raise ValueError("a size is not a whole number")
    length = _ITEM_SIZES[entry["dtype"]]
    for n in shape:
        length *= n
    if end - begin != length or start + end > file_size:
        raise ValueError("a tensor's bytes do not fit its shape or the file")
    return TensorPlace(entry["dtype"], shape, start + begin, length)


def _refused(path: Path, why: str) -> CheckpointError:
    return CheckpointError(
        f"{path.name} is not a usable safetensors file",
        why=why,
        next_step="download or convert the model again",
    )
