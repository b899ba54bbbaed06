"""Who does the work of a stage: this process, a few local processes, or a Ray cluster.

All engines do the same: call one function on every part. A part that a lost worker was busy with
is done again; a part is placed by one rename, so doing it twice changes nothing.
"""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context
from typing import Protocol

from lensctl.errors import DataError, UsageError
from lensctl_training.mining.workspace import Part

Work = Callable[[Part], None]
_LOST_WORKERS = 5


class Engine(Protocol):
    """Runs a picklable function on parts, in any order; yields a part's name when it is done."""

    def run(self, work: Work, parts: Sequence[Part]) -> Iterator[str]: ...


class InProcess:
    """One part after the other, here."""

    def run(self, work: Work, parts: Sequence[Part]) -> Iterator[str]:
        for part in parts:
            work(part)
            yield part.name


class Processes:
    """A pool of local processes."""

    def __init__(self, workers: int) -> None:
        self.workers = workers

    def run(self, work: Work, parts: Sequence[Part]) -> Iterator[str]:
        left = {part.name: part for part in parts}
        for _ in range(_LOST_WORKERS + 1):
            try:
                for name in self._run_once(work, list(left.values())):
                    del left[name]
                    yield name
                return
            except BrokenProcessPool:
                continue  # a worker died: what it and its pool had not finished is done again
        raise DataError(
            "the worker processes keep dying",
            why="a part may need more memory than there is",
            next_step="run again with fewer --workers, or a larger pages.site_parts",
        )

    def _run_once(self, work: Work, parts: Sequence[Part]) -> Iterator[str]:
        with ProcessPoolExecutor(self.workers, mp_context=get_context("spawn")) as pool:
            futures = {pool.submit(work, part): part.name for part in parts}
            for future in as_completed(futures):
                future.result()
                yield futures[future]


def open_engine(name: str, address: str = "", workers: int = 1) -> Engine:
    """The engine of that name.

    Args:
        name: "local" or "ray".
        address: of the Ray cluster's head; "" starts or joins one on this machine.
        workers: processes (local) or at most this many tasks at a time (ray; 0: as Ray sees fit).

    Raises:
        UsageError: there is no such engine, or an address where none is used.
        DependencyError: Ray is not installed.
    """
    if name == "ray":
        from lensctl_training.mining.ray_engine import RayEngine

        return RayEngine(address, workers)
    if name != "local":
        raise UsageError(f"there is no engine {name!r}", next_step="use local or ray")
    if address:
        raise UsageError("--address needs --engine ray")
    return Processes(workers) if workers > 1 else InProcess()
