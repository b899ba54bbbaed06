"""Score curves: which cosine of `mini` means how likely a match.

    python -m lensctl_training.mini.calibrate --views views.npy

Matched and unmatched pairs are drawn in equal numbers; a logistic curve is fitted to each kind:

- image: a photo and its edit, against a photo and another photo.
- composed: a photo with an instruction and the edited photo, against another photo.
- text: fitted once, with `fit_curve`, on 124 labelled pictures of Debian's gcompris-qt-data (names
  against their pictures, and against others); imagined classes are too easy and gave a curve that
  calls one in ten wrong pictures a sure match.

So 0.5 means: as likely a match as not, had matches and others been equally many.
"""

import argparse
import json
from pathlib import Path

import numpy as np

from lensctl.models.interface import Floats
from lensctl.models.mini import open_mini
from lensctl.models.mini.info import CARD, DATA
from lensctl.models.mini.sides import MiniSide
from lensctl_training.mini.photo_edits import EDITS

PAIRS = 400
TEXT_CURVE = {"slope": 17.867, "midpoint": 0.1841}
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


def photo_pairs(side: MiniSide, views: Floats, rng: np.random.Generator) -> dict[str, dict]:
    """The curves of image and composed queries."""
    photos = rng.integers(len(views), size=PAIRS)
    others = (photos + rng.integers(1, len(views), size=PAIRS)) % len(views)
    edits = rng.integers(len(EDITS), size=PAIRS)
    words = [str(rng.choice(list(EDITS.values())[edit].held_out)) for edit in edits]
    right = side.make_targets(views[photos, 1 + edits])
    wrong = side.make_targets(views[others, 1 + edits])
    curves = {}
    for kind, texts in (("image", [""] * PAIRS), ("composed", words)):
        queries = side.make_queries(views[photos, 0], texts)
        curves[kind] = fit_curve((queries * right).sum(axis=1), (queries * wrong).sum(axis=1))
    return curves


def main() -> None:
    """Put the curves into the shipped card."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--views", type=Path, required=True)
    arguments = parser.parse_args()
    views = np.load(arguments.views).astype(np.float32)
    side, rng = open_mini().query_side(), np.random.default_rng(0)
    path = DATA / CARD
    card = json.loads(path.read_text(encoding="utf-8"))
    card["curves"] = photo_pairs(side, views, rng) | {"text": TEXT_CURVE}
    path.write_text(json.dumps(card, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
