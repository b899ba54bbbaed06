"""Image towers on a CPU, compiled by OpenVINO for the instructions that this CPU has.

Of the runtimes that need no torch it is the one that multiplies bf16 in AMX tiles. It also runs
convolutions in float32 half as fast again as onnxruntime, and opens in half a second.
"""

from functools import cache
from pathlib import Path
from queue import SimpleQueue

import numpy as np
from openvino import Core, InferRequest

from lensctl.models.interface import Floats

_NAMES = {"fp32": "f32", "bf16": "bf16"}


class CompiledTower:
    """An ONNX graph of one input and one output. Threads may call it side by side.

    Args:
        graph: a file, or the bytes of a graph that holds its weights.
        precision: fp32 or bf16, of weights and products; input and output stay float32.
        lanes: how many calls run side by side; more wait.
        threads: of all lanes together.

    Raises:
        RuntimeError: the graph cannot be read.
    """

    def __init__(self, graph: Path | bytes, precision: str, lanes: int, threads: int) -> None:
        core = Core()
        options = {
            "INFERENCE_PRECISION_HINT": _NAMES[precision],
            "NUM_STREAMS": lanes,
            "INFERENCE_NUM_THREADS": threads,
            "ENABLE_CPU_PINNING": False,
        }
        compiled = core.compile_model(core.read_model(graph), "CPU", options)
        self._idle: SimpleQueue[InferRequest] = SimpleQueue()
        for _ in range(lanes):
            self._idle.put(compiled.create_infer_request())

    def __call__(self, pixels: Floats) -> Floats:
        """(N, 3, S, S) -> what the graph makes of it, a copy."""
        request = self._idle.get()
        try:
            return np.array(request.infer([np.ascontiguousarray(pixels, np.float32)])[0])
        finally:
            self._idle.put(request)


@cache
def cpu_flags() -> frozenset[str]:
    """Instructions of this CPU by Linux's names; none are known elsewhere."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="ascii", errors="replace").splitlines()
    except OSError:
        return frozenset()
    flags = (line.partition(":")[2] for line in lines if line.startswith("flags"))
    return frozenset(next(flags, "").split())
