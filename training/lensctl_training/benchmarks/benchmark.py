"""What every benchmark is, whatever its files look like: images, tasks, queries, measures."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from lensctl_training.benchmarks.metrics import Ranks

Direction = Literal["composed", "text-to-image", "image-to-text"]
"""composed: (image, text) finds images, compared with targets; the other two compare text vectors
with text keys, as a model's towers do without its fusion."""

Box = tuple[float, float, float, float]


@dataclass(frozen=True)
class ImageRef:
    """One image of a benchmark: a file, or a dilated square crop of one.

    Args:
        name: the authors' id of it, unique within the benchmark.
        path: the file.
        box: (left, top, width, height) in pixels of the object that GeneCIS crops to.
    """

    name: str
    path: Path
    box: Box | None = None


@dataclass(frozen=True)
class Query:
    """One question and what is right.

    Images are positions in `Benchmark.images`, texts positions in `Benchmark.texts`; a task of
    direction image-to-text has texts as its candidates.

    Args:
        id: the authors' id, unique within the task.
        image: the query image, or None.
        text: the instruction or caption, as it is given to the model.
        positives: the right candidates; empty where the authors keep them hidden, and where a
            class has no image in the gallery, which the authors count as a miss.
        excluded: candidates that are not ranked for this query.
        candidates: the query's own gallery, where each query has one.
        groups: names under which the score is also reported (CIRCO's semantic aspects).
    """

    id: str
    image: int | None
    text: str
    positives: tuple[int, ...] = ()
    excluded: tuple[int, ...] = ()
    candidates: tuple[int, ...] | None = None
    groups: tuple[str, ...] = ()


@dataclass(frozen=True)
class Measure:
    """A named number between 0 and 1 from the ranks of a query's right answers."""

    name: str
    function: Callable[[Ranks], float]


@dataclass(frozen=True)
class Task:
    """Queries against one gallery, scored by the same measures.

    `gallery` is empty where every query has its own candidates. `hidden` says that the authors
    keep the right answers to themselves: the task is ranked for their server, not scored.
    `keep` is how many of the best candidates are kept for submissions and pages.
    """

    name: str
    queries: Sequence[Query]
    gallery: Sequence[int]
    measures: tuple[Measure, ...]
    direction: Direction = "composed"
    hidden: bool = False
    group_measure: Measure | None = None
    keep: int = 10


@dataclass(frozen=True)
class Mean:
    """A row of the table that is the mean of one measure over several tasks."""

    label: str
    measure: str
    tasks: tuple[str, ...]


@dataclass(frozen=True)
class Benchmark:
    """A benchmark as read from its authors' files.

    `notes` say what was found that a reader of the score must know (duplicates kept once, queries
    without a right answer). `files` maps each file read to its sha256.
    """

    name: str
    images: Sequence[ImageRef]
    tasks: Sequence[Task]
    means: Sequence[Mean] = ()
    texts: Sequence[str] = ()
    notes: Sequence[str] = ()
    files: dict[str, str] = field(default_factory=dict)


class ImageTable:
    """Collects a benchmark's images, each once."""

    def __init__(self) -> None:
        self.images: list[ImageRef] = []
        self._positions: dict[str, int] = {}

    def add(self, name: str, path: Path, box: Box | None = None) -> int:
        """The position of the image of that name, added at its first mention."""
        position = self._positions.setdefault(name, len(self.images))
        if position == len(self.images):
            self.images.append(ImageRef(name, path, box))
        return position
