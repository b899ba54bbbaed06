"""Triplets in WebDataset tar shards.

A shard is a plain tar file `PREFIX-000000.tar` in which the files of one triplet stand together:

    KEY.query.jpg       the query image, JPEG
    KEY.target.jpg      the target image, JPEG
    KEY.negative0.jpg   optional hard negatives, numbered from 0
    KEY.json            {"instruction": str, "provenance": {...}}

KEY has no dot and no slash. Any tool that reads WebDataset reads these shards.
"""

import json
import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

import webdataset
from webdataset.tariterators import group_by_keys, tar_file_expander

from lensctl.errors import DataError, StorageError
from lensctl_training.data.triplet import Problems, Triplet, what_is_wrong

_KEY = re.compile(r"[^./\\\s]{1,80}")
_NEGATIVE = re.compile(r"negative(\d+)\.jpg")
_TAR_END = bytes(1024)


class ShardWriter:
    """Writes triplets into numbered shards; a shard appears under its name only when complete.

    Shards already in `folder` are never overwritten: numbering goes on after them. Leaving the
    `with` block by an exception keeps the finished shards and removes the one being written.

    Args:
        folder: made where it is missing.
        prefix: the shards are `PREFIX-000000.tar`, ...
        max_bytes: a shard is closed once its triplets' files have this many bytes.
        max_count: ... or this many triplets.
    """

    def __init__(
        self,
        folder: Path,
        prefix: str = "triplets",
        *,
        max_bytes: int = 256 * 2**20,
        max_count: int = 10_000,
    ) -> None:
        self.folder = folder
        self.prefix = prefix
        self.max_bytes = max_bytes
        self.max_count = max_count
        self.written = 0
        self.shards: list[Path] = []
        folder.mkdir(parents=True, exist_ok=True)
        self._index = _first_free_index(folder, prefix)
        self._file: IO[bytes] | None = None
        self._tar: Any = None
        self._count = self._bytes = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            if kind is None:
                with _telling(self.folder):
                    self._finish()
        finally:
            self._abandon()

    def write(self, triplet: Triplet) -> None:
        """Add one triplet.

        Raises:
            DataError: the key or instruction cannot be stored, or an image is not JPEG.
            StorageError: the disk is full, or the rights are missing.
        """
        _refuse_unstorable(triplet)
        with _telling(self.folder):
            if self._file is None:
                self._begin()
            self._bytes += self._tar.write(_as_sample(triplet))
            self._count += 1
            self.written += 1
            if self._count >= self.max_count or self._bytes >= self.max_bytes:
                self._finish()

    @property
    def _path(self) -> Path:
        return self.folder / f"{self.prefix}-{self._index:06d}.tar"

    @property
    def _temporary(self) -> Path:
        return self._path.with_name(f".{self._path.name}.part")

    def _begin(self) -> None:
        self._file = self._temporary.open("wb")
        # Fixed owner and time: the same triplets give the same bytes.
        self._tar = webdataset.TarWriter(self._file, encoder=False, mtime=0.0, user="lensctl")
        self._count = self._bytes = 0

    def _finish(self) -> None:
        if self._file is None:
            return
        self._tar.close()
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()
        self._temporary.replace(self._path)
        self.shards.append(self._path)
        self._file = None
        self._index += 1

    def _abandon(self) -> None:
        """Remove the shard that is being written, if there is one."""
        if self._file is None:
            return
        try:
            # On a full disk both fail again as they flush; the error that led here is the one to
            # tell, and what was written must not keep the disk full.
            with suppress(OSError):
                self._tar.close()
            with suppress(OSError):
                self._file.close()
        finally:
            self._temporary.unlink(missing_ok=True)
            self._file = None


@contextmanager
def _telling(folder: Path) -> Iterator[None]:
    """An error of the system while a shard is written, as one that names the folder."""
    try:
        yield
    except OSError as error:
        raise StorageError(
            f"cannot write shards into {folder}",
            why=error.strerror or str(error),
            next_step="free some space there, or choose another folder, and run the command again",
        ) from error


def _first_free_index(folder: Path, prefix: str) -> int:
    taken = [
        int(found.group(1))
        for path in folder.glob(f"{prefix}-*.tar")
        if (found := re.fullmatch(re.escape(prefix) + r"-(\d+)\.tar", path.name))
    ]
    return max(taken, default=-1) + 1


def _refuse_unstorable(triplet: Triplet) -> None:
    images = (triplet.query, triplet.target, *triplet.negatives)
    if not _KEY.fullmatch(triplet.key):
        why = "a key is 1 to 80 characters without dots, slashes and spaces"
    elif not triplet.instruction.strip():
        why = "the instruction is empty"
    elif not all(image.startswith(b"\xff\xd8") for image in images):
        why = "an image is not JPEG"
    else:
        return
    raise DataError(f"triplet {triplet.key!r} cannot be stored in a shard", why=why)


def _as_sample(triplet: Triplet) -> dict[str, Any]:
    facts = {"instruction": triplet.instruction, "provenance": triplet.provenance}
    negatives = {f"negative{n}.jpg": image for n, image in enumerate(triplet.negatives)}
    return {
        "__key__": triplet.key,
        "query.jpg": triplet.query,
        "target.jpg": triplet.target,
        "json": json.dumps(facts, ensure_ascii=False, sort_keys=True).encode(),
        **negatives,
    }


def find_shards(data: Path | Sequence[Path]) -> list[Path]:
    """The shards of a folder, sorted; or the given shard file(s).

    Raises:
        DataError: there is none.
    """
    places = [data] if isinstance(data, Path) else list(data)
    shards = [
        shard
        for place in places
        for shard in (sorted(place.glob("*.tar")) if place.is_dir() else [place])
    ]
    missing = [shard for shard in shards if not shard.is_file()]
    if not shards and (held_out := [p / "val" for p in places if any(p.glob("val/*.tar"))]):
        raise DataError(
            f"there are no shards for training in {', '.join(map(str, places))}",
            why=f"those in {held_out[0]} are for validation",
            next_step="mine or import more sites, or leave some out of val",
        )
    if missing or not shards:
        raise DataError(
            f"there is no {missing[0]}"
            if missing
            else f"there are no shards in {', '.join(map(str, places))}",
            why="a data set is a folder with .tar files of triplets, or a .jsonl file",
            next_step="run `lensctl train import --help` to make shards",
        )
    return shards


def read_triplets(
    data: Path | Sequence[Path], problems: Problems | None = None
) -> Iterator[Triplet]:
    """All triplets of a data set's shards, in order; images stay encoded.

    Args:
        data: a folder of shards, a shard, or several.
        problems: counts what is not usable. Without it the first fault raises DataError.
    """
    found = problems if problems is not None else Problems(limit=0)
    for shard in find_shards(data):
        yield from read_shard(shard, found)


def read_shard(path: Path, problems: Problems) -> Iterator[Triplet]:
    """The usable triplets of one shard; what is not usable goes into `problems`."""
    if not _ends_properly(path):
        problems.add("truncated shard", path.name)

    def on_error(error: Exception) -> bool:
        problems.add("unreadable part of a shard", f"{path.name} ({error.args[0]})")
        return True

    # webdataset's own opener would run `pipe:` names as commands: it gets an open file instead.
    with path.open("rb") as stream:
        source = [{"url": path.name, "stream": stream}]
        files = tar_file_expander(source, handler=on_error)
        for sample in group_by_keys(files, lcase=False, handler=on_error):
            triplet = _from_sample(sample, problems, path.name)
            if triplet is not None:
                yield triplet


def _ends_properly(path: Path) -> bool:
    """A tar file cut at a file's border reads as a shorter one; only its end mark tells."""
    size = path.stat().st_size
    if size % 512 or size < len(_TAR_END):
        return False
    with path.open("rb") as stream:
        stream.seek(-len(_TAR_END), os.SEEK_END)
        return stream.read() == _TAR_END


def _from_sample(sample: dict[str, Any], problems: Problems, shard: str) -> Triplet | None:
    key = sample["__key__"]
    where = f"{shard}:{key}"
    missing = [name for name in ("query.jpg", "target.jpg", "json") if name not in sample]
    if missing:
        problems.add(f"missing {', '.join(missing)}", where)
        return None
    try:
        facts = json.loads(sample["json"])
        instruction, provenance = facts["instruction"], facts.get("provenance", {})
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        problems.add("json without an instruction", where)
        return None
    if wrong := what_is_wrong(instruction, provenance):
        problems.add(wrong, where)
        return None
    numbered = sorted(
        (int(m.group(1)), name) for name in sample if (m := _NEGATIVE.fullmatch(name))
    )
    return Triplet(
        key=key,
        query=sample["query.jpg"],
        target=sample["target.jpg"],
        instruction=instruction,
        provenance=provenance,
        negatives=tuple(sample[name] for _, name in numbered),
    )
