"""The maps of `mini` from packages alone: word maps, principal components, scales.

Needs the Debian package `wordnet-base`. The photos need no labels: they give means, deviations and
principal directions. The drawings give a map from names to what is seen.
"""

import hashlib
import json
from pathlib import Path

import numpy as np
import numpy.typing as npt
from safetensors.numpy import save

from lensctl.models.interface import Floats
from lensctl.models.mini import image_tower, statistics
from lensctl.models.mini.colours import COLOURS, GROUND, GROUND_SHARE, SPREAD
from lensctl.models.mini.fusion import BLOCK_WEIGHTS, LIGHT, LOOK
from lensctl.models.mini.fusion import FILE as FUSION
from lensctl.models.mini.image_tower import DECODE_MARGIN, FEATURES, WeightFile
from lensctl.models.mini.info import CARD, DATA
from lensctl.models.mini.lens import COLOURED, DAMPING, FILE, classes_of, classifier_of, light_of
from lensctl.models.mini.packages import IMAGE_WEIGHTS, verified
from lensctl.models.mini.relations import FILE as RELATIONS
from lensctl.models.mini.sides import PREPROCESSING
from lensctl.models.mini.tensors import TensorFile
from lensctl.models.mini.text_tower import FILE as TEXT
from lensctl.models.mini.text_tower import TextTower
from lensctl.models.mini.words import MEANINGS
from lensctl.models.vectors import unit
from lensctl.whole import whole
from lensctl_training.mini.drawn import Drawings
from lensctl_training.mini.word_maps import make_word_maps

LEAST_DEVIATION = 0.03
LIGHT_SCALE = 0.5
"""Brings a photo's light to a length of about ten."""
NAMES_RIDGE = 10.0
IMAGE_PARAMETERS = 6_092_072


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


def light_directions(light: Floats) -> dict[str, Floats]:
    """Means (P,), and (P, 96) directions: principal ones of the standardised measures."""
    mean = light.mean(axis=0)
    scale = LIGHT_SCALE / np.maximum(light.std(axis=0), LEAST_DEVIATION)
    _, vectors = np.linalg.eigh(np.cov(((light - mean) * scale).T))
    return {"light_mean": mean, "light": scale[:, None] * vectors[:, ::-1][:, :LIGHT]}


def make_maps(views: Floats, named: Drawings, text: TextTower) -> dict[str, np.ndarray]:
    """All tensors of the lens, from photos and their edits, (P, V, E), drawings, and words."""
    weights = WeightFile(verified(IMAGE_WEIGHTS), DATA / image_tower.LAYOUT)
    features = views[:, 0, :FEATURES]
    photos = {
        "look_mean": features.mean(axis=0),
        "look": principal_directions(features, weights["classifier.weight"], LOOK),
    } | light_directions(light_of(views.reshape(-1, views.shape[-1])[:, FEATURES:]))
    maps = make_word_maps(text)
    mean = maps["text_mean"].astype(np.float32)
    keys = classes_of(named.embeddings, classifier_of(weights))
    sentences = unit(text.encode(named.names.tolist()) - mean)
    photos["drawn_names"] = names_to_keys(sentences, keys, named.sources)
    return maps | {name: one.astype(np.float16) for name, one in photos.items()}


def names_to_keys(sentences: Floats, keys: Floats, sources: npt.NDArray[np.int64]) -> Floats:
    """(N, 384) names' vectors, (N, 1000) keys of drawings -> (384, 1000), by ridge regression.

    Each source's mean is taken off, so that names, and not the style of drawing, are learned.
    """
    centred = keys.copy()
    for source in np.unique(sources):
        centred[sources == source] -= keys[sources == source].mean(axis=0)
    square = sentences.T @ sentences + NAMES_RIDGE * np.eye(sentences.shape[1])
    return np.linalg.solve(square, sentences.T @ centred).astype(np.float32)


def write_maps(maps: dict[str, np.ndarray], folder: Path = DATA) -> None:
    """Replace the maps; a running process keeps its old file."""
    with whole(folder / FILE) as part:
        part.write_bytes(save({name: np.ascontiguousarray(one) for name, one in maps.items()}))


def write_card(curves: dict[str, dict[str, float]], folder: Path = DATA) -> None:
    """Widths, fingerprints and score curves of the folder's maps and fusion."""
    encoder = hashlib.sha256(IMAGE_WEIGHTS.sha256.encode())
    form = statistics.VERSION, statistics.WIDTH, statistics.SMALL, DECODE_MARGIN
    encoder.update(repr((PREPROCESSING, form)).encode())
    encoder.update((DATA / image_tower.GRAPH).read_bytes())
    colours = COLOURED, COLOURS, SPREAD, GROUND, GROUND_SHARE
    lens = hashlib.sha256(repr((DAMPING, BLOCK_WEIGHTS, colours)).encode())
    for name in (TEXT, FILE, FUSION, RELATIONS):
        lens.update((folder / name).read_bytes())
    card = {
        "encoder_fingerprint": encoder.hexdigest()[:16],
        "lens_fingerprint": lens.hexdigest()[:16],
        "image_size": image_tower.SIZE,
        "decode_margin": DECODE_MARGIN,
        "embedding_dim": FEATURES + statistics.WIDTH,
        "target_dim": MEANINGS + LOOK + LIGHT,
        "text_dim": MEANINGS,
        "parameters": IMAGE_PARAMETERS + _size_of(folder / TEXT) + _size_of(folder / FUSION),
        "curves": curves,
    }
    (folder / CARD).write_text(json.dumps(card, indent=1) + "\n", encoding="utf-8")


def _size_of(path: Path) -> int:
    """Numbers in a file of tensors."""
    tensors = TensorFile(path)
    return sum(tensors[name].size for name in tensors.names())
