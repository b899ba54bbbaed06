"""The query side's graphs, built by hand for CLIP transformers and both fusions.

A graph holds no weights: its initializers point into `model.safetensors` beside it, so a weight is
stored once for both sides and onnxruntime maps it from there. Token matrices are kept flat,
(batch * tokens, width): a linear layer is then one Gemm that reads torch's (out, in) layout.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

from lensctl.models.safetensors_file import TensorPlace

OPSET = 20
CONTRIBUTED = "com.microsoft"
"""The domain of onnxruntime's own operators."""
LAYER_NORM_EPS = 1e-5
_TYPES = {"F32": TensorProto.FLOAT, "I64": TensorProto.INT64}


class Graph:
    """An ONNX graph under construction; every method returns the name of a tensor."""

    def __init__(self, places: Mapping[str, TensorPlace], weights_file: str) -> None:
        self._places = places
        self._weights_file = weights_file
        self._nodes: list[onnx.NodeProto] = []
        self._initializers: dict[str, onnx.TensorProto] = {}

    def op(self, kind: str, *inputs: str, **attributes: Any) -> str:
        """One node of one output."""
        return self.ops(kind, 1, *inputs, **attributes)[0]

    def ops(self, kind: str, outputs: int, *inputs: str, **attributes: Any) -> list[str]:
        """One node of several outputs."""
        names = [f"{kind}_{len(self._nodes)}_{i}" for i in range(outputs)]
        self._nodes.append(helper.make_node(kind, list(inputs), names, **attributes))
        return names

    def weight(self, name: str) -> str:
        """A tensor of the safetensors file, by its name there."""
        return self._stored(name, self.shape_of(name))

    def matrix(self, name: str) -> str:
        """A weight as (out, in), whatever the axes of its inputs."""
        outputs, *inputs = self.shape_of(name)
        return self._stored(name, (outputs, math.prod(inputs)))

    def _stored(self, name: str, shape: Sequence[int]) -> str:
        place = self._places[name]
        kind = _TYPES[place.dtype]
        return self.external(name, kind, shape, self._weights_file, place.offset, place.length)

    def external(
        self, name: str, kind: int, shape: Sequence[int], file: str, offset: int, length: int
    ) -> str:
        """A tensor that lies in a file beside the graph, `length` bytes from `offset`."""
        if name not in self._initializers:
            tensor = TensorProto(name=name, data_type=kind, dims=shape)
            tensor.data_location = TensorProto.EXTERNAL
            where = {"location": file, "offset": str(offset), "length": str(length)}
            for key, value in where.items():
                tensor.external_data.add(key=key, value=value)
            self._initializers[name] = tensor
        return name

    def shape_of(self, name: str) -> tuple[int, ...]:
        """Shape of a weight."""
        return self._places[name].shape

    def constant(self, values: Any, dtype: type = np.float32) -> str:
        """A small constant kept in the graph itself."""
        array: npt.NDArray[Any] = np.asarray(values, dtype=dtype)
        name = f"constant_{len(self._initializers)}"
        self._initializers[name] = numpy_helper.from_array(array, name)
        return name

    def ints(self, *values: int) -> str:
        """A vector of int64, as shapes and axes are."""
        return self.constant(values, np.int64)

    def linear(self, x: str, weight: str, bias: str | None = None) -> str:
        """(M, in) -> (M, out) with torch's (out, in) weight; a kernel's (out, ...) is one, too."""
        inputs = [x, self.matrix(weight)] + ([self.weight(bias)] if bias else [])
        return self.op("Gemm", *inputs, transB=1)

    def layer_norm(self, x: str, prefix: str) -> str:
        """nn.LayerNorm over the last axis."""
        return self.op(
            "LayerNormalization",
            x,
            self.weight(f"{prefix}.weight"),
            self.weight(f"{prefix}.bias"),
            epsilon=LAYER_NORM_EPS,
        )

    def transpose(self, x: str, *order: int) -> str:
        """Axes in a new order."""
        return self.op("Transpose", x, perm=list(order))

    def unit(self, x: str, epsilon: float) -> str:
        """(M, D) -> (M, D) of unit length; zero stays zero."""
        squares = self.op("ReduceSumSquare", x, self.ints(1), keepdims=1)
        length = self.op("Sqrt", self.op("Add", squares, self.constant(epsilon)))
        return self.op("Div", x, length)

    def model(
        self, inputs: Sequence[onnx.ValueInfoProto], result: str, output: onnx.ValueInfoProto
    ) -> onnx.ModelProto:
        """The finished graph, checked; `result` is returned under `output`'s name."""
        self._nodes.append(helper.make_node("Identity", [result], [output.name]))
        graph = helper.make_graph(
            self._nodes, "lensctl", list(inputs), [output], list(self._initializers.values())
        )
        return helper.make_model(
            graph,
            producer_name="lensctl",
            ir_version=10,
            opset_imports=[helper.make_opsetid("", OPSET), helper.make_opsetid(CONTRIBUTED, 1)],
        )


def floats(name: str, *shape: int | str) -> onnx.ValueInfoProto:
    """A float32 input or output; named axes vary."""
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, list(shape))


def integers(name: str, *shape: int | str) -> onnx.ValueInfoProto:
    """An int64 input or output; named axes vary."""
    return helper.make_tensor_value_info(name, TensorProto.INT64, list(shape))
