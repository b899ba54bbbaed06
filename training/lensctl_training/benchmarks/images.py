"""Benchmark images, read as the published evaluation reads them.

RGB by Pillow's conversion, EXIF orientation ignored: COCO and Visual Genome hold photos with an
orientation tag, and published numbers are of their stored pixels. The library's own decoder, which
turns them upright, is not used here.
"""

import hashlib
from io import BytesIO

from PIL import Image, UnidentifiedImageError

from lensctl.errors import PhotoError
from lensctl_training.benchmarks.benchmark import Box, ImageRef

DILATION = 0.7
"""GeneCIS: how much of its width and height a box grows by."""


def read_image(ref: ImageRef) -> tuple[Image.Image, bytes]:
    """The RGB image, cropped where the benchmark crops, and the sha256 of the file.

    Raises:
        PhotoError: the file cannot be read, is not an image, or has nothing in the box; `what` is
            the reason.
    """
    try:
        content = ref.path.read_bytes()
        with Image.open(BytesIO(content)) as opened:
            image = opened.convert("RGB")
        if ref.box is not None:
            image = pad_to_square(_crop(image, ref.box))
    except UnidentifiedImageError as error:
        raise PhotoError(f"{ref.path.name}: no image of a known format") from error
    except (
        OSError,
        ValueError,
        OverflowError,
        SyntaxError,
        Image.DecompressionBombError,
    ) as error:
        raise PhotoError(f"{ref.path.name}: {error or type(error).__name__}") from error
    return image, hashlib.sha256(content).digest()


def _crop(image: Image.Image, box: Box) -> Image.Image:
    """The dilated box. Raises ValueError where it holds no pixel of the image."""
    corners = left, top, right, bottom = dilated(box, image.width, image.height)
    if left >= right or top >= bottom:
        raise ValueError(f"the box {box} holds no pixel of {image.width} x {image.height}")
    return image.crop(corners)


def dilated(box: Box, width: int, height: int) -> tuple[int, int, int, int]:
    """(left, top, width, height) grown by `DILATION` to both sides -> corners, rounded.

    As GeneCIS does: the far corner is measured from the near one after that is clipped to the
    image, so a box at the left edge grows by less than one in the middle.
    """
    left = max(0.0, box[0] - DILATION * box[2])
    top = max(0.0, box[1] - DILATION * box[3])
    right = min(float(width), left + (1 + DILATION) * box[2])
    bottom = min(float(height), top + (1 + DILATION) * box[3])
    return round(left), round(top), round(right), round(bottom)


def pad_to_square(image: Image.Image) -> Image.Image:
    """The image in the middle of a black square of its longer side."""
    side = max(image.size)
    if image.size == (side, side):
        return image
    square = Image.new("RGB", (side, side))
    square.paste(image, ((side - image.width) // 2, (side - image.height) // 2))
    return square
