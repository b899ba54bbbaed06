"""EfficientNet-Lite2 without torch: a graph of ours, the package's weights, onnxruntime.

The shipped graph holds no weights. They are read from the package's own file at known offsets,
which its sha256 fixes, so nothing in it is ever unpickled. Batch normalisation is folded into
the convolutions while they are read.
Source: Tan and Le 2019 (EfficientNet); the Lite variant has no squeeze-and-excitation.
"""

import json
from pathlib import Path

import numpy as np
import numpy.typing as npt

from lensctl.models.interface import Floats

SIZE = 240
DECODE_MARGIN = 1.25
"""A photo is decoded at 300 pixels or more: what 480 would give beyond that was not found again in
the answers (docs/log-mini.md), and 2 megapixels decode at a quarter then, 12 at an eighth."""
FEATURES = 1280
CLASSES = 1000
BATCH_NORM_EPSILON = 1e-3
GRAPH = "image_tower.onnx"
LAYOUT = "image_weights.json"


class WeightFile:
    """The package's weights by name: an array is a place in the file.

    Args:
        path: the package's file, already verified.
        layout: JSON: {name: [offset in bytes, shape, strides in elements]}, float32.
    """

    def __init__(self, path: Path, layout: Path) -> None:
        self._bytes = np.memmap(path, dtype=np.uint8, mode="r")
        self._layout = json.loads(layout.read_text(encoding="utf-8"))

    def __getitem__(self, name: str) -> Floats:
        """A copy of the array, as the offsets are not aligned for floats."""
        offset, shape, strides = self._layout[name]
        raw = self._bytes[offset : offset + 4 * int(np.prod(shape))].tobytes()
        in_bytes = [4 * stride for stride in strides]
        return np.ascontiguousarray(np.ndarray(shape, "<f4", buffer=raw, strides=in_bytes))

    def convolutions(self) -> dict[str, Floats]:
        """All convolutions with their batch normalisation folded in: `name.weight`, `name.bias`."""
        folded = {}
        for name in (key.removesuffix(".gamma") for key in self._layout if key.endswith(".gamma")):
            scale = self[f"{name}.gamma"] / np.sqrt(self[f"{name}.variance"] + BATCH_NORM_EPSILON)
            folded[f"{name}.weight"] = self[f"{name}.weight"] * scale[:, None, None, None]
            folded[f"{name}.bias"] = self[f"{name}.beta"] - self[f"{name}.mean"] * scale
        return folded


class ImageTower:
    """Pixels -> the feature map before pooling.

    Args:
        weights: of the package.
        graph: the shipped graph.
        threads: for one image or batch; 0 lets onnxruntime take all cores.
    """

    def __init__(self, weights: WeightFile, graph: Path, threads: int = 0) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.log_severity_level = 3
        arrays = weights.convolutions()
        values = [onnxruntime.OrtValue.ortvalue_from_numpy(array) for array in arrays.values()]
        options.add_external_initializers(list(arrays), values)
        self._session = onnxruntime.InferenceSession(
            graph.read_bytes(), options, providers=["CPUExecutionProvider"]
        )

    def feature_map(self, pixels: Floats) -> npt.NDArray[np.float32]:
        """(N, 3, 240, 240) -> (N, 1280, 8, 8)."""
        return self._session.run(None, {"pixels": np.ascontiguousarray(pixels, np.float32)})[0]
