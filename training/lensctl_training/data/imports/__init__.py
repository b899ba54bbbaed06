"""Open triplet sets, from local files in their own formats, into shards."""

import io
from collections.abc import Callable, Iterator
from pathlib import Path

from PIL import Image
from tqdm import tqdm

from lensctl.errors import DataError
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
        out: folder of the shards.

    Returns:
        The number of triplets written, and what could not be used.

    Raises:
        DataError: the files are not of that format, or no triplet is usable.
    """
    problems = Problems()
    rows = READERS[kind](*arguments, problems)
    with ShardWriter(out, kind) as writer:
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


def _as_triplet(row: Row, key: str) -> Triplet:
    read = row.read()
    query, target, *negatives = (
        as_jpeg(image, row.key) for image in (read.query, read.target, *read.negatives)
    )
    provenance = {"key": row.key, **row.provenance}
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
