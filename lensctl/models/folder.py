"""A model on disk: one folder that holds everything and needs no network.

    config.json         what the model is (this module's schema), sizes and hashes of the files
    model.safetensors   all weights, float32
    text.onnx, image.onnx, fusion.onnx
                        the query side's graphs; their weights lie in model.safetensors
    image_int8.onnx, image_int8.codes, text_int8.onnx, text_int8.codes
                        towers in integers and their weights, where these agree
    empty_text.npy      the embedding of "", so that a target needs no text tower
    README.md           the model card

Reading imports no torch; `write.save_model_folder` does.
"""

import fcntl
import hashlib
import json
import math
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lensctl.errors import ModelError, StorageError, UsageError
from lensctl.models.accelerator import multiplies_integers
from lensctl.models.config import CONTEXT_LENGTH, MagicLensConfig
from lensctl.models.interface import IndexSide, ModelInfo, ScoreCurve

if TYPE_CHECKING:
    from lensctl.models.query_side import OnnxQuerySide

FORMAT = 1
CONFIG = "config.json"
WEIGHTS = "model.safetensors"
EMPTY_TEXT = "empty_text.npy"
TEXT, IMAGE, FUSION = "text.onnx", "image.onnx", "fusion.onnx"
INT8_IMAGE, INT8_TEXT = "image_int8.onnx", "text_int8.onnx"
CARD = "README.md"
_MAX_CONFIG = 2**20
_WRONG = (ValueError, TypeError, KeyError, AttributeError, OverflowError, RecursionError)
_MARK = ".lensctl-"
"""In the names of hidden folders: theirs are removed where others' must not be."""


@dataclass
class ModelFolder:
    """A model folder whose config was read; implements `interface.Model`."""

    path: Path
    config: MagicLensConfig
    info: ModelInfo
    files: Mapping[str, Mapping[str, Any]]
    context_length: int = CONTEXT_LENGTH
    variable_text_length: bool = False

    @property
    def has_int8(self) -> bool:
        """Whether there is an image tower in integers, and a CPU that runs it right."""
        return INT8_IMAGE in self.files and multiplies_integers()

    def query_side(self, *, exact: bool = False) -> "OnnxQuerySide":
        """The torch-free side; `exact`: never in integers.

        Raises:
            ModelError: a file is missing or damaged.
        """
        from lensctl.models.query_side import OnnxQuerySide

        return OnnxQuerySide(self, exact=exact)

    def index_side(self, device: str = "auto", precision: str = "auto") -> IndexSide:
        """The batch side: in torch on an accelerator, without it on a CPU.

        Raises:
            UsageError: integers are asked for where they cannot be had.
        """
        from lensctl.models.accelerator import may_have_accelerator

        on_cpu = device == "cpu" or (device == "auto" and not may_have_accelerator())
        if precision == "int8" and not (on_cpu and self.has_int8):
            raise UsageError(
                f"{self.info.name} does not run in int8 on {device}",
                why="only the CPU does, and only a model whose integers agree with its weights",
                next_step="leave --precision out",
            )
        if on_cpu:
            from lensctl.models.cpu_index_side import CpuIndexSide

            return CpuIndexSide(self, precision)
        from lensctl.models.index_side import TorchIndexSide

        return TorchIndexSide(self, device, precision)

    def file(self, name: str) -> Path:
        """A file of the folder, present and of the recorded size. Raises ModelError."""
        path = self.path / name
        expected = self.files.get(name, {}).get("bytes")
        if not path.is_file():
            raise _unusable(self.path, f"{name} is missing")
        if expected is not None and path.stat().st_size != expected:
            raise _unusable(self.path, f"{name} has not the {expected} bytes that it should")
        return path


def codes_of(graph: str) -> str:
    """The file of integer weights that belongs to a graph in integers."""
    return Path(graph).with_suffix(".codes").name


def open_folder(path: Path) -> ModelFolder:
    """Read and check a model folder's config; no weights are read. Raises ModelError."""
    config = path / CONFIG
    try:
        if not path.exists():
            raise ModelError(
                f"there is no model folder {path}",
                next_step="say where it is now: --model DIR; or search with another: --model mini",
            )
        if not config.is_file():
            raise _unusable(path, f"there is no {CONFIG}")
        if config.stat().st_size > _MAX_CONFIG:
            raise _unusable(path, f"{CONFIG} is larger than {_MAX_CONFIG} bytes")
        values = json.loads(config.read_text(encoding="utf-8"))
        if values["format"] != FORMAT:
            raise ValueError(f"its format is {values['format']!r}, this version reads {FORMAT}")
        folder = ModelFolder(
            path=path,
            config=MagicLensConfig.from_dict(values["model"]),
            info=info_from_dict(values["info"]),
            files=dict(values["files"]),
            context_length=int(values["context_length"]),
            variable_text_length=bool(values["variable_text_length"]),
        )
        _check_agreement(folder)
        return folder
    except OSError as error:
        raise _unusable(path, f"{CONFIG} cannot be read: {error.strerror or error}") from error
    except _WRONG as error:
        raise _unusable(path, f"{CONFIG} is wrong: {error}") from error


def _check_agreement(folder: ModelFolder) -> None:
    """What a config says twice, and of files, has to fit. Raises one of _WRONG."""
    info, backbone = folder.info, folder.config.backbone
    if isinstance(backbone, str):
        raise ValueError("its backbone is a name")
    said = {
        "image_size": (info.image_size, folder.config.preprocessing.size),
        "embedding_dim": (info.embedding_dim, backbone["embed_dim"]),
        "target_dim": (info.target_dim, backbone["embed_dim"]),
        "text_dim": (info.text_dim, backbone["embed_dim"]),
        "context_length": (
            folder.context_length,
            backbone["text_cfg"].get("context_length", CONTEXT_LENGTH),
        ),
    }
    for name, (one, other) in said.items():
        if one != other:
            raise ValueError(f"{name} is {one} and {other}")
    for name, facts in folder.files.items():
        if name != Path(name).name or not name.isprintable():
            raise ValueError(f"{name!r} is no file's name")
        if not isinstance(facts, Mapping) or not (
            type(facts.get("bytes")) is int and isinstance(facts.get("sha256"), str)
        ):
            raise ValueError(f"of {name} it should not say {facts!r}")


@contextmanager
def new_folder(path: Path, *, overwrite: bool = False) -> Iterator[Path]:
    """A hidden folder beside `path` that takes its name when the block ends without an error.

    It is locked while it is made: what killed processes left of some is not, and is removed.

    Raises:
        StorageError: something is at `path`, at the end at the latest, and `overwrite` is false;
            or what the block wrote found no room.
    """
    if os.path.lexists(path) and not overwrite:
        raise _taken(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with _alone_in(path.parent):
            _remove_leftovers(path.parent)
            folder = _hidden_folder(path)
            lock = os.open(folder, os.O_RDONLY)
            fcntl.flock(lock, fcntl.LOCK_EX)
        try:
            yield folder
            folder.chmod(0o755)
            with _alone_in(path.parent):
                if os.path.lexists(path):
                    if not overwrite:
                        raise _taken(path)
                    _discard(path)
                folder.rename(path)
        finally:
            os.close(lock)
            shutil.rmtree(folder, ignore_errors=True)
    except OSError as error:
        raise StorageError(
            f"cannot write the model {path.name} to {path.parent}",
            why=error.strerror or str(error),
            next_step="check the disk space and the rights there, then run the command again",
        ) from error


@contextmanager
def _alone_in(parent: Path) -> Iterator[None]:
    """Folders get and lose names in `parent` one process at a time."""
    lock = os.open(parent, os.O_RDONLY)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
    finally:
        os.close(lock)


def _hidden_folder(path: Path) -> Path:
    return Path(tempfile.mkdtemp(prefix=f".{path.name}{_MARK}", dir=path.parent))


def _remove_leftovers(parent: Path) -> None:
    """Delete hidden folders of ours that no process is making."""
    for path in parent.glob(f".*{_MARK}*/"):
        try:
            lock = os.open(path, os.O_RDONLY)
        except OSError:  # it is another user's
            continue
        with suppress(BlockingIOError):
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(path, ignore_errors=True)
        os.close(lock)


def _discard(path: Path) -> None:
    """Delete what has a model's name. A folder loses its name first, so that no half of a model
    can be opened; of a link only the link goes."""
    if path.is_symlink() or not path.is_dir():
        path.unlink()
        return
    doomed = _hidden_folder(path)
    path.rename(doomed)
    shutil.rmtree(doomed)


def _taken(path: Path) -> StorageError:
    return StorageError(
        f"{path} exists already",
        next_step="choose another name, or remove it first: lensctl models remove NAME",
    )


def check_files(folder: ModelFolder) -> None:
    """Compare every file with its recorded sha256. Raises ModelError for the first that differs."""
    for name, facts in folder.files.items():
        if file_sha256(folder.file(name)) != facts["sha256"]:
            raise _unusable(folder.path, f"{name} is not what was written: its sha256 differs")


def file_sha256(path: Path) -> str:
    """Of a file's bytes, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def remove_folder(path: Path) -> None:
    """Delete a model's folder, or the link or file in its place. Raises OSError."""
    with _alone_in(path.parent):
        _remove_leftovers(path.parent)
        _discard(path)


def info_to_dict(info: ModelInfo) -> dict[str, Any]:
    """Plain JSON values."""
    return asdict(info)


def info_from_dict(values: Mapping[str, Any]) -> ModelInfo:
    """Inverse of `info_to_dict`. Raises TypeError for unknown fields, ValueError for values."""
    known = {field.name: field.type for field in fields(ModelInfo)}
    for key, value in values.items():
        kind = known.get(key)
        if (
            (kind is str and not isinstance(value, str))
            or (kind is int and (type(value) is not int or value < 0))
            or (kind is float and not (_is_number(value) and value > 0))
        ):
            raise ValueError(f"{key} should not be {value!r}")
    curves = {kind: ScoreCurve(**curve) for kind, curve in values.get("curves", {}).items()}
    for kind, curve in curves.items():
        if not (_is_number(curve.slope) and _is_number(curve.midpoint)):
            raise ValueError(f"the curve of {kind} should not be {curve}")
    return ModelInfo(**{**values, "curves": curves})


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)


def _unusable(path: Path, why: str) -> ModelError:
    from lensctl.show.names import show_text

    return ModelError(
        f"the model folder {path} cannot be used",
        why=show_text(why),  # it may quote the file
        next_step="pull, convert or train it again, or use another: --model mini",
    )
