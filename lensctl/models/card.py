"""The model card that lies in every model folder."""

from lensctl.models.config import MagicLensConfig
from lensctl.models.interface import ModelInfo


def model_card(info: ModelInfo, config: MagicLensConfig) -> str:
    """Markdown: what the model is, where it comes from, and how it may be used."""
    pixels = config.preprocessing
    scale = "its own brightest value" if pixels.divide_by_max else "255"
    rows = [
        ("Source", info.source or "not recorded"),
        ("Licence of the weights", info.licence),
        ("Parameters", f"{info.parameters:,}"),
        ("Fusion", _fusion(config)),
        ("Embedding width", f"{info.embedding_dim}"),
        ("Target and text key width", f"{info.target_dim}, {info.text_dim}"),
        (
            "Pixels",
            f"{pixels.mode} to {pixels.size} x {pixels.size}, {pixels.interpolation}, "
            f"divided by {scale}",
        ),
        ("Encoder fingerprint", f"`{info.encoder_fingerprint}`"),
        ("Lens fingerprint", f"`{info.lens_fingerprint}`"),
    ]
    table = "\n".join(f"| {key} | {value} |" for key, value in rows)
    return f"""# {info.name}

{info.description}

| | |
|---|---|
{table}

All weights lie in `model.safetensors` (float32); the `.onnx` files hold graphs that read them.
Sizes and sha256 of the files are in `config.json`. Use: `lensctl index DIR --model {info.name}`.
"""


def _fusion(config: MagicLensConfig) -> str:
    if config.fusion == "sum":
        return f"sum, text weight {config.sum_weight:g}"
    return f"attention, {config.layers} layers, {config.heads} heads"
