"""Embeddings of freely licensed photos, cropped and edited: all that `mini` learns pictures from.

Every photo is public domain, CC0 or CC BY; the names in `SOURCES` are the credits. A photo gives
itself and thirty random crops, half of them cut out on a plain ground as things in catalogues are;
each of these is embedded as it is and after every edit.
"""

import math
import random
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import skimage
from PIL import Image, ImageDraw, ImageFilter
from tqdm import tqdm

from lensctl.errors import DependencyError
from lensctl.models.interface import Floats
from lensctl.models.mini import image_tower
from lensctl.models.mini.image_tower import WeightFile
from lensctl.models.mini.info import DATA
from lensctl.models.mini.packages import IMAGE_WEIGHTS, verified
from lensctl.models.mini.sides import PREPROCESSING, Encoder
from lensctl.photos.decode import decode
from lensctl_training.mini.photo_edits import EDITS

SOURCES: dict[str, tuple[Path, tuple[str, ...]]] = {
    "lomiri-wallpapers-16.04 (Debian): CC BY 4.0, seeding by Clements Engelhardt CC0": (
        Path("/usr/share/backgrounds"),
        (
            "Picture_0B_by_freespace.jpg",
            "Picture_1A_by_freespace.jpg",
            "Wine_by_Jakkub_Mede.jpg",
            "aitzgorri_by_Aitzol_Berasategi.jpg",
            "friends_by_Aitzol_Berasategi.jpg",
            "life_by_Aitzol_Berasategi.jpg",
            "picosdeeuropa_by_Aitzol_Berasategi.jpg",
            "seeding_by_Clements_Engelhardt.jpg",
            "sunset_by_Aitzol_Berasategi.jpg",
            "umang_by_Abhishek_Mudgal.jpg",
        ),
    ),
    "scikit-image: public domain or CC0, as the documentation of skimage.data states": (
        Path(skimage.__file__).parent / "data",
        (
            "astronaut.png",
            "brick.png",
            "camera.png",
            "chelsea.png",
            "clock_motion.png",
            "coffee.png",
            "coins.png",
            "grass.png",
            "gravel.png",
            "hubble_deep_field.jpg",
            "rocket.jpg",
        ),
    ),
}
CROPS = 30
SHARE = (0.2, 0.8)
"""Least and greatest side of a crop, of the photo's shorter side."""
FLATTEST = 0.7
"""Least ratio of a crop's sides."""
LARGEST = 2 * image_tower.SIZE
WHITE = 0.6
"""Share of white among the plain grounds."""
GROUNDS = (0, 30, 128, 200, 235)
CORNERS = (5, 11)
"""Fewest and most corners of a cut-out."""


def pictures() -> Iterator[Image.Image]:
    """Every photo, then its crops; the same ones in every run.

    Raises:
        DependencyError: a photo is not where its package puts it.
    """
    for source, (folder, names) in SOURCES.items():
        for name in names:
            if not (folder / name).is_file():
                raise DependencyError(
                    f"the photo {name} is missing",
                    why=f"it is part of {source}",
                    next_step="install that package",
                )
            yield from _pieces(decode(folder / name, at_least=1200).image, random.Random(name))


def _pieces(image: Image.Image, rng: random.Random) -> Iterator[Image.Image]:
    yield _small(image)
    for number in range(CROPS):
        crop = _small(_crop(image, rng))
        yield _cut_out(crop, rng) if number % 2 else crop


def _crop(image: Image.Image, rng: random.Random) -> Image.Image:
    width = int(min(image.size) * rng.uniform(*SHARE))
    height = int(width * rng.uniform(FLATTEST, 1))
    if rng.random() < 0.5:
        width, height = height, width
    left, top = rng.randint(0, image.width - width), rng.randint(0, image.height - height)
    return image.crop((left, top, left + width, top + height))


def _cut_out(image: Image.Image, rng: random.Random) -> Image.Image:
    """A polygon of the picture, with soft edges, on white, grey or black."""
    width, height = image.size
    corners = rng.randint(*CORNERS)
    outline = [
        (
            width / 2 * (1 + rng.uniform(0.45, 1) * math.cos(math.tau * corner / corners)),
            height / 2 * (1 + rng.uniform(0.45, 1) * math.sin(math.tau * corner / corners)),
        )
        for corner in range(corners)
    ]
    mask = Image.new("L", image.size, 0)
    ImageDraw.Draw(mask).polygon(outline, fill=255)
    mask = mask.filter(ImageFilter.GaussianBlur(max(image.size) / 80))
    grey = 255 if rng.random() < WHITE else rng.choice(GROUNDS)
    return Image.composite(image, Image.new("RGB", image.size, (grey,) * 3), mask)


def _small(image: Image.Image) -> Image.Image:
    """A copy of a photo library's usual detail at the model's size."""
    copy = image.copy()
    copy.thumbnail((LARGEST, LARGEST))
    return copy


def open_encoder() -> Encoder:
    """The index side's encoder."""
    return Encoder(WeightFile(verified(IMAGE_WEIGHTS), DATA / image_tower.LAYOUT))


def embed_views() -> Floats:
    """(P, 1 + edits, E) float32."""
    encode = open_encoder()
    total = (1 + CROPS) * sum(len(names) for _, names in SOURCES.values())
    rows = []
    for picture in tqdm(pictures(), total=total, unit="picture", disable=None):
        views = [picture, *(edit.transform(picture) for edit in EDITS.values())]
        rows.append(encode(np.stack([PREPROCESSING(view) for view in views])))
    return np.stack(rows)
