"""Files made to harm: refused with a reason, nothing executed, memory bounded.

Where memory is the weapon, a process of its own reads the file and reports what it grew by.
"""

import gzip
import os
import pickle
import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import msgpack
import numpy as np
import pytest

from lensctl.errors import CheckpointError
from lensctl.models.convert.convert import detect_layout
from lensctl.models.convert.official import read_official
from lensctl.models.safetensors_file import MAX_HEADER, read_layout
from support import published
from support.official_checkpoint import SMALL, pack_array, random_arrays, write_checkpoint

GIB = 2**30
READ_BOUNDED = """
import resource, sys
from pathlib import Path
from lensctl.models.convert.official import read_official
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
from lensctl.errors import CheckpointError
try:
    read_official(Path(sys.argv[1]))
except CheckpointError as error:
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    print(grown * 1024, error.why, error.next_step, sep="\\n")
"""


class _Shell:
    def __init__(self, command: str) -> None:
        self.command = command

    def __reduce__(self) -> tuple[Callable[[str], int], tuple[str]]:
        return os.system, (self.command,)


def _in_container(payload: bytes) -> bytes:
    return pickle.dumps(payload)


def _payload() -> bytes:
    return pickle.loads(published.checkpoint_bytes())


def _params(**leaves: object) -> bytes:
    return _in_container(msgpack.packb({"params": leaves}))


def _extension(code: int, data: bytes) -> bytes:
    return _params(w=msgpack.ExtType(code, data))


def _array(shape: list[object], dtype: object, data: object) -> bytes:
    return _extension(1, msgpack.packb((shape, dtype, data)))


def _deep(levels: int) -> bytes:
    return _in_container(b"\x81\xa1a" * levels + b"\xc0")


def _chunked(shape: dict[str, int], chunks: dict[str, object]) -> bytes:
    flag = "__msgpack_chunked_array__"
    return _params(w={flag: True, "shape": shape, "chunks": chunks})


ONE = pack_array(np.zeros(1, np.float32))

PICKLES: dict[str, Callable[[Path], bytes]] = {
    "empty": lambda _: b"",
    "calls os.system": lambda d: pickle.dumps(_Shell(f"touch {d}/executed")),
    "calls os.system, protocol 0": lambda d: pickle.dumps(_Shell(f"touch {d}/executed"), 0),
    "bytes, then os.system": lambda d: (
        pickle.dumps(b"x")[:-1] + b"0" + pickle.dumps(_Shell(f"touch {d}/executed"))[2:]
    ),
    "a dictionary of bytes": lambda _: pickle.dumps({"params": b"x"}),
    "a string": lambda _: pickle.dumps("params"),
    "two byte strings": lambda _: b"\x80\x04C\x01aC\x01b.",
    "something after the end": lambda _: pickle.dumps(b"x") + b"more",
    "no stop": lambda _: pickle.dumps(b"x")[:-1],
    "claims 2^62 bytes": lambda _: b"\x80\x04\x8e" + struct.pack("<Q", 2**62) + b"x.",
    "a huge memo index": lambda _: b"\x80\x04C\x01ar" + struct.pack("<I", 2**32 - 1),
    "cut inside a length": lambda _: b"\x80\x04\x8e\x01\x00",
    "a gzip of the checkpoint": lambda _: gzip.compress(published.checkpoint_bytes()[:4096]),
    "half of the checkpoint": lambda _: published.checkpoint_bytes()[:7_000_000],
    "not msgpack": lambda _: _in_container(b"\xc1" * 100),
    "half of the msgpack": lambda _: _in_container(
        pickle.loads(published.checkpoint_bytes())[:1000]
    ),
    "a list of 2^32 entries": lambda _: _in_container(b"\xdd\xff\xff\xff\xff"),
    "a map of 2^32 entries": lambda _: _in_container(b"\xdf\xff\xff\xff\xff"),
    "bytes of 2^32": lambda _: _in_container(b"\xc6\xff\xff\xff\xff"),
    "an extension of 2^32": lambda _: _in_container(b"\xc9\xff\xff\xff\xff\x01"),
    "lists in lists": lambda _: _in_container(b"\xdc\xff\xff" * 1000),
    "maps in maps, 500 deep": lambda _: _deep(500),
    "maps in maps, a million deep": lambda _: _deep(1_000_000),
    "numbers for names": lambda _: _in_container(msgpack.packb({"params": {1: ONE}})),
    "a number for an array": lambda _: _params(w=3),
    "an unknown extension": lambda _: _extension(77, b""),
    "a wrong triple": lambda _: _extension(1, msgpack.packb([1])),
    "not a triple": lambda _: _extension(1, b"\xc1"),
    "float64": lambda _: _array([1], "float64", b"\0" * 8),
    "objects": lambda _: _array([1], "object", b"\0" * 8),
    "a dtype that is no string": lambda _: _array([1], 7, b"\0" * 4),
    "a shape of 2^60": lambda _: _array([2**30, 2**30], "float32", b"\0" * 4),
    "a negative shape": lambda _: _array([-1, -1], "float32", b"\0" * 4),
    "a fractional shape": lambda _: _array([1.0], "float32", b"\0" * 4),
    "a shape of true": lambda _: _array([True], "float32", b"\0" * 4),
    "a text for data": lambda _: _array([1], "float32", "abcd"),
    "chunks that do not fill": lambda _: _chunked({"0": 2**40}, {"0": ONE}),
    "chunks out of order": lambda _: _chunked({"0": 1}, {"7": ONE}),
    "no chunks": lambda _: _chunked({"0": 0}, {}),
    "chunks without a shape": lambda _: _params(
        w={"__msgpack_chunked_array__": True, "chunks": {"0": ONE}}
    ),
    "something beside the params": lambda _: _in_container(msgpack.packb({"optimizer": ONE})),
    "no arrays": lambda _: _params(),
    "one array only": lambda _: _params(w=ONE),
    "sixty thousand arrays": lambda _: _params(**{str(i): ONE for i in range(60_000)}),
}


@pytest.mark.parametrize("make", PICKLES.values(), ids=PICKLES.keys())
def test_refused(make: Callable[[Path], bytes], tmp_path: Path) -> None:
    path = tmp_path / "magic_lens_clip_base.pkl"
    path.write_bytes(make(tmp_path))
    with pytest.raises(CheckpointError) as refusal:
        read_official(path)
    assert refusal.value.why and refusal.value.next_step
    assert not (tmp_path / "executed").exists()


@pytest.mark.parametrize("name", ["lists in lists", "maps in maps, a million deep"])
def test_memory_stays_bounded(name: str, tmp_path: Path) -> None:
    path = tmp_path / "hostile.pkl"
    path.write_bytes(PICKLES[name](tmp_path))
    command = [sys.executable, "-c", READ_BOUNDED, str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=300)
    grown, *reasons = done.stdout.splitlines()
    assert int(grown) < 64 * 2**20
    assert all(reasons)


def _changed(name: str, change: Callable[[np.ndarray], np.ndarray | None]) -> dict[str, np.ndarray]:
    arrays = random_arrays(SMALL)
    value = change(arrays.pop(name))
    return arrays if value is None else arrays | {name: value}


@pytest.mark.parametrize(
    ("name", "change", "why"),
    [
        ("clip/visual/ln_pre/scale", lambda a: a[:-1], "shape (95,) instead of (96,)"),
        ("clip/visual/ln_pre/scale", lambda a: None, "clip/visual/ln_pre/scale is missing"),
        ("clip/visual/proj/kernel", lambda a: a.T, "does not fit"),
        ("clip/visual/proj/kernel", lambda a: a[0], "axes"),
        ("clip/visual/positional_embedding", lambda a: a[:-1], "not a square"),
        ("clip/text/transformer/resblocks_0/attn/out/bias", lambda a: a[None], "instead of"),
        ("multimodal_encoder/x_layers_1/self_attention/post/w", lambda a: a.T, "instead of"),
        ("contrastive_multimodal_pooler/pooling_attn_query", lambda a: a[:0], "zero"),
        ("clip/text/token_embedding/embedding", lambda a: a[:1000], "smaller than CLIP's"),
        ("clip/logit_scale", lambda a: a.astype(np.float16), "float16"),
    ],
)
def test_wrong_trees(
    name: str, change: Callable[[np.ndarray], np.ndarray | None], why: str, tmp_path: Path
) -> None:
    path = write_checkpoint(tmp_path / "wrong.pkl", _changed(f"params/{name}", change))
    with pytest.raises(CheckpointError) as refusal:
        read_official(path)
    assert why in refusal.value.why


def test_an_unknown_tensor_is_refused(tmp_path: Path) -> None:
    arrays = random_arrays(SMALL) | {"params/clip/extra": np.zeros(3, np.float32)}
    path = write_checkpoint(tmp_path / "wrong.pkl", arrays)
    with pytest.raises(CheckpointError) as refusal:
        read_official(path)
    assert "clip/extra is unknown" in refusal.value.why


def _header(text: bytes) -> bytes:
    return struct.pack("<Q", len(text)) + text


SAFETENSORS = {
    "empty": b"",
    "a header of 1 GB": struct.pack("<Q", GIB) + b"{" * 100,
    "a header of 2^64": b"\xff" * 8 + b"{}",
    "no JSON": _header(b"nonsense"),
    "a list": _header(b"[1, 2]"),
    "deep JSON": _header(b"[" * 100_000),
    "offsets outside": _header(b'{"a":{"dtype":"F32","shape":[4],"data_offsets":[0,16]}}'),
    "a wrong length": _header(b'{"a":{"dtype":"F32","shape":[9],"data_offsets":[0,4]}}') + b"abcd",
    "negative offsets": _header(b'{"a":{"dtype":"F32","shape":[1],"data_offsets":[-4,0]}}'),
    "an unknown dtype": _header(b'{"a":{"dtype":"X9","shape":[1],"data_offsets":[0,4]}}') + b"abcd",
    "a huge shape": _header(b'{"a":{"dtype":"F32","shape":[99999999999999],"data_offsets":[0,4]}}'),
}


@pytest.mark.parametrize("data", SAFETENSORS.values(), ids=SAFETENSORS.keys())
def test_safetensors_refused(data: bytes, tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    path.write_bytes(data)
    with pytest.raises(CheckpointError, match="safetensors"):
        read_layout(path)


def test_a_real_header_of_a_gigabyte_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    with path.open("wb") as file:
        file.write(struct.pack("<Q", GIB))
        file.truncate(GIB + 64)  # a sparse file: the header is really there
    with pytest.raises(CheckpointError, match="safetensors") as refusal:
        detect_layout(path)
    assert str(GIB) in refusal.value.why
    assert MAX_HEADER < GIB


def test_the_command_names_the_reason(tmp_path: Path) -> None:
    path = tmp_path / "evil.pkl"
    path.write_bytes(PICKLES["calls os.system"](tmp_path))
    command = [sys.executable, "-m", "lensctl", "models", "convert", str(path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 5
    assert "not only bytes" in done.stderr and "next:" in done.stderr
    assert "Traceback" not in done.stderr and done.stdout == ""
    assert not (tmp_path / "executed").exists()
