"""Hundreds of broken, hostile and merely odd files, from one seed."""

import os
import random
import socket
import struct
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from support.image_files import dng, encoded, exif_bytes, png_header, quarters, tiff

SEED = 20_240_701
GOOD, BAD, EITHER = "good", "bad", "either"


@contextmanager
def hostile_files() -> Iterator[tuple[Path, dict[str, str]]]:
    """A folder of such files that everybody may enter, and what should come of each."""
    chance = random.Random(SEED)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)
        expected: dict[str, str] = {}
        for made in (truncated(chance), spoiled(chance), mislabelled(chance), bombs()):
            for file, data, outcome in made:
                (folder / file).write_bytes(data)
                expected[file] = outcome
        for file, data, outcome in odd_but_good():
            (folder / file).write_bytes(data)
            expected[file] = outcome
        with socket.socket(socket.AF_UNIX) as server:
            server.bind(str(folder / "socket.jpg"))
        yield folder, expected | _place_special_files(folder)


def _place_special_files(folder: Path) -> dict[str, str]:
    os.mkfifo(folder / "pipe.jpg")
    (folder / "round.jpg").symlink_to("round.jpg")
    (folder / "gone.jpg").symlink_to("nowhere")
    (folder / "up").symlink_to(".")
    (folder / "locked.jpg").write_bytes(encoded(noise(), "JPEG"))
    (folder / "locked.jpg").chmod(0)
    (folder / "closed").mkdir(mode=0)
    names = ("socket.jpg", "pipe.jpg", "round.jpg", "gone.jpg", "up", "locked.jpg", "closed")
    return dict.fromkeys(names, BAD)


def noise(width: int = 320, height: int = 240) -> Image.Image:
    return Image.fromarray(
        np.random.default_rng(1).integers(0, 256, (height, width, 3), dtype=np.uint8)
    )


def sources() -> dict[str, bytes]:
    """One whole file of every format, by ending."""
    exif = exif_bytes({0x010F: "Acme"}, {0x9003: "2024:07:01 12:30:05"})
    image = noise()
    jpeg = encoded(image, "JPEG", exif=exif)
    return {
        "jpg": jpeg,
        "png": encoded(image, "PNG", exif=exif),
        "webp": encoded(image, "WEBP", exif=exif),
        "gif": encoded(image, "GIF"),
        "tif": encoded(image, "TIFF", compression="tiff_lzw"),
        "bmp": encoded(image, "BMP"),
        "avif": encoded(image, "AVIF", exif=exif),
        "jp2": encoded(image, "JPEG2000"),
        "heic": encoded(image, "HEIF", exif=exif),
        "dng": dng(np.full((240, 320), 9000, np.uint16), jpeg),
    }


def truncated(chance: random.Random) -> Iterator[tuple[str, bytes, str]]:
    for ending, data in sources().items():
        for number in range(9):
            cut = chance.randrange(1, len(data) * 9 // 10)
            # A DNG ends with its preview's directory; a cut one may still show its preview.
            yield f"cut_{ending}{number}.{ending}", data[:cut], EITHER if ending == "dng" else BAD


def spoiled(chance: random.Random) -> Iterator[tuple[str, bytes, str]]:
    for ending, data in sources().items():
        for number in range(8):
            changed = bytearray(data)
            for _ in range(chance.choice((1, 5, 50))):
                changed[chance.randrange(len(changed))] = chance.randrange(256)
            yield f"spoiled_{ending}{number}.{ending}", bytes(changed), EITHER


def mislabelled(chance: random.Random) -> Iterator[tuple[str, bytes, str]]:
    whole = sources()
    endings = list(whole)
    for ending, data in whole.items():
        other = chance.choice([e for e in endings if e not in (ending, "dng")])
        yield f"really_{ending}.{other}", data, GOOD
    for ending in endings:
        yield f"text_{ending}.{ending}", b"a letter to my aunt\n" * 50, BAD
        yield f"zeros_{ending}.{ending}", bytes(5000), BAD
        yield f"random_{ending}.{ending}", chance.randbytes(5000), BAD
        yield f"empty_{ending}.{ending}", b"", BAD


def bombs() -> Iterator[tuple[str, bytes, str]]:
    yield "bomb.png", png_header(60_000, 60_000), BAD
    yield "bomb_called.jpg", png_header(2**31 - 1, 2**31 - 1), BAD
    bmp = bytearray(encoded(quarters(), "BMP"))
    bmp[18:26] = struct.pack("<ii", 60_000, 60_000)
    yield "bomb.bmp", bytes(bmp), BAD
    jpeg = bytearray(encoded(quarters(), "JPEG"))
    frame = jpeg.index(b"\xff\xc0")
    jpeg[frame + 5 : frame + 9] = struct.pack(">HH", 60_000, 60_000)
    yield "bomb.jpg", bytes(jpeg), BAD
    jp2 = bytearray(encoded(quarters(), "JPEG2000"))
    at = jp2.index(b"ihdr") + 4
    jp2[at : at + 8] = struct.pack(">II", 60_000, 60_000)
    yield "bomb.jp2", bytes(jp2), BAD
    sides = [(256, "long", [60_000]), (257, "long", [60_000]), (258, "short", [8])]
    rest = [(259, "short", [1]), (262, "short", [1]), (273, "data", bytes(100))]
    counts = [(277, "short", [1]), (278, "long", [60_000]), (279, "long", [100])]
    yield "bomb.tif", tiff(sides + rest + counts), BAD
    yield "text_bomb.png", _with_text_bomb(), EITHER


def _with_text_bomb() -> bytes:
    """A PNG whose comment unpacks to 200 MB."""
    import zlib

    squeezed = zlib.compressobj(9)
    data = b"Comment\0\0" + b"".join(squeezed.compress(bytes(1 << 20)) for _ in range(200))
    data += squeezed.flush()
    chunk = struct.pack(">I", len(data)) + b"zTXt" + data
    chunk += struct.pack(">I", zlib.crc32(b"zTXt" + data))
    png = encoded(quarters(), "PNG")
    return png[:33] + chunk + png[33:]


def odd_but_good() -> Iterator[tuple[str, bytes, str]]:
    frames: dict[str, Any] = {"save_all": True, "append_images": [Image.new("RGB", (320, 240))]}
    yield "animated.gif", encoded(noise(), "GIF", **frames), GOOD
    yield "animated.webp", encoded(noise(), "WEBP", **frames), GOOD
    yield "animated.png", encoded(noise(), "PNG", **frames), GOOD
    yield "cmyk.jpg", encoded(noise().convert("CMYK"), "JPEG"), GOOD
    yield "cmyk.tif", encoded(noise().convert("CMYK"), "TIFF"), GOOD
    yield "deep.png", encoded(Image.new("I;16", (320, 240), 9000), "PNG"), GOOD
    yield "float.tif", encoded(Image.new("F", (320, 240), 0.5), "TIFF"), GOOD
    yield "tiny.png", encoded(Image.new("RGB", (1, 1)), "PNG"), GOOD
    yield "wide.png", encoded(Image.new("RGB", (30_000, 2)), "PNG"), GOOD
    yield "trailing.jpg", encoded(noise(), "JPEG") + b"\0" * 10_000, GOOD
    yield "new\nline.jpg", encoded(noise(), "JPEG"), GOOD
    yield os.fsdecode(b"bad\xff\xfeutf8.jpg"), encoded(noise(), "JPEG"), GOOD
    for number in range(5):
        exif = bytearray(exif_bytes({0x010F: "Acme" * 40}, {0x9003: "2024"}))
        exif[10 + number : 90] = bytes([255]) * (80 - number)
        yield f"exif{number}.jpg", encoded(noise(), "JPEG", exif=bytes(exif)), GOOD
