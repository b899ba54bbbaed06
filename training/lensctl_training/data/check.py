"""`lensctl train check`: read a whole data set and say what is in it."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from lensctl.show.sheet import Picture, Section, write_sheet
from lensctl_training.batching import spread
from lensctl_training.data.batches import BadExampleError
from lensctl_training.data.jsonl import read_jsonl_triplets
from lensctl_training.data.shards import find_shards, read_triplets
from lensctl_training.data.source import is_jsonl
from lensctl_training.data.stream import image_size
from lensctl_training.data.triplet import Problems, Triplet


@dataclass
class Checked:
    """What a data set holds; counts are of usable triplets."""

    shards: int = 0
    triplets: int = 0
    bytes: int = 0
    characters: int = 0
    with_negatives: int = 0
    keys: set[str] = field(default_factory=set)
    instructions: set[str] = field(default_factory=set)
    sizes: Counter[tuple[int, int]] = field(default_factory=Counter)
    problems: Problems = field(default_factory=Problems)

    def add(self, triplet: Triplet, sizes: list[tuple[int, int]]) -> None:
        """Count one usable triplet."""
        self.triplets += 1
        self.bytes += sum(map(len, (triplet.query, triplet.target, *triplet.negatives)))
        self.characters += len(triplet.instruction)
        self.with_negatives += bool(triplet.negatives)
        self.keys.add(triplet.key)
        self.instructions.add(triplet.instruction)
        self.sizes.update(sizes)

    def facts(self) -> dict[str, str]:
        """Name -> value, as they are printed."""
        sides = [side for size in self.sizes for side in size]
        return {
            "shards": str(self.shards),
            "triplets": str(self.triplets),
            "image bytes": str(self.bytes),
            "distinct instructions": str(len(self.instructions)),
            "mean instruction length": f"{self.characters / max(1, self.triplets):.1f}",
            "triplets with hard negatives": str(self.with_negatives),
            "image sides": f"{min(sides)} to {max(sides)}" if sides else "none",
            "bad examples": str(self.problems.total),
        }


def check_data(data: Path, *, sheet: Path | None = None, samples: int = 40) -> Checked:
    """Decode every image of a data set, count, and draw a page of samples.

    The samples are spread evenly over the data set by halving: the page never needs more than
    twice as many in memory, however large the set.

    Raises:
        DataError: there is no data set at `data`.
    """
    found = Checked(shards=0 if is_jsonl(data) else len(find_shards(data)))
    shown: list[Triplet] = []
    stride = 1
    for triplet in _usable(data, found):
        if sheet is not None and (found.triplets - 1) % stride == 0:
            shown.append(triplet)
            if len(shown) > 2 * samples:
                shown, stride = shown[::2], stride * 2
    if sheet is not None:
        _write_sheet(sheet, data, found, spread(shown, samples))
    return found


def _usable(data: Path, found: Checked) -> Iterator[Triplet]:
    problems = found.problems
    read = read_jsonl_triplets if is_jsonl(data) else read_triplets
    for triplet in read(data, problems):
        images = (triplet.query, triplet.target, *triplet.negatives)
        try:
            sizes = [image_size(image) for image in images]
        except BadExampleError as bad:
            problems.add(bad.reason, f"{triplet.key} ({bad.where})")
            continue
        if triplet.key in found.keys:
            problems.add("key that occurs twice", triplet.key)
        if triplet.query == triplet.target:
            problems.add("target that is the query image", triplet.key)
        found.add(triplet, sizes)
        yield triplet


def _write_sheet(path: Path, data: Path, found: Checked, shown: list[Triplet]) -> None:
    rows: list[list[Picture | str]] = [
        [
            Picture(triplet.query, mark="query"),
            triplet.instruction,
            Picture(triplet.target, mark="good"),
            *(Picture(image, "negative", mark="bad") for image in triplet.negatives[:3]),
        ]
        for triplet in shown
    ]
    facts = ", ".join(f"{name}: {value}" for name, value in found.facts().items())
    problems = Section("Problems", "; ".join(found.problems.lines()) or "None.")
    samples = Section("Samples", "Query, instruction, target.", rows=rows)
    write_sheet(
        path, f"Triplets in {data.name}", [Section(text=facts), problems, samples], picture_side=256
    )
