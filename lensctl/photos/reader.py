"""One photo, read from disk once: its content hash, its facts and its pixels."""

import io
import os
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from hashlib import blake2b
from typing import BinaryIO

from PIL import Image

from lensctl.errors import PhotoError
from lensctl.photos.decode import open_photo
from lensctl.photos.facts import Facts, read_facts
from lensctl.photos.files import open_regular, unreadable
from lensctl.photos.formats import MAX_PIXELS

HASH_BYTES = 16
_CHUNK_BYTES = 1 << 20
# Larger files are hashed in pieces and then decoded from disk. (A memory map would save the
# second reading, but a file cut short while mapped kills the process.)
_IN_MEMORY_BYTES = 256 << 20


@dataclass(slots=True)
class PhotoRead:
    """All that the library keeps or encodes of a photo.

    Attributes:
        content_hash: 16 bytes, BLAKE2b of the file's bytes.
        facts: from its metadata; None where the content is known.
        image: RGB, upright; see `decode`; None where the content is known.
    """

    content_hash: bytes
    facts: Facts | None
    image: Image.Image | None


def read_photo(
    path: bytes,
    *,
    at_least: int,
    max_pixels: int = MAX_PIXELS,
    known: Callable[[bytes], bool] = lambda content_hash: False,
    reserve: Callable[[int], AbstractContextManager[None]] = lambda cost: nullcontext(),
) -> PhotoRead:
    """Hash, facts and pixels of one photo, all of the same bytes.

    Args:
        path: of the file.
        at_least: the shortest side of the image, see `decode`.
        max_pixels: photos with more are refused before decoding.
        known: asked with the content hash; where it says yes, nothing is decoded.
        reserve: held while decoding, with the bytes of memory that it may take.

    Raises:
        PhotoError: it cannot be read, is no photo, or was changed while it was being read.
    """
    with open_regular(path) as file:
        try:
            before = os.fstat(file.fileno())
            stream, digest = _take_in(file, before.st_size)
        except OSError as error:
            raise unreadable(error) from error
        if known(digest):
            _check_unchanged(before, file)
            return PhotoRead(digest, None, None)
        try:
            with (
                open_photo(stream, path, max_pixels=max_pixels) as photo,
                reserve(photo.cost(at_least)),
            ):
                decoded = photo.decode(at_least)
                facts = read_facts(photo)  # afterwards, for what a PNG carries behind its pixels
        except PhotoError:
            _check_unchanged(before, file)  # half a file is no fault of the photo's
            raise
        _check_unchanged(before, file)
    problems = tuple(dict.fromkeys((*facts.problems, *decoded.problems)))
    facts = replace(facts, problems=problems)
    return PhotoRead(digest, facts, decoded.image)


def hash_file(path: bytes) -> bytes:
    """16 bytes: the BLAKE2b hash of a file's content.

    Raises:
        PhotoError: it cannot be read.
    """
    with open_regular(path) as file:
        try:
            return hash_stream(file)
        except OSError as error:
            raise unreadable(error) from error


def _take_in(file: io.FileIO, size: int) -> tuple[BinaryIO, bytes]:
    """The bytes to decode from, and their hash."""
    if size > _IN_MEMORY_BYTES:
        return io.BufferedReader(file, _CHUNK_BYTES), hash_stream(file)
    data = file.readall()
    return io.BytesIO(data), blake2b(data, digest_size=HASH_BYTES).digest()


def hash_stream(file: io.FileIO | io.BytesIO) -> bytes:
    """16 bytes: the BLAKE2b hash of what is left of a stream. Raises OSError."""
    digest = blake2b(digest_size=HASH_BYTES)
    buffer = bytearray(_CHUNK_BYTES)
    while count := file.readinto(buffer):
        digest.update(memoryview(buffer)[:count])
    return digest.digest()


def _check_unchanged(before: os.stat_result, file: io.FileIO) -> None:
    after = os.fstat(file.fileno())
    if (before.st_size, before.st_mtime_ns) != (after.st_size, after.st_mtime_ns):
        raise PhotoError(
            "changed while being read", next_step="index again when the copying has ended"
        )
