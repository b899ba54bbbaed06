"""How many altered copies `lensctl duplicates` would find: by the vectors, by the hash, by both.

    python benchmarks/duplicates.py [FOLDER] [--model mini]

FOLDER holds photos, no two of one scene; without it, fifteen of the scikit-image wheel are taken.
Each photo is altered in every way below and compared with its original.
"""

import argparse
import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import skimage
from PIL import Image, ImageEnhance

from lensctl.library.duplicates import MIN_COSINE
from lensctl.models.interface import Floats, IndexSide
from lensctl.models.registry import open_model
from lensctl.photos.decode import decode
from lensctl.photos.near_duplicates import MAX_DISTANCE, perceptual_hash

NAMES = (
    "coffee chelsea astronaut rocket brick coins camera motorcycle_left hubble_deep_field retina"
    " moon grass gravel ihc color"
)


def _recompressed(image: Image.Image, quality: int) -> Image.Image:
    stream = io.BytesIO()
    image.save(stream, "JPEG", quality=quality)
    return Image.open(stream).convert("RGB")


def _resized(image: Image.Image, part: int) -> Image.Image:
    return image.resize((max(1, image.width // part), max(1, image.height // part)))


def _cropped(image: Image.Image, share: float) -> Image.Image:
    x, y = round(image.width * share / 2), round(image.height * share / 2)
    return image.crop((x, y, image.width - x, image.height - y))


ALTERATIONS: dict[str, Callable[[Image.Image], Image.Image]] = {
    "JPEG of quality 20": lambda image: _recompressed(image, 20),
    "half size, quality 60": lambda image: _recompressed(_resized(image, 2), 60),
    "a quarter of the size": lambda image: _resized(image, 4),
    "brighter by 30 %": lambda image: ImageEnhance.Brightness(image).enhance(1.3),
    "contrast of 70 %": lambda image: ImageEnhance.Contrast(image).enhance(0.7),
    "black and white": lambda image: image.convert("L").convert("RGB"),
    "cropped by 5 %": lambda image: _cropped(image, 0.05),
}


def main() -> None:
    """Print a table in Markdown."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("folder", type=Path, nargs="?")
    parser.add_argument("--model", default="mini")
    options = parser.parse_args()
    photos = [decode(path, at_least=512).image for path in _paths(options.folder)]
    side = open_model(options.model).index_side()
    targets = _targets(side, photos)
    hashes = [perceptual_hash(photo) for photo in photos]
    between = targets @ targets.T
    np.fill_diagonal(between, -1)
    print(f"{len(photos)} photos, {options.model}; nearest two: cosine {between.max():.2f}\n")
    print("| altered | least cosine | model agrees | hash agrees | found |")
    print("|---|---|---|---|---|")
    for name, alter in ALTERATIONS.items():
        copies = [alter(photo) for photo in photos]
        cosines = (_targets(side, copies) * targets).sum(axis=1)
        bits = [
            (perceptual_hash(copy) ^ own).bit_count()
            for copy, own in zip(copies, hashes, strict=True)
        ]
        candidate, agrees = cosines >= MIN_COSINE, np.array(bits) <= MAX_DISTANCE
        print(
            f"| {name} | {cosines.min():.2f} | {candidate.sum()} | {agrees.sum()} |"
            f" {(candidate & agrees).sum()} |"
        )


def _paths(folder: Path | None) -> list[Path]:
    if folder is not None:
        return sorted(path for path in folder.rglob("*") if path.is_file())
    data = Path(skimage.__file__).parent / "data"
    return [next(data.glob(f"{name}.*")) for name in NAMES.split()]


def _targets(side: IndexSide, photos: list[Image.Image]) -> Floats:
    pixels = np.stack([side.preprocess(photo) for photo in photos])
    return side.make_targets(side.encode_images(pixels))


if __name__ == "__main__":
    main()
