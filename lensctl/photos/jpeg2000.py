"""How far a JPEG 2000 can be decoded at a lower resolution level."""

from typing import IO

from PIL.Jpeg2KImagePlugin import Jpeg2KImageFile

_HEADER_BYTES = 1 << 16
_START = b"\xff\x4f\xff\x51"
_CODING_STYLE = 0x52


def levels_to_drop(image: Jpeg2KImageFile, at_least: int) -> int:
    """How often the image can be halved and its shortest side stay at `at_least` or more.

    Args:
        image: opened, not loaded.
        at_least: pixels.
    """
    levels = 0
    if min(image.size) >= 2 * at_least and image.fp is not None:
        levels = _resolution_levels(image.fp)
    while levels and not _is_halved_exactly(image.size, levels, at_least):
        levels -= 1
    return levels


def _is_halved_exactly(size: tuple[int, int], levels: int, at_least: int) -> bool:
    """Whether Pillow, which rounds the halved size, and OpenJPEG, which rounds up, agree on it."""
    step = 1 << levels
    rounded = [(side + step // 2) // step for side in size]
    return min(rounded) >= at_least and rounded == [-(-side // step) for side in size]


def _resolution_levels(stream: IO[bytes]) -> int:
    """The decomposition levels of a codestream (ISO 15444-1, A.5.1 and A.6.1), 0 if not found.

    0, too, for an image that begins off the grid's origin, whose halved size is another one.
    """
    stream.seek(0)
    data = stream.read(_HEADER_BYTES)
    at = data.find(_START) + 2
    if at < 2 or any(data[at + 14 : at + 22]):
        return 0
    while at + 10 <= len(data) and data[at] == 0xFF:
        if data[at + 1] == _CODING_STYLE:
            return data[at + 9]
        at += 2 + int.from_bytes(data[at + 2 : at + 4])
    return 0
