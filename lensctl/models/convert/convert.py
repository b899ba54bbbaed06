"""A weights file into a named model folder: the one call behind `models convert` and `pull`.

A published checkpoint is read and checked before torch is imported, so a wrong file is refused at
once.
"""

import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from lensctl.errors import CheckpointError, ModelError, UsageError
from lensctl.models.config import MAX_SUM_WEIGHT, MagicLensConfig
from lensctl.models.convert.official import read_official
from lensctl.models.folder import ModelFolder, file_sha256
from lensctl.models.home import new_model_path
from lensctl.models.named import NAMED, NamedModel
from lensctl.models.safetensors_file import read_layout

if TYPE_CHECKING:
    from lensctl.models.magiclens import MagicLens

Layout = Literal["magiclens", "open_clip", "transformers"]
"""How a weights file is laid out: the published MagicLens pickle, an open_clip state dict or a
transformers CLIPModel, both in safetensors."""

_OFFICIAL_NAMES = {
    "magic_lens_clip_base": "magiclens-base",
    "magic_lens_clip_large": "magiclens-large",
}


@dataclass(frozen=True)
class Conversion:
    """What to convert, and what the file does not say by itself.

    Args:
        file: the weights.
        name: of the model to make; from the file's name where empty.
        side_file: JSON with dimensions (published layout) or a transformers config.json; where
            None, STEM_config.json or config.json beside the file, if it is there.
        backbone: open_clip name, for CLIP weights without a config.json.
        sum_weight: of the words beside the photo, for models without a fusion.
        source: where the file comes from; its name where empty. The sha256 is added.
        facts: what is known of the model; those of the named model where None.
        overwrite: replace a model of the same name.
        sha256: that the file has to have, in lower case; any where empty.
    """

    file: Path
    name: str = ""
    side_file: Path | None = None
    backbone: str = ""
    sum_weight: float = 1.0
    source: str = ""
    facts: NamedModel | None = None
    overwrite: bool = False
    sha256: str = ""


def convert(wanted: Conversion) -> ModelFolder:
    """Read, check, map and write a model. Raises CheckpointError, ModelError, UsageError."""
    if not wanted.file.is_file():
        raise UsageError(
            f"there is no file {wanted.file}",
            next_step="give the path of a .pkl or .safetensors file",
        )
    name = wanted.name or default_name(wanted.file)
    path = new_model_path(name)
    if os.path.lexists(path) and not wanted.overwrite:
        raise ModelError(
            f"there is a model named {name!r} already",
            next_step=f"choose another with --name, or: lensctl models remove {name}",
        )
    if not abs(wanted.sum_weight) <= MAX_SUM_WEIGHT:
        raise UsageError(
            f"--sum-weight {wanted.sum_weight:g} is out of range",
            why=f"words can weigh up to {MAX_SUM_WEIGHT:g} times what the photo does",
            next_step="choose a weight near 1",
        )
    digest = file_sha256(wanted.file)
    if wanted.sha256 and digest != wanted.sha256:
        raise CheckpointError(
            f"{wanted.file} is not the file that was meant",
            why=f"its sha256 is {digest}, expected {wanted.sha256}",
            next_step="get the file again, or correct --sha256",
        )
    facts = wanted.facts or NAMED.get(name)
    layout = detect_layout(wanted.file)
    wanted = replace(wanted, side_file=wanted.side_file or _neighbour(wanted.file, layout))
    config, module = _read(wanted, layout, facts)

    from lensctl.models.write import save_model_folder  # torch, which a wrong file never loads

    return save_model_folder(
        module,
        config,
        path,
        name=name,
        licence=facts.licence if facts else "unknown",
        description=facts.description if facts else f"converted from {wanted.file.name}",
        source=f"{wanted.source or wanted.file.name}, sha256 {digest}",
        overwrite=wanted.overwrite,
    )


def default_name(file: Path) -> str:
    """The published names become ours; any other file gives its own name."""
    stem = file.name.split(".")[0]
    return _OFFICIAL_NAMES.get(stem, stem.lower().replace(" ", "-"))


def detect_layout(file: Path) -> Layout:
    """By content: a pickle starts with 0x80, a safetensors file names its tensors."""
    with file.open("rb") as opened:
        if opened.read(1) == b"\x80":
            return "magiclens"
    if file.suffix != ".safetensors":
        raise CheckpointError(
            f"{file.name} is of no kind that can be converted",
            why="it is neither a pickle nor named .safetensors",
            next_step="give a published MagicLens .pkl, or CLIP weights in .safetensors",
        )
    names = read_layout(file)
    return "transformers" if any(n.startswith("vision_model.") for n in names) else "open_clip"


def _neighbour(file: Path, layout: Layout) -> Path | None:
    """The side file that lies beside the weights under its usual name, if any."""
    name = "config.json" if layout == "transformers" else f"{file.stem}_config.json"
    path = file.with_name(name)
    return path if path.is_file() else None


def _read(
    wanted: Conversion, layout: Layout, named: NamedModel | None
) -> tuple[MagicLensConfig, "MagicLens"]:
    if layout == "magiclens":
        return _read_official(wanted)
    return _read_clip(wanted, layout, named)


def _read_official(wanted: Conversion) -> tuple[MagicLensConfig, "MagicLens"]:
    config, arrays = read_official(wanted.file, wanted.side_file)

    import torch

    from lensctl.models.weights import assign_weights

    state = {name: torch.from_numpy(array) for name, array in arrays.items()}
    return config, assign_weights(config, state, wanted.file)


def _read_clip(
    wanted: Conversion, layout: Layout, named: NamedModel | None
) -> tuple[MagicLensConfig, "MagicLens"]:
    from lensctl.models.convert import clip_weights
    from lensctl.models.weights import assign_weights

    known = wanted.backbone or (named.backbone if named else "")
    if layout == "transformers":
        if wanted.side_file and not wanted.backbone:
            backbone = clip_weights.transformers_backbone(wanted.side_file)
            config, state = clip_weights.read_transformers(wanted.file, backbone)
        else:
            config, state = clip_weights.read_transformers(wanted.file, _required(known, layout))
    else:
        config, state = clip_weights.read_open_clip(wanted.file, _required(known, layout))
    units = named.sum_of_units if named else True
    config = replace(config, sum_weight=wanted.sum_weight, sum_of_units=units)
    if named and named.preprocessing:
        config = config.with_preprocessing(named.preprocessing)
    return config, assign_weights(config, state, wanted.file)


def _required(backbone: str, layout: Layout) -> str:
    if not backbone:
        hint = " or --config config.json" if layout == "transformers" else ""
        raise UsageError(
            f"CLIP weights of the {layout} layout do not tell their architecture",
            next_step=f"add --backbone NAME{hint}, for example --backbone ViT-B-16-quickgelu",
        )
    return backbone
