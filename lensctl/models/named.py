"""The models that `lensctl models pull` knows: where their weights are, and under what licence.

Nothing here is downloaded unless it is asked for by name.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from lensctl.models.preprocessing import Preprocessing

_MAGICLENS = "https://storage.googleapis.com/gresearch/magiclens/models"
HUB = "https://huggingface.co"
_MAGICLENS_LICENCE = "CC-BY-4.0 (weights, as the repository's README states), Apache-2.0 (code)"


@dataclass(frozen=True)
class NamedModel:
    """A model that can be pulled.

    Args:
        url: of the weights file, https.
        description: one sentence for `lensctl models list`.
        licence: of the weights.
        backbone: open_clip name, for the layouts that do not tell it.
        sum_of_units: as in `MagicLensConfig`.
        preprocessing: where it is not CLIP's own.
    """

    url: str
    description: str
    licence: str
    backbone: str = ""
    sum_of_units: bool = True
    preprocessing: Preprocessing | None = None


def _clip(backbone: str, repository: str, description: str) -> NamedModel:
    return NamedModel(
        url=f"{HUB}/{repository}/resolve/main/open_clip_model.safetensors",
        description=description,
        licence="MIT",
        backbone=backbone,
    )


def _bge(size: str, backbone: str) -> NamedModel:
    return NamedModel(
        url=f"{HUB}/BAAI/BGE-VL-{size}/resolve/main/model.safetensors",
        description=f"BGE-VL-{size}: CLIP trained on MegaPairs, sum of photo and words",
        licence="MIT",
        backbone=backbone,
        sum_of_units=False,
    )


def _magiclens(size: str) -> NamedModel:
    return NamedModel(
        url=f"{_MAGICLENS}/magic_lens_clip_{size}.pkl",
        description=f"MagicLens {size} as published (CLIP backbone)",
        licence=_MAGICLENS_LICENCE,
    )


NAMED: Mapping[str, NamedModel] = {
    "magiclens-base": _magiclens("base"),
    "magiclens-large": _magiclens("large"),
    "bge-vl-base": _bge("base", "ViT-B-16-quickgelu"),
    "bge-vl-large": _bge("large", "ViT-L-14-quickgelu"),
    "clip-vit-b-16": _clip(
        "ViT-B-16-quickgelu",
        "timm/vit_base_patch16_clip_224.openai",
        "OpenAI CLIP ViT-B/16, sum of photo and words: a baseline",
    ),
    "clip-vit-l-14": _clip(
        "ViT-L-14-quickgelu",
        "timm/vit_large_patch14_clip_224.openai",
        "OpenAI CLIP ViT-L/14, sum of photo and words: a baseline",
    ),
    "clip-vit-b-32-laion2b": _clip(
        "ViT-B-32",
        "laion/CLIP-ViT-B-32-laion2B-s34B-b79K",
        "OpenCLIP ViT-B/32 trained on LAION-2B, sum of photo and words: small and fast",
    ),
}
