"""What a scene is made of.

A scene is a 2 x 2 grid of cells. In it stand one to three kinds of things; all things of one shape
share colour and size, so that "the ring" or "the rings" always names one group. The picture has a
style (filled or outlined) and a time (day or night).
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

GRID = 2
CELLS = GRID * GRID
SHAPES = ("square", "circle", "triangle", "cross", "diamond", "ring")
COLOURS = ("red", "yellow", "green", "cyan", "blue", "pink")
SIZES = ("small", "large")
STYLES = ("filled", "outlined")
TIMES = ("day", "night")
CELL_NAMES = ("top left", "top right", "bottom left", "bottom right")

Pair = tuple[int, int]
"""A shape with a colour: what the splits hold out."""


@dataclass(frozen=True, order=True)
class Group:
    """All things of one shape: indices into SHAPES, COLOURS, SIZES, and the cells they stand in."""

    shape: int
    colour: int
    size: int
    cells: tuple[int, ...]


@dataclass(frozen=True)
class Scene:
    """Groups sorted by shape, so that equal pictures are equal values."""

    groups: tuple[Group, ...]
    style: int = 0
    time: int = 0

    @property
    def pairs(self) -> frozenset[Pair]:
        """The (shape, colour) pairs that are seen in it."""
        return frozenset((group.shape, group.colour) for group in self.groups)

    @property
    def free_cells(self) -> list[int]:
        """Cells in which nothing stands."""
        taken = {cell for group in self.groups for cell in group.cells}
        return [cell for cell in range(CELLS) if cell not in taken]

    def group(self, shape: int) -> Group | None:
        """The things of one shape."""
        return next((group for group in self.groups if group.shape == shape), None)

    def with_group(self, group: Group) -> "Scene":
        """The scene with `group` in place of the one of the same shape, or added."""
        others = [other for other in self.groups if other.shape != group.shape]
        return replace(self, groups=tuple(sorted([*others, group])))

    def without_shape(self, shape: int) -> "Scene":
        """The scene less one group."""
        return replace(self, groups=tuple(g for g in self.groups if g.shape != shape))

    def map_cells(self, moved: Sequence[int]) -> "Scene":
        """Every thing moved from cell c to cell moved[c]."""
        groups = (replace(g, cells=tuple(sorted(moved[c] for c in g.cells))) for g in self.groups)
        return replace(self, groups=tuple(groups))
