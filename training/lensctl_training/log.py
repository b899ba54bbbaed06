"""What a run writes down while it goes: JSON lines, TensorBoard, and the progress bar."""

import json
import os
from pathlib import Path
from typing import Any, TextIO

from lensctl.whole import write_whole
from lensctl_training.json_lines import read_lines


class RunLog:
    """`log.jsonl` of a run: one record a step or validation; TensorBoard beside it.

    Records are flushed at once. A run that goes on from a checkpoint drops the records of steps
    that it will make again, so that the file reads as if nothing had happened.

    Args:
        folder: of the run.
        resumed_at: steps that were done; 0 starts the file anew.
        tensorboard: also write event files, if the package is there.
    """

    def __init__(self, folder: Path, resumed_at: int, *, tensorboard: bool = True) -> None:
        self.path = folder / "log.jsonl"
        kept = [r for r in read_log(self.path) if r["step"] <= resumed_at] if resumed_at else []
        write_whole(self.path, "".join(_line(record) for record in kept))
        self._file: TextIO = self.path.open("a", encoding="utf-8")
        self._board = _open_board(folder / "tensorboard", resumed_at) if tensorboard else None

    def write(self, step: int, kind: str, values: dict[str, Any]) -> None:
        """One record; numbers also go to TensorBoard under `kind/name`."""
        self._file.write(_line({"step": step, "kind": kind, **values}))
        self._file.flush()
        if self._board is not None:
            for name, value in values.items():
                if isinstance(value, int | float):
                    self._board.add_scalar(f"{kind}/{name}", value, step)

    def close(self) -> None:
        """Flush to the disk."""
        os.fsync(self._file.fileno())
        self._file.close()
        if self._board is not None:
            self._board.close()


def _line(record: dict[str, Any]) -> str:
    return json.dumps(record, ensure_ascii=False) + "\n"


def _open_board(folder: Path, resumed_at: int) -> Any:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        return None  # an optional extra: the JSON lines say the same
    return SummaryWriter(str(folder), purge_step=resumed_at + 1)


def read_log(path: Path) -> list[dict[str, Any]]:
    """The records of a log; a last line that a kill cut short is left out."""
    return list(read_lines(path))
