"""Vectors of length one, the two ways: see `query_side.unit` for why there are two."""

import subprocess
import sys

import numpy as np
import pytest
import torch

from lensctl.models import fusion, query_side, vectors


@pytest.mark.parametrize("shape", [(5,), (3, 5), (2, 3, 5)])
def test_unit_has_length_one_along_the_last_axis(shape: tuple[int, ...]) -> None:
    drawn = np.random.default_rng(1).standard_normal(shape)
    found = vectors.unit(drawn)
    assert found.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(found, axis=-1), 1, atol=1e-6)
    np.testing.assert_allclose((found * drawn).sum(-1), np.linalg.norm(drawn, axis=-1), rtol=1e-6)


def test_zero_stays_zero() -> None:
    np.testing.assert_array_equal(vectors.unit(np.zeros((2, 3))), np.zeros((2, 3)))


@pytest.mark.parametrize("length", [1.0, 1e-5, 1e-6, 1e-7, 0.0])
def test_the_query_side_shortens_as_the_fusion_does(length: float) -> None:
    rows = np.array([[0.6, 0.8], [-0.8, 0.6]], dtype=np.float32) * np.float32(length)
    ours, fused = query_side.unit(rows), fusion.unit(torch.from_numpy(rows)).numpy()
    np.testing.assert_allclose(ours, fused, rtol=1e-6)
    if 0 < length < 1e-5:
        assert np.abs(ours - vectors.unit(rows)).max() > 0.1


def test_importing_it_loads_numpy_alone() -> None:
    program = (
        "import sys, lensctl.models.vectors\n"
        "print(sorted({'torch', 'PIL', 'onnxruntime', 'typer'} & set(sys.modules)))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"
