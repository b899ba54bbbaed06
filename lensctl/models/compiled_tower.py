"""Image towers on a CPU, compiled by OpenVINO for the instructions that this CPU has.

Of the runtimes that need no torch it is the one that multiplies bf16 in AMX tiles.
"""

import os
import threading
from pathlib import Path

import numpy as np
from openvino import Core

from lensctl.models.interface import Floats

_NAMES = {"fp32": "f32", "bf16": "bf16"}


class CompiledTower:
    """An ONNX graph of one input and one output, on all cores.

    One call at a time: two requests that were first used side by side from two Python threads have
    waited for each other for ever (OpenVINO 2026.4), and two streams were no faster than one.

    Args:
        graph: its file; weights may lie in another one that it names.
        precision: fp32 or bf16, of weights and products; input and output stay float32.

    Raises:
        RuntimeError: the graph cannot be read.
    """

    def __init__(self, graph: Path, precision: str) -> None:
        core = Core()
        options = {
            "INFERENCE_PRECISION_HINT": _NAMES[precision],
            "NUM_STREAMS": 1,
            "INFERENCE_NUM_THREADS": os.cpu_count() or 1,
            "ENABLE_CPU_PINNING": False,
        }
        compiled = core.compile_model(core.read_model(graph), "CPU", options)
        self._request = compiled.create_infer_request()
        self._turn = threading.Lock()

    def __call__(self, pixels: Floats) -> Floats:
        """(N, 3, S, S) -> what the graph makes of it, a copy."""
        with self._turn:
            return np.array(self._request.infer([np.ascontiguousarray(pixels, np.float32)])[0])
