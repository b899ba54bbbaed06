"""The trained part of `mini`'s lens: a residual over the vector sum, in numpy.

From the words come four gates, which scale the photo's meaning, look and light and the words
themselves: "a dog instead" keeps little of the photo, "darker" all but its light. A small network
adds to look and light what no scaling can. It is trained by `lensctl_training.mini.train`.
"""

import numpy as np

from lensctl.models.interface import Floats
from lensctl.models.mini import statistics
from lensctl.models.mini.tensors import TensorFile
from lensctl.models.mini.words import CLASSES, unit

FILE = "fusion.safetensors"
WIDTHS = {"sentence": 384, "meaning": CLASSES, "look": 256, "light": statistics.WIDTH}
SPLITS = (WIDTHS["meaning"], WIDTHS["look"], WIDTHS["light"])
GATES = 64
HIDDEN = 256


class Fusion:
    """Targets and words -> queries of unit length.

    Args:
        tensors: the trained weights.
    """

    def __init__(self, tensors: TensorFile) -> None:
        self._weights = {name: tensors[name].astype(np.float32) for name in tensors.names()}

    def __call__(self, targets: Floats, sentences: Floats, votes: Floats, share: float) -> Floats:
        """(N, D) targets, (N, 384) sentence vectors, (N, 1000) class votes -> (N, D).

        `share` is the votes' weight in the plain sum.
        """
        hidden = np.maximum(self._linear("gates.0", sentences), 0)
        gates = np.exp(self._linear("gates.2", hidden))
        meaning, look, light = np.split(targets, np.cumsum(SPLITS)[:-1], axis=1)
        seen = np.concatenate([sentences, look, light], axis=1)
        added = self._linear("leave", np.maximum(self._linear("enter", seen), 0))
        spoken = gates[:, :1] * meaning + gates[:, 3:] * share * votes
        kept = np.concatenate([gates[:, 1:2] * look, gates[:, 2:3] * light], axis=1)
        return unit(np.concatenate([spoken, kept + added], axis=1))

    def _linear(self, name: str, x: Floats) -> Floats:
        return x @ self._weights[f"{name}.weight"].T + self._weights[f"{name}.bias"]
