"""Small, upright copies of pictures, as JPEG bytes without metadata."""

import io
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from PIL import Image

JPEG_QUALITY = 82


@dataclass(frozen=True)
class Thumbnail:
    """JPEG bytes, width and height in pixels."""

    jpeg: bytes
    width: int
    height: int


def make_thumbnail(source: "Path | bytes | Image.Image", side: int) -> Thumbnail:
    """An upright copy with the longer side at most `side` pixels; never enlarged.

    Raises PhotoError where the picture cannot be read.
    """
    small = shrink(source, side)
    buffer = io.BytesIO()
    small.save(buffer, "JPEG", quality=JPEG_QUALITY, optimize=True)
    return Thumbnail(buffer.getvalue(), small.width, small.height)


def read_thumbnail(jpeg: bytes) -> Thumbnail:
    """One that was made before."""
    from PIL import Image

    with Image.open(io.BytesIO(jpeg), formats=("JPEG",)) as image:
        return Thumbnail(jpeg, image.width, image.height)


def shrink(source: "Path | bytes | Image.Image", side: int) -> "Image.Image":
    """An upright RGB image with the longer side at most `side`. Raises PhotoError."""
    from lensctl.photos.decode import decode

    if isinstance(source, Path | bytes):
        file = io.BytesIO(source) if isinstance(source, bytes) else source
        image = decode(file, at_least=side).image
    else:
        image = source.convert("RGB")
    image.thumbnail((side, side), reducing_gap=2.0)
    return image
