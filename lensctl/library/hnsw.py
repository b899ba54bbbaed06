"""Approximate search with hnswlib, beside the search file it is made from.

hnswlib saves in place and does not save `ef`: the graph is written beside and renamed, and `ef`
is set on loading. Its loader trusts what it reads, so the file is loaded only when its CRC-32,
kept in a small text file beside it, is right. Nothing is ever deleted from a graph: contents that
vanished are left out of results when their facts are looked up, and a new epoch makes a new graph.
"""

import json
import os
import zlib
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from lensctl.errors import DependencyError
from lensctl.library.vectors import SearchFile
from lensctl.models.interface import Floats

_LINKS = 32
_EF_CONSTRUCTION = 200
_EF_SEARCH = 128
_BLOCK = 2_000


@dataclass(frozen=True)
class _Note:
    """What the text file beside a graph says."""

    lens: str
    epoch: int
    rows: int
    size: int
    crc: int


class Graph:
    """A loaded graph over the rows of a search file; labels are row numbers.

    Raises:
        DependencyError: hnswlib is not installed.
    """

    def __init__(self, file: SearchFile) -> None:
        self._file = file
        self._path = file.path.with_suffix(".hnsw")
        self._note_path = file.path.with_suffix(".hnsw.json")
        self._index = self._load()

    def nearest(self, query: Floats, count: int) -> tuple[np.ndarray, Floats]:
        """(rows, cosines) nearest to a (D,) unit query, best first; `count` at the most."""
        rows = self._file.header.rows
        count = min(count, rows)
        if count == 0:
            return np.empty(0, np.int64), np.empty(0, np.float32)
        self._index.set_ef(max(_EF_SEARCH, 2 * count))
        labels, distances = self._index.knn_query(query[None], k=count, num_threads=1)
        return labels[0].astype(np.int64), (1.0 - distances[0]).astype(np.float32)

    def _load(self):  # type: ignore[no-untyped-def]  # hnswlib has no types
        try:
            import hnswlib
        except ImportError as error:
            raise DependencyError(
                "a graph cannot be searched",
                why=f"hnswlib is missing: {error}",
                next_step="leave out --search hnsw, or install it, which takes a C++ compiler: "
                "pip install hnswlib",
            ) from error
        header = self._file.header
        index = hnswlib.Index(space="ip", dim=header.dim)
        note = self._sound_note()
        if (
            note is not None
            and (note.lens, note.epoch) == (header.lens, header.epoch)
            # Another process may have added to the graph what this file's header does not count.
            and note.rows <= header.rows
        ):
            index.load_index(str(self._path), max_elements=header.rows)
            done = note.rows
        else:
            index.init_index(header.rows or 1, M=_LINKS, ef_construction=_EF_CONSTRUCTION)
            done = 0
        if done < header.rows:
            self._extend(index, done)
        return index

    def _extend(self, index, done: int) -> None:  # type: ignore[no-untyped-def]
        from tqdm import tqdm

        rows = self._file.header.rows
        with tqdm(
            total=rows, initial=done, desc="building the graph", unit="photo", leave=False,
            disable=None,
        ) as bar:  # fmt: skip
            for start in range(done, rows, _BLOCK):
                end = min(start + _BLOCK, rows)
                index.add_items(self._file.vectors_at(slice(start, end)), range(start, end))
                bar.update(end - start)
        self._save(index)

    def _save(self, index) -> None:  # type: ignore[no-untyped-def]
        header = self._file.header
        part = self._path.with_name(f"{self._path.name}.{os.getpid()}.part")
        try:
            index.save_index(str(part))
            data_crc, size = _crc_of(part), part.stat().st_size
            note = _Note(header.lens, header.epoch, header.rows, size, data_crc)
            self._note_path.unlink(missing_ok=True)
            part.replace(self._path)
            part.write_text(json.dumps(asdict(note)))
            part.replace(self._note_path)
        except (OSError, RuntimeError):
            # The graph in memory is whole: a library that cannot be written to is still searched.
            part.unlink(missing_ok=True)

    def _sound_note(self) -> _Note | None:
        """The note, where it is there and the graph is the one it speaks of."""
        try:
            note = _Note(**json.loads(self._note_path.read_text()))
            if self._path.stat().st_size == note.size and _crc_of(self._path) == note.crc:
                return note
        except (OSError, ValueError, TypeError):
            return None
        return None


def _crc_of(path: Path) -> int:
    crc = 0
    with path.open("rb") as file:
        while block := file.read(1 << 24):
            crc = zlib.crc32(block, crc)
    return crc
