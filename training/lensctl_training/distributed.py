"""Several processes as one: torch's own engine, and a launcher for one machine.

Under torchrun the usual variables (RANK, WORLD_SIZE, LOCAL_RANK, MASTER_ADDR, MASTER_PORT) are
set already; `launch` sets them for `--nproc N`. What it starts ends with it, and tells it errors,
which it prints once.
"""

import ctypes
import os
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from types import FrameType
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from lensctl.errors import LensctlError, UsageError
from lensctl.whole import write_whole

_PARENT, _ERRORS = "LENSCTL_TRAIN_PARENT", "LENSCTL_TRAIN_ERRORS"
"""For the processes of `launch`: who started them, and the folder where they leave errors."""
_PR_SET_PDEATHSIG = 1
_PATIENCE = timedelta(days=365)
"""How long a process waits for another that works alone: one that ends ends the wait, too."""


@dataclass(frozen=True)
class Processes:
    """This process among all of the run.

    Args:
        rank: of this process.
        world: number of processes.
        device: of this process.
        talk: the connections for `gather`; None in a single process. Tensors have their own, which
            give up after minutes; the first process may validate or embed alone for hours.
    """

    rank: int
    world: int
    device: torch.device
    talk: dist.ProcessGroup | None = None

    @property
    def first(self) -> bool:
        """Whether this process writes files and shows progress."""
        return self.rank == 0

    @property
    def on_this_machine(self) -> int:
        """Processes of the run on this machine, as torchrun says; with `launch` all of them."""
        return int(os.environ.get("LOCAL_WORLD_SIZE", self.world))

    def mean(self, value: Tensor) -> Tensor:
        """The mean of a tensor over the processes, the same in all of them."""
        if self.world > 1:
            value = value.detach().clone()
            dist.all_reduce(value)
            value /= self.world
        return value.detach()

    def any(self, flag: bool) -> bool:
        """Whether the flag is set in any process."""
        if self.world == 1:
            return flag
        value = torch.tensor(float(flag), device=self.device)
        dist.all_reduce(value, op=dist.ReduceOp.MAX)
        return bool(value.item())

    def gather(self, value: Any) -> list[Any]:
        """A small picklable value of every process, in every process."""
        if self.world == 1:
            return [value]
        values: list[Any] = [None] * self.world
        dist.all_gather_object(values, value, group=self.talk)
        return values

    def refuse_together(self, refused: LensctlError | None) -> None:
        """Raise the first error of any process in every process, where there is one.

        One that failed alone would leave the others with a lost connection to complain about.
        """
        for heard in self.gather(refused):
            if heard is not None:
                raise heard

    def average_gradients(self, module: nn.Module) -> None:
        """For the few parameters outside the wrapped model, the temperature."""
        for parameter in module.parameters():
            if self.world > 1 and parameter.grad is not None:
                dist.all_reduce(parameter.grad)
                parameter.grad /= self.world


@contextmanager
def processes(device: str) -> "Any":
    """Join the run's process group, if there is one, and leave it at the end."""
    world = int(os.environ.get("WORLD_SIZE", "1"))
    rank = int(os.environ.get("RANK", "0"))
    chosen = _choose_device(device)
    if world == 1:
        yield Processes(0, 1, chosen)
        return
    if chosen.type == "cuda":
        torch.cuda.set_device(chosen)
    dist.init_process_group(
        "nccl" if chosen.type == "cuda" else "gloo", rank=rank, world_size=world
    )
    talk = dist.new_group(backend="gloo", timeout=_PATIENCE)
    assert isinstance(talk, dist.ProcessGroup), "all processes are in it"
    try:
        yield Processes(rank, world, chosen, talk)
    finally:
        dist.destroy_process_group()


def _choose_device(name: str) -> torch.device:
    """The device that a recipe names, or the local rank's own. Raises UsageError: it is absent."""
    local = int(os.environ.get("LOCAL_RANK", "0"))
    if name == "auto":
        if torch.cuda.is_available():
            return _existing(torch.device("cuda", local))
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    chosen = torch.device(name)
    if chosen.type != "cuda":
        return _existing(chosen)
    if chosen.index is not None and int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise UsageError(
            f"machine.device={name} is one GPU, for a single process",
            why="each of several processes takes a GPU of its own",
            next_step="set machine.device to cuda, and CUDA_VISIBLE_DEVICES to the GPUs to use",
        )
    return _existing(torch.device("cuda", local if chosen.index is None else chosen.index))


def _existing(device: torch.device) -> torch.device:
    there = {
        "cpu": lambda: 1,
        "cuda": torch.cuda.device_count,
        "mps": lambda: int(torch.backends.mps.is_available()),
    }[device.type]()
    if (device.index or 0) < there:
        return device
    raise UsageError(
        f"there is no device {device} for this process",
        why=f"torch finds {there} of the kind {device.type}, counted from 0",
        next_step="set machine.device to auto or cpu, or start fewer processes",
    )


@dataclass
class Wrapped:
    """A module as it is called in training, and how to hold back its reductions."""

    call: nn.Module
    without_sync: Callable[[], AbstractContextManager[object]]


def wrap(module: nn.Module, group: Processes, sharding: str) -> Wrapped:
    """DDP or FSDP2 around a module; nothing around it in a single process.

    FSDP2 changes the module in place: its parameters become DTensors.
    """
    if group.world == 1:
        return Wrapped(module, nullcontext)
    if sharding == "fsdp":
        return Wrapped(module, _shard(module, group))
    ddp = DistributedDataParallel(module, gradient_as_bucket_view=True)
    return Wrapped(ddp, ddp.no_sync)


def _shard(module: nn.Module, group: Processes) -> Callable[[], AbstractContextManager[object]]:
    """FSDP2: every transformer block is a unit, what is left over belongs to the root."""
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import FSDPModule, fully_shard, register_fsdp_forward_method

    mesh = init_device_mesh(group.device.type, (group.world,))
    blocks = ("ResidualAttentionBlock", "CustomResidualAttentionBlock", "FusionLayer")
    for part in module.modules():
        if type(part).__name__ in blocks:
            fully_shard(part, mesh=mesh)
    # CLIP's own logit scale is a scalar, which FSDP cannot split, and nothing here uses it.
    scalars = {parameter for parameter in module.parameters() if parameter.ndim == 0}
    fully_shard(module, mesh=mesh, ignored_params=scalars)
    root = module
    assert isinstance(root, FSDPModule)
    for method in ("encode_queries", "encode_targets", "embed_images", "embed_texts", "fuse"):
        register_fsdp_forward_method(root, method)

    @contextmanager
    def without_sync() -> "Any":
        root.set_requires_gradient_sync(False)
        try:
            yield
        finally:
            root.set_requires_gradient_sync(True)

    return without_sync


def launch(number: int, arguments: Sequence[str]) -> int:
    """Run `python -m lensctl ARGUMENTS` in several processes on this machine.

    SIGINT and SIGTERM are passed on. When one process fails the others are ended, and what went
    wrong is printed once.

    Returns:
        The exit status of the error that is printed; without one the first that is not 0, or 0.
    """
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    common = {"WORLD_SIZE": str(number), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    # Processes that each take all cores stand in each other's way.
    common["OMP_NUM_THREADS"] = os.environ.get(
        "OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // number))
    )
    common[_PARENT] = str(os.getpid())
    with tempfile.TemporaryDirectory(prefix="lensctl-train-") as errors:
        common[_ERRORS] = errors
        children = [
            subprocess.Popen(
                [sys.executable, "-m", "lensctl", *arguments],
                env={**os.environ, **common, "RANK": str(rank), "LOCAL_RANK": str(rank)},
                # A terminal's Ctrl-C goes to its whole group: they would hear it twice, which
                # means at once.
                process_group=0,
            )
            for rank in range(number)
        ]
        old = {
            name: signal.signal(name, lambda number, _: _send(children, number))
            for name in (signal.SIGINT, signal.SIGTERM)
        }
        try:
            status = _wait(children)
        finally:
            for name, handler in old.items():
                signal.signal(name, handler)
        told = sorted(Path(errors).glob("*.txt"))
        if told:
            # The first to fail ends the others: most say the same, or nothing, and may end of a
            # lost connection before the one that knows why.
            print(told[0].read_text(encoding="utf-8"), file=sys.stderr)
            return int(told[0].stem.partition("-")[2])
        return status


def end_with_parent() -> None:
    """In a process of `launch`: be killed when the launcher is, be it by SIGKILL.

    Only Linux can do this; elsewhere such processes go on to their end.
    """
    parent = os.environ.get(_PARENT)
    if parent is None or sys.platform != "linux":
        return
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)
    if os.getppid() != int(parent):
        # It was gone before we asked, and no signal will come.
        os._exit(128 + signal.SIGKILL)


def tell_parent(error: LensctlError) -> bool:
    """In a process of `launch`: leave the error for the launcher to print.

    Returns:
        Whether there is one that will.
    """
    folder = os.environ.get(_ERRORS)
    if folder is None or not Path(folder).is_dir():
        return False
    # Its name appears once it is whole: this process may be killed at any moment.
    path = Path(folder) / f"{int(os.environ['RANK']):06d}-{error.exit_code}.txt"
    told = "\n".join(error.lines())
    write_whole(path, told.encode("utf-8", "backslashreplace").decode())
    return True


def _send(children: Sequence["subprocess.Popen[bytes]"], number: int) -> None:
    for child in children:
        if child.poll() is None:
            child.send_signal(number)


def _wait(children: Sequence["subprocess.Popen[bytes]"]) -> int:
    status = 0
    waiting = list(children)
    while waiting:
        for child in list(waiting):
            try:
                code = child.wait(timeout=0.1)
            except subprocess.TimeoutExpired:
                continue
            waiting.remove(child)
            if code and not status:
                status = 128 - code if code < 0 else code
                if code not in (130, 143):
                    _send(waiting, signal.SIGKILL)
    return status


class StopRequest:
    """SIGTERM, and the first Ctrl-C, ask for an end after the current step.

    The command line's GracefulStop does this for photos; a training run of many processes also
    needs it where no terminal is.
    """

    def __init__(self) -> None:
        self.signal = 0

    def __enter__(self) -> "StopRequest":
        self._old = {s: signal.signal(s, self._ask) for s in (signal.SIGINT, signal.SIGTERM)}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._old.items():
            signal.signal(number, handler)

    def _ask(self, number: int, _frame: FrameType | None) -> None:
        if self.signal == signal.SIGINT and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.signal = number
