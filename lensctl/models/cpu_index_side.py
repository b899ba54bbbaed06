"""The batch side of a model folder on a CPU, without torch.

In bf16 or float32 the image tower is compiled by OpenVINO; in integers onnxruntime runs it.
"""

import os
import threading
from collections.abc import Callable
from functools import cached_property

from lensctl.config import PRECISIONS
from lensctl.errors import UsageError
from lensctl.models.accelerator import cpu_flags
from lensctl.models.folder import IMAGE, INT8_IMAGE, ModelFolder
from lensctl.models.interface import MOST_LANES, Floats, Preprocessor
from lensctl.models.query_side import (
    OnnxQuerySide,
    checked,
    damaged,
    open_graph,
    shared_options,
)


class CpuIndexSide:
    """Implements `interface.IndexSide`.

    Args:
        folder: of the model.
        precision: auto, fp32, bf16 or int8.

    Raises:
        UsageError: another precision.
    """

    device = "cpu"

    def __init__(self, folder: ModelFolder, precision: str) -> None:
        if precision not in PRECISIONS:
            raise UsageError(f"precision {precision!r}: choose one of {', '.join(PRECISIONS)}")
        self.info = folder.info
        self.preprocess: Preprocessor = folder.config.preprocessing
        self.precision = choose_precision(folder) if precision == "auto" else precision
        self._folder = folder
        self._lanes = 1
        self._opening = threading.Lock()
        fused = OnnxQuerySide(folder)
        self.make_targets = fused.make_targets
        self.text_keys = fused.text_keys

    def share_cores(self) -> int:
        """In integers one thread for each of MOST_LANES calls at the most; else one call."""
        self._lanes = min(_CORES, MOST_LANES) if self.precision == "int8" else 1
        return self._lanes

    def encode_images(self, pixels: Floats) -> Floats:
        """(N, 3, S, S) float32 pixels -> (N, E) embeddings, unnormalised."""
        with self._opening:
            tower = self._tower
        return tower(pixels=pixels)

    @cached_property
    def _tower(self) -> Callable[..., Floats]:
        return self._open_integers() if self.precision == "int8" else self._compile()

    def _open_integers(self) -> Callable[..., Floats]:
        """Unlike the query side it lets onnxruntime keep weights in the layout that is fastest."""
        options = shared_options()
        options.intra_op_num_threads = _CORES // self._lanes
        return open_graph(self._folder, INT8_IMAGE, options)

    def _compile(self) -> Callable[..., Floats]:
        from lensctl.models.compiled_tower import CompiledTower  # integers need no OpenVINO

        graph = self._folder.file(IMAGE)
        try:
            tower = CompiledTower(graph, self.precision)
        except RuntimeError as error:
            raise damaged(self._folder, IMAGE, str(error).splitlines()[0]) from error
        return checked(tower, self._folder, IMAGE)


_CORES = os.cpu_count() or 1


def choose_precision(folder: ModelFolder) -> str:
    """What this CPU multiplies fastest: bf16 in tiles, else integers where the folder has them."""
    flags = cpu_flags()
    if "amx_bf16" in flags:
        return "bf16"
    if folder.has_int8:
        return "int8"
    return "bf16" if "avx512_bf16" in flags else "fp32"
