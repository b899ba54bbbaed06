"""Weights between a module and a safetensors file, and the fingerprints of what they are."""

import hashlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from lensctl.errors import CheckpointError
from lensctl.models.config import MagicLensConfig
from lensctl.models.magiclens import MagicLens, on_meta
from lensctl.models.safetensors_file import read_layout

BACKBONE_PREFIX = "clip."
_TRAINING_ONLY = ("clip.logit_scale", "clip.logit_bias")


def save_weights(module: nn.Module, path: Path) -> None:
    """All parameters and persistent buffers, float32, on the CPU. Raises OSError."""
    state = {
        name: (tensor.float() if tensor.is_floating_point() else tensor).cpu().contiguous()
        for name, tensor in module.state_dict().items()
    }
    try:
        save_file(state, path, metadata={"format": "pt"})
    except SafetensorError as error:
        raise OSError(str(error)) from error
    path.chmod(0o644)


def load_module(config: MagicLensConfig, path: Path) -> MagicLens:
    """A MagicLens in eval mode whose float32 weights are mapped from `path`, not copied.

    Raises CheckpointError where names or shapes are not those of the configuration.
    """
    read_layout(path)
    try:
        state = load_file(path)
    except SafetensorError as error:
        raise _mismatch(path, str(error)) from error
    return assign_weights(config, state, path)


def assign_weights(config: MagicLensConfig, state: Mapping[str, Tensor], path: Path) -> MagicLens:
    """Build the module without memory and give it these tensors; `path` is for messages.

    Raises CheckpointError where names, shapes or kinds of numbers are not those of `config`.
    """
    module = on_meta(config)
    for name, wanted in module.state_dict().items():
        if wanted.is_floating_point() and name in state and not state[name].is_floating_point():
            raise _mismatch(path, f"{name} holds {state[name].dtype}, not floating point")
    if _has_derived_buffers(module):
        module = MagicLens(config)
    try:
        module.load_state_dict(dict(state), strict=True, assign=True)
    except RuntimeError as error:
        raise _mismatch(path, str(error)) from error
    _restore_text_masks(module)
    return module.eval().requires_grad_(False)


def _has_derived_buffers(module: nn.Module) -> bool:
    """Whether a buffer is computed on construction and not saved, the causal mask aside."""
    saved = module.state_dict().keys()
    names = {name for name, _ in module.named_buffers()} - saved
    return any(not name.endswith("attn_mask") for name in names)


def _restore_text_masks(module: nn.Module) -> None:
    """open_clip's causal masks are not saved; on the meta device they have no values."""
    for part in module.modules():
        mask = getattr(part, "attn_mask", None)
        if isinstance(mask, Tensor) and mask.is_meta:
            part.attn_mask = torch.full(mask.shape, float("-inf")).triu(1)


def encoder_fingerprint(config: MagicLensConfig, state: Mapping[str, Tensor]) -> str:
    """sha256 over backbone tensors, backbone configuration and preprocessing, in hexadecimal."""
    values = config.to_dict()
    settings = {key: values[key] for key in ("backbone", "preprocessing", "mask_padding")}
    backbone = {name: t for name, t in state.items() if name.startswith(BACKBONE_PREFIX)}
    return _fingerprint(settings, backbone)


def lens_fingerprint(config: MagicLensConfig, state: Mapping[str, Tensor], encoder: str) -> str:
    """sha256 over the fusion's tensors and configuration, and the encoder it was made for."""
    values = config.to_dict()
    keys = ("fusion", "layers", "heads", "ffn_width", "pooler_width", "sum_weight", "sum_of_units")
    settings = {key: values[key] for key in keys} | {"encoder": encoder}
    fusion = {name: t for name, t in state.items() if not name.startswith(BACKBONE_PREFIX)}
    return _fingerprint(settings, fusion)


def _fingerprint(settings: Mapping[str, Any], state: Mapping[str, Tensor]) -> str:
    digest = hashlib.sha256(json.dumps(settings, sort_keys=True).encode())
    for name, data in _named_bytes(state):
        digest.update(name.encode())
        digest.update(data)
    return digest.hexdigest()


def _named_bytes(state: Mapping[str, Tensor]) -> Iterator[tuple[str, memoryview]]:
    """Name and shape, and the float32 bytes, of every tensor that inference reads."""
    for name in sorted(state):
        if name in _TRAINING_ONLY:
            continue
        tensor = state[name].detach().cpu()
        if tensor.is_floating_point():
            tensor = tensor.float()
        shape = "x".join(map(str, tensor.shape))
        yield f"{name}:{shape};", tensor.contiguous().reshape(-1).numpy().data.cast("B")


def _mismatch(path: Path, why: str) -> CheckpointError:
    lines = why.splitlines()
    short = " ".join(line.strip() for line in lines[:4]) + (" ..." if len(lines) > 4 else "")
    return CheckpointError(
        f"the weights in {path.name} are not those of this model",
        why=short,
        next_step="check that file and configuration belong together, then convert again",
    )
