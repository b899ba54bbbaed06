"""The batch side of a model folder on a CPU, without torch: its image tower in integers."""

import os
import threading
from functools import cached_property

import onnxruntime as ort

from lensctl.models.folder import INT8_IMAGE, ModelFolder
from lensctl.models.interface import MOST_LANES, Floats, Preprocessor
from lensctl.models.query_side import OnnxQuerySide, open_session, run_session, shared_options


class Int8IndexSide:
    """Implements `interface.IndexSide`.

    Unlike the query side it lets onnxruntime keep the weights in the layout that is fastest.
    """

    device = "cpu"
    precision = "int8"

    def __init__(self, folder: ModelFolder) -> None:
        self.info = folder.info
        self.preprocess: Preprocessor = folder.config.preprocessing
        self._folder = folder
        self._threads = 0
        self._opening = threading.Lock()
        fused = OnnxQuerySide(folder)
        self.make_targets = fused.make_targets
        self.text_keys = fused.text_keys

    def share_cores(self) -> int:
        """One thread for each call, up to MOST_LANES calls beside each other."""
        cores = os.cpu_count() or 1
        lanes = min(cores, MOST_LANES)
        self._threads = cores // lanes
        return lanes

    def encode_images(self, pixels: Floats) -> Floats:
        """(N, 3, S, S) float32 pixels -> (N, E) embeddings, unnormalised."""
        with self._opening:
            session = self._session
        return run_session(session, pixels=pixels)

    @cached_property
    def _session(self) -> ort.InferenceSession:
        options = shared_options()
        options.intra_op_num_threads = self._threads
        return open_session(self._folder, INT8_IMAGE, options)
