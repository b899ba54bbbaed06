"""The check that ends every conversion: the query side agrees with the module it was made from."""

import numpy as np
import torch

from lensctl.errors import ModelError
from lensctl.models.folder import ModelFolder
from lensctl.models.interface import Floats
from lensctl.models.magiclens import MagicLens
from lensctl.models.tokenizer import tokenize

LEAST_COSINE = 0.9999
TEXTS = ("inside view of", "a charger for this!!! (!) ~!~", "")
"""With marks, with id 0 amid the words, and empty."""


def verify_query_side(module: MagicLens, folder: ModelFolder) -> None:
    """Compare embeddings and fused vectors on fixed noise and texts. Raises ModelError."""
    size = folder.config.preprocessing.size
    shape = (len(TEXTS), 3, size, size)
    pixels = np.random.default_rng(0).standard_normal(shape, dtype=np.float32)
    side = folder.query_side(exact=True)
    with torch.inference_mode():
        images = module.encode_image(torch.from_numpy(pixels))
        texts = module.encode_text(torch.from_numpy(tokenize(TEXTS, module.context_length)))
        fused = module.fuse(images, texts).numpy()
    embeddings = images.numpy()
    for part, expected, got in (
        ("image tower", embeddings, side.encode_images(pixels)),
        ("text tower and fusion", fused, side.make_queries(embeddings, TEXTS)),
    ):
        cosine = least_cosine(expected, got)
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
