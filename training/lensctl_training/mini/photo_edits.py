"""Edits of photographs and the instructions that ask for them.

Every edit has wordings to train with and wordings to test with, and no wording is in both.
"""

from collections.abc import Callable
from dataclasses import dataclass

from PIL import Image, ImageEnhance, ImageFilter, ImageOps

Transform = Callable[[Image.Image], Image.Image]


@dataclass(frozen=True)
class PhotoEdit:
    """What is done to a photo and how it is asked for.

    Args:
        transform: RGB image -> RGB image.
        wordings: of instructions, for training.
        held_out: of instructions, for tests alone.
    """

    transform: Transform
    wordings: tuple[str, ...]
    held_out: tuple[str, ...]


def _grey(image: Image.Image) -> Image.Image:
    return ImageOps.grayscale(image).convert("RGB")


def _darker(image: Image.Image) -> Image.Image:
    return ImageEnhance.Brightness(image).enhance(0.35)


def _brighter(image: Image.Image) -> Image.Image:
    return ImageEnhance.Brightness(image).enhance(1.9)


def _upside_down(image: Image.Image) -> Image.Image:
    return image.transpose(Image.Transpose.ROTATE_180)


def _closer(image: Image.Image) -> Image.Image:
    """The central half of each side."""
    width, height = image.size
    return image.crop((width // 4, height // 4, width - width // 4, height - height // 4))


def _blurred(image: Image.Image) -> Image.Image:
    return image.filter(ImageFilter.GaussianBlur(max(image.size) / 60))


def _vivid(image: Image.Image) -> Image.Image:
    return ImageEnhance.Color(image).enhance(2.2)


def _tinted(red: float, green: float, blue: float) -> Transform:
    """A colour cast, as of warm or cold light."""
    scales = (red, green, blue)

    def tint(image: Image.Image) -> Image.Image:
        bands = [
            band.point([min(255, round(value * scale)) for value in range(256)])
            for band, scale in zip(image.split(), scales, strict=True)
        ]
        return Image.merge("RGB", bands)

    return tint


EDITS: dict[str, PhotoEdit] = {
    "grey": PhotoEdit(
        _grey,
        (
            "in black and white",
            "make it black and white",
            "black-and-white version",
            "greyscale",
            "without colour",
            "the same photo in grayscale",
            "b&w",
            "monochrome please",
            "remove the colors",
        ),
        ("a monochrome picture of this", "turn it grey", "no colors", "as a black and white photo"),
    ),
    "darker": PhotoEdit(
        _darker,
        (
            "darker",
            "make it darker",
            "much darker",
            "the same but darker",
            "with less light",
            "underexposed",
            "dim the lights",
            "lower the brightness",
        ),
        ("a darker version of this", "less bright", "taken in dim light", "reduce the exposure"),
    ),
    "brighter": PhotoEdit(
        _brighter,
        (
            "brighter",
            "make it brighter",
            "much lighter",
            "the same but brighter",
            "with more light",
            "overexposed",
            "turn up the brightness",
            "in bright light",
        ),
        ("a brighter version of this", "lighten it", "more exposure", "very bright"),
    ),
    "upside_down": PhotoEdit(
        _upside_down,
        (
            "upside down",
            "turn it upside down",
            "rotated by 180 degrees",
            "the same photo upside-down",
            "flip it on its head",
            "standing on its head",
            "half a turn",
        ),
        ("the wrong way up", "rotate it 180°", "inverted, top to bottom", "an upside-down copy"),
    ),
    "closer": PhotoEdit(
        _closer,
        (
            "closer",
            "zoom in",
            "a close-up",
            "zoomed in on the middle",
            "a closer view of this",
            "magnified",
            "crop to the centre",
            "nearer",
        ),
        ("show it from closer", "enlarge the middle part", "a tighter crop", "a close up of it"),
    ),
    "blurred": PhotoEdit(
        _blurred,
        (
            "blurred",
            "blurry",
            "make it blurry",
            "out of focus",
            "the same but unsharp",
            "soft focus",
            "defocused",
            "smear it",
        ),
        ("a blurry version of this", "not in focus", "less sharp", "blur this photo"),
    ),
    "vivid": PhotoEdit(
        _vivid,
        (
            "more colourful",
            "with vivid colors",
            "more saturated",
            "stronger colours",
            "make the colors pop",
            "oversaturated",
        ),
        ("richer colors", "increase the saturation", "a more vivid version of this"),
    ),
    "warmer": PhotoEdit(
        _tinted(1.25, 0.95, 0.65),
        (
            "warmer",
            "in warm light",
            "with a warm tone",
            "more orange",
            "in golden light",
            "at sunset",
            "yellowish",
        ),
        ("a warmer version of this", "with an orange cast", "in evening light"),
    ),
    "colder": PhotoEdit(
        _tinted(0.65, 0.95, 1.3),
        (
            "colder",
            "in cold light",
            "with a blue tint",
            "bluish",
            "cooler colours",
            "more blue",
            "a cold tone",
        ),
        ("a colder version of this", "with a blue cast", "cool it down"),
    ),
}
