"""Towers in 8-bit integers, for CPUs: a third of the time of float32 with VNNI.

Weights have one scale for each output. Activations have one for each row, that is for each token,
found as it comes, so that what a photo becomes does not depend on the other photos of its batch.
Only linear layers are in integers; norms, attention and sums stay in float32.
"""

from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np
import numpy.typing as npt
import onnxruntime as ort
from onnx import TensorProto
from safetensors import safe_open

from lensctl.models.interface import Floats
from lensctl.models.onnx_graph import CONTRIBUTED, Graph
from lensctl.models.query_side import run_session
from lensctl.models.safetensors_file import TensorPlace
from lensctl.models.verify import least_cosine

LARGEST_CODE = 127
ZERO_CODE = 128
"""Activations are unsigned with a zero in the middle: what the instructions multiply."""
LEAST_MAGNITUDE = 1e-12
"""Of a row, so that a row of zeros stays one."""
LEAST_COSINE = 0.999
"""Of embeddings in integers with those in float32; a tower below is not kept."""
TEST_PICTURES = 8


class Int8Graph(Graph):
    """A graph whose linear layers multiply integers; a context that holds the file of codes open.

    Args:
        places: of the weights in the safetensors file.
        weights: the safetensors file.
        codes: the file beside it that takes the integer weights.
    """

    def __init__(self, places: Mapping[str, TensorPlace], weights: Path, codes: Path) -> None:
        super().__init__(places, weights.name)
        self._weights = safe_open(weights, framework="np")
        self._codes = codes.open("wb")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._codes.close()

    def linear(self, x: str, weight: str, bias: str | None = None) -> str:
        """(M, in) -> (M, out) with torch's (out, in) weight."""
        values = self._weights.get_tensor(weight).astype(np.float32)
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


def agree(exact: Path, coarse: Path, **inputs: npt.NDArray[np.generic]) -> bool:
    """Whether two graphs of a tower give nearly the same embeddings."""
    one, other = (
        run_session(ort.InferenceSession(path, providers=["CPUExecutionProvider"]), **inputs)
        for path in (exact, coarse)
    )
    return least_cosine(one, other) >= LEAST_COSINE


def smooth_noise(size: int) -> Floats:
    """(TEST_PICTURES, 3, S, S): random, with the amplitude of photos, falling with frequency."""
    rng = np.random.default_rng(0)
    noise = np.fft.fft2(rng.standard_normal((TEST_PICTURES, 3, size, size)))
    frequency = np.hypot(*np.meshgrid(np.fft.fftfreq(size), np.fft.fftfreq(size)))
    smooth = np.fft.ifft2(noise / np.maximum(frequency, 1 / size)).real
    return (smooth / smooth.std(axis=(2, 3), keepdims=True)).astype(np.float32)
