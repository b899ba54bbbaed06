"""Default relevance curves: a cosine becomes a number from 0 to 1 that people can compare.

These are rules of thumb, not calibrations: 0.5 lies near the cosine at which matches begin for
CLIP-sized models (0.25 between photo and words), and curves of a trained model belong into its
config.json, measured on its own validation data.
"""

from collections.abc import Mapping

from lensctl.models.config import FusionKind
from lensctl.models.interface import QueryKind, ScoreCurve

_TEXT = ScoreCurve(slope=40.0, midpoint=0.25)
_ATTENTION: Mapping[QueryKind, ScoreCurve] = {
    "image": ScoreCurve(slope=15.0, midpoint=0.75),
    "composed": ScoreCurve(slope=15.0, midpoint=0.65),
    "text": _TEXT,
}
_SUM: Mapping[QueryKind, ScoreCurve] = {
    "image": ScoreCurve(slope=15.0, midpoint=0.75),
    "composed": ScoreCurve(slope=20.0, midpoint=0.55),
    "text": _TEXT,
}


def default_curves(fusion: FusionKind) -> Mapping[QueryKind, ScoreCurve]:
    """The curves of a model family, by kind of query."""
    return _SUM if fusion == "sum" else _ATTENTION
