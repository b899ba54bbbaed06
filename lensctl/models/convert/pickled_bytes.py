"""The one bytes object inside a pickle, found without running the pickle.

A pickle is a program; the published checkpoints are programs that push one bytes object and stop.
This reader knows these few instructions and refuses every other, so nothing can be called, and
the object is not copied: it stays where it lies in the mapped file.
"""

import mmap
import pickle
import pickletools
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from lensctl.errors import CheckpointError

_LENGTHS = {pickle.SHORT_BINBYTES: "<B", pickle.BINBYTES: "<I", pickle.BINBYTES8: "<Q"}
_SKIPPED = {
    pickle.PROTO: 1,
    pickle.FRAME: 8,
    pickle.MEMOIZE: 0,
    pickle.BINPUT: 1,
    pickle.LONG_BINPUT: 4,
}
"""Instructions that say nothing about the object, and the bytes of their arguments."""


@contextmanager
def pickled_bytes(path: Path) -> Iterator[memoryview]:
    """A view of the bytes object that a pickle file holds, valid inside the block.

    Raises CheckpointError for every pickle that is anything but one bytes object.
    """
    with path.open("rb") as file:
        try:
            mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        except ValueError as error:
            raise _refused(path, "the file is empty") from error
        with mapped, memoryview(mapped) as whole:
            start, end = _find_payload(whole, path)
            with whole[start:end] as payload:
                yield payload


def _find_payload(data: memoryview, path: Path) -> tuple[int, int]:
    """Begin and end of the pushed bytes; the program must push them once and then stop."""
    at, found = 0, None
    while at < len(data):
        code = bytes(data[at : at + 1])
        at += 1
        if code == pickle.STOP:
            if found is None or at != len(data):
                break
            return found
        if code in _SKIPPED:
            at += _SKIPPED[code]
        elif code in _LENGTHS and found is None:
            found = _payload(data, at, _LENGTHS[code], path)
            at = found[1]
        else:
            raise _refused(path, f"it contains the instruction {_name(code)}, not only bytes")
    raise _refused(
        path, "the pickle ends too early, or holds something other than one bytes object"
    )


def _payload(data: memoryview, at: int, length_format: str, path: Path) -> tuple[int, int]:
    start = at + struct.calcsize(length_format)
    if start > len(data):
        raise _refused(path, "the file is cut off")
    (length,) = struct.unpack(length_format, data[at:start])
    if start + length > len(data):
        raise _refused(path, f"it promises {length} bytes and holds {len(data) - start}: cut off?")
    return start, start + length


def _name(code: bytes) -> str:
    return next((op.name for op in pickletools.opcodes if op.code == code.decode("latin-1")), "?")


def _refused(path: Path, why: str) -> CheckpointError:
    return CheckpointError(
        f"{path.name} is not a MagicLens checkpoint",
        why=why,
        next_step="nothing in it was executed; get the file again from its publisher",
    )
