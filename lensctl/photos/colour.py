"""Any mode a photo is stored in, into 8-bit RGB as a screen shows it, reduced on the way.

Transparency is laid on white; an embedded colour profile other than sRGB is applied; deep greys
are brought to 8 bits.
"""

import io
from collections.abc import Callable
from functools import lru_cache

import numpy as np
from PIL import Image, ImageCms, ImageOps

_REDUCED_DIRECTLY = frozenset({"L", "RGB", "CMYK", "YCbCr", "HSV", "LAB", "RGBX"})
_STRIP_PIXELS = 500_000
_SHADES = "L"
_PHOTOMETRIC = 262
_PROFILE_SPACES = {"RGB ": "RGB", "GRAY": _SHADES, "CMYK": "CMYK"}


def to_rgb(image: Image.Image, at_least: int) -> tuple[Image.Image, tuple[str, ...]]:
    """An RGB image without metadata, and what was wrong with the colours.

    Args:
        image: decoded, in any of Pillow's modes.
        at_least: the shortest side of the result is at least this, or the image's own; larger
            images are reduced by a whole factor (each pixel the mean of a square), and the side
            stays below twice `at_least`.
    """
    profile = image.info.get("icc_profile")
    small = _reduced(image, max(1, min(image.size) // max(1, at_least)))
    if _is_negative(image):
        small = ImageOps.invert(small)
    result, problem = _in_srgb(small, profile)
    if result is image or result is small:
        result = result.copy()
    result.info = {}  # its orientation and profile are no longer those of these pixels
    return result, (problem,) if problem else ()


def _reduced(image: Image.Image, factor: int) -> Image.Image:
    """`image` in mode L, RGB or CMYK, both sides divided by `factor` (rounded up)."""
    if image.mode in ("I", "F"):
        return _shades_of_deep(Image.Image.reduce(image, factor))
    if image.mode in _REDUCED_DIRECTLY and not image.has_transparency_data:
        small = Image.Image.reduce(image, factor) if factor > 1 else image
        return small if small.mode in ("L", "RGB", "CMYK") else small.convert("RGB")
    convert = _to_average(image)
    small = convert(image) if factor == 1 else _reduced_in_strips(image, factor, convert)
    return _on_white(small) if small.mode == "RGBa" else small


def _reduced_in_strips(
    image: Image.Image, factor: int, convert: Callable[[Image.Image], Image.Image]
) -> Image.Image:
    """Reduces an image in a mode that cannot be averaged, never holding a second whole one."""
    width, height = image.size
    rows = max(1, _STRIP_PIXELS // width // factor) * factor
    result: Image.Image | None = None
    for top in range(0, height, rows):
        strip = convert(image.crop((0, top, width, min(top + rows, height)))).reduce(factor)
        if result is None:
            result = Image.new(strip.mode, (-(-width // factor), -(-height // factor)))
        result.paste(strip, (0, top // factor))
    assert result is not None  # an image has at least one row
    return result


def _to_average(image: Image.Image) -> Callable[[Image.Image], Image.Image]:
    """How strips of the image become L, RGB or RGBa, whose pixels have a meaningful mean."""
    if image.mode.startswith("I;16"):
        return _shades_of_16_bit
    if image.has_transparency_data or image.mode in ("La", "RGBa", "PA"):
        return _weighted_by_alpha
    if image.mode == "1":
        return lambda strip: strip.convert(_SHADES)
    return lambda strip: strip.convert("RGB")


def _weighted_by_alpha(image: Image.Image) -> Image.Image:
    if image.mode == "La":
        image = image.convert("LA")
    return image if image.mode == "RGBa" else image.convert("RGBA").convert("RGBa")


def _on_white(image: Image.Image) -> Image.Image:
    white = Image.new("RGBA", image.size, "white")
    return Image.alpha_composite(white, image.convert("RGBA")).convert("RGB")


def _shades_of_16_bit(image: Image.Image) -> Image.Image:
    """The high byte of 16 bits; Pillow's own conversion clips at 255 instead."""
    pixels = np.asarray(image)
    return Image.fromarray((pixels.astype(np.uint16) >> 8).astype(np.uint8))


def _shades_of_deep(image: Image.Image) -> Image.Image:
    """32-bit integers or floats, whose range no header tells, into 8 bits.

    Values up to 1 (floats), 255 or 65535 are taken for what they seem; anything else is stretched
    from its least to its greatest. Not-a-numbers and infinities are black.
    """
    pixels = np.asarray(image).astype(np.float64)
    finite = np.isfinite(pixels)
    pixels = np.where(finite, pixels, 0.0)
    low, high = float(pixels.min()), float(pixels.max())
    top = high
    if low >= 0:
        ranges = (1.0, 255.0, 65535.0) if image.mode == "F" else (255.0, 65535.0)
        low, top = 0.0, next((limit for limit in ranges if high <= limit), high)
    scaled = (pixels - low) * (255.0 / (top - low)) if top > low else pixels - low
    return Image.fromarray(np.where(finite, scaled, 0.0).round().astype(np.uint8))


def _is_negative(image: Image.Image) -> bool:
    """Whether 0 is white in a deep grey TIFF; of shallow ones Pillow gives the positive."""
    tags = getattr(image, "tag_v2", {})
    return image.mode in ("I;16", "F") and tags.get(_PHOTOMETRIC) == 0


def _in_srgb(image: Image.Image, profile: bytes | None) -> tuple[Image.Image, str | None]:
    """The image in sRGB, and a problem with its colour profile."""
    if not profile:
        return image.convert("RGB"), None
    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        fits = _PROFILE_SPACES.get(source.profile.xcolor_space) == image.mode
        if not fits or _is_srgb(profile, image.mode):
            return image.convert("RGB"), None
        result = ImageCms.profileToProfile(image, source, _SRGB, outputMode="RGB")
    except (ImageCms.PyCMSError, OSError, ValueError) as error:
        return image.convert("RGB"), f"the colour profile is damaged ({error})"
    assert result is not None  # None comes back only from a transform in place
    return result, None


_SRGB = ImageCms.createProfile("sRGB")


_DARK_GREY, _NEARLY = 55, 8


@lru_cache(maxsize=8)  # photos of one camera have the same profile
def _is_srgb(profile: bytes, mode: str) -> bool:
    """Whether it is called sRGB and leaves a dark grey as it is, which "Linear sRGB" does not."""
    source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
    if "srgb" not in (source.profile.profile_description or "").lower():
        return False
    grey = Image.new("L", (1, 1), _DARK_GREY).convert(mode)
    shown = ImageCms.profileToProfile(grey, source, _SRGB, outputMode="RGB")
    assert shown is not None  # as above
    return bool(abs(np.asarray(shown, int) - _DARK_GREY).max() <= _NEARLY)
