"""The check that ends every conversion: the query side agrees with the module it was made from."""

from dataclasses import dataclass

import numpy as np
import torch

from lensctl.errors import CheckpointError, ModelError
from lensctl.models.folder import ModelFolder
from lensctl.models.interface import Floats
from lensctl.models.magiclens import MagicLens
from lensctl.models.tokenizer import tokenize

LEAST_COSINE = 0.9999
TEXTS = ("inside view of", "a charger for this!!! (!) ~!~", "")
"""With marks, with id 0 amid the words, and empty."""


@dataclass(frozen=True)
class Expected:
    """What a module makes of fixed noise and `TEXTS`, a row each: (N, 3, S, S), (N, E), (N, D)."""

    pixels: Floats
    embeddings: Floats
    fused: Floats


def expected_vectors(module: MagicLens) -> Expected:
    """Raises CheckpointError for weights whose vectors have no direction."""
    size = module.config.preprocessing.size
    shape = (len(TEXTS), 3, size, size)
    pixels = np.random.default_rng(0).standard_normal(shape, dtype=np.float32)
    with torch.inference_mode():
        images = module.encode_image(torch.from_numpy(pixels))
        texts = module.encode_text(torch.from_numpy(tokenize(TEXTS, module.context_length)))
        fused = module.fuse(images, texts)
    # A sum adds nothing for the empty text, whose vector is zero.
    for what, vectors in (("photo", images), ("text", texts[:2]), ("query", fused)):
        lengths = vectors.norm(dim=1)
        if not (lengths.isfinite() & (lengths > 0)).all():
            raise CheckpointError(
                "the weights make no model that can search",
                why=f"the vector that they give for a {what} is zero or not finite",
                next_step="get the weights again; a training that diverged leaves such ones",
            )
    return Expected(pixels, images.numpy(), fused.numpy())


def verify_query_side(expected: Expected, folder: ModelFolder) -> None:
    """Compare embeddings and fused vectors. Raises ModelError."""
    side = folder.query_side(exact=True)
    for part, wanted, got in (
        ("image tower", expected.embeddings, side.encode_images(expected.pixels)),
        (
            "text tower and fusion",
            expected.fused,
            side.make_queries(expected.embeddings, TEXTS),
        ),
    ):
        cosine = least_cosine(wanted, got)
        if not cosine >= LEAST_COSINE:
            raise ModelError(
                f"the torch-free {part} does not agree with the weights",
                why=f"least cosine {cosine:.6f}, required {LEAST_COSINE}",
                next_step="report this with the model's configuration: it is a defect of lensctl",
            )


def least_cosine(a: Floats, b: Floats) -> float:
    """(N, D) and (N, D) -> the smallest cosine of a row with its counterpart; NaN stays NaN."""
    lengths = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    return float(((a * b).sum(axis=1) / lengths).min())
