"""The parts of a stage on a Ray cluster, through Ray Data.

What travels are the parts' names; their contents lie in the output folder, which every worker
must see under the same path (one machine, NFS, a mounted bucket). Ray runs a part of a lost
worker again by itself; placing a part is one rename, so a part done twice is written once.
"""

import logging
from collections.abc import Generator, Sequence
from typing import Any

from lensctl.errors import DependencyError, EndpointError
from lensctl_training.mining.engine import Work
from lensctl_training.mining.workspace import Part


class RayEngine:
    """See `engine.open_engine`."""

    def __init__(self, address: str, workers: int) -> None:
        try:
            import ray
            import ray.data
        except ImportError as error:
            raise DependencyError(
                "the Ray engine needs Ray",
                why=str(error),
                next_step="pip install 'ray[data]'",
            ) from error
        logging.getLogger("ray.data").setLevel(logging.WARNING)
        self._workers = workers
        self._ray = ray
        if not ray.is_initialized():
            try:
                ray.init(address=address or None, log_to_driver=False, logging_level="error")
            except (ConnectionError, RuntimeError, ValueError) as error:
                raise EndpointError(
                    f"cannot reach a Ray cluster at {address or 'this machine'}", why=str(error)
                ) from error

    def run(self, work: Work, parts: Sequence[Part]) -> Generator[str]:
        if not parts:
            return
        data = self._ray.data
        data.DataContext.get_current().enable_progress_bars = False
        rows = [{"part": part} for part in parts]

        def run_one(row: dict[str, Any]) -> dict[str, Any]:
            work(row["part"])
            return {"name": row["part"].name}

        # One block a part: a block is what Ray schedules, and what it redoes when a worker dies.
        tasks = data.from_items(rows, override_num_blocks=len(rows)).map(
            run_one, concurrency=self._workers or None, max_retries=5
        )
        for row in tasks.iter_rows():
            yield row["name"]
