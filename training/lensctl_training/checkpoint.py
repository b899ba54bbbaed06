"""Checkpoints: all that a run needs to go on, in one file that is there whole or not at all.

    checkpoints/step-00001000.pt    model, temperature, optimiser, schedule, random numbers of every
                                    process, data positions, history, the recipe

They are read with torch's restricted unpickler: a checkpoint from elsewhere cannot run code.
"""

import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    get_model_state_dict,
    get_optimizer_state_dict,
    set_model_state_dict,
    set_optimizer_state_dict,
)
from torch.optim import Optimizer

from lensctl.errors import CheckpointError, StorageError
from lensctl.whole import whole
from lensctl_training.gradcache import RandomState

FORMAT = 1
_NAME = re.compile(r"step-(\d{8})\.pt")
_WHOLE = StateDictOptions(full_state_dict=True, cpu_offload=True)
_BROADCAST = StateDictOptions(full_state_dict=True, broadcast_from_rank0=True)


def checkpoint_path(folder: Path, step: int) -> Path:
    """Where the checkpoint after `step` steps lies."""
    return folder / f"step-{step:08d}.pt"


def find_checkpoints(folder: Path) -> dict[int, Path]:
    """Steps -> files, in order of steps."""
    found = {
        int(match.group(1)): path
        for path in folder.glob("step-*.pt")
        if (match := _NAME.fullmatch(path.name))
    }
    return dict(sorted(found.items()))


def model_state(module: nn.Module, *, sharded: bool) -> dict[str, Any]:
    """The weights, whole, on the CPU; all processes take part where they are sharded."""
    return get_model_state_dict(module, options=_WHOLE) if sharded else _detached(module)


def _detached(module: nn.Module) -> dict[str, Any]:
    return {name: value.detach().cpu() for name, value in module.state_dict().items()}


def optimiser_state(trained: nn.Module, optimiser: Optimizer, *, sharded: bool) -> dict[str, Any]:
    """The optimiser's state, whole; `trained` holds every parameter that it moves."""
    if sharded:
        return get_optimizer_state_dict(trained, optimiser, options=_WHOLE)
    return optimiser.state_dict()


def load_model_state(module: nn.Module, state: dict[str, Any], *, sharded: bool) -> None:
    """Inverse of `model_state`."""
    if sharded:
        set_model_state_dict(module, state, options=_BROADCAST)
    else:
        module.load_state_dict(state)


def load_optimiser_state(
    trained: nn.Module, optimiser: Optimizer, state: dict[str, Any], *, sharded: bool
) -> None:
    """Inverse of `optimiser_state`."""
    if sharded:
        set_optimizer_state_dict(trained, optimiser, state, options=_BROADCAST)
    else:
        optimiser.load_state_dict(state)


def random_state() -> dict[str, Any]:
    """This process's random numbers."""
    state = RandomState()
    return {"cpu": state.cpu, "cuda": state.cuda}


def restore_random_state(saved: dict[str, Any]) -> None:
    """Inverse of `random_state`."""
    state = RandomState()
    state.cpu = saved["cpu"]
    state.cuda = saved["cuda"] if state.cuda is not None else None
    state.restore()


def save_checkpoint(path: Path, state: dict[str, Any]) -> None:
    """Write, flush to the disk, rename: a power cut leaves the old file or the new one.

    Raises:
        StorageError: the disk is full, or the rights are missing; nothing is left of the new file.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with whole(path) as part, part.open("wb") as file:
            torch.save({"format": FORMAT, **state}, file)
            file.flush()
            os.fsync(file.fileno())
    except Exception as error:
        cause = _cause_on_disk(error)
        if cause is None:
            raise
        raise StorageError(
            f"cannot write a checkpoint into {path.parent}",
            why=cause.strerror or str(cause),
            next_step="free some space there, then go on with --resume from the last checkpoint",
        ) from error


def _cause_on_disk(error: BaseException | None) -> OSError | None:
    """The error of the system behind one of torch's, which raises RuntimeError as it closes."""
    while error is not None and not isinstance(error, OSError):
        error = error.__cause__ or error.__context__
    return error


def load_checkpoint(path: Path) -> dict[str, Any]:
    """A checkpoint's contents, on the CPU.

    Raises:
        CheckpointError: it is damaged, of another version, or no checkpoint.
    """
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
        if not isinstance(state, dict) or state.get("format") != FORMAT:
            raise ValueError("it is not a checkpoint of this version")
    except FileNotFoundError as error:
        raise CheckpointError(f"there is no checkpoint {path}") from error
    except Exception as error:
        # torch.load raises a dozen kinds of errors on damaged files, RuntimeError among them.
        raise CheckpointError(
            f"{path.name} cannot be read",
            why=str(error).splitlines()[0],
            next_step="delete it: --resume then uses the checkpoint before it",
        ) from error
    return state


def prune(folder: Path, keep: Sequence[int]) -> None:
    """Delete checkpoints of other steps than these, and unfinished files."""
    for step, path in find_checkpoints(folder).items():
        if step not in keep:
            path.unlink()
    for path in folder.glob(".*.part"):
        path.unlink()
