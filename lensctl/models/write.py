"""The writing half of the model folder; everything here needs torch."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from lensctl.errors import ModelError
from lensctl.models.backbone import backbone_config
from lensctl.models.card import model_card
from lensctl.models.config import MagicLensConfig
from lensctl.models.curves import default_curves
from lensctl.models.export import export_query_side, has_variable_text_length
from lensctl.models.folder import (
    CARD,
    CONFIG,
    EMPTY_TEXT,
    FORMAT,
    WEIGHTS,
    ModelFolder,
    file_sha256,
    info_to_dict,
    new_folder,
    open_folder,
)
from lensctl.models.interface import ModelInfo, QueryKind, ScoreCurve
from lensctl.models.magiclens import MagicLens, count_parameters
from lensctl.models.tokenizer import END_ID, tokenize
from lensctl.models.verify import expected_vectors, verify_query_side
from lensctl.models.weights import (
    encoder_fingerprint,
    lens_fingerprint,
    load_module,
    save_weights,
)


def save_model_folder(
    module: MagicLens,
    config: MagicLensConfig,
    path: Path,
    *,
    name: str,
    licence: str,
    description: str,
    source: str = "",
    curves: Mapping[QueryKind, ScoreCurve] | None = None,
    overwrite: bool = False,
) -> ModelFolder:
    """Write a trained or converted model as a folder that `open_model` opens.

    The folder appears whole or not at all. Weights are saved in float32; the query side's graphs
    are written and compared with the module.

    Args:
        module: any device, any float dtype; it is left unchanged.
        config: what `module` was built from.
        path: of the folder to make.
        name: the model's name, normally the folder's.
        licence: SPDX identifier, or what is known of the weights' licence.
        description: one sentence for `lensctl models list`.
        source: where the weights come from: an address, a file and its sha256, a training run.
        curves: calibrated relevance per kind of query; the family's defaults where absent.
        overwrite: replace what is at `path`.

    Raises:
        StorageError: `path` exists and `overwrite` is false, or there is no room.
        CheckpointError: the module's vectors are zero or not finite.
        ModelError: the query side does not agree with the module.
    """
    with new_folder(path, overwrite=overwrite) as folder:
        config = _self_contained(config)
        _check_vocabulary(config)
        save_weights(module, folder / WEIGHTS)
        # The copy reads what was written, in float32 on the CPU, so that the check covers the file.
        saved = load_module(config, folder / WEIGHTS)
        expected = expected_vectors(saved)
        np.save(folder / EMPTY_TEXT, _empty_text(saved), allow_pickle=False)
        export_query_side(saved, config, folder)
        info = _info(saved, config, name, licence, description, source, curves)
        (folder / CARD).write_text(model_card(info, config), encoding="utf-8")
        values = {
            "format": FORMAT,
            "model": config.to_dict(),
            "info": info_to_dict(info),
            "context_length": saved.context_length,
            "variable_text_length": has_variable_text_length(config),
            "files": {path.name: _file_facts(path) for path in sorted(folder.iterdir())},
        }
        (folder / CONFIG).write_text(json.dumps(values, indent=1) + "\n", encoding="utf-8")
        verify_query_side(expected, open_folder(folder))
    return open_folder(path)


def _check_vocabulary(config: MagicLensConfig) -> None:
    words = backbone_config(config.backbone)["text_cfg"].get("vocab_size", END_ID + 1)
    if words <= END_ID:
        raise ModelError(
            "this model cannot be saved: its text tower does not know all of CLIP's tokens",
            why=f"its vocabulary has {words} entries, the tokenizer {END_ID + 1}",
            next_step="build the model with vocab_size 49408",
        )


def _self_contained(config: MagicLensConfig) -> MagicLensConfig:
    """With the backbone spelled out, so that no later open_clip can read the name differently."""
    values = config.to_dict() | {"backbone": backbone_config(config.backbone)}
    return MagicLensConfig.from_dict(values)


def _empty_text(module: MagicLens) -> np.ndarray:
    """(1, E) float32: the text embedding that every target uses."""
    with torch.inference_mode():
        return module.encode_text(torch.from_numpy(tokenize([""], module.context_length))).numpy()


def _info(
    module: MagicLens,
    config: MagicLensConfig,
    name: str,
    licence: str,
    description: str,
    source: str,
    curves: Mapping[QueryKind, ScoreCurve] | None,
) -> ModelInfo:
    state = module.state_dict()
    encoder = encoder_fingerprint(config, state)
    return ModelInfo(
        name=name,
        encoder_fingerprint=encoder,
        lens_fingerprint=lens_fingerprint(config, state, encoder),
        image_size=config.preprocessing.size,
        embedding_dim=module.embedding_dim,
        target_dim=module.embedding_dim,
        text_dim=module.embedding_dim,
        licence=licence,
        description=description,
        source=source,
        parameters=count_parameters(module),
        curves=dict(curves if curves is not None else default_curves(config.fusion)),
    )


def _file_facts(path: Path) -> dict[str, Any]:
    return {"bytes": path.stat().st_size, "sha256": file_sha256(path)}
