"""The maps of `mini` from packages alone: word maps, principal components, scales.

    apt-get install wordnet-base
    python -m lensctl_training.mini.build --views views.npy

Writes `lens.safetensors` and `card.json`; `calibrate` then puts the score curves into the card. The
photos need no labels: they give means, deviations and principal directions.
"""

import argparse
import hashlib
import json
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

from lensctl.models.interface import Floats
from lensctl.models.mini import image_tower, statistics
from lensctl.models.mini.image_tower import FEATURES, WeightFile
from lensctl.models.mini.info import CARD, DATA
from lensctl.models.mini.lens import DAMPING, FILE, BlockWeights
from lensctl.models.mini.packages import (
    IMAGE_WEIGHTS,
    TEXT_VOCABULARY,
    TEXT_WEIGHTS,
    verified,
)
from lensctl.models.mini.sides import PREPROCESSING
from lensctl.models.mini.text_tower import TextTower
from lensctl.models.mini.words import CLASSES
from lensctl_training.mini.word_maps import make_word_maps

LOOK = 256
LEAST_DEVIATION = 0.02
FLAT = {"slope": 10.0, "midpoint": 0.5}
"""A score curve before calibration."""


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
    """The maps, and the card that describes them; a running process keeps its old file."""
    part = DATA / f"{FILE}.part"
    save_file({name: np.ascontiguousarray(one) for name, one in maps.items()}, part)
    part.chmod(0o644)
    part.replace(DATA / FILE)
    encoder = hashlib.sha256(IMAGE_WEIGHTS.sha256.encode())
    encoder.update(repr((PREPROCESSING, statistics.WIDTH, statistics.GRID)).encode())
    encoder.update((DATA / image_tower.GRAPH).read_bytes())
    lens = hashlib.sha256((DATA / FILE).read_bytes())
    lens.update(repr((DAMPING, BlockWeights())).encode())
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
    """Read views, write the data folder."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--views", type=Path, required=True)
    arguments = parser.parse_args()
    photos = np.load(arguments.views)[:, 0].astype(np.float32)
    write(make_maps(photos), dict.fromkeys(("image", "composed", "text"), FLAT))


if __name__ == "__main__":
    main()
