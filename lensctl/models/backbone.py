"""open_clip backbones: built by name or configuration, never downloaded, called in one way."""

import os
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from lensctl.errors import ModelError

# The hub is switched off before open_clip imports its client: opening a model never downloads.
os.environ.setdefault("HF_HUB_OFFLINE", "1")
import open_clip
from open_clip.transformer import text_global_pool

Backbone = Any
"""An open_clip CLIP, CustomTextCLIP or CoCa: a torch module without type hints."""


def backbone_config(backbone: str | Mapping[str, Any]) -> dict[str, Any]:
    """An open_clip model configuration by name, or a copy of the one given.

    Raises ModelError for a name that open_clip does not know, and for text towers and tokenizers
    that would be fetched from a hub.
    """
    if not isinstance(backbone, str):
        config = dict(backbone)
    else:
        found = open_clip.get_model_config(backbone)
        if found is None:
            raise ModelError(
                f"open_clip has no model named {backbone!r}",
                next_step="choose one of the names that open_clip.list_models() prints",
            )
        config = dict(found)
    text = config.get("text_cfg", {})
    if text.get("hf_model_name") or text.get("hf_tokenizer_name"):
        raise ModelError(
            "this backbone's text tower or tokenizer lives on a model hub",
            why="only backbones with CLIP's tokenizer that open_clip builds itself are supported",
            next_step="choose a backbone with a CLIP text tower, for example ViT-B-16-quickgelu",
        )
    return config


def build_backbone(backbone: str | Mapping[str, Any], image_size: int | None = None) -> Backbone:
    """A randomly initialised open_clip CLIP, CustomTextCLIP or CoCa without its caption decoder.

    Args:
        backbone: open_clip name or model configuration.
        image_size: replaces the configuration's.
    """
    config = backbone_config(backbone)
    vision = dict(config["vision_cfg"], timm_model_pretrained=False)
    if image_size is not None:
        vision["image_size"] = image_size
    config["vision_cfg"] = vision
    custom_text = config.pop("custom_text", False)
    if "multimodal_cfg" in config:
        model = open_clip.CoCa(**config)
        # MagicLens reads the two unimodal towers; captions are never generated.
        del model.text_decoder
        return model
    return open_clip.CustomTextCLIP(**config) if custom_text else open_clip.CLIP(**config)


def set_grad_checkpointing(model: Backbone, enable: bool = True) -> None:
    """Recompute both towers' activations in the backward pass."""
    model.visual.set_grad_checkpointing(enable)
    if isinstance(model, open_clip.CLIP):
        model.transformer.grad_checkpointing = enable
    else:
        model.text.set_grad_checkpointing(enable)


def encode_images(visual: nn.Module, pixels: Tensor) -> Tensor:
    """(N, 3, S, S) pixels through an image tower -> (N, E), unnormalised."""
    features = visual(pixels)
    return features[0] if isinstance(features, tuple) else features


def encode_texts(model: Backbone, ids: Tensor, *, mask_padding: bool = False) -> Tensor:
    """(N, T) token ids -> (N, E), unnormalised.

    Args:
        model: from `build_backbone`.
        ids: T at most the backbone's context length; CLIP towers take fewer as well.
        mask_padding: attend to tokens of id above 0 only; for plain CLIP text towers.
    """
    if not isinstance(model, open_clip.CLIP):
        features = model.text(ids)
        return features[0] if isinstance(features, tuple) else features
    return _encode_clip_texts(model, ids, mask_padding)


def _encode_clip_texts(model: Backbone, ids: Tensor, mask_padding: bool) -> Tensor:
    """open_clip's CLIP.encode_text, for any length and with an optional padding mask."""
    dtype = model.transformer.get_cast_dtype()
    length = ids.shape[1]
    x = model.token_embedding(ids).to(dtype) + model.positional_embedding[:length].to(dtype)
    mask = causal_mask(length, x)
    if mask_padding:
        mask = padding_mask(ids, mask, model.transformer.resblocks[0].attn.num_heads)
    x = model.ln_final(model.transformer(x, attn_mask=mask))
    x = text_global_pool(x, ids, model.text_pool_type, eos_token_id=model.text_eos_id)
    projection = model.text_projection
    if projection is None:
        return x
    return projection(x) if isinstance(projection, nn.Linear) else x @ projection


def causal_mask(length: int, like: Tensor) -> Tensor:
    """(T, T) additive mask: a token sees itself and what came before."""
    return torch.full((length, length), float("-inf"), dtype=like.dtype, device=like.device).triu(1)


def padding_mask(ids: Tensor, causal: Tensor, heads: int) -> Tensor:
    """(N, T) ids and (T, T) causal mask -> (N * heads, T, T): keys of id 0 are hidden as well.

    The published model hides queries of id 0 too; nothing reads what these compute, and with keys
    alone no row is ever empty, as the first token is never 0.
    """
    hidden = (ids == 0)[:, None, :]
    mask = causal.masked_fill(hidden, float("-inf"))
    return mask.repeat_interleave(heads, dim=0)
