"""What a MagicLens is made of, in a dataclass that a JSON file can hold. No torch."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal

from lensctl.models.preprocessing import MAX_SIDE, Preprocessing

FusionKind = Literal["attention", "sum"]

_MAX_SIZE = 2**20
_MAX_LAYERS = 512
MAX_SUM_WEIGHT = 1000.0
CONTEXT_LENGTH = 77
"""Tokens of a text that CLIP reads, where a model does not say otherwise."""
_LIMITS = {"layers": _MAX_LAYERS, "image_size": MAX_SIDE, "mlp_ratio": 1024}
_SIZES = ("embed_dim", "width", "layers", "heads", "head_width", "patch_size", "image_size")


@dataclass(frozen=True)
class MagicLensConfig:
    """A backbone, a fusion and how pixels are made.

    Args:
        backbone: an open_clip model name, or an open_clip model configuration for other sizes.
        preprocessing: its `size` is the image size of the backbone.
        fusion: `attention` is the MagicLens fusion, `sum` the weighted vector sum.
        layers: of the attention fusion's multimodal encoder.
        heads: of the attention fusion, encoder and pooler alike.
        ffn_width: of the encoder's feed-forward networks; 0 means four times the embedding.
        pooler_width: of all the pooler's heads together; 0 means four times the embedding.
        sum_weight: of the text in the sum fusion.
        sum_of_units: whether the sum fusion normalises its two parts first.
        mask_padding: hide tokens of id 0 from the text tower, as the published model does; a
            stock CLIP only looks back.
    """

    backbone: str | Mapping[str, Any] = "ViT-B-16-quickgelu"
    preprocessing: Preprocessing = field(default_factory=Preprocessing)
    fusion: FusionKind = "attention"
    layers: int = 4
    heads: int = 8
    ffn_width: int = 0
    pooler_width: int = 0
    sum_weight: float = 1.0
    sum_of_units: bool = True
    mask_padding: bool = False

    def __post_init__(self) -> None:
        if self.fusion not in ("attention", "sum"):
            raise ValueError(f"fusion must be attention or sum, not {self.fusion!r}")
        for name in ("layers", "heads"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1")
        for name in ("ffn_width", "pooler_width"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} must not be negative")
        if max(self.layers, self.heads) > _MAX_LAYERS:
            raise ValueError(f"layers and heads must be at most {_MAX_LAYERS}")
        if not abs(self.sum_weight) <= MAX_SUM_WEIGHT:
            raise ValueError(f"sum_weight must be within {MAX_SUM_WEIGHT:g}, not {self.sum_weight}")
        if not isinstance(self.backbone, str):
            check_backbone(self.backbone)

    def with_preprocessing(self, preprocessing: Preprocessing) -> "MagicLensConfig":
        """The same model reading pixels made in another way."""
        return replace(self, preprocessing=preprocessing)

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        values = asdict(self)
        if not isinstance(self.backbone, str):
            values["backbone"] = dict(self.backbone)
        return values

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "MagicLensConfig":
        """Inverse of `to_dict`. Raises TypeError or ValueError on unknown or wrong values."""
        values = dict(values)
        preprocessing = Preprocessing(**values.pop("preprocessing", {}))
        return cls(preprocessing=preprocessing, **values)


def check_backbone(backbone: Mapping[str, Any]) -> None:
    """Refuse what would build something absurd. Raises ValueError."""
    parts = [backbone, backbone.get("vision_cfg"), backbone.get("text_cfg")]
    if not all(isinstance(part, Mapping) for part in parts):
        raise ValueError("a backbone needs embed_dim, vision_cfg and text_cfg")
    if "embed_dim" not in backbone:
        raise ValueError("a backbone needs embed_dim")
    for part in parts:
        for name, value in part.items():  # type: ignore[union-attr]
            _check_size(name, value)
    vision, text = backbone["vision_cfg"], backbone["text_cfg"]
    _check_heads("text", text.get("width", 512), text.get("heads", 8))
    if "timm_model_name" not in vision and isinstance(vision.get("layers", 12), int):
        width = vision.get("width", 768)
        _check_heads("image", width, width // vision.get("head_width", 64))


def _check_heads(tower: str, width: int, heads: int) -> None:
    if heads < 1 or width % heads:
        raise ValueError(f"the {tower} tower's width {width} is not divisible by {heads} heads")


def _check_size(name: str, value: Any) -> None:
    values = value if isinstance(value, list | tuple) else [value]
    for number in values:
        if name == "patch_size" and number is None:
            continue  # a ResNet has no patches
        if name in _SIZES and type(number) is not int:
            raise ValueError(f"{name} should be a whole number, not {number!r}")
        limit = _LIMITS.get(name, _MAX_SIZE)
        if isinstance(number, int) and not 0 <= number <= limit:
            raise ValueError(f"{name} = {number} is out of range")
        if isinstance(number, float) and not abs(number) <= limit:
            raise ValueError(f"{name} = {number} is out of range")
        if name == "mlp_ratio" and not isinstance(number, int | float):
            raise ValueError(f"{name} should be a number, not {number!r}")
        if (name in _SIZES or name == "mlp_ratio") and number <= 0:
            raise ValueError(f"{name} must be above 0")
