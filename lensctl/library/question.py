"""From what the user typed to a query vector: cheaply for a photo that the library knows."""

import os
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import numpy as np

from lensctl.errors import PhotoError
from lensctl.library.catalog import Catalog, KnownLens, absolute
from lensctl.models.interface import Floats, QueryKind, QuerySide
from lensctl.photos.files import unreadable
from lensctl.show.names import show_path


@dataclass(frozen=True)
class Question:
    """A query vector and what it came from.

    Attributes:
        vector: (D,) for kinds image and composed, (T,) for kind text; unit length.
        content_ids: the contents of query photos that the library holds; they are no answers.
        cut: whether the words were longer than the model reads.
    """

    kind: QueryKind
    vector: Floats
    content_ids: tuple[int, ...] = ()
    cut: bool = False


def ask_text(side: QuerySide, text: str) -> Question:
    """A search by words alone."""
    return Question("text", side.encode_texts([text])[0], cut=side.truncated(text))


def ask_photo(
    side: QuerySide,
    catalog: Catalog,
    lens: KnownLens | None,
    photo: Path | BytesIO,
    instruction: str,
    max_pixels: int,
) -> Question:
    """A search by a photo and, where it is not empty, an instruction.

    A photo whose content the library holds is not decoded. Raises PhotoError.
    """
    embedding, content_id = photo_embedding(side, catalog, lens, photo, max_pixels)
    vector = side.make_queries(embedding[None], [instruction])[0]
    kind: QueryKind = "composed" if instruction else "image"
    own = () if content_id is None else (content_id,)
    return Question(kind, vector, own, side.truncated(instruction))


def photo_embedding(
    side: QuerySide,
    catalog: Catalog,
    lens: KnownLens | None,
    photo: Path | BytesIO,
    max_pixels: int,
) -> tuple[Floats, int | None]:
    """(E,) embedding of a photo, and its content id where the library holds it.

    It is decoded only where the library keeps no embedding of it. Raises PhotoError.
    """
    try:
        content_id = _content_of(catalog, photo)
        embedding = None
        if content_id is not None and lens is not None:
            embedding = catalog.embedding(lens.encoder_id, content_id)
        if embedding is None:
            embedding = _encode(side, photo, max_pixels)
    except PhotoError as error:
        name = show_path(os.fsencode(photo)) if isinstance(photo, Path) else "the image on stdin"
        raise PhotoError(
            f"cannot read {name}",
            why=f"{error.what}: {error.why}" if error.why else error.what,
            next_step=error.next_step or "query with another image",
        ) from error
    return embedding, content_id


def _content_of(catalog: Catalog, photo: Path | BytesIO) -> int | None:
    """The content of a photo, by size and time where the catalog knows its path, else by its bytes.

    Of a file that is not there the catalog is believed.

    A stream is left at its start.
    """
    if not isinstance(photo, Path):
        from lensctl.photos.reader import hash_stream

        content_hash = hash_stream(photo)
        photo.seek(0)
        return catalog.content_of_hash(content_hash)
    path = absolute(photo)
    known = catalog.content_at(path)
    if known is None and not os.path.lexists(photo):
        known = catalog.content_at(catalog.locate(photo))
    if known is not None:
        try:
            status = os.stat(path)
        except FileNotFoundError:  # its disk is away
            return known[0]
        except OSError as error:
            raise unreadable(error) from error
        if known[1:] == (status.st_size, status.st_mtime_ns):
            return known[0]
    from lensctl.photos.reader import hash_file

    return catalog.content_of_hash(hash_file(path))


def _encode(side: QuerySide, photo: Path | BytesIO, max_pixels: int) -> Floats:
    from lensctl.photos.decode import decode

    decoded = decode(photo, at_least=side.info.decoded_side, max_pixels=max_pixels)
    pixels = side.preprocess(decoded.image)
    return np.asarray(side.encode_images(pixels[None])[0], dtype=np.float32)
