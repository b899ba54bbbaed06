"""Who does the work of a stage: this process, a few local processes, or a Ray cluster.

All engines do the same: call one function on every part. A part that a lost worker was busy with
is done again; a part is placed by one rename, so doing it twice changes nothing.
"""

import signal
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import closing, contextmanager
from multiprocessing import active_children, get_context
from typing import Protocol

from tqdm import tqdm

from lensctl.errors import DataError, UsageError
from lensctl_training.mining.workspace import Part

Work = Callable[[Part], None]
_LOST_WORKERS = 5


class Engine(Protocol):
    """Runs a picklable function on parts."""

    def run(self, work: Work, parts: Sequence[Part]) -> Generator[str]:
        """Do all parts, in any order; yields the name of each that is done.

        Closing it early begins no more. What `work` raises ends it.

        Raises:
            DataError: workers keep dying.
        """
        ...


class InProcess:
    """One part after the other, here."""

    def run(self, work: Work, parts: Sequence[Part]) -> Generator[str]:
        for part in parts:
            work(part)
            yield part.name


class Processes:
    """A pool of local processes."""

    def __init__(self, workers: int) -> None:
        self.workers = workers

    def run(self, work: Work, parts: Sequence[Part]) -> Generator[str]:
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

    def _run_once(self, work: Work, parts: Sequence[Part]) -> Generator[str]:
        others = set(active_children())
        context = get_context("spawn")
        with ProcessPoolExecutor(self.workers, context, _ignore_interrupts) as pool:
            try:
                with _interrupts_held():
                    futures = {pool.submit(work, part): part.name for part in parts}
                for future in as_completed(futures):
                    future.result()
                    yield futures[future]
            except Exception:
                pool.shutdown(cancel_futures=True)  # what is being made is finished, no more begun
                raise
            except BaseException:
                # Ctrl-C, which the workers do not hear of: what they are making is thrown away.
                for worker in set(active_children()) - others:
                    worker.terminate()
                raise


def _ignore_interrupts() -> None:
    """Ctrl-C reaches every process of the terminal; the one that was started answers it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


@contextmanager
def _interrupts_held() -> Iterator[None]:
    """Hold Ctrl-C back. Processes started meanwhile never see it, not even while they import."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def run_with_bar(engine: Engine, work: Work, todo: Sequence[Part], title: str, total: int) -> None:
    """Let an engine do what is left of `total` parts, under a bar."""
    progress = tqdm(total=total, initial=total - len(todo), desc=title, unit="part", disable=None)
    # Closed at once where the loop is left: a pool must not go on behind an interrupted run.
    with progress, closing(engine.run(work, todo)) as made:
        for _ in made:
            progress.update()


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
