"""A safetensors file mapped into memory, as numpy arrays whose pages are read when used."""

from pathlib import Path

import numpy as np
import numpy.typing as npt

from lensctl.errors import CheckpointError
from lensctl.models.safetensors_file import read_layout

_DTYPES = {
    "F32": np.float32,
    "F16": np.float16,
    "I64": np.int64,
    "I16": np.int16,
    "I8": np.int8,
    "U8": np.uint8,
}


class TensorFile:
    """Read access to one file.

    Raises:
        CheckpointError: the file is not a safetensors file.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._places = read_layout(path)
        self._bytes = np.memmap(path, dtype=np.uint8, mode="r")

    def __getitem__(self, name: str) -> npt.NDArray:
        """The array of that name, read only. Raises CheckpointError where there is none."""
        place = self._places.get(name)
        if place is None or place.dtype not in _DTYPES:
            raise CheckpointError(f"{self.path.name} has no usable tensor {name}")
        raw = self._bytes[place.offset : place.offset + place.length]
        return raw.view(_DTYPES[place.dtype]).reshape(place.shape)

    def names(self) -> list[str]:
        """All arrays in the file."""
        return list(self._places)
