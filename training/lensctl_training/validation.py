"""Trying the model on held-out triplets."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from lensctl.models.interface import Floats
from lensctl.models.preprocessing import Preprocessing
from lensctl_training.benchmarks.triplets import CUTOFFS, evaluate_triplets
from lensctl_training.data.batches import Batch, token_ids
from lensctl_training.data.held_out import HeldOut, Image
from lensctl_training.data.stream import decode_image
from lensctl_training.model import TripletEncoder
from lensctl_training.scenes.examples import scene_pixels

BATCH = 256
METRICS = (*(f"recall@{k}" for k in CUTOFFS), "mrr")
"""What can choose a checkpoint: of these, larger is better."""


@dataclass(frozen=True)
class Validated:
    """Scores of a model on held-out triplets.

    Args:
        metrics: of evaluate_triplets: recall@1 ... reference_first.
        by_kind: recall@1 of every kind of query, where queries have kinds.
        best: (N, 5) the first five candidates of every query.
    """

    metrics: dict[str, float]
    by_kind: dict[str, float]
    best: np.ndarray


def validate(encoder: TripletEncoder, held_out: HeldOut) -> Validated:
    """Encode all images once and rank. The model is left in the mode it was in."""
    with _evaluating(encoder):
        queries = _encode_queries(encoder, held_out)
        targets = _encode_images(encoder, held_out.targets)
        gallery = _encode_images(encoder, held_out.gallery)
    metrics = evaluate_triplets(
        queries,
        targets,
        gallery,
        positives=held_out.positives,
        exclude=[held_out.repeated] * len(queries),
        references=held_out.references,
    )
    candidates = np.concatenate([targets, gallery])
    ranked = np.delete(np.arange(len(candidates)), held_out.repeated)
    best = np.stack(
        [ranked[np.argsort(-(candidates[ranked] @ q), kind="stable")[:5]] for q in queries]
    )
    return Validated(metrics, _by_kind(held_out, best), best)


def _by_kind(held_out: HeldOut, best: np.ndarray) -> dict[str, float]:
    found: dict[str, list[bool]] = {}
    for kind, row, right in zip(held_out.kinds, best, held_out.positives, strict=False):
        found.setdefault(kind, []).append(int(row[0]) in right)
    return {kind: float(np.mean(hits)) for kind, hits in sorted(found.items())}


@contextmanager
def _evaluating(encoder: TripletEncoder) -> Iterator[None]:
    """Without dropout and gradients, at full precision, and with the random numbers untouched."""
    training = encoder.training
    encoder.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        encoder.train(training)


def _encode_queries(encoder: TripletEncoder, held_out: HeldOut) -> Floats:
    parts = []
    for start in range(0, len(held_out.queries), BATCH):
        rows = slice(start, start + BATCH)
        pixels = _pixels(encoder, held_out.queries[rows])
        ids = token_ids(held_out.instructions[rows], encoder.model.context_length)
        batch = Batch(pixels, pixels, ids.to(pixels.device))
        parts.append(encoder.encode_queries(batch).cpu().numpy())
    return np.concatenate(parts)


def _encode_images(encoder: TripletEncoder, images: Sequence[Image]) -> Floats:
    # Of pairs that lead both ways every image is a target, and the rest of the gallery is empty.
    parts = [np.zeros((0, encoder.model.embedding_dim), dtype=np.float32)]
    for start in range(0, len(images), BATCH):
        pixels = _pixels(encoder, images[start : start + BATCH])
        parts.append(encoder.encode_targets(pixels).cpu().numpy())
    return np.concatenate(parts)


def _pixels(encoder: TripletEncoder, images: Sequence[Image]) -> Tensor:
    preprocessing = encoder.model.config.preprocessing
    arrays = [_read(image, preprocessing) for image in images]
    return torch.from_numpy(np.stack(arrays)).to(encoder.empty_ids.device)


def _read(image: Image, preprocessing: Preprocessing) -> Floats:
    if isinstance(image, bytes):
        return decode_image(image, preprocessing)
    return scene_pixels(image, preprocessing)
