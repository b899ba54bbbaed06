"""The stream of batches that the loop draws from, whatever the data set is."""

import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Protocol

from torch.utils.data import DataLoader, Dataset
from tqdm import tqdm

from lensctl.errors import DataError, TrainingError
from lensctl_training.data.batches import (
    TOO_FEW,
    BadExampleError,
    Examples,
    Fetched,
    GlobalOrder,
    IndexBatches,
    Position,
    Wanted,
    fetch,
    load_usable,
)
from lensctl_training.data.stream import ShardStream
from lensctl_training.data.triplet import Problems

PREFETCH = 2
"""Batches that a worker makes ahead."""
SHARED_MEMORY = Path("/dev/shm")
"""Where workers hand their batches over, on Linux."""


class Source(Protocol):
    """Batches of one process, for ever."""

    def start(self, state: dict[str, Any] | None) -> Iterator[Fetched]:
        """Batches from the beginning, or from where `state()` was taken."""
        ...

    def state(self) -> dict[str, Any]:
        """Where the stream stands after the batches drawn so far, as plain values."""
        ...


class _Fetch(Dataset[Fetched]):
    """Indices -> batches, in a DataLoader's workers."""

    def __init__(self, examples: Examples, context_length: int) -> None:
        self.examples = examples
        self.context_length = context_length

    def __getitem__(self, wanted: Wanted) -> Fetched:
        problems: list[tuple[str, str]] = []
        try:
            loaded = load_usable(self.examples, wanted, problems)
        except BadExampleError:
            return Fetched(None, "", problems)
        return fetch(loaded, self.context_length, problems)


@dataclass
class MapSource:
    """Batches of a data set with random access; its whole state is the step.

    `pinned`, here as of a StreamSource: in memory from which a GPU copies without the CPU waiting.
    """

    examples: Examples
    context_length: int
    order: GlobalOrder
    rank: int = 0
    world: int = 1
    workers: int = 0
    pinned: bool = False
    step: int = 0

    def start(self, state: dict[str, Any] | None) -> Iterator[Fetched]:
        """See Source."""
        self.step = int(state["step"]) if state else 0
        loader = DataLoader(
            _Fetch(self.examples, self.context_length),
            sampler=IndexBatches(self.order, self.step, self.rank, self.world),
            batch_size=None,
            num_workers=self.workers,
            persistent_workers=self.workers > 0,
            prefetch_factor=PREFETCH if self.workers else None,
            pin_memory=self.pinned,
        )
        for fetched in loader:
            self.step += 1
            yield _usable(fetched)

    def state(self) -> dict[str, Any]:
        """See Source."""
        return {"step": self.step}


@dataclass
class StreamSource:
    """Batches from shards; its state is what every worker has taken and whose turn it is.

    Where `workers` cannot each fill a batch, fewer are used; a run that goes on uses as many.
    """

    stream: ShardStream
    workers: int = 0
    pinned: bool = False

    def __post_init__(self) -> None:
        self.positions = [Position()] * max(1, self.workers)
        self.turn = 0

    def start(self, state: dict[str, Any] | None) -> Iterator[Fetched]:
        """See Source. Raises DataError where the state is of more workers, or of an old version."""
        if state is None:
            batches = self._begin()
        else:
            if len(state["positions"]) > len(self.positions):
                raise DataError(
                    "the data position in the checkpoint is of another number of workers",
                    why=f"{len(state['positions'])} then, {len(self.positions)} now",
                    next_step="resume with the same data.workers",
                )
            if any(isinstance(plain, int) for plain in state["positions"]):
                raise DataError(
                    "the data position in the checkpoint is of an earlier version",
                    why="it is counted over all epochs, and nothing says where the last one began",
                    next_step="start the run anew, into another --out",
                )
            self.positions = [Position(*plain) for plain in state["positions"]]
            self.turn = int(state["turn"])
            batches = self._read()
        for fetched in batches:
            self.positions[self.turn] = fetched.position
            self.turn = (self.turn + 1) % len(self.positions)
            yield _usable(fetched)

    def _read(self, *, announced: bool = False) -> Iterator[Fetched]:
        """From where the positions are, with a worker for each of them."""
        self.stream.positions, self.stream.first_worker = list(self.positions), self.turn
        self.stream.announced = announced
        workers = min(self.workers, len(self.positions))
        loader = DataLoader(
            self.stream,
            batch_size=None,
            num_workers=workers,
            prefetch_factor=PREFETCH if workers else None,
            pin_memory=self.pinned,
        )
        return iter(loader)

    def _begin(self) -> Iterator[Fetched]:
        """Batches from the beginning, with as many workers as can each fill one."""
        while True:
            batches = self._read(announced=True)
            first = list(islice(batches, len(self.positions)))
            short = any(reason == TOO_FEW for one in first for reason, _ in one.problems)
            if not short or len(self.positions) == 1:
                break
            self.positions = self.positions[: len(self.positions) // 2]
        if not short and len(self.positions) < self.workers and self.stream.rank == 0:
            said = f"data.workers is {len(self.positions)} instead of {self.workers}: with more, "
            tqdm.write(said + "one has too few triplets to fill a batch", file=sys.stderr)
        return batches

    def state(self) -> dict[str, Any]:
        """See Source."""
        return {"positions": [tuple(position) for position in self.positions], "turn": self.turn}


def _usable(fetched: Fetched) -> Fetched:
    """Refuse a data set that a worker gave up; raised here, as workers only pass tracebacks on."""
    if fetched.batch is None:
        found = Problems()
        for reason, where in fetched.problems:
            found.add(reason, where)
        few = any(reason == TOO_FEW for reason, _ in fetched.problems)
        raise DataError(
            "each reader of the data set must fill a batch by itself, and one cannot"
            if few
            else "the data set has no usable triplets where one was looked for",
            why="; ".join(found.lines()) or "a reader's shards are empty",
            next_step="use fewer data.workers, or a smaller batch.size"
            if few
            else "run `lensctl train check DATA`; with few triplets use fewer data.workers",
        )
    return fetched


def refuse_too_little_shared_memory(batch: int, workers: int, processes: int) -> None:
    """Say before the first batch what would end a worker with SIGBUS in the middle of a run.

    Args:
        batch: bytes of one process's batch.
        workers: of a process.
        processes: on this machine.

    Raises:
        TrainingError: less is free than what all batches under way may take.
    """
    if not workers or not SHARED_MEMORY.is_dir():
        return
    # Those made ahead, and the one in use.
    batches = processes * (PREFETCH * workers + 1)
    free = shutil.disk_usage(SHARED_MEMORY).free
    if batches * batch > free:
        raise TrainingError(
            f"{SHARED_MEMORY} is too small for the batches of {workers} data.workers",
            why=f"{batches} batches of {batch / 1e6:,.1f} MB may lie there at a time, and "
            f"{free / 1e6:,.1f} MB are free",
            next_step="use fewer data.workers or a smaller batch.size, or make it larger "
            "(docker run --shm-size, mount -o remount,size=)",
        )


def is_jsonl(path: Path) -> bool:
    """Whether a data set is a JSONL file; anything else is shards."""
    return path.suffix.lower() == ".jsonl"
