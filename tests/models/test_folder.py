"""Model folders: whole or not at all, fingerprints, damage, names."""

import errno
import fcntl
import json
import math
import os
import resource
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file, save_file

from lensctl.cli.opening import model_name
from lensctl.config import Settings
from lensctl.errors import CheckpointError, ModelError, StorageError, UsageError
from lensctl.library.library import Library
from lensctl.models.accelerator import multiplies_integers
from lensctl.models.convert.pull import pull
from lensctl.models.folder import (
    CONFIG,
    INT8_TEXT,
    WEIGHTS,
    ModelFolder,
    check_files,
    codes_of,
    new_folder,
    open_folder,
    remove_folder,
)
from lensctl.models.home import models_home
from lensctl.models.index_side import TorchIndexSide, choose_device, choose_precision
from lensctl.models.interface import ScoreCurve
from lensctl.models.magiclens import MagicLens, MagicLensConfig
from lensctl.models.preprocessing import Preprocessing
from lensctl.models.query_side import checked
from lensctl.models.registry import list_models, open_model
from lensctl.models.write import save_model_folder

TINY = MagicLensConfig(
    backbone={
        "embed_dim": 32,
        "vision_cfg": {"image_size": 32, "layers": 1, "width": 64, "patch_size": 16},
        "text_cfg": {"vocab_size": 49408, "width": 32, "heads": 2, "layers": 1},
    },
    preprocessing=Preprocessing(size=32, mode="crop"),
    layers=1,
    heads=4,
)


def _module(config: MagicLensConfig = TINY) -> MagicLens:
    torch.manual_seed(0)
    return MagicLens(config).eval()


def _save(
    path: Path, module: MagicLens, config: MagicLensConfig = TINY, **more: Any
) -> ModelFolder:
    facts = {"name": "tiny", "licence": "Apache-2.0", "description": "a test"}
    return save_model_folder(module, config, path, **(facts | more))


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> ModelFolder:
    return _save(tmp_path_factory.mktemp("models") / "tiny", _module())


@pytest.fixture
def copy(saved: ModelFolder, tmp_path: Path) -> Path:
    shutil.copytree(saved.path, tmp_path / "copy")
    return tmp_path / "copy"


def test_what_is_written_is_read(saved: ModelFolder) -> None:
    opened = open_folder(saved.path)
    assert opened.info == saved.info
    assert opened.info.parameters == sum(p.numel() for p in _module().parameters())
    assert opened.config.preprocessing == TINY.preprocessing
    assert {"README.md", "text.onnx", "image.onnx", "fusion.onnx"} <= opened.files.keys()
    check_files(opened)
    card = (saved.path / "README.md").read_text()
    assert "Apache-2.0" in card and saved.info.encoder_fingerprint in card


def test_any_dtype_and_mode_is_saved_the_same(saved: ModelFolder, tmp_path: Path) -> None:
    module = _module().to(torch.bfloat16).train()
    folder = _save(tmp_path / "half", module)
    assert module.training and next(module.parameters()).dtype == torch.bfloat16
    kept = np.ones((1, 32), np.float32)
    near = folder.query_side().make_targets(kept) @ saved.query_side().make_targets(kept).T
    assert near > 0.999


def test_curves_can_be_given(tmp_path: Path) -> None:
    curve = ScoreCurve(slope=3.0, midpoint=0.1)
    assert _save(tmp_path / "m", _module(), curves={"text": curve}).info.curves == {"text": curve}


def test_fingerprints_tell_what_changed(saved: ModelFolder, tmp_path: Path) -> None:
    fusion, backbone, temperature = _module(), _module(), _module()
    with torch.no_grad():
        next(fusion.fusion.parameters()).add_(1e-3)
        backbone.clip.visual.proj.add_(1e-3)
        temperature.clip.logit_scale.add_(1.0)
    pixels = replace(TINY, preprocessing=Preprocessing(size=32, mode="pad"))
    prints = {
        name: _save(tmp_path / name, module, config).info
        for name, module, config in (
            ("same", _module(), TINY),
            ("temperature", temperature, TINY),
            ("fusion", fusion, TINY),
            ("backbone", backbone, TINY),
            ("pixels", _module(), pixels),
        )
    }
    encoder, lens = saved.info.encoder_fingerprint, saved.info.lens_fingerprint
    same_encoder = {name for name, i in prints.items() if i.encoder_fingerprint == encoder}
    same_lens = {name for name, i in prints.items() if i.lens_fingerprint == lens}
    assert same_encoder == {"same", "temperature", "fusion"}
    assert same_lens == {"same", "temperature"}


def test_an_existing_folder_is_kept(saved: ModelFolder) -> None:
    with pytest.raises(StorageError, match="exists"):
        _save(saved.path, _module())


def test_a_failure_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lensctl.models.verify.LEAST_COSINE", 2.0)
    with pytest.raises(ModelError, match="does not agree"):
        _save(tmp_path / "m", _module())
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "text",
    ["", "{}", "[]", "null", '{"format": 2}', "{" * 100_000, "x" * (2**20 + 1)],
    ids=["empty", "no keys", "list", "null", "other format", "deep", "huge"],
)
def test_a_wrong_config(text: str, copy: Path) -> None:
    (copy / CONFIG).write_text(text)
    with pytest.raises(ModelError, match="cannot be used"):
        open_folder(copy)


@pytest.mark.parametrize(
    ("keys", "value"),
    [
        (("model", "layers"), 10**9),
        (("model", "fusion"), "magic"),
        (("model", "surprise"), 1),
        (("model", "backbone", "vision_cfg", "layers"), 10**9),
        (("model", "backbone", "embed_dim"), "wide"),
        (("model", "preprocessing", "size"), 10**6),
        (("model", "preprocessing", "mode"), "stretch"),
        (("info", "name"), 3),
        (("info", "embedding_dim"), "32"),
        (("info", "embedding_dim"), 96),
        (("info", "target_dim"), 12),
        (("info", "image_size"), 64),
        (("info", "curves", "text", "slope"), "abc"),
        (("info", "curves", "text", "midpoint"), math.nan),
        (("info", "decode_margin"), "wide"),
        (("model", "preprocessing", "size"), 64),
        (("model", "preprocessing", "size"), 32.5),
        (("model", "preprocessing", "mean"), [math.nan] * 3),
        (("model", "sum_weight"), math.inf),
        (("model", "backbone", "text_cfg", "heads"), 5),
        (("model", "backbone"), "ViT-B-32"),
        (("context_length",), -5),
        (("context_length",), math.inf),
        (("files",), {WEIGHTS: 3}),
        (("files",), {WEIGHTS: {}}),
        (("files",), {WEIGHTS: {"bytes": "3", "sha256": ""}}),
        (("files",), {"../" + WEIGHTS: {"bytes": 3, "sha256": ""}}),
        (("format",), "\x1b[31m"),
    ],
)
def test_wrong_values(keys: tuple[str, ...], value: object, copy: Path) -> None:
    values = json.loads((copy / CONFIG).read_text())
    node = values
    for key in keys[:-1]:
        node = node[key]
    node[keys[-1]] = value
    (copy / CONFIG).write_text(json.dumps(values))
    with pytest.raises(ModelError, match="cannot be used") as refusal:
        open_folder(copy)
    assert refusal.value.why.isprintable()


def test_graphs_of_another_size(copy: Path) -> None:
    """What the config says agrees with itself, and not with the files."""
    values = json.loads((copy / CONFIG).read_text())
    values["model"]["preprocessing"]["size"] = values["info"]["image_size"] = 64
    (copy / CONFIG).write_text(json.dumps(values))
    pixels = np.zeros((1, 3, 64, 64), np.float32)
    folder = open_folder(copy)
    index = [folder.index_side("cpu", one) for one in ("fp32", "int8") if one in _precisions()]
    for side in (folder.query_side(), folder.query_side(exact=True), *index):
        with pytest.raises(
            ModelError, match=r"image.*\.onnx of the model 'tiny' cannot"
        ) as refusal:
            side.encode_images(pixels)
        assert refusal.value.why


def _precisions() -> tuple[str, ...]:
    return ("fp32", "int8") if multiplies_integers() else ("fp32",)


def test_a_graph_of_another_width(copy: Path) -> None:
    (copy / "fusion.onnx").unlink()
    (copy / "image.onnx").rename(copy / "fusion.onnx")
    values = json.loads((copy / CONFIG).read_text())
    values["files"] = {}
    (copy / CONFIG).write_text(json.dumps(values))
    with pytest.raises(ModelError, match="cannot be used"):
        open_folder(copy).query_side().make_targets(np.ones((1, 32), np.float32))
    wide = checked(lambda: np.ones((1, 31), np.float32), open_folder(copy), "fusion.onnx")
    with pytest.raises(ModelError) as refusal:
        wide()
    assert "(1, 31)" in refusal.value.why


def test_vectors_that_are_not_finite(copy: Path) -> None:
    ones = np.ones((1, 32), np.float32)
    weights = load_file(copy / WEIGHTS)
    name = "fusion.pooler.norm.bias"
    save_file(
        weights | {name: weights[name] * np.float32(np.nan)}, copy / WEIGHTS, {"format": "pt"}
    )
    with pytest.raises(ModelError, match=WEIGHTS) as refusal:
        open_folder(copy).query_side().make_queries(ones, [""])
    assert "not finite" in refusal.value.why
    np.save(copy / "empty_text.npy", ones * np.float32(np.nan))
    side = open_folder(copy).query_side()
    for ask in (lambda: side.make_targets(ones), lambda: side.encode_texts([""])):
        with pytest.raises(ModelError, match=r"empty_text\.npy") as refusal:
            ask()
        assert "not finite" in refusal.value.why
    with pytest.raises(ModelError, match=r"empty_text\.npy"):
        TorchIndexSide(open_folder(copy), "cpu", "fp32")


INTEGERS = (
    pytest.param(name, marks=pytest.mark.skipif(not multiplies_integers(), reason="not read here"))
    for name in (INT8_TEXT, codes_of(INT8_TEXT))
)


@pytest.mark.parametrize("name", [WEIGHTS, "text.onnx", *INTEGERS, "fusion.onnx", "empty_text.npy"])
def test_missing_and_cut_files(name: str, copy: Path) -> None:
    exact = name == "text.onnx"
    (copy / name).write_bytes((copy / name).read_bytes()[:-7])
    _refuses_to_answer(copy, exact=exact)
    (copy / name).unlink()
    _refuses_to_answer(copy, exact=exact)


def _refuses_to_answer(path: Path, *, exact: bool = False) -> None:
    with pytest.raises(ModelError) as refusal:
        side = open_folder(path).query_side(exact=exact)
        side.make_queries(np.ones((1, 32), np.float32), ["a"])
    assert refusal.value.next_step


@pytest.mark.parametrize(
    "name", [INT8_TEXT if multiplies_integers() else "text.onnx", "empty_text.npy"]
)
def test_garbage_of_the_right_length(name: str, copy: Path) -> None:
    (copy / name).write_bytes(b"\x80" * (copy / name).stat().st_size)
    _refuses_to_answer(copy)
    with pytest.raises(ModelError, match="cannot be used") as refusal:
        check_files(open_folder(copy))
    assert "sha256" in refusal.value.why


def test_weights_of_another_model(copy: Path) -> None:
    values = json.loads((copy / CONFIG).read_text())
    values["model"]["layers"] = 2
    (copy / CONFIG).write_text(json.dumps(values))
    with pytest.raises(CheckpointError, match="not those of this model"):
        TorchIndexSide(open_folder(copy), "cpu", "fp32")


def test_names_and_paths(
    saved: ModelFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LENSCTL_MODELS", str(saved.path.parent))
    assert open_model("tiny").info == open_model(str(saved.path)).info == saved.info
    with pytest.raises(ModelError, match="not on this machine") as absent:
        open_model("magiclens-large")
    assert absent.value.next_step == "lensctl models pull magiclens-large"
    with pytest.raises(ModelError, match="no model named"):
        open_model("nosuch")
    with pytest.raises(UsageError):
        open_model("No Such")
    with pytest.raises(ModelError, match="there is no model folder"):
        open_model(str(tmp_path / "nosuch"))


def test_a_home_of_nobody_is_a_path_like_others(monkeypatch: pytest.MonkeyPatch) -> None:
    nobody = "~nosuchuser/model"
    with pytest.raises(ModelError, match="there is no model folder"):
        open_model(nobody)
    with pytest.raises(UsageError, match="there is no file"):
        pull(nobody)
    assert model_name(Library(Path("nosuch")), Settings(model=nobody)).endswith("/" + nobody)
    monkeypatch.setenv("LENSCTL_MODELS", nobody)
    assert models_home() == Path(nobody)


def test_a_damaged_model_is_listed(copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LENSCTL_MODELS", str(copy.parent))
    (copy / CONFIG).write_text("{}")
    listed = {model.name: model for model in list_models()}
    assert listed["copy"].present and listed["copy"].problem
    assert listed["mini"].name == list_models()[0].name


def test_devices_and_precisions() -> None:
    assert choose_device("cpu") == "cpu"
    assert choose_device("auto") in ("cpu", "cuda", "mps")
    assert choose_precision("auto", "cpu") in ("fp32", "bf16")
    with pytest.raises(UsageError):
        choose_device("tpu")
    with pytest.raises(UsageError):
        choose_precision("fp8", "cpu")
    if not torch.cuda.is_available():
        with pytest.raises(ModelError, match="not available"):
            choose_device("cuda")


def test_what_killed_processes_left_is_removed(tmp_path: Path) -> None:
    left, in_use = tmp_path / ".mine.lensctl-abcd", tmp_path / ".mine.lensctl-efgh"
    others = tmp_path / ".others.lensctl-abcd", tmp_path / ".others.settings"
    for folder in (left, in_use, *others):
        folder.mkdir()
        (folder / "model.safetensors").touch()
    lock = os.open(in_use, os.O_RDONLY)
    fcntl.flock(lock, fcntl.LOCK_EX)
    with new_folder(tmp_path / "mine") as folder:
        (folder / "config.json").touch()
    os.close(lock)
    assert _names(tmp_path) == [".mine.lensctl-efgh", ".others.settings", "mine"]
    remove_folder(tmp_path / "mine")
    assert _names(tmp_path) == [".others.settings"]


def _names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_of_two_makers_of_one_name_one_wins(tmp_path: Path) -> None:
    path = tmp_path / "mine"
    with pytest.raises(StorageError, match="exists already"), new_folder(path) as late:
        (late / "late").touch()
        with new_folder(path) as early:
            (early / "early").touch()
    assert _names(path) == ["early"] and _names(tmp_path) == ["mine"]
    with new_folder(path, overwrite=True) as late:
        (late / "late").touch()
        with new_folder(path, overwrite=True) as early:
            (early / "second").touch()
    assert _names(path) == ["late"] and _names(tmp_path) == ["mine"]


@pytest.mark.parametrize("kind", ["link", "dangling link", "file"])
def test_what_is_no_folder_is_replaced_and_removed(kind: str, tmp_path: Path) -> None:
    home, elsewhere = tmp_path / "models", tmp_path / "elsewhere"
    home.mkdir()
    if kind == "link":
        elsewhere.mkdir()
        (elsewhere / "kept").touch()
    path = home / "mine"

    def occupy() -> None:
        path.touch() if kind == "file" else path.symlink_to(elsewhere)

    occupy()
    with pytest.raises(StorageError, match="exists already"), new_folder(path):
        pytest.fail("it is told before the work")
    with new_folder(path, overwrite=True) as folder:
        (folder / "new").touch()
    assert _names(path) == ["new"] and _names(home) == ["mine"]
    remove_folder(path)
    occupy()
    remove_folder(path)
    assert _names(home) == []
    assert kind != "link" or _names(elsewhere) == ["kept"]


def test_a_full_disk_is_told_with_the_place(tmp_path: Path) -> None:
    failed = pytest.raises(StorageError, match=f"mine to {tmp_path}")
    with failed as full, new_folder(tmp_path / "mine"):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    assert "No space" in full.value.why and _names(tmp_path) == []


def test_weights_that_find_no_room(tmp_path: Path) -> None:
    module, limits = _module(), resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, limits[1]))
    try:
        with pytest.raises(StorageError, match="cannot write the model mine") as full:
            _save(tmp_path / "mine", module)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert full.value.why and _names(tmp_path) == []
