"""MagicLens in torch: an open_clip backbone and a fusion (Zhang et al., ICML 2024)."""

import torch
from torch import Tensor, nn

from lensctl.models.backbone import (
    backbone_config,
    build_backbone,
    encode_images,
    encode_texts,
    set_grad_checkpointing,
)
from lensctl.models.config import CONTEXT_LENGTH, MagicLensConfig
from lensctl.models.fusion import AttentionFusion, SumFusion

__all__ = ["MagicLens", "MagicLensConfig"]


class MagicLens(nn.Module):
    """One dual encoder for image, image + text and text retrieval.

    A query is `fuse(encode_image(photo), encode_text(instruction))`, a target
    `fuse(encode_image(photo), encode_text(""))`; their product is the cosine. Text-to-image
    retrieval compares the two encoders' own embeddings instead, normalised.
    """

    def __init__(self, config: MagicLensConfig) -> None:
        super().__init__()
        self.config = config
        self.clip = build_backbone(config.backbone, config.preprocessing.size)
        backbone = backbone_config(config.backbone)
        self.embedding_dim = int(backbone["embed_dim"])
        self.context_length = int(backbone["text_cfg"].get("context_length", CONTEXT_LENGTH))
        self.fusion = build_fusion(config, self.embedding_dim)

    def encode_image(self, pixels: Tensor) -> Tensor:
        """(N, 3, S, S) preprocessed pixels -> (N, E) embeddings, unnormalised."""
        return encode_images(self.clip.visual, pixels)

    def encode_text(self, ids: Tensor) -> Tensor:
        """(N, T) token ids, T at most `context_length` -> (N, E) embeddings, unnormalised.

        Under the sum fusion the empty text is the zero vector, so that it moves nothing.
        """
        embeddings = encode_texts(self.clip, ids, mask_padding=self.config.mask_padding)
        if self.config.fusion == "sum":
            embeddings = embeddings * has_words(ids).to(embeddings.dtype)
        return embeddings

    def fuse(self, image_embeddings: Tensor, text_embeddings: Tensor) -> Tensor:
        """(N, E) and (N, E), unnormalised -> (N, D) float32 of unit length."""
        return self.fusion(image_embeddings, text_embeddings)

    def forward(self, pixels: Tensor, ids: Tensor) -> Tensor:
        """(N, 3, S, S) pixels and (N, T) ids -> (N, D) float32 of unit length."""
        return self.fuse(self.encode_image(pixels), self.encode_text(ids))

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        """Recompute activations in the backward pass: less memory, about a third more time."""
        set_grad_checkpointing(self.clip, enable)
        self.fusion.set_grad_checkpointing(enable)


def build_fusion(config: MagicLensConfig, width: int) -> AttentionFusion | SumFusion:
    """The fusion of a configuration for embeddings of `width`."""
    if config.fusion == "sum":
        return SumFusion(config.sum_weight, normalize_parts=config.sum_of_units)
    return AttentionFusion(
        width,
        heads=config.heads,
        layers=config.layers,
        ffn_width=config.ffn_width or 4 * width,
        pooler_width=config.pooler_width or 4 * width,
    )


def has_words(ids: Tensor) -> Tensor:
    """(N, T) ids -> (N, 1) bool: whether anything stands between start and end of the text.

    The end token has the highest id; in the empty text it comes second.
    """
    return (ids.argmax(dim=-1) > 1).unsqueeze(-1)


def count_parameters(module: nn.Module) -> int:
    """Number of parameters, meta tensors included."""
    return sum(parameter.numel() for parameter in module.parameters())


def on_meta(config: MagicLensConfig) -> MagicLens:
    """The model without memory for its weights: for counting and for loading by assignment."""
    with torch.device("meta"):
        return MagicLens(config)
