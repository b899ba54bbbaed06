"""Edits: an instruction, and what it makes of a scene.

`KINDS` maps the name of a kind of edit to a function (scene, generator) -> Edit, or None where the
scene does not allow it. *Absolute* kinds say what the target shows ("make the ring red");
*relational* kinds can only be followed by looking at the query ("remove the ring"), and among them
*exchanges* cannot be followed by adding any fixed vector ("in the opposite colour").
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache
from random import Random
from typing import TypeVar

import numpy as np

from lensctl_training.scenes.world import (
    CELL_NAMES,
    CELLS,
    COLOURS,
    GRID,
    SHAPES,
    SIZES,
    TIMES,
    Group,
    Scene,
)

MOST_GROUPS = 3
MOST_OF_A_KIND = 2
OPPOSITE = (3, 4, 5, 0, 1, 2)
"""Of every colour: red and cyan, yellow and blue, green and pink."""

Change = Callable[[Scene], Scene | None]
"""A scene -> the scene that follows the instruction, or None where it cannot be followed."""
T = TypeVar("T")


@dataclass(frozen=True)
class Edit:
    """An instruction and the change that it asks for; the change applies to other scenes too."""

    kind: str
    instruction: str
    change: Change


MakeEdit = Callable[[Scene, Random], Edit | None]


def _pick(rng: Random, options: Sequence[T]) -> T | None:
    return rng.choice(options) if options else None


def _say(rng: Random, *wordings: str) -> str:
    return rng.choice(wordings)


def _any_group(scene: Scene, rng: Random) -> Group:
    return rng.choice(scene.groups)


def _two_groups(scene: Scene, rng: Random) -> tuple[Group, Group] | None:
    if len(scene.groups) < 2:
        return None
    first, second = rng.sample(scene.groups, 2)
    return first, second


def _name(group: Group) -> str:
    name = SHAPES[group.shape]
    return (name + ("es" if name.endswith("s") else "s")) if len(group.cells) > 1 else name


def _change_group(shape: int, alter: Callable[[Group], Group | None]) -> Change:
    """The change that alters the group of one shape."""

    def change(scene: Scene) -> Scene | None:
        group = scene.group(shape)
        altered = alter(group) if group else None
        return scene.with_group(altered) if altered else None

    return change


def _change_pair(
    first: Group, second: Group, alter: Callable[[Group, Group], tuple[Group, ...]]
) -> Change:
    """The change that alters two groups in view of each other."""

    def change(scene: Scene) -> Scene | None:
        one, other = scene.group(first.shape), scene.group(second.shape)
        if one is None or other is None:
            return None
        for group in alter(one, other):
            scene = scene.with_group(group)
        return scene

    return change


def _change_free_cell(cell: int, fill: Callable[[Scene], Group | None]) -> Change:
    """The change that puts something into a free cell."""

    def change(scene: Scene) -> Scene | None:
        group = fill(scene) if cell in scene.free_cells else None
        return scene.with_group(group) if group else None

    return change


def _absent_shape_and_cell(scene: Scene, rng: Random) -> tuple[int, int] | None:
    absent = [shape for shape in range(len(SHAPES)) if scene.group(shape) is None]
    shape, cell = _pick(rng, absent), _pick(rng, scene.free_cells)
    if shape is None or cell is None or len(scene.groups) >= MOST_GROUPS:
        return None
    return shape, cell


def recolour(scene: Scene, rng: Random) -> Edit | None:
    """One group takes a named colour."""
    group = _any_group(scene, rng)
    colour = _pick(rng, [c for c in range(len(COLOURS)) if c != group.colour])
    assert colour is not None
    words = _say(rng, "make the {} {}", "change the {} to {}", "the {} in {}")
    return Edit(
        "colour",
        words.format(_name(group), COLOURS[colour]),
        _change_group(group.shape, lambda g: replace(g, colour=colour)),
    )


def match_colour(scene: Scene, rng: Random) -> Edit | None:
    """One group takes the colour of another, which only the picture tells."""
    two = _two_groups(scene, rng)
    if two is None:
        return None
    words = _say(rng, "give the {} the colour of the {}", "colour the {} like the {}")
    return Edit(
        "match colour",
        words.format(_name(two[0]), _name(two[1])),
        _change_pair(*two, lambda a, b: (replace(a, colour=b.colour),)),
    )


def oppose_colour(scene: Scene, rng: Random) -> Edit | None:
    """One group takes the opposite of its colour."""
    group = _any_group(scene, rng)
    words = _say(rng, "the {} in the opposite colour", "turn the colour of the {} around")
    return Edit(
        "opposite colour",
        words.format(_name(group)),
        _change_group(group.shape, lambda g: replace(g, colour=OPPOSITE[g.colour])),
    )


def oppose_all_colours(scene: Scene, rng: Random) -> Edit | None:
    """Everything takes the opposite of its colour."""

    def change(other: Scene) -> Scene:
        groups = (replace(g, colour=OPPOSITE[g.colour]) for g in other.groups)
        return replace(other, groups=tuple(groups))

    words = _say(rng, "all colours opposite", "turn all colours around")
    return Edit("all colours", words, change)


def swap_colours(scene: Scene, rng: Random) -> Edit | None:
    """Two groups exchange colours."""
    two = _two_groups(scene, rng)
    if two is None:
        return None
    words = _say(rng, "swap the colours of the {} and the {}", "the {} and the {} trade colours")
    return Edit(
        "swap colours",
        words.format(_name(two[0]), _name(two[1])),
        _change_pair(*two, lambda a, b: (replace(a, colour=b.colour), replace(b, colour=a.colour))),
    )


def resize(scene: Scene, rng: Random) -> Edit | None:
    """One group grows or shrinks by one size."""
    group = _any_group(scene, rng)
    step = _pick(rng, [s for s in (-1, 1) if 0 <= group.size + s < len(SIZES)])
    assert step is not None
    words = _say(rng, "make the {} {}", "the {} a size {}")

    def alter(g: Group) -> Group | None:
        size = g.size + step
        return replace(g, size=size) if 0 <= size < len(SIZES) else None

    return Edit(
        "size",
        words.format(_name(group), "bigger" if step == 1 else "smaller"),
        _change_group(group.shape, alter),
    )


def move(scene: Scene, rng: Random) -> Edit | None:
    """A single thing moves to the other side or the other height, into a free cell."""
    group = _any_group(scene, rng)
    sideways = rng.random() < 0.5
    moved = _mirrored_cells(sideways)
    if len(group.cells) > 1 or moved[group.cells[0]] not in scene.free_cells:
        return None

    def change(other: Scene) -> Scene | None:
        thing = other.group(group.shape)
        if thing is None or moved[thing.cells[0]] not in other.free_cells:
            return None
        return other.with_group(replace(thing, cells=(moved[thing.cells[0]],)))

    words = "move the {} to the other side" if sideways else "move the {} to the other height"
    return Edit("position", words.format(_name(group)), change)


def swap_places(scene: Scene, rng: Random) -> Edit | None:
    """Two groups exchange their cells."""
    two = _two_groups(scene, rng)
    if two is None:
        return None
    words = _say(rng, "swap the {} and the {}", "exchange the {} for the {}")
    return Edit(
        "swap places",
        words.format(_name(two[0]), _name(two[1])),
        _change_pair(*two, lambda a, b: (replace(a, cells=b.cells), replace(b, cells=a.cells))),
    )


def mirror(scene: Scene, rng: Random) -> Edit | None:
    """The whole arrangement is mirrored, left to right or upside down."""
    sideways = rng.random() < 0.5
    moved = _mirrored_cells(sideways)
    word = "left to right" if sideways else "upside down"
    return Edit("mirror", f"mirror the picture {word}", lambda other: other.map_cells(moved))


@cache
def _mirrored_cells(sideways: bool) -> tuple[int, ...]:
    cells = np.arange(CELLS).reshape(GRID, GRID)
    return tuple((cells[:, ::-1] if sideways else cells[::-1]).ravel().tolist())


def add(scene: Scene, rng: Random) -> Edit | None:
    """A new thing, wholly described."""
    place = _absent_shape_and_cell(scene, rng)
    if place is None:
        return None
    shape, cell = place
    colour, size = rng.randrange(len(COLOURS)), rng.randrange(len(SIZES))
    group = Group(shape, colour, size, (cell,))
    thing = f"{SIZES[size]} {COLOURS[colour]} {SHAPES[shape]}"
    words = _say(rng, "add a {} at the {}", "with a {} at the {}")
    return Edit(
        "add",
        words.format(thing, CELL_NAMES[cell]),
        _change_free_cell(cell, lambda s: None if s.group(shape) else group),
    )


def add_alike(scene: Scene, rng: Random) -> Edit | None:
    """A new shape with the colour and size of one that is there."""
    place = _absent_shape_and_cell(scene, rng)
    if place is None:
        return None
    shape, cell = place
    model = _any_group(scene, rng)

    def fill(other: Scene) -> Group | None:
        like = other.group(model.shape)
        if like is None or other.group(shape) is not None:
            return None
        return Group(shape, like.colour, like.size, (cell,))

    return Edit(
        "add alike",
        f"add a {SHAPES[shape]} like the {_name(model)} at the {CELL_NAMES[cell]}",
        _change_free_cell(cell, fill),
    )


def remove(scene: Scene, rng: Random) -> Edit | None:
    """One group goes."""
    group = _any_group(scene, rng)
    words = _say(rng, "remove the {}", "without the {}", "take the {} away")

    def change(other: Scene) -> Scene | None:
        return other.without_shape(group.shape) if len(other.groups) > 1 else None

    return Edit("remove", words.format(_name(group)), change)


def count(scene: Scene, rng: Random) -> Edit | None:
    """One more of a kind that is there."""
    group = _any_group(scene, rng)
    cell = _pick(rng, scene.free_cells)
    if cell is None or len(group.cells) >= MOST_OF_A_KIND:
        return None

    def fill(other: Scene) -> Group | None:
        more = other.group(group.shape)
        return replace(more, cells=tuple(sorted((*more.cells, cell)))) if more else None

    words = _say(rng, "one more {} at the {}", "another {} at the {}")
    return Edit(
        "count",
        words.format(SHAPES[group.shape], CELL_NAMES[cell]),
        _change_free_cell(cell, fill),
    )


def restyle(scene: Scene, rng: Random) -> Edit | None:
    """Filled shapes become outlines, or the other way, by name."""
    style = 1 - scene.style
    words = ("fill the shapes with colour", "as an outline drawing")[style]
    return Edit("style", words, lambda other: replace(other, style=style))


def change_time(scene: Scene, rng: Random) -> Edit | None:
    """Day becomes night, or night day, by name."""
    time = 1 - scene.time
    words = _say(rng, "the same at {}", "make it {}").format(TIMES[time])
    return Edit("night", words, lambda other: replace(other, time=time))


def other_style(scene: Scene, rng: Random) -> Edit | None:
    """The style that the picture has not."""
    words = _say(rng, "in the other style", "change the style")
    return Edit("other style", words, lambda other: replace(other, style=1 - other.style))


def other_time(scene: Scene, rng: Random) -> Edit | None:
    """The time of day that the picture has not."""
    words = _say(rng, "at the other time of day", "twelve hours later")
    return Edit("other time", words, lambda other: replace(other, time=1 - other.time))


ABSOLUTE: dict[str, MakeEdit] = {
    "colour": recolour,
    "add": add,
    "size": resize,
    "style": restyle,
    "night": change_time,
}
"""What the words alone determine."""
RELATIONAL: dict[str, MakeEdit] = {
    "match colour": match_colour,
    "position": move,
    "swap places": swap_places,
    "mirror": mirror,
    "add alike": add_alike,
    "remove": remove,
    "count": count,
}
"""What only words and picture together determine."""
EXCHANGES: dict[str, MakeEdit] = {
    "opposite colour": oppose_colour,
    "all colours": oppose_all_colours,
    "swap colours": swap_colours,
    "other style": other_style,
    "other time": other_time,
}
"""Relational kinds that exchange two things: what the words add for one is wrong for the other."""
KINDS = ABSOLUTE | RELATIONAL | EXCHANGES
_NAMES = list(KINDS)


@dataclass(frozen=True)
class Mix:
    """How often the three sorts of kinds are drawn; within a sort all kinds equally."""

    absolute: float
    relational: float
    exchanges: float

    def draw(self, rng: Random) -> str:
        """A kind."""
        sorts = ((ABSOLUTE, self.absolute), (RELATIONAL, self.relational))
        shares = [share / len(kinds) for kinds, share in sorts for _ in kinds]
        shares += [self.exchanges / len(EXCHANGES)] * len(EXCHANGES)
        return rng.choices(_NAMES, shares)[0]


TRAINING_MIX = Mix(0.25, 0.3, 0.45)
"""With fewer absolute kinds, the encoders first learn not to see what exchanges exchange (style,
time), and stay there for a thousand steps."""
HELD_OUT_MIX = Mix(0.15, 0.25, 0.6)


def make_edit(scene: Scene, rng: Random, kind: str) -> tuple[Edit, Scene] | None:
    """An edit of the kind and its result, if it applies and changes the scene."""
    edit = KINDS[kind](scene, rng)
    target = edit.change(scene) if edit else None
    return (edit, target) if edit and target and target != scene else None
