"""The MagicLens fusion (Zhang et al., ICML 2024, section 3.1): two embeddings into one vector.

An image embedding and a text embedding, both unnormalised, are read as a sequence of two tokens.
`MultimodalEncoder` lets them attend to each other; `AttentionPooler` reduces them to one vector,
which is normalised to unit length. Names of modules follow the paper; details that the paper does
not state (layer norm, logit cap, per-dimension scale) follow the published inference code.

`SumFusion` is the baseline: the normalised weighted sum of the two normalised embeddings.
"""

import math

import torch
from torch import Tensor, nn
from torch.nn.functional import layer_norm, relu, softplus
from torch.utils.checkpoint import checkpoint

from lensctl.models.vectors import UNIT_NORM_EPS

LOGIT_CAP = 50.0
LAYER_NORM_EPS = 1e-6
SOFTPLUS_AT_ZERO_INVERSE = 1.442695041
"""1 / softplus(0), so that a zero per-dimension scale leaves the usual 1 / sqrt(head width)."""


def unit(vectors: Tensor) -> Tensor:
    """(..., D) of any float dtype -> (..., D) float32 of unit length; zero stays zero."""
    vectors = vectors.float()
    return vectors * torch.rsqrt(vectors.square().sum(dim=-1, keepdim=True) + UNIT_NORM_EPS)


def cap_logits(logits: Tensor) -> Tensor:
    """Bound attention logits smoothly to (-LOGIT_CAP, LOGIT_CAP)."""
    return LOGIT_CAP * torch.tanh(logits / LOGIT_CAP)


class OffsetLayerNorm(nn.Module):
    """Layer norm whose scale is stored as an offset from one: x_hat * (1 + scale) + bias."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.zeros(width))
        self.bias = nn.Parameter(torch.zeros(width))

    def forward(self, x: Tensor) -> Tensor:
        return layer_norm(x, x.shape[-1:], 1.0 + self.scale, self.bias, LAYER_NORM_EPS)


class HeadDimScale(nn.Module):
    """q / sqrt(head_dim): what every attention does."""

    def __init__(self, head_dim: int) -> None:
        super().__init__()
        self.factor = head_dim**-0.5

    def forward(self, query: Tensor) -> Tensor:
        return query * self.factor


class PerDimScale(nn.Module):
    """A learned scale for every dimension of a head, the same for all heads."""

    def __init__(self, head_dim: int) -> None:
        super().__init__()
        self.factor = SOFTPLUS_AT_ZERO_INVERSE / math.sqrt(head_dim)
        self.per_dim_scale = nn.Parameter(torch.zeros(head_dim))

    def forward(self, query: Tensor) -> Tensor:
        return query * (self.factor * softplus(self.per_dim_scale))


class CappedAttention(nn.Module):
    """Multi-head dot-product attention with capped logits.

    Args:
        width: of the tokens that come in and go out.
        inner_width: of all heads together.
        heads: a divisor of `inner_width`.
        per_dim_scale: learn the query's scale per dimension, as the pooler does.
    """

    def __init__(
        self, width: int, inner_width: int, heads: int, *, per_dim_scale: bool = False
    ) -> None:
        super().__init__()
        if inner_width % heads:
            raise ValueError(f"{heads} heads do not divide a width of {inner_width}")
        self.heads = heads
        self.query = nn.Linear(width, inner_width)
        self.key = nn.Linear(width, inner_width)
        self.value = nn.Linear(width, inner_width)
        self.post = nn.Linear(inner_width, width)
        head_dim = inner_width // heads
        self.scale = PerDimScale(head_dim) if per_dim_scale else HeadDimScale(head_dim)

    def forward(self, queries: Tensor, tokens: Tensor) -> Tensor:
        """(N, Q, width) queries and (N, K, width) tokens -> (N, Q, width)."""
        q = self.scale(self._split(self.query(queries)))
        k = self._split(self.key(tokens))
        v = self._split(self.value(tokens))
        probabilities = cap_logits(q @ k.transpose(-1, -2)).softmax(dim=-1)
        return self.post((probabilities @ v).transpose(1, 2).flatten(2))

    def _split(self, x: Tensor) -> Tensor:
        """(N, T, heads * head_dim) -> (N, heads, T, head_dim)."""
        return x.unflatten(-1, (self.heads, -1)).transpose(1, 2)


class FusionLayer(nn.Module):
    """One pre-norm transformer layer: attention, then a ReLU feed-forward network."""

    def __init__(self, width: int, heads: int, ffn_width: int) -> None:
        super().__init__()
        self.attention_norm = OffsetLayerNorm(width)
        self.attention = CappedAttention(width, width, heads)
        self.ffn_norm = OffsetLayerNorm(width)
        self.ffn_in = nn.Linear(width, ffn_width)
        self.ffn_out = nn.Linear(ffn_width, width)

    def forward(self, x: Tensor) -> Tensor:
        """(N, T, width) -> (N, T, width)."""
        normed = self.attention_norm(x)
        x = x + self.attention(normed, normed)
        return x + self.ffn_out(relu(self.ffn_in(self.ffn_norm(x))))


class MultimodalEncoder(nn.Module):
    """A stack of fusion layers over the image token and the text token."""

    def __init__(self, width: int, heads: int, layers: int, ffn_width: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(FusionLayer(width, heads, ffn_width) for _ in range(layers))
        self.grad_checkpointing = False

    def forward(self, x: Tensor) -> Tensor:
        """(N, 2, width) -> (N, 2, width)."""
        for layer in self.layers:
            if self.grad_checkpointing and torch.is_grad_enabled():
                x = checkpoint(layer, x, use_reentrant=False)
            else:
                x = layer(x)
        return x


class AttentionPooler(nn.Module):
    """One learned query attends to the encoded tokens; the result is normalised.

    The query enters without a layer norm and there is no residual connection around it.
    """

    def __init__(self, width: int, heads: int, inner_width: int) -> None:
        super().__init__()
        self.query = nn.Parameter(torch.randn(1, width) * width**-0.5)
        self.attention = CappedAttention(width, inner_width, heads, per_dim_scale=True)
        self.norm = OffsetLayerNorm(width)

    def forward(self, tokens: Tensor) -> Tensor:
        """(N, T, width) -> (N, width)."""
        queries = self.query.expand(tokens.shape[0], -1, -1)
        return self.norm(self.attention(queries, tokens)).squeeze(1)


class AttentionFusion(nn.Module):
    """The MagicLens fusion: multimodal encoder, attention pooler, unit length."""

    def __init__(
        self, width: int, heads: int, layers: int, ffn_width: int, pooler_width: int
    ) -> None:
        super().__init__()
        self.encoder = MultimodalEncoder(width, heads, layers, ffn_width)
        self.pooler = AttentionPooler(width, heads, pooler_width)

    def pool(self, image_embeddings: Tensor, text_embeddings: Tensor) -> Tensor:
        """(N, E) and (N, E), unnormalised -> (N, E), not yet of unit length."""
        tokens = torch.stack([image_embeddings, text_embeddings], dim=1)
        return self.pooler(self.encoder(tokens))

    def forward(self, image_embeddings: Tensor, text_embeddings: Tensor) -> Tensor:
        """(N, E) and (N, E), unnormalised -> (N, E) float32 of unit length."""
        return unit(self.pool(image_embeddings, text_embeddings))

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        """Recompute every layer in the backward pass instead of keeping its activations."""
        self.encoder.grad_checkpointing = enable


class SumFusion(nn.Module):
    """unit(image + weight * text): the baseline, as in rclip and BGE-VL.

    A zero text embedding means that there is no text, so the result is the photo alone.

    Args:
        weight: of the text beside the image's one.
        normalize_parts: bring both embeddings to unit length before they are added.
    """

    def __init__(self, weight: float = 1.0, *, normalize_parts: bool = True) -> None:
        super().__init__()
        self.weight = weight
        self.normalize_parts = normalize_parts

    def forward(self, image_embeddings: Tensor, text_embeddings: Tensor) -> Tensor:
        """(N, E) and (N, E) -> (N, E) float32 of unit length."""
        if self.normalize_parts:
            image_embeddings, text_embeddings = unit(image_embeddings), unit(text_embeddings)
        return unit(image_embeddings + self.weight * text_embeddings)

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        """Do nothing: a sum keeps no activations worth recomputing."""
