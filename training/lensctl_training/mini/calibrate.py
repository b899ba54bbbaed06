"""Score curves: which cosine of `mini` means how likely a match.

Matched and unmatched pairs are drawn in equal numbers; a logistic curve is fitted to each kind:

- image: a photo and its edit, against a photo and another photo.
- composed: queries of edits, subject and kind as in training, each with its best answer, against
  each with a picture that is no answer.
- text: fitted once, with `fit_curve`, on 124 labelled pictures of Debian's gcompris-qt-data (names
  against their pictures, and against others); imagined classes are too easy and gave a curve that
  calls one in ten wrong pictures a sure match.

So 0.5 means: as likely a match as not, had matches and others been equally many.
"""

import numpy as np
import torch
from torch import Tensor

from lensctl.models.interface import Floats
from lensctl_training.mini.fusion import FusionHead, as_targets
from lensctl_training.mini.instructions import Instructions, Portions
from lensctl_training.mini.train import Bank

PAIRS = 400
BATCHES = 8
DRAWN = 0.8
"""Share of drawn subjects and kinds: imagined ones are too easy."""
TEXT_CURVE = {"slope": 15.801, "midpoint": 0.2338}
NEWTON_STEPS = 25
RIDGE = 1e-2
"""Keeps the slope finite where cosines separate the pairs perfectly."""


def fit_curve(matched: Floats, unmatched: Floats) -> dict[str, float]:
    """Logistic regression of match on cosine, by Newton's method -> slope and midpoint."""
    x = np.concatenate([matched, unmatched]).astype(np.float64)
    y = np.concatenate([np.ones(len(matched)), np.zeros(len(unmatched))])
    design = np.stack([x - x.mean(), np.ones_like(x)], axis=1)
    weights = np.zeros(2)
    for _ in range(NEWTON_STEPS):
        p = 1 / (1 + np.exp(-np.clip(design @ weights, -30, 30)))
        gradient = design.T @ (p - y) + RIDGE * weights
        hessian = (design * (p * (1 - p))[:, None]).T @ design + RIDGE * np.eye(2)
        weights -= np.linalg.solve(hessian, gradient)
    slope, offset = weights
    return {"slope": round(float(slope), 3), "midpoint": round(float(x.mean() - offset / slope), 4)}


def image_curve(bank: Bank, views: int, photos: int) -> dict[str, float]:
    """Of photos and their edits, against other photos and theirs."""
    rng = np.random.default_rng(0)
    own = rng.integers(photos, size=PAIRS)
    other = (own + rng.integers(1, photos, size=PAIRS)) % photos
    edit = rng.integers(1, views, size=PAIRS)
    targets = [
        as_targets(*bank.photos(rows.tolist()))
        for rows in (own * views, own * views + edit, other * views + edit)
    ]
    queries, right, wrong = targets
    return fit_curve(_cosines(queries, right), _cosines(queries, wrong))


def composed_curve(head: FusionHead, bank: Bank, drawn: Instructions) -> dict[str, float]:
    """Of all families but what cannot be done, where the answer is the photo itself."""
    rng = np.random.default_rng(0)
    matched, unmatched = [], []
    for _ in range(BATCHES):
        for batch in drawn.draw(Portions(drawn=DRAWN, beyond=0)):
            words = bank.sentences[batch.texts], bank.votes[batch.texts]
            queries = head(*bank.photos(batch.queries), *words)
            cosines = (queries @ as_targets(*bank.photos(batch.gallery)).T).numpy()
            for row, right in zip(cosines, batch.mask(), strict=True):
                matched.append(row[right].max())
                unmatched.append(rng.choice(row[~right]))
    return fit_curve(np.array(matched), np.array(unmatched))


def score_curves(head: FusionHead, bank: Bank, drawn: Instructions) -> dict[str, dict[str, float]]:
    """All three, for the card."""
    with torch.inference_mode():
        return {
            "image": image_curve(bank, drawn.views, drawn.photos),
            "composed": composed_curve(head, bank, drawn),
            "text": TEXT_CURVE,
        }


def _cosines(one: Tensor, other: Tensor) -> Floats:
    return (one * other).sum(dim=1).numpy()
