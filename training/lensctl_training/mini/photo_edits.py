"""Edits of photographs and the instructions that ask for them.

Every edit has wordings to train with, to choose by and to test with (`wordings.toml`), and none of
them is in two of these. The first nine make the benchmark's gallery; all are trained.
"""

import tomllib
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageEnhance, ImageFilter, ImageOps

Transform = Callable[[Image.Image], Image.Image]

WORDINGS = Path(__file__).with_name("wordings.toml")
COARSE = 24
"""Pixels on each side of a pixelated photo."""


@dataclass(frozen=True)
class PhotoEdit:
    """What is done to a photo and how it is asked for.

    Args:
        transform: RGB image -> RGB image.
        wordings: of instructions, for training.
        validation: of instructions, for choices.
        held_out: of instructions, for tests alone.
    """

    transform: Transform
    wordings: tuple[str, ...]
    validation: tuple[str, ...]
    held_out: tuple[str, ...]


@cache
def wordings() -> dict[str, Any]:
    """The tables of `wordings.toml`."""
    return tomllib.loads(WORDINGS.read_text(encoding="utf-8"))


def _grey(image: Image.Image) -> Image.Image:
    return ImageOps.grayscale(image).convert("RGB")


def _darker(image: Image.Image) -> Image.Image:
    return ImageEnhance.Brightness(image).enhance(0.35)


def _brighter(image: Image.Image) -> Image.Image:
    return ImageEnhance.Brightness(image).enhance(1.9)


def _turned(way: Image.Transpose) -> Transform:
    """Turned over or around, with no pixel lost."""
    return lambda image: image.transpose(way)


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


def _sepia(image: Image.Image) -> Image.Image:
    grey = ImageOps.grayscale(image)
    return ImageOps.colorize(grey, (30, 15, 0), (255, 240, 200), mid=(150, 110, 70))


def _faded(image: Image.Image) -> Image.Image:
    """As seen through fog."""
    return Image.blend(image, Image.new("RGB", image.size, (170, 170, 170)), 0.6)


def _stark(image: Image.Image) -> Image.Image:
    return ImageEnhance.Contrast(image).enhance(2.0)


def _sketched(image: Image.Image) -> Image.Image:
    """Grey divided by its blurred negative, which leaves lines on white, as of a pencil."""
    grey = ImageOps.grayscale(image)
    blurred = ImageOps.invert(grey).filter(ImageFilter.GaussianBlur(max(3, max(image.size) / 60)))
    lit = np.asarray(grey, np.float32) * 255
    drawn = np.clip(lit / np.maximum(255 - np.asarray(blurred, np.float32), 1), 0, 255)
    return Image.fromarray(drawn.astype(np.uint8)).convert("RGB")


def _pixelated(image: Image.Image) -> Image.Image:
    small = image.resize((COARSE, COARSE), Image.Resampling.BOX)
    return small.resize(image.size, Image.Resampling.NEAREST)


_TRANSFORMS: dict[str, Transform] = {
    "grey": _grey,
    "darker": _darker,
    "brighter": _brighter,
    "upside_down": _turned(Image.Transpose.ROTATE_180),
    "closer": _closer,
    "blurred": _blurred,
    "vivid": _vivid,
    "warmer": _tinted(1.25, 0.95, 0.65),
    "colder": _tinted(0.65, 0.95, 1.3),
    "mirrored": _turned(Image.Transpose.FLIP_LEFT_RIGHT),
    "quarter_left": _turned(Image.Transpose.ROTATE_90),
    "quarter_right": _turned(Image.Transpose.ROTATE_270),
    "sepia": _sepia,
    "faded": _faded,
    "stark": _stark,
    "negative": ImageOps.invert,
    "sketch": _sketched,
    "night": _tinted(0.18, 0.25, 0.45),
    "pixelated": _pixelated,
}

SPLITS = ("train", "validation", "held_out")
EDITS: dict[str, PhotoEdit] = {
    name: PhotoEdit(transform, *(tuple(wordings()["edits"][name][split]) for split in SPLITS))
    for name, transform in _TRANSFORMS.items()
}
BENCHMARK_EDITS = tuple(EDITS)[:9]
