"""Towers in 8-bit integers, for CPUs: a third of the time of float32 with VNNI.

Weights have one scale for each output. Activations have one for each row, that is for each token,
found as it comes, so that what a photo becomes does not depend on the other photos of its batch.
Transformers have a few channels of large values, which would leave little of the range to the
others; so each channel's magnitude is shared out between activations and weights (SmoothQuant,
Xiao et al. 2023, with equal parts). Only linear layers are in integers; norms, attention and sums
stay in float32.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime as ort
from onnx import TensorProto
from safetensors import safe_open

from lensctl.models.interface import Floats
from lensctl.models.onnx_graph import CONTRIBUTED, Graph, floats
from lensctl.models.query_side import run_session
from lensctl.models.safetensors_file import TensorPlace
from lensctl.models.verify import least_cosine

Inputs = Mapping[str, npt.NDArray[Any]]
"""Of a graph, by name."""

LARGEST_CODE = 127
ZERO_CODE = 128
"""Activations are unsigned with a zero in the middle: what the instructions multiply."""
LEAST_MAGNITUDE = 1e-12
"""Of a row, so that a row of zeros stays one."""
LEAST_PEAK = 1e-5
"""Of a channel, so that one that is always zero has a scale, too."""
LEAST_COSINE = 0.999
"""Of embeddings in integers with those in float32; a tower below is not kept."""
TEST_PICTURES = 8
PROBES = (
    "a photo of two dogs playing on the beach",
    "the same building in winter, seen from above",
    "in black and white",
    "a red one instead",
)
"""Texts on which magnitudes are measured; others are for the test."""


class ProbeGraph(Graph):
    """A graph in float32 that tells how large the values get that its linear layers read."""

    def __init__(self, places: Mapping[str, TensorPlace], weights_file: str) -> None:
        super().__init__(places, weights_file)
        self._read: dict[str, str] = {}

    def linear(self, x: str, weight: str, bias: str | None = None) -> str:
        """(M, in) -> (M, out) with torch's (out, in) weight."""
        self._read[weight] = x
        return super().linear(x, weight, bias)

    def peaks(self, model: onnx.ModelProto, path: Path, inputs: Inputs) -> dict[str, Floats]:
        """Of every linear layer's weight: (in,), the largest magnitude of each channel.

        Args:
            model: this graph, finished.
            path: beside the weights; a file is made there and removed.
            inputs: what the graph is run on.
        """
        names = list(dict.fromkeys(self._read.values()))
        model.graph.output.extend(floats(name, f"{name} rows", f"{name} width") for name in names)
        path.write_bytes(model.SerializeToString())
        found = ort.InferenceSession(path, providers=["CPUExecutionProvider"]).run(names, inputs)
        path.unlink()
        largest = {
            name: np.abs(values).max(axis=0) for name, values in zip(names, found, strict=True)
        }
        return {weight: largest[x] for weight, x in self._read.items()}


class Int8Graph(Graph):
    """A graph whose linear layers multiply integers.

    Args:
        places: of the weights in the safetensors file.
        weights: the safetensors file.
        codes: an open file beside it that takes the integer weights.
        peaks: see `ProbeGraph.peaks`.
    """

    def __init__(
        self,
        places: Mapping[str, TensorPlace],
        weights: Path,
        codes: IO[bytes],
        peaks: Mapping[str, Floats],
    ) -> None:
        super().__init__(places, weights.name)
        self._weights = safe_open(weights, framework="np")
        self._codes = codes
        self._peaks = peaks

    def linear(self, x: str, weight: str, bias: str | None = None) -> str:
        """(M, in) -> (M, out) with torch's (out, in) weight; a kernel's (out, ...) is one, too."""
        values = self._weights.get_tensor(weight).astype(np.float32)
        values = values.reshape(len(values), -1)
        shares = np.sqrt(
            np.maximum(np.abs(values).max(axis=0), LEAST_PEAK)
            / np.maximum(self._peaks[weight], LEAST_PEAK)
        )
        values /= shares
        x = self.op("Mul", x, self.constant(shares))
        scales = np.maximum(np.abs(values).max(axis=1), LEAST_MAGNITUDE) / LARGEST_CODE
        codes = np.rint(values / scales[:, None]).astype(np.int8)
        magnitude = self.op("ReduceMax", self.op("Abs", x), self.ints(1), keepdims=1)
        magnitude = self.op("Max", magnitude, self.constant(LEAST_MAGNITUDE))
        zero, step = self.constant(ZERO_CODE, np.uint8), self.constant(1 / LARGEST_CODE)
        rows = self.op("QuantizeLinear", self.op("Div", x, magnitude), step, zero)
        product = self.op(
            "MatMulIntegerToFloat",
            rows,
            self._external_codes(f"{weight}.int8", codes.T),
            step,
            self.constant(scales),
            zero,
            domain=CONTRIBUTED,
        )
        scaled = self.op("Mul", product, magnitude)
        return self.op("Add", scaled, self.weight(bias)) if bias else scaled

    def _external_codes(self, name: str, codes: np.ndarray) -> str:
        offset = self._codes.tell()
        length = self._codes.write(np.ascontiguousarray(codes).tobytes())
        file = Path(self._codes.name).name
        return self.external(name, TensorProto.INT8, codes.shape, file, offset, length)


def agree(exact: Path, coarse: Path, inputs: Inputs) -> bool:
    """Whether two graphs of a tower give nearly the same embeddings."""
    one, other = (
        run_session(ort.InferenceSession(path, providers=["CPUExecutionProvider"]), **inputs)
        for path in (exact, coarse)
    )
    return least_cosine(one, other) >= LEAST_COSINE


def smooth_noise(size: int, seed: int) -> Floats:
    """(TEST_PICTURES, 3, S, S): random, with the amplitude of photos, falling with frequency."""
    rng = np.random.default_rng(seed)
    noise = np.fft.fft2(rng.standard_normal((TEST_PICTURES, 3, size, size)))
    frequency = np.hypot(*np.meshgrid(np.fft.fftfreq(size), np.fft.fftfreq(size)))
    smooth = np.fft.ifft2(noise / np.maximum(frequency, 1 / size)).real
    return (smooth / smooth.std(axis=(2, 3), keepdims=True)).astype(np.float32)
