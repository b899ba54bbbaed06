"""What `mini` is, readable without loading its weights."""

import json
from pathlib import Path

from lensctl.models.interface import ModelInfo, ScoreCurve

DATA = Path(__file__).parent / "data"
CARD = "card.json"
"""Fingerprints, widths and score curves; written together with the maps they describe."""


def mini_info() -> ModelInfo:
    """From the shipped card."""
    card = json.loads((DATA / CARD).read_text(encoding="utf-8"))
    curves = {kind: ScoreCurve(**curve) for kind, curve in card.pop("curves").items()}
    return ModelInfo(
        name="mini",
        licence="Apache-2.0; WordNet 3.0 licence for what comes of WordNet",
        description="Small and always there: objects, animals, colours and light; CPU only. "
        "For scenes, people and free instructions pull a MagicLens model.",
        source="EfficientNet-Lite2 (ImageNet) and a student of all-MiniLM-L6-v2, joined by lensctl",
        curves=curves,
        **card,
    )
