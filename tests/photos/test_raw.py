"""Camera RAW: the preview is shown upright, the sensor's image only where there is none."""

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from lensctl.errors import PhotoError
from lensctl.photos.decode import decode
from lensctl.photos.raw import RawFile
from lensctl.photos.reader import read_photo
from support.image_files import (
    BLUE,
    GREEN,
    GREY,
    RED,
    corners,
    dng,
    encoded,
    exif_bytes,
    quarters,
)

UPRIGHT = np.array([RED, GREEN, BLUE, GREY])


def sensor(width: int = 240, height: int = 160) -> np.ndarray:
    """A dim sensor image, unlike the preview."""
    return np.full((height, width), 9000, np.uint16)


def preview(width: int = 240, height: int = 160, **options: object) -> bytes:
    return encoded(quarters(width, height), "JPEG", quality=95, **options)


def test_the_preview_is_shown() -> None:
    photo = decode(io.BytesIO(dng(sensor(), preview())), at_least=100)
    assert (photo.width, photo.height, photo.format) == (240, 160, "RAW")
    assert abs(corners(photo.image) - UPRIGHT).max() <= 6


def test_the_name_gives_the_format(tmp_path: Path) -> None:
    path = tmp_path / "photo.DNG"
    path.write_bytes(dng(sensor(), preview()))
    assert decode(path, at_least=100).format == "DNG"


@pytest.mark.parametrize(
    ("orientation", "undo"),
    [
        (3, Image.Transpose.ROTATE_180),
        (6, Image.Transpose.ROTATE_90),
        (8, Image.Transpose.ROTATE_270),
    ],
)
def test_the_preview_is_turned_with_the_photo(orientation: int, undo: Image.Transpose) -> None:
    stored = encoded(quarters().transpose(undo), "JPEG", quality=95)
    turned = orientation != 3
    height, width = (120, 80) if turned else (80, 120)
    photo = decode(
        io.BytesIO(dng(sensor(width, height), stored, orientation=orientation)), at_least=80
    )
    assert (photo.width, photo.height) == (120, 80)
    assert abs(corners(photo.image) - UPRIGHT).max() <= 6


def test_a_preview_stored_upright_is_left_alone() -> None:
    photo = decode(io.BytesIO(dng(sensor(160, 240), preview(), orientation=6)), at_least=100)
    assert (photo.width, photo.height) == (240, 160)
    assert abs(corners(photo.image) - UPRIGHT).max() <= 6


def test_a_preview_with_an_orientation_of_its_own() -> None:
    stored = quarters(240, 160).transpose(Image.Transpose.ROTATE_90)
    shown = encoded(stored, "JPEG", quality=95, exif=exif_bytes({0x0112: 6}))
    photo = decode(io.BytesIO(dng(sensor(160, 240), shown, orientation=6)), at_least=100)
    assert abs(corners(photo.image) - UPRIGHT).max() <= 6


@pytest.mark.parametrize("small", [None, (24, 16)], ids=["none", "a tiny one"])
def test_without_a_usable_preview_the_photo_is_developed(small: tuple[int, int] | None) -> None:
    shown = None if small is None else preview(*small)
    photo = decode(io.BytesIO(dng(sensor(480, 320), shown)), at_least=100)
    assert (photo.width, photo.height) == (480, 320)
    assert min(photo.image.size) >= 100
    low, high = np.asarray(photo.image.convert("L")).min(), np.asarray(photo.image).max()
    assert low > 0 and high - low < 200, "a flat sensor image has no quarters"


def test_large_previews_are_reduced() -> None:
    photo = decode(io.BytesIO(dng(sensor(1600, 1000), preview(1600, 1000))), at_least=100)
    assert 100 <= min(photo.image.size) < 200


def test_the_bound_on_pixels_counts_the_photo_not_the_preview() -> None:
    with pytest.raises(PhotoError, match="beyond the bound"):
        decode(io.BytesIO(dng(sensor(), preview(24, 16))), at_least=64, max_pixels=240 * 160 - 1)


def test_facts_of_a_raw(tmp_path: Path) -> None:
    path = tmp_path / "photo.dng"
    path.write_bytes(dng(sensor(), preview(), taken="2024:07:01 12:30:00", orientation=3))
    facts = read_photo(bytes(path), at_least=64).facts
    assert facts is not None
    assert (facts.taken, facts.camera) == ("2024-07-01T12:30:00", "Lens Works Model 1")
    assert (facts.width, facts.height, facts.format, facts.orientation) == (240, 160, "DNG", 3)


def test_the_date_as_libraw_reads_it() -> None:
    stream = io.BytesIO(dng(sensor(), None, taken="2024:07:01 12:30:00"))
    assert RawFile(stream).taken() == "2024-07-01T12:30:00"
    assert RawFile(io.BytesIO(dng(sensor(), None))).taken() is None


def test_truncated_and_false_raws(tmp_path: Path) -> None:
    whole = dng(sensor(), None)
    path = tmp_path / "photo.nef"
    for data in (whole[: len(whole) // 2], whole[:100], b"II*\0" + b"\xff" * 500, b"FOVb" * 9):
        path.write_bytes(data)
        with pytest.raises(PhotoError):
            decode(path, at_least=64)
