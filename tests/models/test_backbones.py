"""Backbones beyond plain CLIP, and the module as training uses it."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from lensctl.errors import ModelError
from lensctl.models.magiclens import MagicLens, MagicLensConfig, count_parameters, on_meta
from lensctl.models.preprocessing import Preprocessing
from lensctl.models.tokenizer import tokenize
from lensctl.models.weights import load_module, save_weights
from lensctl.models.write import save_model_folder

TEXT = {"context_length": 77, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 1}
VISION = {"image_size": 32, "layers": 2, "width": 64, "patch_size": 16}
PLAIN = {"embed_dim": 32, "quick_gelu": True, "vision_cfg": VISION, "text_cfg": TEXT}
COCA = {
    "embed_dim": 32,
    "custom_text": True,
    "vision_cfg": VISION
    | {"attentional_pool": True, "attn_pooler_heads": 4, "output_tokens": True},
    "text_cfg": TEXT | {"context_length": 76, "embed_cls": True, "output_tokens": True},
    "multimodal_cfg": {
        "context_length": 76,
        "vocab_size": 49408,
        "width": 32,
        "heads": 2,
        "layers": 1,
    },
}


def _config(backbone: dict, **more: object) -> MagicLensConfig:
    pixels = Preprocessing(size=32, mode="crop")
    return MagicLensConfig(backbone=backbone, preprocessing=pixels, layers=2, heads=4, **more)  # type: ignore[arg-type]


def _module(config: MagicLensConfig) -> MagicLens:
    torch.manual_seed(0)
    return MagicLens(config)


def _inputs() -> tuple[torch.Tensor, torch.Tensor]:
    texts = ["inside view of", "", "wow!!! (!) !!"]
    return torch.randn(3, 3, 32, 32), torch.from_numpy(tokenize(texts))


def test_a_traced_backbone_has_both_sides(tmp_path: Path) -> None:
    config = _config(COCA)
    module = _module(config).eval()
    folder = save_model_folder(
        module, config, tmp_path / "m", name="m", licence="none", description="a test"
    )
    side, index = folder.query_side(exact=True), folder.index_side("cpu", "fp32")
    pixels, texts = _inputs()[0].numpy(), ["inside view of", "", "wow!!! (!) !!"]
    kept = side.encode_images(pixels)
    assert np.abs(kept - index.encode_images(pixels)).max() < 1e-4
    context = config.backbone["text_cfg"].get("context_length", 77)  # type: ignore[union-attr]
    with torch.inference_mode():
        words = module.encode_text(torch.from_numpy(tokenize(texts, context)))
        want = module.fuse(torch.from_numpy(kept), words).numpy()
    assert np.abs(side.make_queries(kept, texts) - want).max() < 1e-4


@pytest.mark.parametrize(
    ("name", "size", "parameters"),
    [("coca_base", 288, 237_868_801), ("coca_ViT-L-14", 224, 468_177_281)],
)
def test_coca_architectures(name: str, size: int, parameters: int) -> None:
    """The paper's CoCa models have 267 M and 613 M parameters; open_clip's nearest have these."""
    config = MagicLensConfig(backbone=name, preprocessing=Preprocessing(size=size))
    assert count_parameters(on_meta(config)) == parameters


def test_gradients_reach_every_parameter() -> None:
    module = _module(_config(PLAIN)).train()
    module(*_inputs()).square()[:, 0].sum().backward()
    without = {n for n, p in module.named_parameters() if p.grad is None or not p.grad.any()}
    assert without == {"clip.logit_scale"}


@pytest.mark.parametrize("backbone", [PLAIN, COCA], ids=["CLIP", "CoCa"])
def test_checkpointing_changes_no_gradient(backbone: dict) -> None:
    pixels, ids = _inputs()
    gradients = []
    for enabled in (False, True):
        module = _module(_config(backbone)).train()
        module.set_grad_checkpointing(enabled)
        module(pixels, ids[:, :76]).square()[:, 0].sum().backward()
        gradients.append(
            torch.cat([p.grad.flatten() for p in module.parameters() if p.grad is not None])
        )
    assert torch.allclose(*gradients, atol=1e-6)


def test_padding_after_the_text_changes_nothing() -> None:
    ids = _inputs()[1]
    for masked in (False, True):
        module = _module(_config(PLAIN, mask_padding=masked)).eval()
        end = int(ids.argmax(dim=1).max()) + 1
        with torch.inference_mode():
            whole, short = module.encode_text(ids), module.encode_text(ids[:, :end])
        assert torch.allclose(whole, short, atol=1e-6)


def test_the_mask_hides_tokens_of_id_zero() -> None:
    ids = _inputs()[1]
    plain = _module(_config(PLAIN)).eval()
    masked = _module(_config(PLAIN, mask_padding=True)).eval()
    with torch.inference_mode():
        difference = (plain.encode_text(ids) - masked.encode_text(ids)).abs().amax(dim=1)
    hidden = (ids == 0) & (torch.arange(77) < ids.argmax(dim=1, keepdim=True))
    assert hidden.any(dim=1).tolist() == (difference > 1e-5).tolist()


def test_meta_buffers_are_restored(tmp_path: Path) -> None:
    config = _config(COCA)
    module = _module(config).eval()
    save_weights(module, tmp_path / "model.safetensors")
    loaded = load_module(config, tmp_path / "model.safetensors")
    assert not any(buffer.is_meta for buffer in loaded.buffers())
    pixels, ids = _inputs()
    with torch.inference_mode():
        found, want = loaded(pixels, ids[:, :76]), module(pixels, ids[:, :76])
    assert torch.allclose(found, want, atol=1e-6)


@pytest.mark.parametrize("name", ["nosuch", "roberta-ViT-B-32", "ViT-B-16-SigLIP"])
def test_backbones_that_cannot_be_built_here(name: str) -> None:
    with pytest.raises(ModelError) as refusal:
        MagicLens(replace(_config(PLAIN), backbone=name))
    assert refusal.value.next_step
