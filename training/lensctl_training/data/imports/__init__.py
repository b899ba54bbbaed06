"""Open triplet sets, from local files in their own formats, into shards."""

import io
import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from PIL import Image
from tqdm import tqdm

from lensctl.errors import DataError
from lensctl.lock import held_alone
from lensctl_training.data.batches import BadExampleError
from lensctl_training.data.imports import cirr, fashioniq, megapairs
from lensctl_training.data.jsonl import Row, read_rows
from lensctl_training.data.shards import ShardWriter
from lensctl_training.data.stream import MAX_PIXELS
from lensctl_training.data.triplet import Problems, Triplet

Reader = Callable[..., Iterator[Row]]
READERS: dict[str, Reader] = {
    "jsonl": lambda file, problems: iter(read_rows(file, problems)),
    "megapairs": megapairs.read,
    "cirr": cirr.read,
    "fashioniq": fashioniq.read,
}
LONGEST_SIDE = 512
"""Larger pictures are made smaller: no model here reads more than 336 pixels."""


def import_triplets(kind: str, arguments: list[object], out: Path) -> tuple[int, Problems]:
    """Read one data set and write shards.

    Args:
        kind: a key of READERS.
        arguments: of its reader.
        out: folder of the shards, which appear in it when all are written.

    Returns:
        The number of triplets written, and what could not be used.

    Raises:
        DataError: the files are not of that format, no triplet is usable, `out` holds shards, or
            another import into it is running.
    """
    problems = Problems()
    with _appearing_whole(out) as folder, ShardWriter(folder, kind) as writer:
        rows = READERS[kind](*arguments, problems)
        for number, row in enumerate(tqdm(rows, unit="triplet", disable=None)):
            try:
                writer.write(_as_triplet(row, f"{kind}{number:09d}"))
            except BadExampleError as bad:
                problems.add(bad.reason, bad.where)
        if not writer.written:
            raise DataError(
                f"no triplet of {kind} could be imported",
                why="; ".join(problems.lines()) or "there is none",
                next_step="see docs/training.md for where each file is expected",
            )
    return writer.written, problems


@contextmanager
def _appearing_whole(out: Path) -> Iterator[Path]:
    """A hidden folder for the shards, which take their place when the block ends without an error.

    Half an import would look like a whole data set. A new `out` appears by one renaming; into a
    folder that is there, a mounted disk perhaps, the shards are renamed one by one. What a killed
    import left in the hidden folder is removed by the next one.

    Raises:
        DataError: there are shards in `out`, or another import into it is running.
        StorageError: it cannot be written to.
    """
    if any(out.glob("*.tar")):
        raise DataError(f"{out} already holds shards", next_step="choose another --out")
    exists = out.exists()
    hidden = out / ".importing" if exists else out.with_name(f".{out.name}.importing")
    lock = hidden.with_name(f"{hidden.name}.lock")
    busy = DataError(
        f"another import into {out} is running",
        why=f"it holds {lock}",
        next_step="wait for it to end, or choose another --out",
    )
    with held_alone(lock, busy, elsewhere="choose another --out"):
        try:
            shutil.rmtree(hidden, ignore_errors=True)
            hidden.mkdir()
            yield hidden
            if exists:
                for shard in sorted(hidden.iterdir()):
                    shard.rename(out / shard.name)
            else:
                hidden.rename(out)
        finally:
            shutil.rmtree(hidden, ignore_errors=True)
            with suppress(OSError):  # Windows does not remove what is open
                lock.unlink()


def _as_triplet(row: Row, key: str) -> Triplet:
    provenance = {"key": row.key, **row.provenance}
    try:
        json.dumps([row.instruction, provenance], ensure_ascii=False).encode()
        read = row.read()
    except ValueError as error:  # half a character in a text, a zero byte in a path
        raise BadExampleError("text or path that cannot be written", row.key) from error
    query, target, *negatives = (
        as_jpeg(image, row.key) for image in (read.query, read.target, *read.negatives)
    )
    return Triplet(key, query, target, row.instruction, provenance, tuple(negatives))


def as_jpeg(data: bytes, where: str) -> bytes:
    """An image file's bytes -> JPEG; a JPEG of moderate size stays as it is.

    Raises:
        BadExampleError: it cannot be decoded.
    """
    try:
        with Image.open(io.BytesIO(data)) as image:
            if image.width * image.height > MAX_PIXELS:
                raise ValueError(f"{image.width} x {image.height} pixels")
            image.load()
            if image.format == "JPEG" and max(image.size) <= LONGEST_SIDE:
                return data
            small = image.convert("RGB")
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise BadExampleError("undecodable image", f"{where} ({error})") from error
    small.thumbnail((LONGEST_SIDE, LONGEST_SIDE), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    small.save(buffer, "JPEG", quality=92)
    return buffer.getvalue()
