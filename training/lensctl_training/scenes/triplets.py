"""Triplets of scenes, in three splits that hold out whole combinations.

Of the 36 pairs of a shape with a colour, 3 occur in the validation split only and 3 in the test
split only; training never shows them. A held-out triplet has such a pair in its query, so no lookup
of seen pictures can answer it.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from random import Random
from typing import Literal

from lensctl_training.scenes.edits import HELD_OUT_MIX, TRAINING_MIX, Edit, make_edit
from lensctl_training.scenes.world import (
    CELLS,
    COLOURS,
    SHAPES,
    SIZES,
    STYLES,
    TIMES,
    Group,
    Pair,
    Scene,
)

Split = Literal["train", "val", "test"]
HELD_OUT: dict[Split, frozenset[Pair]] = {
    "val": frozenset((shape, (shape + 2) % 6) for shape in (0, 2, 4)),
    "test": frozenset((shape, (shape + 4) % 6) for shape in (1, 3, 5)),
}


@dataclass(frozen=True)
class SceneTriplet:
    """A query scene, the edit asked for and the scene that answers it."""

    query: Scene
    edit: Edit
    target: Scene


def allowed_in(split: Split, *scenes: Scene) -> bool:
    """Whether these scenes together may be (part of) a triplet of the split."""
    pairs = frozenset().union(*(scene.pairs for scene in scenes))
    if split == "train":
        return not pairs & (HELD_OUT["val"] | HELD_OUT["test"])
    other: Split = "test" if split == "val" else "val"
    return bool(pairs & HELD_OUT[split]) and not pairs & HELD_OUT[other]


def random_scene(rng: Random, shapes: list[int] | None = None) -> Scene:
    """One to three groups (or those of the given shapes) anywhere on the grid."""
    if shapes is None:
        number = rng.choices((1, 2, 3), (0.3, 0.6, 0.1))[0]
        shapes = sorted(rng.sample(range(len(SHAPES)), number))
    cells = rng.sample(range(CELLS), CELLS)
    groups = []
    for shape in shapes:
        things = 2 if rng.random() < 0.15 and len(cells) > len(shapes) else 1
        taken, cells = cells[:things], cells[things:]
        colour, size = rng.randrange(len(COLOURS)), rng.randrange(len(SIZES))
        groups.append(Group(shape, colour, size, tuple(sorted(taken))))
    style, time = rng.randrange(len(STYLES)), rng.randrange(len(TIMES))
    return Scene(tuple(groups), style, time)


def scene_triplets(
    split: Split, seed: int = 0, edits_per_scene: int = 4
) -> Iterator[list[SceneTriplet]]:
    """Endless groups of triplets; one group is different edits of one scene."""
    rng = Random(f"{seed} {split}")
    while True:
        scene = random_scene(rng)
        if not allowed_in(split, scene):
            continue
        group = distinct_edits(scene, rng, edits_per_scene, split)
        if len(group) == edits_per_scene:
            yield group


def distinct_edits(
    scene: Scene, rng: Random, number: int, split: Split, tries: int = 60
) -> list[SceneTriplet]:
    """Up to `number` edits of a scene with different targets, all allowed in the split."""
    found: dict[Scene, SceneTriplet] = {}
    mix = TRAINING_MIX if split == "train" else HELD_OUT_MIX
    for _ in range(tries):
        if len(found) == number:
            break
        made = make_edit(scene, rng, mix.draw(rng))
        if made is not None and allowed_in(split, scene, made[1]):
            found.setdefault(made[1], SceneTriplet(scene, *made))
    return list(found.values())


def same_scene_other_edits(triplet: SceneTriplet, rng: Random, number: int) -> list[Scene]:
    """Scenes that another instruction makes of the query; half of them by the same kind of edit."""
    found: dict[Scene, None] = {}
    for attempt in range(200):
        if len(found) == number:
            break
        same_kind = len(found) < number // 2 and attempt < 40
        kind = triplet.edit.kind if same_kind else HELD_OUT_MIX.draw(rng)
        made = make_edit(triplet.query, rng, kind)
        if made is not None and made[1] != triplet.target:
            found[made[1]] = None
    return list(found)


def same_edit_other_scenes(triplet: SceneTriplet, rng: Random, number: int) -> list[Scene]:
    """Scenes that follow the instruction, but start from another scene with the same things.

    The first differs from the query in the colour of one group where that leads to another
    target, the others in everything but the shapes and their number.
    """
    found: dict[Scene, None] = {}
    for attempt in range(200):
        if len(found) == number:
            break
        near = not found and attempt < 20
        start = _recoloured(triplet.query, rng) if near else _redone(triplet.query, rng)
        other = triplet.edit.change(start)
        if other is not None and other not in (triplet.target, triplet.query, start):
            found[other] = None
    return list(found)


def _recoloured(scene: Scene, rng: Random) -> Scene:
    group = rng.choice(scene.groups)
    return scene.with_group(replace(group, colour=rng.randrange(len(COLOURS))))


def _redone(scene: Scene, rng: Random) -> Scene:
    cells = rng.sample(range(CELLS), CELLS)
    fresh = random_scene(rng, [group.shape for group in scene.groups])
    groups = []
    for old, new in zip(scene.groups, fresh.groups, strict=True):
        number = len(old.cells)
        taken, cells = cells[:number], cells[number:]
        groups.append(replace(new, cells=tuple(sorted(taken))))
    return replace(fresh, groups=tuple(groups))
