"""The maps of `mini` from packages alone: class texts, principal components, scales, curves.

    python -m lensctl_training.mini.build FOLDER_OF_PHOTOS...

Writes `lens.safetensors` and `card.json`. The photos need no labels: they give means and
principal directions, and pairs for the score curves.
"""

import argparse
import hashlib
import json
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file
from tqdm import tqdm

from lensctl.models.interface import Floats
from lensctl.models.mini import image_tower, statistics
from lensctl.models.mini.image_tower import FEATURES, WeightFile
from lensctl.models.mini.info import CARD, DATA
from lensctl.models.mini.lens import FILE
from lensctl.models.mini.packages import (
    IMAGE_WEIGHTS,
    TEXT_VOCABULARY,
    TEXT_WEIGHTS,
    verified,
)
from lensctl.models.mini.sides import PREPROCESSING, Encoder
from lensctl.models.mini.text_tower import TextTower
from lensctl.models.mini.words import CLASSES
from lensctl.photos.decode import decode
from lensctl_training.mini.word_maps import make_word_maps

LOOK = 256
LEAST_DEVIATION = 0.02
ENDINGS = (".jpg", ".jpeg", ".png", ".webp")


def embed_photos(folders: list[Path]) -> Floats:
    """All photos below the folders -> (N, E)."""
    encode = Encoder(WeightFile(verified(IMAGE_WEIGHTS), DATA / image_tower.LAYOUT), threads=1)
    files = sorted(
        path for folder in folders for path in folder.rglob("*") if path.suffix.lower() in ENDINGS
    )
    return np.concatenate(
        [
            encode(PREPROCESSING(decode(path, at_least=2 * image_tower.SIZE).image)[None])
            for path in tqdm(files, unit="photo")
        ]
    )


def principal_directions(features: Floats, classifier: Floats, width: int) -> Floats:
    """(1280, width): of the photos' features, and of the classifier's rows where photos are few.

    The 1000 class directions span what the network tells apart; a few hundred photos do not.
    """
    centred = features - features.mean(axis=0)
    rows = classifier - classifier.mean(axis=0)
    covariance = centred.T @ centred / np.square(centred).sum()
    covariance += rows.T @ rows / np.square(rows).sum()
    _, vectors = np.linalg.eigh(covariance)
    return np.ascontiguousarray(vectors[:, ::-1][:, :width], dtype=np.float32)


def make_maps(embeddings: Floats) -> dict[str, np.ndarray]:
    """All tensors of the lens."""
    weights = WeightFile(verified(IMAGE_WEIGHTS), DATA / image_tower.LAYOUT)
    text = TextTower(verified(TEXT_WEIGHTS), verified(TEXT_VOCABULARY))
    features, light = np.split(embeddings, [FEATURES], axis=1)
    look = {
        "look_mean": features.mean(axis=0),
        "look": principal_directions(features, weights["classifier.weight"], LOOK),
        "light_mean": light.mean(axis=0),
        "light_scale": 1 / np.maximum(light.std(axis=0), LEAST_DEVIATION),
    }
    return make_word_maps(text) | {name: one.astype(np.float16) for name, one in look.items()}


def write(maps: dict[str, np.ndarray], curves: dict[str, dict[str, float]]) -> None:
    """The maps, and the card that describes them."""
    save_file({name: np.ascontiguousarray(one) for name, one in maps.items()}, DATA / FILE)
    encoder = hashlib.sha256(IMAGE_WEIGHTS.sha256.encode())
    encoder.update(repr((PREPROCESSING, statistics.WIDTH, statistics.GRID)).encode())
    encoder.update((DATA / image_tower.GRAPH).read_bytes())
    lens = hashlib.sha256((DATA / FILE).read_bytes())
    card = {
        "encoder_fingerprint": encoder.hexdigest()[:16],
        "lens_fingerprint": lens.hexdigest()[:16],
        "image_size": image_tower.SIZE,
        "embedding_dim": FEATURES + statistics.WIDTH,
        "target_dim": CLASSES + LOOK + statistics.WIDTH,
        "text_dim": CLASSES,
        "parameters": 6_092_072 + 22_713_216,
        "curves": curves,
    }
    (DATA / CARD).write_text(json.dumps(card, indent=1) + "\n", encoding="utf-8")


def main() -> None:
    """Read photos, write the data folder."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("photos", nargs="+", type=Path, help="folders of photographs")
    arguments = parser.parse_args()
    embeddings = embed_photos(arguments.photos)
    curves = {kind: {"slope": 12.0, "midpoint": 0.4} for kind in ("image", "composed", "text")}
    write(make_maps(embeddings), curves)


if __name__ == "__main__":
    main()
