"""A worker that dies at its work; a module of its own, so that a process imports little for it."""

import os
import signal
from pathlib import Path

from lensctl_training.mining import pipeline
from lensctl_training.mining.config import MineConfig
from lensctl_training.mining.workspace import Part


def make_or_die(flag: str, out: str, config: MineConfig, part: Part) -> None:
    """Kill this worker the first time, in the middle of a part."""
    if not Path(flag).exists():
        Path(flag).touch()
        (Path(out) / "work" / "pages" / f".{part.name}.half").mkdir(parents=True)
        os.kill(os.getpid(), signal.SIGKILL)
    pipeline.make_part("pages", out, config, part)
