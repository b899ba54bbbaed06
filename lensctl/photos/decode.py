"""A photo file into an upright RGB image, at reduced scale where the format allows.

What one decode costs, besides the file's own bytes: see `decode_cost`. JPEGs are decoded at 1/2,
1/4 or 1/8 scale (libjpeg's `draft`), JPEG 2000 at a lower resolution level, HEIF from an embedded
thumbnail when that is large enough, RAW from its embedded preview. Everything else is decoded
whole in its own mode, then turned into RGB and reduced strip by strip, so that a second full-size
image never exists.

Importing this module switches off, for the process, Pillow's own size guard (every image opened
here is measured against `max_pixels` before any of its pixels is decoded) and its warnings.
"""

import io
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from PIL import (
    AvifImagePlugin,
    BmpImagePlugin,
    GifImagePlugin,
    Image,
    Jpeg2KImagePlugin,
    JpegImagePlugin,
    MpoImagePlugin,
    PngImagePlugin,
    TiffImagePlugin,
    UnidentifiedImageError,
    WebPImagePlugin,
)

from lensctl.errors import PhotoError
from lensctl.photos.colour import to_rgb
from lensctl.photos.files import open_regular, unreadable
from lensctl.photos.formats import MAX_PIXELS, RAW_ENDINGS, ending_of
from lensctl.photos.jpeg2000 import levels_to_drop
from lensctl.photos.libtiff import silence_libtiff
from lensctl.photos.raw import RawFile, is_raw, is_raw_tiff, is_tiff

# Known to Pillow from here on, so that opening never has to load every plugin there is.
_PLUGINS = (
    AvifImagePlugin,
    BmpImagePlugin,
    GifImagePlugin,
    Jpeg2KImagePlugin,
    JpegImagePlugin,
    MpoImagePlugin,
    PngImagePlugin,
    TiffImagePlugin,
    WebPImagePlugin,
)
_PILLOW_FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "TIFF", "BMP", "DIB", "AVIF", "JPEG2000")
_BITS_PER_SAMPLE, _COMPRESSION = 258, 259
_FORMAT_NAMES = {"MPO": "JPEG", "DIB": "BMP"}
_HEAD_BYTES = 64
_AVIF_BRANDS = (b"avif", b"avis")

# EXIF orientation -> how to turn the stored image upright (EXIF 2.32, 4.6.4 A, tag 0x0112).
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}

Image.MAX_IMAGE_PIXELS = None
# Pillow warns of metadata that it mends; what cannot be mended is told in `problems`.
warnings.filterwarnings("ignore", category=UserWarning, module=r"PIL\.")


@dataclass(frozen=True, slots=True)
class DecodedPhoto:
    """A photo ready for a model's preprocessing.

    Attributes:
        image: RGB, upright; its shortest side is at least what was asked for, or the photo's own.
        width: of the whole photo, upright, pixels.
        height: likewise.
        format: "JPEG", "PNG", "HEIF", "DNG", ...
        problems: what is wrong with the file though it could be shown.
    """

    image: Image.Image
    width: int
    height: int
    format: str
    problems: tuple[str, ...] = ()


class OpenPhoto:
    """A photo whose header has been read and none of its pixels decoded.

    Attributes:
        image: the Pillow image, for its metadata; None for a RAW.
        raw: the open RAW file, or None.
        width: of the whole photo, upright, pixels.
        height: likewise.
        format: as in DecodedPhoto.
        orientation: EXIF orientation of the stored pixels, 1 to 8.
        problems: what is wrong with the header though it could be read.
    """

    def __init__(self, source: Image.Image | RawFile, format_name: str) -> None:
        self.image = source if isinstance(source, Image.Image) else None
        self.raw = source if isinstance(source, RawFile) else None
        self.format = format_name
        self.problems: list[str] = []
        self.width, self.height = self._stored_size = source.size
        self.orientation = 1
        self._turn: Image.Transpose | None = None
        if isinstance(source, RawFile):
            self.orientation = source.orientation
        else:
            self._find_upright(source)

    def _find_upright(self, image: Image.Image) -> None:
        # pi_heif keeps what EXIF said beside its own word that nothing is left to be turned.
        try:
            value = image.info.get("original_orientation") or self.exif().get(0x0112)
        except Exception as error:  # hostile EXIF makes the parser raise anything
            self.problems.append(f"the EXIF data is damaged ({error})")
            return
        self.orientation = value if value in _UPRIGHT else 1
        # Pillow's TIFF plugin and libheif turn image and size themselves.
        turned = image.format in ("TIFF", "HEIF")
        self._turn = None if turned else _UPRIGHT.get(self.orientation)
        is_on_its_side = self._turn is not None and self.orientation > 4
        self.width, self.height = self._stored_size[:: -1 if is_on_its_side else 1]

    def exif(self) -> Image.Exif:
        """The EXIF tags; may raise anything when they are damaged.

        A PNG may carry them behind its pixels: those are known after `decode` only.
        """
        if self.raw is not None:
            return self.raw.exif()
        assert self.image is not None
        if self.image.format != "PNG":
            return self.image.getexif()
        exif = Image.Exif()  # Pillow's getexif would decode the pixels to look behind them
        info = self.image.info
        exif.load(info.get("exif") or _profile(info.get("Raw profile type exif", "")))
        return exif

    def cost(self, at_least: int) -> int:
        """Bytes of memory that `decode` needs at most, the file's own bytes not counted."""
        progressive = self.image is not None and bool(self.image.info.get("progressive"))
        return decode_cost(
            self.width, self.height, self.format, at_least=at_least, progressive=progressive
        )

    def decode(self, at_least: int) -> DecodedPhoto:
        """Decodes the pixels.

        Raises:
            PhotoError: they are truncated, damaged or of an unknown kind.
        """
        with _plain_reasons():
            if self.raw is not None:
                image = self.raw.best_image(at_least)
            else:
                assert self.image is not None
                image = _at_reduced_scale(self.image, at_least)
                if image.format == "PNG":
                    self._find_upright(image)
            image, problems = to_rgb(image, at_least)
        if self._turn is not None:
            image = image.transpose(self._turn)
        return DecodedPhoto(
            image, self.width, self.height, self.format, (*self.problems, *problems)
        )


def decode(
    source: bytes | str | Path | BinaryIO, *, at_least: int, max_pixels: int = MAX_PIXELS
) -> DecodedPhoto:
    """A photo as an upright RGB image.

    Args:
        source: a path (as bytes, too: paths are bytes in this package), or an open binary file
            that can seek. For a photo in memory: `io.BytesIO(data)`.
        at_least: the shortest side of the image is at least this many pixels, where the photo has
            them; how much more it is depends on the format.
        max_pixels: photos with more are refused before decoding.

    Raises:
        PhotoError: it cannot be read; `what` is the reason.
    """
    if isinstance(source, bytes | str | Path):
        path = os.fsencode(source)
        with open_regular(path) as raw_stream, io.BufferedReader(raw_stream) as stream:
            return _decode_stream(stream, path, at_least=at_least, max_pixels=max_pixels)
    return _decode_stream(source, b"", at_least=at_least, max_pixels=max_pixels)


def _decode_stream(
    stream: BinaryIO, name: bytes, *, at_least: int, max_pixels: int = MAX_PIXELS
) -> DecodedPhoto:
    """`name` helps to recognise RAW files; it may be empty."""
    with open_photo(stream, name, max_pixels=max_pixels) as photo:
        return photo.decode(at_least)


@contextmanager
def open_photo(stream: BinaryIO, name: bytes, *, max_pixels: int) -> Iterator[OpenPhoto]:
    """Reads a photo's header.

    Args:
        stream: open for reading, able to seek; read from its start.
        name: the file's name or path, b"" when it has none.
        max_pixels: photos with more are refused.

    Raises:
        PhotoError: not a photo, damaged, or too large.
    """
    with _plain_reasons():
        photo = _identify(stream, name)
    try:
        pixels = photo.width * photo.height
        if pixels > max_pixels:
            raise PhotoError(
                f"{photo.width} x {photo.height} pixels ({pixels / 1e6:,.0f} MP)"
                f" is beyond the bound of {max_pixels / 1e6:,.0f} MP",
                next_step="raise the bound, max_megapixels or LENSCTL_MAX_MEGAPIXELS",
            )
        yield photo
    finally:
        if photo.raw is not None:
            photo.raw.close()


def decode_cost(
    width: int, height: int, format: str, *, at_least: int, progressive: bool = True
) -> int:
    """Bytes of memory that decoding a photo needs at most, besides its file's own bytes.

    Args:
        width: pixels.
        height: pixels.
        format: as in DecodedPhoto.
        at_least: as given to `decode`; a long panorama is reduced little or not at all.
        progressive: of a JPEG: whether it is, or may be, stored progressively; libjpeg then keeps
            the coefficients of the whole photo.
    """
    pixels = width * height
    factor = max(1, min(width, height) // max(1, at_least))
    result = _BYTES_PER_RESULT_PIXEL * pixels // factor**2
    if format != "JPEG":
        whole = pixels * _BYTES_PER_PIXEL.get(format, _BYTES_PER_RAW_PIXEL)
        return _FIXED_COST + whole + result
    draft_scale = max(scale for scale in (1, 2, 4, 8) if scale <= factor)
    coefficients = _BYTES_PER_COEFFICIENTS * pixels if progressive else 0
    return _FIXED_COST + coefficients + 4 * pixels // draft_scale**2 + result


# Measured by benchmarks/decode.py --memory, rounded up.
_FIXED_COST = 32 << 20
_BYTES_PER_RESULT_PIXEL = 16  # reduced, converted, laid on white, turned
_BYTES_PER_COEFFICIENTS = 7
_BYTES_PER_PIXEL = {
    "PNG": 5,
    "GIF": 5,
    "BMP": 5,
    "TIFF": 9,
    "WEBP": 17,
    "AVIF": 17,
    "HEIF": 17,
    "JPEG2000": 29,
}
_BYTES_PER_RAW_PIXEL = 12


def _identify(stream: BinaryIO, name: bytes) -> OpenPhoto:
    stream.seek(0)
    head = stream.read(_HEAD_BYTES)
    stream.seek(0)
    if not head:
        raise PhotoError("the file is empty")
    ending = ending_of(os.path.basename(name))
    if is_raw(head) or (ending in RAW_ENDINGS and not _is_plain_image(head)):
        return _open_raw(stream, ending)
    try:
        image = _open_image(stream, head)
    except UnidentifiedImageError:
        if not is_tiff(head):
            raise
        try:  # a RAW without a preview is no TIFF to Pillow
            return _open_raw(stream, ending)
        except PhotoError:
            raise _unknown_tiff(stream) from None
    if isinstance(image, TiffImagePlugin.TiffImageFile):
        silence_libtiff()
        if is_raw_tiff(image.tag_v2):
            try:
                return _open_raw(stream, ending)
            except PhotoError:
                if ending in RAW_ENDINGS:
                    raise
                # A scan with a preview of its own: what Pillow opened is all there is to see.
    format_name = image.format or ""
    return OpenPhoto(image, _FORMAT_NAMES.get(format_name, format_name))


def _open_image(stream: BinaryIO, head: bytes) -> Image.Image:
    if head[4:8] == b"ftyp" and not any(brand in head for brand in _AVIF_BRANDS):
        _know_heif()
        return Image.open(stream, formats=("HEIF",))
    return Image.open(stream, formats=_PILLOW_FORMATS)


def _open_raw(stream: BinaryIO, ending: bytes) -> OpenPhoto:
    stream.seek(0)
    format_name = ending[1:].decode().upper() if ending in RAW_ENDINGS else "RAW"
    return OpenPhoto(RawFile(stream), format_name)


def _unknown_tiff(stream: BinaryIO) -> PhotoError:
    """Why Pillow does not open a TIFF, which it tells only where no other format is tried."""
    stream.seek(0)
    try:
        TiffImagePlugin.TiffImageFile(stream)
    except Exception as error:  # hostile bytes make the parser raise anything
        reason = error.args[0] if error.args else ""
        if not isinstance(reason, KeyError) and reason != "unknown pixel mode":
            return PhotoError("not an image, or one too damaged to open")
    tags = Image.Exif()
    stream.seek(0)
    tags.load_from_fp(stream)
    bits = tags.get(_BITS_PER_SAMPLE, 1)
    each = f"{len(bits)} x {bits[0]}" if isinstance(bits, tuple) and bits else bits
    return PhotoError(
        f"a TIFF of a kind that is not read: {each} bits per pixel,"
        f" compression {tags.get(_COMPRESSION, 1)}"
    )


def _profile(text: str) -> bytes:
    """What ImageMagick wrote into a PNG's text: a blank line, its name, its size, lines of hex."""
    return bytes.fromhex("".join(text.split("\n")[3:]))


def _is_plain_image(head: bytes) -> bool:
    """Whether a file that calls itself RAW is a JPEG or PNG after all."""
    return head.startswith((b"\xff\xd8\xff", b"\x89PNG"))


def _know_heif() -> None:
    if "HEIF" not in Image.OPEN:
        import pi_heif

        pi_heif.register_heif_opener(depth_images=False, aux_images=False)


def _at_reduced_scale(image: Image.Image, at_least: int) -> Image.Image:
    if isinstance(image, Jpeg2KImagePlugin.Jpeg2KImageFile):
        image.reduce = levels_to_drop(image, at_least)
    else:
        image.draft(None, (at_least, at_least))
    image.load()
    return image


@contextmanager
def _plain_reasons() -> Iterator[None]:
    """Turns whatever the decoders raise on hostile bytes into a PhotoError with its reason."""
    try:
        yield
    except PhotoError:
        raise
    except MemoryError as error:
        raise PhotoError("decoding it does not fit in memory") from error
    except UnidentifiedImageError as error:
        raise PhotoError("not an image, or one too damaged to open") from error
    except Exception as error:
        raise _damaged(error) from error


def _damaged(error: Exception) -> PhotoError:
    if isinstance(error, OSError) and error.errno is not None:
        return unreadable(error)
    text = str(error)
    if isinstance(error, EOFError) or "truncated" in text.lower() or "end of file" in text.lower():
        return PhotoError("truncated: the file ends before the image does", why=text)
    return PhotoError("damaged image data", why=text or type(error).__name__)
