"""Every format and orientation comes out upright, in its colours, large enough and no larger."""

import io
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from lensctl.errors import PhotoError
from lensctl.photos.decode import decode, decode_cost
from support.image_files import BLUE, GREEN, GREY, RED, corners, encoded, exif_bytes, quarters

UPRIGHT = np.array([RED, GREEN, BLUE, GREY])
FORMATS = {
    "JPEG": {"quality": 95},
    "PNG": {},
    "WEBP": {"quality": 95},
    "GIF": {},
    "TIFF": {"compression": "tiff_lzw"},
    "BMP": {},
    "AVIF": {"quality": 90},
    "JPEG2000": {},
    "HEIF": {"quality": 95},
}


def shown(data: bytes, at_least: int = 64) -> Image.Image:
    return decode(io.BytesIO(data), at_least=at_least).image


@pytest.mark.parametrize("name", FORMATS)
def test_every_format(name: str) -> None:
    photo = decode(io.BytesIO(encoded(quarters(), name, **FORMATS[name])), at_least=64)
    assert (photo.width, photo.height, photo.format) == (120, 80, name)
    assert photo.image.mode == "RGB"
    assert photo.image.size == (120, 80)
    assert abs(corners(photo.image) - UPRIGHT).max() <= 6
    assert photo.image.info == {}


@pytest.mark.parametrize("name", FORMATS)
def test_large_photos_are_reduced_to_less_than_twice_what_is_asked(name: str) -> None:
    photo = decode(io.BytesIO(encoded(quarters(1210, 806), name, **FORMATS[name])), at_least=100)
    assert (photo.width, photo.height) == (1210, 806)
    assert 100 <= min(photo.image.size) < 202
    assert photo.image.width / photo.image.height == pytest.approx(1210 / 806, rel=0.02)
    assert abs(corners(photo.image) - UPRIGHT).max() <= 6


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("name", ["JPEG", "PNG", "WEBP", "TIFF", "AVIF", "HEIF"])
def test_exif_orientation(name: str, orientation: int) -> None:
    undo = {
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }.get(orientation)
    stored = quarters() if undo is None else quarters().transpose(undo)
    if name in ("AVIF", "HEIF"):  # their encoders make EXIF orientation the container's own, too
        data = encoded(stored, name, exif=exif_bytes({0x0112: orientation}), quality=90)
    else:
        data = encoded(stored, name, exif=exif_bytes({0x0112: orientation}))
    photo = decode(io.BytesIO(data), at_least=64)
    assert (photo.width, photo.height) == (120, 80)
    assert abs(corners(photo.image) - UPRIGHT).max() <= 8


def test_nonsense_orientation_is_none() -> None:
    data = encoded(quarters(), "JPEG", exif=exif_bytes({0x0112: 77}))
    assert abs(corners(shown(data)) - UPRIGHT).max() <= 6


def test_orientation_is_not_left_in_the_result() -> None:
    data = encoded(quarters(), "JPEG", exif=exif_bytes({0x0112: 6}))
    assert 0x0112 not in shown(data).getexif()


def test_jpeg_draft_never_goes_below_what_is_asked() -> None:
    data = encoded(quarters(1600, 1000), "JPEG")
    for at_least in (120, 125, 126, 250, 251, 500, 501, 999, 1000, 2000):
        assert min(shown(data, at_least).size) >= min(at_least, 1000)


@pytest.mark.parametrize("size", [(1210, 806), (1208, 808), (1199, 801), (1024, 1024)])
@pytest.mark.parametrize(
    "layout",
    [{}, {"tile_size": (99, 101)}, {"num_resolutions": 2}, {"offset": (7, 9)}],
    ids=["plain", "tiles", "two levels", "offset"],
)
def test_jpeg_2000_at_lower_resolution(size: tuple[int, int], layout: dict[str, Any]) -> None:
    if "offset" in layout:
        layout = layout | {"tile_offset": (3, 5), "tile_size": (256, 256)}
    image = shown(encoded(quarters(*size), "JPEG2000", **layout), 100)
    assert 100 <= min(image.size) < 202
    assert abs(corners(image) - UPRIGHT).max() <= 2


def test_progressive_jpeg() -> None:
    data = encoded(quarters(1200, 800), "JPEG", progressive=True, quality=95)
    assert abs(corners(shown(data)) - UPRIGHT).max() <= 6


def test_first_frame_of_animations() -> None:
    second = Image.new("RGB", (120, 80), "black")
    for name in ("GIF", "WEBP", "PNG", "TIFF", "AVIF"):
        data = encoded(quarters(), name, save_all=True, append_images=[second], duration=50)
        assert abs(corners(shown(data)) - UPRIGHT).max() <= 25, name


def test_extreme_shapes() -> None:
    for size in ((1, 1), (1, 3000), (3000, 1), (4001, 3)):
        image = shown(encoded(Image.new("RGB", size, RED), "PNG"), 64)
        assert image.size == size
        assert image.getpixel((0, 0)) == RED


def test_paths_of_every_type(tmp_path: Path) -> None:
    path = tmp_path / "photo.jpg"
    path.write_bytes(encoded(quarters(), "JPEG"))
    for source in (path, str(path), bytes(path)):
        assert decode(source, at_least=64).width == 120
    with path.open("rb") as stream:
        assert decode(stream, at_least=64).width == 120


def test_a_wrong_ending_is_no_obstacle(tmp_path: Path) -> None:
    for name in ("photo.png", "photo.cr2", "photo.heic", "photo"):
        path = tmp_path / name
        path.write_bytes(encoded(quarters(), "JPEG"))
        assert decode(path, at_least=64).format == "JPEG"


def test_the_bound_on_pixels_is_checked_before_decoding() -> None:
    from support.image_files import png_header

    with pytest.raises(PhotoError, match=r"60000 x 60000 pixels \(3,600 MP\) is beyond .* 500 MP"):
        decode(io.BytesIO(png_header(60_000, 60_000)), at_least=64)
    data = encoded(quarters(), "JPEG")
    with pytest.raises(PhotoError, match="beyond the bound"):
        decode(io.BytesIO(data), at_least=64, max_pixels=120 * 80 - 1)
    assert decode(io.BytesIO(data), at_least=64, max_pixels=120 * 80).width == 120


def test_huge_gif_screen_is_refused() -> None:
    screen = struct.pack("<HHBBB", 65535, 65535, 0, 0, 0)
    frame = b"\x2c" + struct.pack("<HHHHBB", 0, 0, 65535, 65535, 0, 8) + b"\0;"
    data = b"GIF89a" + screen + frame
    with pytest.raises(PhotoError, match="beyond the bound"):
        decode(io.BytesIO(data), at_least=64)


def test_truncated_files_say_so() -> None:
    noise = Image.effect_noise((300, 200), 80).convert("RGB")
    for name in FORMATS:
        data = encoded(noise, name, **FORMATS[name])
        with pytest.raises(PhotoError) as caught:
            decode(io.BytesIO(data[: len(data) // 2]), at_least=64)
        assert caught.value.what
        if name in ("JPEG", "PNG"):
            assert "truncated" in caught.value.what


def test_what_is_no_image_is_named() -> None:
    with pytest.raises(PhotoError, match="empty"):
        decode(io.BytesIO(b""), at_least=64)
    with pytest.raises(PhotoError, match="not an image"):
        decode(io.BytesIO(b"%PDF-1.7 and so on" * 10), at_least=64)


def test_formats_with_dangerous_decoders_are_not_opened() -> None:
    postscript = encoded(quarters(), "EPS")
    with pytest.raises(PhotoError, match="not an image"):
        decode(io.BytesIO(postscript), at_least=64)


def test_cost_grows_with_what_is_held_in_memory() -> None:
    small, large = (decode_cost(side, side, "PNG", at_least=448) for side in (1000, 10_000))
    assert small < 10**8 < 4 * 10**8 < large < 10**9
    baseline, progressive = (
        decode_cost(6000, 4000, "JPEG", at_least=448, progressive=stored)
        for stored in (False, True)
    )
    assert baseline < progressive
    panorama = decode_cost(27_000, 890, "JPEG", at_least=448, progressive=False)
    # A panorama is not decoded at reduced scale: 4 bytes a pixel as decoded, 16 as turned to RGB.
    assert panorama > 20 * 27_000 * 890 > 4 * 27_000 * 890 > baseline
