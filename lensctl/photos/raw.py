"""Camera RAW files, by LibRaw: the embedded preview, and a demosaic where there is none."""

import io
from collections.abc import Mapping
from typing import Any, BinaryIO, cast

import numpy as np
from PIL import Image

from lensctl.errors import PhotoError

# What RAW files begin with when they are not TIFF; (offset, bytes).
_SIGNATURES = (
    (4, b"ftypcrx "),  # Canon CR3
    (8, b"CR\x02"),  # Canon CR2
    (6, b"HEAPCCDR"),  # Canon CRW
    (0, b"FUJIFILMCCD-RAW"),
    (0, b"IIRO"),  # Olympus
    (0, b"IIRS"),
    (0, b"MMOR"),
    (0, b"IIU\x00"),  # Panasonic
    (0, b"\x00MRM"),  # Minolta
    (0, b"FOVb"),  # Sigma
)
_TIFF_MAGIC = (b"II*\x00", b"MM\x00*")
_NEW_SUBFILE_TYPE, _SUB_IFDS, _DNG_VERSION = 254, 330, 50706

# LibRaw's flip -> EXIF orientation.
_ORIENTATIONS = {3: 3, 5: 8, 6: 6}
_TURNS = {
    3: Image.Transpose.ROTATE_180,
    6: Image.Transpose.ROTATE_270,
    8: Image.Transpose.ROTATE_90,
}


def is_raw(head: bytes) -> bool:
    """Whether the first 64 bytes are those of a RAW file that is no TIFF."""
    return any(head.startswith(magic, offset) for offset, magic in _SIGNATURES)


def is_tiff(head: bytes) -> bool:
    """Whether the first bytes are a TIFF's, which most RAW files are."""
    return head.startswith(_TIFF_MAGIC)


def is_raw_tiff(tags: Mapping[int, Any]) -> bool:
    """Whether a TIFF's first tags say that its first image is only the preview of a RAW."""
    is_preview = tags.get(_NEW_SUBFILE_TYPE) == 1 and tags.get(_SUB_IFDS) is not None
    return is_preview or tags.get(_DNG_VERSION) is not None


class RawFile:
    """An open RAW file; no pixel is decoded until `best_image`.

    Attributes:
        size: (width, height) of the developed photo, upright.
        orientation: EXIF orientation of the sensor's image.

    Raises:
        PhotoError: LibRaw does not know the file, or it is damaged.
    """

    def __init__(self, stream: BinaryIO) -> None:
        import rawpy

        self._stream = stream
        try:
            self._raw = rawpy.imread(stream)
        except rawpy.LibRawError as error:
            raise PhotoError("not a RAW photo that can be read", why=_words(error)) from error
        sizes = self._raw.sizes
        self.orientation = _ORIENTATIONS.get(sizes.flip, 1)
        turned = self.orientation > 4
        self.size = (sizes.height, sizes.width) if turned else (sizes.width, sizes.height)
        self._preview: Image.Image | None = None
        self._preview_read = False

    def close(self) -> None:
        """Gives LibRaw's memory back."""
        self._raw.close()

    def preview(self) -> Image.Image | None:
        """The largest embedded preview as stored, not yet decoded if it is a JPEG; or None."""
        if not self._preview_read:
            self._preview = self._read_preview()
            self._preview_read = True
        return self._preview

    def _read_preview(self) -> Image.Image | None:
        import rawpy

        try:
            thumbnail = self._raw.extract_thumb()
        except rawpy.LibRawError:
            return None  # has none, or of a kind LibRaw cannot hand out: it is developed instead
        if thumbnail.format == rawpy.ThumbFormat.BITMAP:
            return Image.fromarray(np.asarray(thumbnail.data))
        try:
            return Image.open(io.BytesIO(cast("bytes", thumbnail.data)), formats=("JPEG",))
        except OSError:
            return None

    def taken(self) -> str | None:
        """The camera's clock as LibRaw read it, "YYYY-MM-DDTHH:MM:SS", for makers' own formats."""
        moment = self._raw.other.timestamp
        if moment is None or moment.year <= 1970:
            return None  # the clock was not set
        return moment.replace(tzinfo=None).isoformat(timespec="seconds")

    def lens(self) -> str | None:
        """The lens as LibRaw read it."""
        name = self._raw.lens.model
        return (name.decode(errors="replace") if isinstance(name, bytes) else name) or None

    def exif(self) -> Image.Exif:
        """The EXIF tags, from the RAW's own TIFF structure or from its preview."""
        self._stream.seek(0)
        head = self._stream.read(8)
        if is_tiff(head):
            exif = Image.Exif()
            self._stream.seek(0)
            exif.load_from_fp(self._stream)
            return exif
        preview = self.preview()
        return preview.getexif() if preview is not None else Image.Exif()

    def best_image(self, at_least: int) -> Image.Image:
        """The preview, upright, or the photo developed at half size.

        A preview is used when its shortest side is at least half of `at_least`: developing takes
        a hundred times longer, for sharpness that a model hardly sees.
        """
        preview = self.preview()
        if preview is not None and min(preview.size) * 2 >= min(at_least, *self.size):
            return self._upright_preview(preview, at_least)
        return self._develop()

    def _upright_preview(self, preview: Image.Image, at_least: int) -> Image.Image:
        orientation = preview.getexif().get(0x0112) or self.orientation
        is_tall, should_be_tall = (s[1] > s[0] for s in (preview.size, self.size))
        if self.orientation > 4 and orientation > 4 and is_tall == should_be_tall:
            orientation = 1  # some cameras store the preview upright
        preview.draft(None, (at_least, at_least))
        turn = _TURNS.get(orientation)
        return preview if turn is None else preview.transpose(turn)

    def _develop(self) -> Image.Image:
        import rawpy

        try:
            pixels = self._raw.postprocess(half_size=True, use_camera_wb=True, output_bps=8)
        except rawpy.LibRawError as error:
            raise PhotoError("the RAW data is damaged", why=_words(error)) from error
        return Image.fromarray(pixels)


def _words(error: Exception) -> str:
    text = error.args[0] if error.args else error
    return text.decode(errors="replace") if isinstance(text, bytes) else str(text)
