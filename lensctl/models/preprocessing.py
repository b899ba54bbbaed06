"""An RGB image into the pixels that a model reads; numpy and Pillow only, used by both sides.

Resizing happens in float32 with antialiasing: Pillow's 8-bit resize differs from the published
evaluation of MagicLens by up to 0.02 after normalisation, its float resize by less than 1e-4. A
bicubic crop is resized in 8 bits, as open_clip's own evaluation does it, in half the time.
"""

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, get_args

import numpy as np

from lensctl.models.interface import Floats

if TYPE_CHECKING:
    from PIL import Image

Mode = Literal["squash", "crop", "pad"]
Interpolation = Literal["bilinear", "bicubic"]
Channels = tuple[float, float, float]

CLIP_MEAN: Channels = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD: Channels = (0.26862954, 0.26130258, 0.27577711)


MAX_SIDE = 4096
"""Of the square that a model reads, in pixels."""


@dataclass(frozen=True)
class Preprocessing:
    """How an image becomes (3, size, size) pixels.

    Args:
        size: side of the square that the model reads.
        mode: `squash` gives up the aspect ratio and keeps all of the image (the published
            MagicLens evaluation), `crop` keeps the largest centred square, `pad` keeps
            everything and fills the rest with the mean colour.
        interpolation: of the antialiased resize.
        mean: per channel, subtracted, in units of the scaled image.
        std: per channel, divided by.
        divide_by_max: scale by the image's own brightest value, as the published evaluation
            does, not by 255.
        crop_fraction: of the largest centred square's side that `crop` keeps.
    """

    size: int = 224
    mode: Mode = "squash"
    interpolation: Interpolation = "bilinear"
    mean: Channels = CLIP_MEAN
    std: Channels = CLIP_STD
    divide_by_max: bool = False
    crop_fraction: float = 1.0

    def __post_init__(self) -> None:
        if type(self.size) is not int or not 1 <= self.size <= MAX_SIDE:
            raise ValueError(f"size must be 1 to {MAX_SIDE}, not {self.size!r}")
        if self.mode not in ("squash", "crop", "pad"):
            raise ValueError(f"mode must be squash, crop or pad, not {self.mode!r}")
        if self.interpolation not in get_args(Interpolation):
            raise ValueError(f"interpolation must be one of {get_args(Interpolation)}")
        if not 0.0 < self.crop_fraction <= 1.0:
            raise ValueError(f"crop_fraction must be in (0, 1], not {self.crop_fraction}")
        object.__setattr__(self, "mean", tuple(map(float, self.mean)))
        object.__setattr__(self, "std", tuple(map(float, self.std)))
        numbers = (*self.mean, *self.std)
        if len(self.mean) != 3 or len(self.std) != 3 or min(self.std) <= 0:
            raise ValueError("mean and std need three numbers each, std above zero")
        if not all(map(math.isfinite, numbers)):
            raise ValueError("mean and std have to be finite")

    def __call__(self, image: "Image.Image") -> Floats:
        """An RGB image of any size -> (3, size, size) float32, normalised.

        EXIF orientation is the decoder's business: the published evaluation ignores it.
        """
        if image.mode != "RGB":
            image = image.convert("RGB")
        scale = 1.0 / self._brightest(image)
        if self.mode == "crop":
            image = image.crop(centre_box(image.width, image.height, self.crop_fraction))
        width, height = self._resized(image.width, image.height)
        pixels = self._resize(image, width, height) * np.float32(scale)
        pixels -= np.asarray(self.mean, dtype=np.float32)[:, None, None]
        pixels /= np.asarray(self.std, dtype=np.float32)[:, None, None]
        return self._centred(pixels) if self.mode == "pad" else pixels

    def _brightest(self, image: "Image.Image") -> float:
        """The value that becomes one; a black image stays black instead of dividing by zero."""
        if not self.divide_by_max:
            return 255.0
        return float(max(high for _, high in image.getextrema()) or 1)  # type: ignore[misc]

    def _resized(self, width: int, height: int) -> tuple[int, int]:
        if self.mode != "pad":
            return self.size, self.size
        scale = self.size / max(width, height)
        return max(1, round(width * scale)), max(1, round(height * scale))

    def _resize(self, image: "Image.Image", width: int, height: int) -> Floats:
        """(3, height, width); channel by channel, as Pillow's float images have one channel."""
        from PIL import Image  # a query in words needs no pixels

        kernel = Image.Resampling[self.interpolation.upper()]
        if self.mode == "crop" and kernel is Image.Resampling.BICUBIC:
            small = np.asarray(image.resize((width, height), kernel))
            return small.transpose(2, 0, 1).astype(np.float32, order="C")
        planes = [
            np.asarray(band.convert("F").resize((width, height), kernel)) for band in image.split()
        ]
        return np.stack(planes)

    def _centred(self, pixels: Floats) -> Floats:
        """Fill up to the square with zero, which is the mean colour after normalisation."""
        _, height, width = pixels.shape
        square = np.zeros((3, self.size, self.size), dtype=np.float32)
        top, left = (self.size - height) // 2, (self.size - width) // 2
        square[:, top : top + height, left : left + width] = pixels
        return square


def centre_box(width: int, height: int, fraction: float = 1.0) -> tuple[int, int, int, int]:
    """The centred square (left, top, right, bottom) of `fraction` of the shorter side."""
    side = max(1, round(min(width, height) * fraction))
    left, top = (width - side) // 2, (height - side) // 2
    return left, top, left + side, top + side
