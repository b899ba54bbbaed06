"""Embeddings of freely licensed photos, cropped and edited: all that `mini` learns pictures from.

    apt-get install lomiri-wallpapers-16.04
    python -m lensctl_training.mini.views --out views.npy

Every photo is public domain, CC0 or CC BY; the names in `SOURCES` are the credits. A photo gives
itself and six random crops; each of these is embedded as it is and after every edit.
"""

import argparse
import random
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import skimage
from PIL import Image
from tqdm import tqdm

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
    "scikit-image: public domain or CC0, see its data/README": (
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
            "moon.png",
            "rocket.jpg",
        ),
    ),
}
CROPS = 6
SHARE = (0.3, 0.8)
"""Least and greatest side of a crop, of the photo's shorter side."""
LARGEST = 2 * image_tower.SIZE


def pictures() -> Iterator[Image.Image]:
    """Every photo, then its crops; the same ones in every run."""
    rng = random.Random(0)
    for folder, names in SOURCES.values():
        for name in names:
            image = decode(folder / name, at_least=1200).image
            yield _small(image)
            for _ in range(CROPS):
                yield _small(_crop(image, rng))


def _crop(image: Image.Image, rng: random.Random) -> Image.Image:
    width = int(min(image.size) * rng.uniform(*SHARE))
    height = int(width * rng.uniform(0.75, 1))
    left, top = rng.randint(0, image.width - width), rng.randint(0, image.height - height)
    return image.crop((left, top, left + width, top + height))


def _small(image: Image.Image) -> Image.Image:
    """A copy of a photo library's usual detail at the model's size."""
    copy = image.copy()
    copy.thumbnail((LARGEST, LARGEST))
    return copy


def embed_views() -> Floats:
    """(P, 1 + edits, E) float32."""
    encode = Encoder(WeightFile(verified(IMAGE_WEIGHTS), DATA / image_tower.LAYOUT))
    total = (1 + CROPS) * sum(len(names) for _, names in SOURCES.values())
    rows = []
    for picture in tqdm(pictures(), total=total, unit="picture"):
        views = [picture, *(edit.transform(picture) for edit in EDITS.values())]
        rows.append(encode(np.stack([PREPROCESSING(view) for view in views])))
    return np.stack(rows)


def main() -> None:
    """Write the file."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    np.save(arguments.out, embed_views().astype(np.float16))


if __name__ == "__main__":
    main()
