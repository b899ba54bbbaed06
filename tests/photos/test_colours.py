"""Every mode a photo is stored in shows the right colours, whole and reduced."""

import io
from collections.abc import Callable

import numpy as np
import pytest
from PIL import Image, ImageCms

from lensctl.photos.decode import decode
from support.image_files import BLUE, GREEN, GREY, RED, corners, encoded, quarters

UPRIGHT = np.array([RED, GREEN, BLUE, GREY])
LUMA = np.array([[round(0.299 * r + 0.587 * g + 0.114 * b)] * 3 for r, g, b in UPRIGHT])
WHITE = np.full(3, 255)

sizes = pytest.mark.parametrize("width", [120, 1200], ids=["whole", "reduced"])


def colours(image: Image.Image, format: str, **options: object) -> np.ndarray:
    photo = decode(io.BytesIO(encoded(image, format, **options)), at_least=64)
    assert photo.image.mode == "RGB"
    assert photo.problems == ()
    return corners(photo.image)


def picture(width: int) -> Image.Image:
    return quarters(width, width * 2 // 3)


@sizes
@pytest.mark.parametrize("format", ["JPEG", "PNG", "TIFF", "JPEG2000"])
def test_greyscale(format: str, width: int) -> None:
    assert abs(colours(picture(width).convert("L"), format) - LUMA).max() <= 3


@sizes
def test_cmyk_tiff(width: int) -> None:
    assert abs(colours(picture(width).convert("CMYK"), "TIFF") - UPRIGHT).max() <= 2


@sizes
def test_cmyk_jpeg_inverted_as_adobe_writes_it(width: int) -> None:
    data = encoded(picture(width).convert("CMYK"), "JPEG", quality=95)
    assert b"Adobe" in data[:200]
    assert abs(corners(decode(io.BytesIO(data), at_least=64).image) - UPRIGHT).max() <= 6


@sizes
def test_sixteen_bit_grey_is_scaled_not_clipped(width: int) -> None:
    deep = Image.fromarray(np.asarray(picture(width).convert("L")).astype(np.uint16) * 257)
    for format in ("PNG", "TIFF", "JPEG2000"):
        assert abs(colours(deep, format) - LUMA).max() <= 1, format


@sizes
@pytest.mark.parametrize("kind", [np.uint8, np.uint16, np.float32])
@pytest.mark.parametrize("photometric", ["minisblack", "miniswhite"])
def test_grey_tiff_where_zero_is_black_or_white(photometric: str, kind: type, width: int) -> None:
    import tifffile

    grey = np.asarray(picture(width).convert("L"))
    if photometric == "miniswhite":
        grey = 255 - grey
    stream = io.BytesIO()
    deep = grey.astype(kind) * (257 if kind is np.uint16 else 1)
    tifffile.imwrite(stream, deep, photometric=photometric)
    assert abs(corners(decode(stream, at_least=64).image) - LUMA).max() <= 1


@sizes
def test_sixteen_bit_colour(width: int) -> None:
    import tifffile

    stream = io.BytesIO()
    deep = np.asarray(picture(width)).astype(np.uint16) * 257
    tifffile.imwrite(stream, deep, photometric="rgb")
    photo = decode(stream, at_least=64)
    assert abs(corners(photo.image) - UPRIGHT).max() <= 1


@sizes
@pytest.mark.parametrize("top", [1.0, 255.0, 65535.0])
def test_float_tiff_of_any_range(width: int, top: float) -> None:
    grey = np.asarray(picture(width).convert("L")).astype(np.float32) * (top / 255)
    assert abs(colours(Image.fromarray(grey), "TIFF") - LUMA).max() <= 1


def test_float_tiff_with_not_a_numbers() -> None:
    grey = np.asarray(picture(120).convert("L")).astype(np.float32) / 255
    grey[:3] = np.nan
    grey[3, 0] = np.inf
    assert abs(colours(Image.fromarray(grey), "TIFF") - LUMA).max() <= 1


def test_float_tiff_below_zero_is_stretched() -> None:
    grey = np.linspace(-5.0, 5.0, 120 * 80, dtype=np.float32).reshape(80, 120)
    shown = decode(io.BytesIO(encoded(Image.fromarray(grey), "TIFF")), at_least=64).image
    assert shown.getpixel((0, 0)) == (0, 0, 0)
    assert shown.getpixel((119, 79)) == (255, 255, 255)


def test_a_flat_float_tiff_is_no_division_by_zero() -> None:
    flat = Image.fromarray(np.full((80, 120), -2.0, np.float32))
    assert colours(flat, "TIFF").max() == 0


@sizes
def test_thirty_two_bit_integers(width: int) -> None:
    grey = Image.fromarray(np.asarray(picture(width).convert("L")).astype(np.int32) * 257)
    assert abs(colours(grey, "TIFF") - LUMA).max() <= 1


@sizes
def test_bilevel(width: int) -> None:
    image = picture(width).convert("L").point(lambda v: 255 if v > 100 else 0).convert("1")
    wanted = np.where(LUMA > 100, 255, 0)
    assert (colours(image, "PNG") == wanted).all()


@sizes
def test_palette(width: int) -> None:
    image = picture(width).convert("P", palette=Image.Palette.ADAPTIVE)
    for format in ("PNG", "GIF", "BMP", "TIFF"):
        assert abs(colours(image, format) - UPRIGHT).max() <= 2, format


@sizes
def test_palette_with_a_transparent_colour(width: int) -> None:
    image = picture(width).convert("P", palette=Image.Palette.ADAPTIVE)
    clear = image.getpixel((2, 2))
    for format in ("PNG", "GIF"):
        shown = colours(image, format, transparency=clear)
        assert abs(shown[0] - WHITE).max() == 0, format
        assert abs(shown[1:] - UPRIGHT[1:]).max() <= 2, format


def half_clear(image: Image.Image) -> Image.Image:
    """Opaque on the left, half transparent on the right."""
    alpha = Image.new("L", image.size, 255)
    alpha.paste(128, (image.width // 2, 0, image.width, image.height))
    image.putalpha(alpha)
    return image


@sizes
@pytest.mark.parametrize("format", ["PNG", "WEBP", "TIFF", "AVIF", "HEIF", "JPEG2000"])
def test_alpha_lies_on_white(format: str, width: int) -> None:
    options = {"lossless": True} if format == "WEBP" else {}
    shown = colours(half_clear(picture(width)), format, **options)
    wanted = UPRIGHT.copy()
    wanted[1::2] = (wanted[1::2] + 255) / 2
    assert abs(shown - wanted).max() <= 8


@sizes
def test_grey_with_alpha(width: int) -> None:
    shown = colours(half_clear(picture(width).convert("LA")), "PNG")
    wanted = LUMA.copy()
    wanted[1::2] = (wanted[1::2] + 255) / 2
    assert abs(shown - wanted).max() <= 2


def test_a_transparent_colour_in_a_colour_png() -> None:
    shown = colours(picture(120), "PNG", transparency=RED)
    assert (shown[0] == WHITE).all()
    assert (shown[1:] == UPRIGHT[1:]).all()


@sizes
def test_lab_tiff(width: int) -> None:
    to_lab = ImageCms.buildTransform(
        ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB"), "RGB", "LAB"
    )
    lab = ImageCms.applyTransform(picture(width), to_lab)
    assert abs(colours(lab, "TIFF") - UPRIGHT).max() <= 10  # 8 bits of a and b are coarse


def swapped_profile() -> bytes:
    """A real RGB profile whose red and green primaries are exchanged."""
    profile = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    red, green = profile.index(b"rXYZ"), profile.index(b"gXYZ")
    profile[red : red + 4], profile[green : green + 4] = b"gXYZ", b"rXYZ"
    text = profile.index("sRGB".encode("utf-16-be"))
    profile[text : text + 8] = "XXXX".encode("utf-16-be")
    return bytes(profile)


@sizes
@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP", "TIFF", "AVIF", "HEIF"])
def test_an_embedded_colour_profile_is_applied(format: str, width: int) -> None:
    shown = colours(picture(width), format, icc_profile=swapped_profile())
    assert shown[0][1] > shown[0][0] + 100, "red pixels of swapped primaries are green"
    assert shown[1][0] > shown[1][1] + 50


def test_an_srgb_profile_changes_nothing() -> None:
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    assert (colours(picture(120), "PNG", icc_profile=profile) == UPRIGHT).all()


def linear_srgb_profile() -> bytes:
    """sRGB by its name and its primaries; its one curve is a gamma of 1."""
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    curve = profile.index(b"para")
    gamma = b"para" + bytes(6) + b"\0\0\0\1\0\0"
    return profile[:curve] + gamma + profile[curve + len(gamma) :]


@pytest.mark.parametrize("mode", ["RGB", "RGBA"])
def test_a_linear_profile_is_applied_though_it_is_called_srgb(mode: str) -> None:
    linear = linear_srgb_profile()
    shown = colours(Image.new(mode, (120, 80), (55, 55, 55)), "PNG", icc_profile=linear)
    assert abs(shown - 128).max() <= 1


@pytest.mark.parametrize(
    "spoil", [lambda p: p[:200], lambda p: b"\0" * 300, lambda p: p[:130] + b"\xff" * 300]
)
def test_a_damaged_profile_is_told_and_left_out(spoil: Callable[[bytes], bytes]) -> None:
    data = encoded(picture(120), "PNG", icc_profile=spoil(swapped_profile()))
    photo = decode(io.BytesIO(data), at_least=64)
    assert (corners(photo.image) == UPRIGHT).all()
    assert "colour profile" in photo.problems[0]


def test_a_profile_for_another_mode_is_left_out() -> None:
    data = encoded(picture(120).convert("L"), "PNG", icc_profile=swapped_profile())
    photo = decode(io.BytesIO(data), at_least=64)
    assert abs(corners(photo.image) - LUMA).max() == 0


def test_strips_meet_without_a_seam() -> None:
    """A tall palette image is reduced strip by strip to the same pixels as in one piece."""
    noise = Image.effect_noise((700, 13_001), 90).convert("P")
    shown = decode(io.BytesIO(encoded(noise, "PNG")), at_least=100).image
    assert shown.tobytes() == noise.convert("RGB").reduce(7).tobytes()
