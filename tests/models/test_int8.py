"""The image tower in integers: near the weights, whatever the batch; not kept where it strays."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from lensctl.errors import ModelError, UsageError
from lensctl.models import accelerator
from lensctl.models.accelerator import cpu_flags, may_have_accelerator, multiplies_integers
from lensctl.models.convert.convert import Conversion, convert
from lensctl.models.folder import INT8_IMAGE, ModelFolder, codes_of, open_folder
from lensctl.models.verify import least_cosine
from support.official_checkpoint import SMALL, random_arrays, write_checkpoint

SIZE = 40
HUGE = 1e4

needs_integers = pytest.mark.skipif(
    not multiplies_integers(), reason="this CPU does not sum products of integers exactly"
)

WITHOUT_TORCH = """
import sys
import numpy as np
from lensctl.models.registry import open_model
side = open_model(sys.argv[1]).index_side(precision=sys.argv[2])
assert side.share_cores() >= 1
side.make_targets(side.encode_images(np.zeros((2, 3, 40, 40), np.float32)))
assert side.precision == sys.argv[3], side.precision
assert "torch" not in sys.modules
assert side.precision != "int8" or "openvino" not in sys.modules
"""


@pytest.fixture
def models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("LENSCTL_MODELS", str(tmp_path / "models"))
    return tmp_path


@pytest.fixture
def folder(models: Path) -> ModelFolder:
    return convert(Conversion(write_checkpoint(models / "w.pkl", random_arrays(SMALL)), name="m"))


def _pixels(number: int) -> np.ndarray:
    return np.random.default_rng(3).standard_normal((number, 3, SIZE, SIZE), dtype=np.float32)


@needs_integers
def test_integers_are_near_the_weights(folder: ModelFolder) -> None:
    exact = folder.query_side(exact=True).encode_images(_pixels(6))
    for side in (folder.query_side(), folder.index_side("cpu", "int8")):
        found = side.encode_images(_pixels(6))
        assert found.dtype == np.float32 and not np.array_equal(found, exact)
        assert least_cosine(found, exact) > 0.999


@needs_integers
def test_a_photo_does_not_depend_on_its_batch(folder: ModelFolder) -> None:
    side, pixels = folder.index_side("cpu", "int8"), _pixels(5)
    pixels[2] *= 50
    alone = np.concatenate([side.encode_images(pixels[i : i + 1]) for i in range(5)])
    assert np.allclose(side.encode_images(pixels), alone, rtol=0, atol=1e-5)


@pytest.mark.skipif(may_have_accelerator(), reason="an accelerator would be chosen")
@pytest.mark.parametrize(
    ("asked", "given"),
    [
        pytest.param("auto", "bf16" if "amx_bf16" in cpu_flags() else "int8", marks=needs_integers),
        pytest.param("int8", "int8", marks=needs_integers),
        ("fp32", "fp32"),
    ],
)
def test_a_cpu_indexes_without_torch(asked: str, given: str, folder: ModelFolder) -> None:
    command = [sys.executable, "-c", WITHOUT_TORCH, str(folder.path), asked, given]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr


@needs_integers
def test_channels_of_large_values_do_no_harm(models: Path) -> None:
    arrays = random_arrays(SMALL)
    block = "params/clip/visual/transformer/resblocks_0"
    arrays[f"{block}/ln_2/bias"][:3] = HUGE
    arrays[f"{block}/mlp/c_fc/kernel"][:3] /= HUGE
    folder = convert(Conversion(write_checkpoint(models / "w.pkl", arrays), name="m"))
    exact, coarse = (
        folder.query_side(exact=one).encode_images(_pixels(4)) for one in (True, False)
    )
    assert folder.has_int8 and not np.array_equal(exact, coarse)
    assert least_cosine(exact, coarse) > 0.999


def test_a_tower_that_integers_spoil_has_none(models: Path) -> None:
    """Two equal hidden values whose huge weights cancel: next to them nothing else is seen."""
    arrays = random_arrays(SMALL)
    for number in range(3):
        block = f"params/clip/visual/transformer/resblocks_{number}/mlp"
        arrays[f"{block}/c_fc/kernel"][:, 1] = arrays[f"{block}/c_fc/kernel"][:, 0]
        arrays[f"{block}/c_fc/bias"][:2] = HUGE
        arrays[f"{block}/c_proj/kernel"][0] = HUGE
        arrays[f"{block}/c_proj/kernel"][1] = -HUGE
    folder = convert(Conversion(write_checkpoint(models / "w.pkl", arrays), name="m"))
    assert not folder.has_int8 and not (folder.path / codes_of(INT8_IMAGE)).exists()
    with pytest.raises(UsageError):
        folder.index_side("cpu", "int8")
    assert folder.index_side("cpu").precision in ("fp32", "bf16")
    assert folder.query_side().encode_images(_pixels(1)).shape == (1, folder.info.embedding_dim)


@needs_integers
def test_a_cpu_that_would_overflow_uses_the_weights(
    folder: ModelFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(accelerator.platform, "machine", lambda: "x86_64")
    monkeypatch.setattr(accelerator, "cpu_flags", lambda: frozenset({"avx2"}))
    assert not folder.has_int8
    exact, given = (folder.query_side(exact=one).encode_images(_pixels(2)) for one in (True, False))
    assert np.array_equal(exact, given)
    with pytest.raises(UsageError):
        folder.index_side("cpu", "int8")


@pytest.mark.parametrize(
    ("machine", "flags", "exact"),
    [
        ("x86_64", {"avx2"}, False),
        ("x86_64", {"avx2", "avx_vnni"}, True),
        ("x86_64", {"avx512_vnni"}, True),
        ("AMD64", set(), False),
        ("aarch64", set(), True),
    ],
)
def test_which_cpus_multiply_integers_exactly(
    machine: str, flags: set[str], exact: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(accelerator.platform, "machine", lambda: machine)
    monkeypatch.setattr(accelerator, "cpu_flags", lambda: frozenset(flags))
    assert accelerator.multiplies_integers() == exact


def test_another_precision_is_refused(folder: ModelFolder) -> None:
    with pytest.raises(UsageError, match="choose one of"):
        folder.index_side("cpu", "fp8")


def test_integers_are_for_cpus(folder: ModelFolder) -> None:
    with pytest.raises(UsageError) as refusal:
        folder.index_side("cuda", "int8")
    assert "--precision" in (refusal.value.next_step or "")


@needs_integers
@pytest.mark.parametrize("name", [INT8_IMAGE, codes_of(INT8_IMAGE)])
@pytest.mark.parametrize("side", ["query", "index"])
def test_a_cut_file_is_an_error_that_says_what_to_do(
    folder: ModelFolder, name: str, side: str
) -> None:
    with (folder.path / name).open("r+b") as file:
        file.truncate(100)
    opened = open_folder(folder.path)
    encoder = opened.query_side() if side == "query" else opened.index_side("cpu", "int8")
    with pytest.raises(ModelError) as error:
        encoder.encode_images(_pixels(1))
    assert name in error.value.why
