"""The synthetic data set as training and validation read it."""

from dataclasses import dataclass, field
from functools import cache
from itertools import islice
from random import Random

import numpy as np

from lensctl.models.interface import Floats
from lensctl.models.preprocessing import Preprocessing
from lensctl_training.data.batches import Example
from lensctl_training.data.held_out import HeldOut
from lensctl_training.scenes.render import PICTURE, Pixels, render
from lensctl_training.scenes.triplets import (
    SceneTriplet,
    Split,
    same_edit_other_scenes,
    same_scene_other_edits,
    scene_triplets,
)
from lensctl_training.scenes.world import Scene

OTHER_EDITS = 6
"""Distractors per query: the query's scene with another edit."""
OTHER_SCENES = 2
"""Distractors per query: the same instruction followed on another scene."""


@dataclass
class SceneExamples:
    """Rendered training triplets; implements `batches.Examples`.

    Args:
        queries: (N / group_size, PICTURE, PICTURE, 3) uint8, one for each group.
        targets: (N, PICTURE, PICTURE, 3) uint8.
        instructions: N.
        preprocessing: of the model.
        group_size: edits of one scene, side by side.
    """

    queries: Pixels
    targets: Pixels
    instructions: list[str]
    preprocessing: Preprocessing
    group_size: int
    _query: tuple[int, Floats] = field(default=(-1, np.empty(0, np.float32)), init=False)

    def __len__(self) -> int:
        return len(self.instructions)

    def load(self, index: int) -> Example:
        """One example; rendered pictures are never bad. A group shares one array of its query."""
        group = index // self.group_size
        if self._query[0] != group:
            self._query = (group, scene_pixels(self.queries[group], self.preprocessing))
        return Example(
            self._query[1],
            scene_pixels(self.targets[index], self.preprocessing),
            self.instructions[index],
        )


def scene_pixels(picture: Pixels, preprocessing: Preprocessing) -> Floats:
    """(H, W, 3) uint8 -> (3, S, S) float32; without a resize where the size is right already."""
    if preprocessing.size == PICTURE and not preprocessing.divide_by_max:
        scale, offset = _linear(preprocessing)
        return picture.transpose(2, 0, 1) * scale + offset
    from PIL import Image

    return preprocessing(Image.fromarray(picture))


@cache
def _linear(preprocessing: Preprocessing) -> tuple[Floats, Floats]:
    """Scale and offset that take bytes to (x / 255 - mean) / std; (3, 1, 1) each."""
    mean, std = (
        np.array(values, np.float32)[:, None, None]
        for values in (preprocessing.mean, preprocessing.std)
    )
    return np.float32(1 / 255) / std, -mean / std


def render_training_set(
    number: int, group: int, seed: int, preprocessing: Preprocessing
) -> SceneExamples:
    """`number` triplets (rounded down to whole groups), the same for the same seed."""
    rng = np.random.default_rng((seed, 3))
    groups = list(islice(scene_triplets("train", seed, group), number // group))
    return SceneExamples(
        np.stack([render(triplets[0].query, rng) for triplets in groups]),
        np.stack([render(t.target, rng) for triplets in groups for t in triplets]),
        [t.edit.instruction for triplets in groups for t in triplets],
        preprocessing,
        group,
    )


def render_held_out(split: Split, number: int, seed: int) -> HeldOut:
    """`number` queries with combinations that training never shows, and their gallery.

    The gallery holds, for every query, its target, the query image itself, and distractors:
    the same scene with other edits, and the same instruction followed on other scenes.
    """
    rng, choices = np.random.default_rng((seed, 4)), Random(f"{seed} distractors")
    triplets = [group[0] for group in islice(scene_triplets(split, seed, 1), number)]
    others: list[Scene] = []
    references = []
    for triplet in triplets:
        references.append(number + len(others))
        others += [triplet.query, *_distractors(triplet, choices)]
    gallery = [render(scene, rng) for scene in others]
    return HeldOut(
        queries=[gallery[reference - number] for reference in references],
        instructions=[t.edit.instruction for t in triplets],
        targets=[render(t.target, rng) for t in triplets],
        gallery=gallery,
        positives=_equal_scenes([t.target for t in triplets], others),
        references=references,
        kinds=[t.edit.kind for t in triplets],
    )


def _distractors(triplet: SceneTriplet, rng: Random) -> list[Scene]:
    same_scene = same_scene_other_edits(triplet, rng, OTHER_EDITS)
    return same_scene + same_edit_other_scenes(triplet, rng, OTHER_SCENES)


def _equal_scenes(targets: list[Scene], others: list[Scene]) -> list[list[int]]:
    """For every target the candidates that show the same scene, itself first."""
    places: dict[Scene, list[int]] = {}
    for index, scene in enumerate([*targets, *others]):
        places.setdefault(scene, []).append(index)
    return [places[target] for target in targets]
