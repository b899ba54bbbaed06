"""Every single mistake a port can make, made on purpose: the published numbers must show it.

A trap patches one seam of the port before it is built or after. Were one of these tests to pass
with its mistake in place, the fixture tests would no longer guard that fact. Two mistakes cannot
be seen by any input: the epsilon under the final norm, and hiding the queries of padding tokens
besides their keys. They are here as well, and must stay invisible.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import gelu, layer_norm

from lensctl.models import backbone, fusion
from lensctl.models.convert import official
from lensctl.models.fusion import AttentionPooler, FusionLayer, OffsetLayerNorm
from lensctl.models.magiclens import MagicLens
from lensctl.models.preprocessing import Preprocessing
from support import published

Patch = Callable[[pytest.MonkeyPatch], None]
Change = Callable[[MagicLens], None]


@dataclass(frozen=True)
class Trap:
    """One mistake: patched before the port is built, or changed in the built port."""

    name: str
    patch: Patch = lambda _monkeypatch: None
    change: Change = lambda _model: None


def _set(target: Any, name: str, value: Any) -> Patch:
    return lambda monkeypatch: monkeypatch.setattr(target, name, value)


def _plain_scale_norm(self: OffsetLayerNorm, x: Tensor) -> Tensor:
    return layer_norm(x, x.shape[-1:], self.scale, self.bias, fusion.LAYER_NORM_EPS)


def _post_norm_layer(self: FusionLayer, x: Tensor) -> Tensor:
    x = self.attention_norm(x + self.attention(x, x))
    return self.ffn_norm(x + self.ffn_out(torch.relu(self.ffn_in(x))))


def _pool_with(
    query: Callable[[AttentionPooler, Tensor], Tensor] = lambda _pooler, q: q,
    result: Callable[[AttentionPooler, Tensor, Tensor], Tensor] = lambda pool, x, _q: pool.norm(x),
) -> Patch:
    def forward(self: AttentionPooler, tokens: Tensor) -> Tensor:
        queries = query(self, self.query.expand(tokens.shape[0], -1, -1))
        return result(self, self.attention(queries, tokens), queries).squeeze(1)

    return _set(AttentionPooler, "forward", forward)


def _norm_query(pooler: AttentionPooler, query: Tensor) -> Tensor:
    return layer_norm(query, query.shape[-1:])


def _feeding(images: Callable[[Tensor], Tensor], texts: Callable[[Tensor], Tensor]) -> Patch:
    pool = fusion.AttentionFusion.pool
    changed = lambda self, i, t: pool(self, images(i), texts(t))  # noqa: E731
    return _set(fusion.AttentionFusion, "pool", changed)


def _swap_tokens(self: Any, images: Tensor, texts: Tensor) -> Tensor:
    return self.pooler(self.encoder(torch.stack([texts, images], dim=1)))


def _scale_of_heads(self: fusion.PerDimScale, query: Tensor) -> Tensor:
    return query * query.shape[-1] ** -0.5


def _without_softplus(self: fusion.PerDimScale, query: Tensor) -> Tensor:
    return query * (self.factor * self.per_dim_scale)


def _transposed_if_square(w: Any) -> Any:
    flat = w.reshape(w.shape[0], -1)
    return flat.T if flat.shape[0] == flat.shape[1] else flat


def _not_transposed_if_square(w: Any) -> Any:
    flat = w.reshape(w.shape[0], -1)
    return flat if flat.shape[0] == flat.shape[1] else flat.T


def _clip_norm_eps(model: MagicLens) -> None:
    for module in model.clip.modules():
        if isinstance(module, nn.LayerNorm):
            module.eps = 1e-6


def _exact_gelu(model: MagicLens) -> None:
    for module in model.clip.modules():
        if isinstance(module, open_clip.transformer.QuickGELU):
            module.forward = gelu


def _half_the_heads(model: MagicLens) -> None:
    for layer in model.fusion.encoder.layers:
        layer.attention.heads //= 2


def _causal_only(model: MagicLens) -> None:
    model.config = replace(model.config, mask_padding=False)


def _pooled_at_the_end(model: MagicLens) -> None:
    model.clip.text_pool_type = "last"


def _pixels(**changes: Any) -> Change:
    def change(model: MagicLens) -> None:
        pixels = replace(model.config.preprocessing, **changes)
        model.config = model.config.with_preprocessing(pixels)

    return change


def _eight_bit_resize(self: Preprocessing, image: Any, width: int, height: int) -> Any:
    resized = image.resize((width, height), resample=2)
    return np.asarray(resized, dtype=np.float32).transpose(2, 0, 1)


def _hide_queries_too(ids: Tensor, causal: Tensor, heads: int) -> Tensor:
    """A padding query that sees nothing is made to see everything, as a finite mask would."""
    mask = backbone_padding_mask(ids, causal, heads)
    rows = (ids == 0).repeat_interleave(heads, dim=0)[:, :, None]
    return mask.masked_fill(rows, 0.0)


def _swap_patch_axes(model: MagicLens) -> None:
    weight = model.clip.visual.conv1.weight
    weight.data = weight.data.transpose(2, 3).contiguous()


backbone_padding_mask = backbone.padding_mask
unit = fusion.unit

TRAPS = [
    Trap("fusion norm: scale without the one", _set(OffsetLayerNorm, "forward", _plain_scale_norm)),
    Trap("fusion norm: epsilon 1e-5", _set(fusion, "LAYER_NORM_EPS", 1e-5)),
    Trap("CLIP norm: epsilon 1e-6", change=_clip_norm_eps),
    Trap("no logit cap", _set(fusion, "cap_logits", lambda logits: logits)),
    Trap("encoder: query not scaled", _set(fusion.HeadDimScale, "forward", lambda self, q: q)),
    Trap("pooler: no per-dim scale", _set(fusion.PerDimScale, "forward", _scale_of_heads)),
    Trap("pooler: no softplus", _set(fusion.PerDimScale, "forward", _without_softplus)),
    Trap("pooler: scale without 1.4427", _set(fusion, "SOFTPLUS_AT_ZERO_INVERSE", 1.0)),
    Trap("post weight transposed", _set(official, "heads_out", _transposed_if_square)),
    Trap("q, k, v not transposed", _set(official, "heads_in", _not_transposed_if_square)),
    Trap("fusion: GELU", _set(fusion, "relu", gelu)),
    Trap("fusion: post-norm", _set(FusionLayer, "forward", _post_norm_layer)),
    Trap("fusion: half the heads", change=_half_the_heads),
    Trap("pooler: query normed", _pool_with(query=_norm_query)),
    Trap("pooler: residual", _pool_with(result=lambda pooler, x, q: pooler.norm(x + q))),
    Trap("pooler: no norm", _pool_with(result=lambda _pooler, x, _q: x)),
    Trap("image embedding normalised", _feeding(unit, lambda t: t)),
    Trap("text embedding normalised", _feeding(lambda i: i, unit)),
    Trap("tokens swapped", _set(fusion.AttentionFusion, "pool", _swap_tokens)),
    Trap("CLIP: exact GELU", change=_exact_gelu),
    Trap("text: causal mask only", change=_causal_only),
    Trap("text: pooled at the last place", change=_pooled_at_the_end),
    Trap("pixels: centre crop", change=_pixels(mode="crop")),
    Trap("pixels: divided by 255", change=_pixels(divide_by_max=False)),
    Trap("pixels: bicubic", change=_pixels(interpolation="bicubic")),
    Trap("pixels: 8-bit resize", _set(Preprocessing, "_resize", _eight_bit_resize)),
    Trap("pixels: mean and std one half", change=_pixels(mean=(0.5,) * 3, std=(0.5,) * 3)),
    Trap("patches: height and width swapped", change=_swap_patch_axes),
]

INVISIBLE = [
    Trap("final norm: no epsilon", _set(fusion, "UNIT_NORM_EPS", 0.0)),
    Trap("text: queries of id 0 hidden too", _set(backbone, "padding_mask", _hide_queries_too)),
]


def _worst(trap: Trap, monkeypatch: pytest.MonkeyPatch, folder: Path) -> float:
    trap.patch(monkeypatch)
    model = published.port(folder)
    trap.change(model)
    return max(published.distances(model).values())


@pytest.mark.parametrize("trap", TRAPS, ids=lambda trap: trap.name)
def test_a_mistake_shows(trap: Trap, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert _worst(trap, monkeypatch, tmp_path) > 1.0


@pytest.mark.parametrize("trap", INVISIBLE, ids=lambda trap: trap.name)
def test_two_mistakes_cannot_show(
    trap: Trap, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    assert _worst(trap, monkeypatch, tmp_path) <= 1.0
