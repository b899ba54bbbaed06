"""Image files made to order: pictures whose upright form is known, and a camera RAW."""

import io
import struct
from typing import Any

import numpy as np
from PIL import Image

RED, GREEN, BLUE, GREY = (200, 30, 30), (30, 160, 60), (40, 60, 200), (128, 128, 128)


def quarters(width: int = 120, height: int = 80) -> Image.Image:
    """Red, green over blue, grey: no turn or mirroring of it looks the same."""
    image = Image.new("RGB", (width, height))
    boxes = [(x, y) for y in (0, height // 2) for x in (0, width // 2)]
    for (x, y), colour in zip(boxes, (RED, GREEN, BLUE, GREY), strict=True):
        image.paste(colour, (x, y, x + width // 2, y + height // 2))
    return image


def corners(image: Image.Image) -> np.ndarray:
    """The colours in the middle of the four quarters, in the order of `quarters`, (4, 3) int."""
    width, height = image.size
    places = [(x, y) for y in (height // 4, 3 * height // 4) for x in (width // 4, 3 * width // 4)]
    return np.array([image.getpixel(place) for place in places], dtype=int)


def encoded(image: Image.Image, format: str, **options: Any) -> bytes:
    """The image as the bytes of a file."""
    stream = io.BytesIO()
    if format == "HEIF":  # written by a library that is not told to read: what reads is pi-heif
        import pillow_heif

        pillow_heif.from_pillow(image).save(stream, **options)
    else:
        image.save(stream, format, **options)
    return stream.getvalue()


def exif_bytes(tags: dict[int, Any], shot: dict[int, Any] | None = None, gps: Any = None) -> bytes:
    """An EXIF block with the given tags of its three directories."""
    exif = Image.Exif()
    exif.update(tags)
    exif.get_ifd(0x8769).update(shot or {})
    exif.get_ifd(0x8825).update(gps or {})
    return exif.tobytes()


def png_header(width: int, height: int) -> bytes:
    """The beginning of a PNG of any claimed size."""
    import zlib

    def chunk(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0" * 64))


def dng(
    sensor: np.ndarray, preview: bytes | None, *, orientation: int = 1, taken: str = ""
) -> bytes:
    """A minimal DNG 1.4 file: one RGGB sensor image and, if given, a JPEG preview.

    Args:
        sensor: (height, width) uint16, even sides.
        preview: the bytes of a baseline JPEG.
        orientation: EXIF orientation of the sensor's image.
        taken: "2024:07:01 12:30:00", or "" for none.
    """
    height, width = sensor.shape
    matrix = struct.pack("<18i", *(v for n in (1, 0, 0, 0, 1, 0, 0, 0, 1) for v in (n, 1)))
    identity = [
        (271, "ascii", b"Lens Works\0"),
        (272, "ascii", b"Model 1\0"),
        (274, "short", [orientation]),
        (50706, "byte", bytes([1, 4, 0, 0])),
        (50708, "ascii", b"Lens Works Model 1\0"),
        (50721, "srational", matrix),
    ]
    if taken:
        identity.append((34665, "ifd", [(36867, "ascii", taken.encode() + b"\0")]))
    raw = [
        (254, "long", [0]),
        (256, "long", [width]),
        (257, "long", [height]),
        (258, "short", [16]),
        (259, "short", [1]),
        (262, "short", [32803]),
        (273, "data", sensor.astype("<u2").tobytes()),
        (277, "short", [1]),
        (278, "long", [height]),
        (279, "long", [sensor.size * 2]),
        (33421, "short", [2, 2]),
        (33422, "byte", bytes([0, 1, 1, 2])),
    ]
    if preview is None:
        return tiff(sorted(raw + identity))
    shown = Image.open(io.BytesIO(preview))
    first = [
        (254, "long", [1]),
        (256, "long", [shown.width]),
        (257, "long", [shown.height]),
        (258, "short", [8, 8, 8]),
        (259, "short", [7]),
        (262, "short", [6]),
        (273, "data", preview),
        (277, "short", [3]),
        (278, "long", [shown.height]),
        (279, "long", [len(preview)]),
        (330, "ifd", raw),
    ]
    return tiff(sorted(first + identity, key=lambda tag: tag[0]))


def tiff(tags: list[tuple[int, str, Any]]) -> bytes:
    """A TIFF file of one directory, its tags (number, kind, value) in ascending order."""
    file = bytearray(b"II*\0\0\0\0\0")
    struct.pack_into("<I", file, 4, _directory(file, tags))
    return bytes(file)


def _directory(file: bytearray, tags: list[tuple[int, str, Any]]) -> int:
    """Appends a TIFF directory, what it points to first; returns its offset."""
    entries = [_entry(file, *tag) for tag in tags]
    at = len(file)
    file += struct.pack("<H", len(entries)) + b"".join(entries) + b"\0\0\0\0"
    return at


def _entry(file: bytearray, tag: int, kind: str, value: Any) -> bytes:
    if kind == "ifd":
        kind, value = "long", [_directory(file, value)]
    elif kind == "data":
        kind, value, file[len(file) :] = "long", [len(file)], value
    number, letter = {
        "byte": (1, "B"), "ascii": (2, "B"), "short": (3, "H"), "long": (4, "I"),
        "srational": (10, "ii"),
    }[kind]  # fmt: skip
    size = struct.calcsize("<" + letter)
    data = value if isinstance(value, bytes) else struct.pack(f"<{len(value)}{letter}", *value)
    count = len(data) // size
    if len(data) > 4:
        offset = len(file)
        file += data
        data = struct.pack("<I", offset)
    return struct.pack("<HHI", tag, number, count) + data.ljust(4, b"\0")
