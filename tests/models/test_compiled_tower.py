"""The image tower that OpenVINO compiles: the same numbers, side by side, damage named."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from lensctl.errors import ModelError
from lensctl.models import cpu_index_side
from lensctl.models.convert.convert import Conversion, convert
from lensctl.models.folder import IMAGE, ModelFolder, open_folder
from lensctl.models.index_side import TorchIndexSide
from support.official_checkpoint import SMALL, random_arrays, write_checkpoint


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModelFolder:
    monkeypatch.setenv("LENSCTL_MODELS", str(tmp_path / "models"))
    return convert(Conversion(write_checkpoint(tmp_path / "w.pkl", random_arrays(SMALL)), name="m"))


def _batches(number: int) -> list[np.ndarray]:
    rng = np.random.default_rng(5)
    return [rng.standard_normal((3, 3, 40, 40), dtype=np.float32) for _ in range(number)]


def test_it_agrees_with_torch(folder: ModelFolder) -> None:
    compiled, torch_side = folder.index_side("cpu", "fp32"), TorchIndexSide(folder, "cpu", "fp32")
    (pixels,) = _batches(1)
    found, expected = compiled.encode_images(pixels), torch_side.encode_images(pixels)
    assert found.dtype == np.float32
    assert np.abs(found - expected).max() < 1e-5
    targets = torch_side.make_targets(expected)
    assert np.abs(compiled.make_targets(found) - targets).max() < 1e-5


def test_threads_get_their_own_answers(folder: ModelFolder) -> None:
    side, batches = folder.index_side("cpu", "fp32"), _batches(24)
    one_by_one = [side.encode_images(batch) for batch in batches]
    side.share_cores()
    with ThreadPoolExecutor(8) as pool:
        together = list(pool.map(side.encode_images, batches))
    for alone, beside in zip(one_by_one, together, strict=True):
        assert np.array_equal(alone, beside)


@pytest.mark.parametrize(
    ("flags", "has_int8", "precision"),
    [
        ({"amx_bf16", "avx512_bf16", "avx512_vnni"}, True, "bf16"),
        ({"avx512_bf16", "avx512_vnni"}, True, "int8"),
        ({"avx512_bf16"}, False, "bf16"),
        (set(), True, "int8"),
        (set(), False, "fp32"),
    ],
)
def test_precision_follows_the_cpu(
    flags: set[str],
    has_int8: bool,
    precision: str,
    folder: ModelFolder,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(cpu_index_side, "cpu_flags", lambda: frozenset(flags))
    monkeypatch.setattr(ModelFolder, "has_int8", has_int8)
    assert folder.index_side("cpu").precision == precision


def test_a_damaged_graph_is_an_error_that_says_what_to_do(folder: ModelFolder) -> None:
    path = folder.path / IMAGE
    path.write_bytes(b"\x80" * path.stat().st_size)
    with pytest.raises(ModelError) as refusal:
        open_folder(folder.path).index_side("cpu", "fp32").encode_images(_batches(1)[0])
    assert IMAGE in refusal.value.what and refusal.value.next_step
