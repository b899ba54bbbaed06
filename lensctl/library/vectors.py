"""Search files: int8 rows in a memory map, a cache of what the catalog keeps.

A file is a header of one page and then rows of [content id, int64 | length of the code, float32 |
code, dim x int8]. A code is a vector scaled so that its largest value is 127 or -127, and rounded:
cosines with it are right to within 0.001, which is enough to find a hundred candidates in a third
of the time that float32 takes, and their cosines are then computed from the catalog. Lengths are
kept because a pass over the codes is bound by memory with them and by arithmetic without. The
header names the lens, the catalog's state of vectors and a CRC-32 of the rows. A file that is
missing, stale, truncated or altered is made again from the catalog; no photo is decoded for it.

Checking the CRC of gigabytes on every query would cost more than the query. A file's time of
change is therefore set to the number in its header after writing: whatever alters the file later
alters that time, and then, and only then, the CRC is computed.
"""

import dataclasses
import errno
import json
import os
import re
import struct
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import BinaryIO, Literal

import numpy as np
import numpy.typing as npt
import simsimd

from lensctl.library.catalog import Catalog, KnownLens, VectorState
from lensctl.models.interface import Floats, ModelInfo
from lensctl.whole import temporary_folder

Space = Literal["target", "text"]
"""target: what queries with an image are compared with; text: what texts are compared with."""

TextKeys = Callable[[Floats], Floats]

Codes = npt.NDArray[np.int8]
"""Vectors as search files hold them; only directions mean anything."""

_FAMILY = b"LENSVEC"
_MAGIC = _FAMILY + b"3"
_HEADER_BYTES = 4096
_ID_BYTES = 8
_LABEL_BYTES = 12
"""Before each code: the content id and the code's length."""
_LARGEST_CODE = 127
_CRC_BLOCK = 1 << 24


@dataclass(frozen=True)
class Header:
    """What a search file says of itself."""

    lens: str
    space: str
    dim: int
    rows: int
    epoch: int
    last_id: int
    crc: int
    stamp: int

    @property
    def state(self) -> VectorState:
        """The state of the catalog's vectors that the file holds."""
        return VectorState(self.epoch, self.last_id)

    @property
    def row_bytes(self) -> int:
        """Bytes of a row."""
        return _LABEL_BYTES + self.dim

    @property
    def file_bytes(self) -> int:
        """Bytes of the whole file."""
        return _HEADER_BYTES + self.rows * self.row_bytes

    def pack(self) -> bytes:
        """The header page: magic, CRC of the text, length, text, zeros."""
        text = json.dumps(dataclasses.asdict(self)).encode()
        page = _MAGIC + struct.pack("<II", zlib.crc32(text), len(text)) + text
        return page.ljust(_HEADER_BYTES, b"\0")

    @staticmethod
    def unpack(page: bytes) -> "Header | None":
        """The header of a page, or None where the page is not one of ours or is damaged."""
        if len(page) != _HEADER_BYTES or page[:8] != _MAGIC:
            return None
        crc, length = struct.unpack_from("<II", page, 8)
        text = page[16 : 16 + length]
        if zlib.crc32(text) != crc:
            return None
        return Header(**json.loads(text))


class SearchFile:
    """An open search file.

    Attributes:
        codes: (N, dim) int8; a view into the memory map.
    """

    def __init__(self, path: Path, header: Header) -> None:
        self.path = path
        self.header = header
        shape = (header.rows, header.row_bytes)
        self._rows = np.empty(shape, dtype=np.int8)
        if header.rows:
            mapped = np.memmap(path, dtype=np.int8, mode="r", offset=_HEADER_BYTES, shape=shape)
            self._rows = np.asarray(mapped)
        self.codes: Codes = self._rows[:, _LABEL_BYTES:]

    @cached_property
    def lengths(self) -> Floats:
        """(N,) float32, of the codes; numbers that divide, whatever a damaged file says."""
        rows, row_bytes = self._rows.shape
        kept = np.ndarray((rows,), "<f4", self._rows, offset=_ID_BYTES, strides=(row_bytes,))
        with np.errstate(invalid="ignore"):
            return np.fmin(np.fmax(kept, np.float32(1)), np.float32(1e6))

    def ids_at(self, rows: np.ndarray | slice) -> np.ndarray:
        """(n,) int64 content ids of some rows."""
        return np.ascontiguousarray(self._rows[rows, :_ID_BYTES]).view("<i8")[:, 0]

    def vectors_at(self, rows: np.ndarray | slice) -> Floats:
        """(n, dim) float32 of unit length, as exact as the codes are."""
        return self.codes[rows].astype(np.float32) / self.lengths[rows, None]


_NOT_WRITABLE = (
    *(errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOSPC, errno.EDQUOT),
    errno.ENOENT,  # another process removed what was being written as a leftover
)


def search_path(folder: Path, info: ModelInfo, space: Space, ending: str = "vec") -> Path:
    """Where the search file of a lens and space lies."""
    return folder / f"{info.name}-{info.lens_fingerprint[:12]}-{space}.{ending}".replace("/", "_")


def open_search_file(
    folder: Path,
    catalog: Catalog,
    lens: KnownLens,
    info: ModelInfo,
    space: Space,
    text_keys: TextKeys,
) -> SearchFile:
    """The up-to-date search file, brought up to date or made again where it is not.

    Where the folder cannot be written (read-only media, a full disk), the file is made in a
    temporary place for this process alone.

    Args:
        text_keys: (N, E) embeddings -> (N, T) text keys; called for the space "text".
    """
    path = search_path(folder, info, space)
    state = catalog.vector_state(lens)
    header = _sound_header(path, info, space)
    if header is not None and header.state == state:
        return SearchFile(path, header)
    source = _Source(catalog, lens, space, text_keys)
    try:
        return _update(path, header, state, source, info)
    except OSError as error:
        if error.errno not in _NOT_WRITABLE:
            raise
        # The rows stay mapped when their file is removed.
        with temporary_folder("lensctl-") as place:
            return _write_new(place / path.name, state, source, info)


def refresh_search_files(
    folder: Path, catalog: Catalog, lens: KnownLens, info: ModelInfo, text_keys: TextKeys
) -> None:
    """Bring both search files of a lens up to date, and remove leftovers.

    These are broken writes, and the files of other versions of the model.
    """
    folder.mkdir(mode=0o700, exist_ok=True)
    for leftover in [*folder.glob("*.part"), *_superseded(folder, info)]:
        leftover.unlink(missing_ok=True)
    for space in ("target", "text"):
        open_search_file(folder, catalog, lens, info, space, text_keys)


def _superseded(folder: Path, info: ModelInfo) -> Iterator[Path]:
    own = search_path(folder, info, "target").stem.removesuffix("target")
    name = re.escape(own.removesuffix(f"{info.lens_fingerprint[:12]}-"))
    for path in folder.iterdir():
        if re.match(rf"{name}[0-9a-f]{{12}}-", path.name) and not path.name.startswith(own):
            yield path


def _sound_header(path: Path, info: ModelInfo, space: Space) -> Header | None:
    """The header of a file that is whole and of this lens, else None."""
    try:
        with path.open("rb") as file:
            header = Header.unpack(file.read(_HEADER_BYTES))
            status = os.fstat(file.fileno())
            if header is None or status.st_size < header.file_bytes:
                return None
            if (header.lens, header.space) != (info.lens_fingerprint, space):
                return None
            if status.st_mtime_ns == header.stamp:
                return header
            if _crc(file, header.rows * header.row_bytes) != header.crc:
                return None
    except OSError:
        return None
    _stamp(path, header)
    return header


def is_damaged(path: Path) -> bool:
    """Whether a search file is not what its header says; the whole file is read.

    One of an older or newer form is stale: who opens it next makes it again.
    """
    if path.suffix != ".vec":
        return False
    with path.open("rb") as file:
        head = file.read(_HEADER_BYTES)
        if head.startswith(_FAMILY) and not head.startswith(_MAGIC):
            return False
        header = Header.unpack(head)
        if header is None or os.fstat(file.fileno()).st_size < header.file_bytes:
            return True
        return _crc(file, header.rows * header.row_bytes) != header.crc


def _crc(file: BinaryIO, size: int) -> int:
    file.seek(_HEADER_BYTES)
    crc = 0
    while size > 0 and (block := file.read(min(_CRC_BLOCK, size))):
        crc = zlib.crc32(block, crc)
        size -= len(block)
    return crc


def _stamp(path: Path, header: Header) -> None:
    try:
        os.utime(path, ns=(header.stamp, header.stamp))
    except OSError:
        # On read-only media the file cannot be stamped; its CRC is computed each time.
        return


class _Source:
    """Vectors of a lens and space, read from the catalog in the order they were added."""

    def __init__(
        self, catalog: Catalog, lens: KnownLens, space: Space, text_keys: TextKeys
    ) -> None:
        self._catalog = catalog
        self._lens = lens
        self.space = space
        self._text_keys = text_keys

    def blocks(self, after: int) -> Iterator[tuple[bytes, int]]:
        """(packed rows, last id) of the vectors added after an id."""
        if self.space == "target":
            blocks = self._catalog.target_blocks(self._lens, after)
        else:
            blocks = self._catalog.embedding_blocks(self._lens, after)
        for vectors, ids, last_id in blocks:
            rows = vectors if self.space == "target" else self._text_keys(vectors)
            yield pack_rows(ids, rows), last_id


def pack_rows(ids: np.ndarray, vectors: Floats) -> bytes:
    """(n,) content ids and (n, D) vectors as the rows of a search file."""
    codes = to_codes(vectors)
    lengths = np.linalg.norm(codes.astype(np.float32), axis=1, keepdims=True)
    labels = [ids.astype("<i8")[:, None].view(np.int8), lengths.astype("<f4").view(np.int8)]
    return np.concatenate([*labels, codes], axis=1).tobytes()


def to_codes(vectors: Floats) -> Codes:
    """(N, D) vectors of any length -> (N, D) codes; zero stays zero."""
    largest = np.abs(vectors).max(axis=1, keepdims=True)
    factor = np.divide(_LARGEST_CODE, largest, out=np.zeros_like(largest), where=largest > 0)
    return np.rint(vectors * factor).astype(np.int8)


def _update(
    path: Path, header: Header | None, state: VectorState, source: _Source, info: ModelInfo
) -> SearchFile:
    path.parent.mkdir(mode=0o700, exist_ok=True)
    if header is None or header.epoch != state.epoch or header.last_id > state.last_id:
        return _write_new(path, state, source, info)
    return _append(path, header, source)


def _write_new(path: Path, state: VectorState, source: _Source, info: ModelInfo) -> SearchFile:
    """Write a whole file beside the old one and rename it: readers see one or the other."""
    part = path.with_name(f"{path.name}.{os.getpid()}.part")
    dim = info.target_dim if source.space == "target" else info.text_dim
    empty = Header(info.lens_fingerprint, source.space, dim, 0, state.epoch, 0, 0, _new_stamp())
    try:
        with part.open("wb") as file:
            file.write(empty.pack())
            header = _write_rows(file, empty, source)
        _stamp(part, header)
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
    return SearchFile(path, header)


def _append(path: Path, old: Header, source: _Source) -> SearchFile:
    """Add rows at the end; readers of the old header do not see them.

    A process that dies in between leaves rows that no header counts; the next one writes the same
    rows over them. Nothing is truncated: another process may have the rows mapped.
    """
    with path.open("r+b") as file:
        header = _write_rows(file, old, source)
    _stamp(path, header)
    return SearchFile(path, header)


def _write_rows(file: BinaryIO, header: Header, source: _Source) -> Header:
    rows, last_id, crc = header.rows, header.last_id, header.crc
    file.seek(header.file_bytes)
    for packed, block_end in source.blocks(header.last_id):
        file.write(packed)
        last_id = block_end
        crc = zlib.crc32(packed, crc)
        rows += len(packed) // header.row_bytes
    file.flush()
    os.fsync(file.fileno())
    header = dataclasses.replace(header, rows=rows, last_id=last_id, crc=crc, stamp=_new_stamp())
    file.seek(0)
    file.write(header.pack())
    return header


def _new_stamp() -> int:
    """A time of change, random, in whole seconds, which every file system can hold."""
    second = 1_000_000_000
    return int.from_bytes(os.urandom(3), "big") * second + second


def cosines_of(vectors: Floats, query: Floats) -> Floats:
    """(N, D) unit rows and a (D,) unit query -> (N,) cosines."""
    return vectors @ query


def near_cosines(file: SearchFile, query: Floats) -> Floats:
    """N rows and a (D,) query -> (N,) cosines to about 0.001, one thread, memory-bound."""
    if file.header.rows == 0:
        return np.empty(0, np.float32)
    asked = to_codes(query[None])
    products = np.asarray(simsimd.cdist(asked, file.codes, "dot", out_dtype="float32"))[0]
    products /= max(np.float32(1), np.linalg.norm(asked[0].astype(np.float32))) * file.lengths
    return products


def top_rows(cosines: Floats, count: int) -> np.ndarray:
    """The rows of the `count` largest of (N,) cosines, best first, ties by row."""
    rows = np.arange(len(cosines))
    if count < len(cosines):
        rows = _not_below_the_best(cosines, count)
        rows = rows[np.argpartition(-cosines[rows], count - 1)[:count]]
    return rows[np.lexsort((rows, -cosines[rows]))]


def _not_below_the_best(cosines: Floats, count: int) -> np.ndarray:
    """Few rows, the `count` largest among them: a tenth of the time of dividing all of them.

    Of blocks of equal length, the `count` best have each a row that is as good as the last one's
    best, so the rows sought are none of those below it.
    """
    length = len(cosines) // (8 * count)
    if length < 8:
        return np.arange(len(cosines))
    blocks = len(cosines) // length
    best = cosines[: blocks * length].reshape(blocks, length).max(axis=1)
    return np.flatnonzero(cosines >= np.partition(best, blocks - count)[blocks - count])
