"""Write the query side's graphs: by hand for plain CLIP, by torch's exporter for the rest."""

import logging
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import onnx
import torch
from torch import Tensor, nn

from lensctl.errors import DependencyError
from lensctl.models.backbone import backbone_config
from lensctl.models.config import MagicLensConfig
from lensctl.models.folder import FUSION, IMAGE, INT8_IMAGE, INT8_TEXT, TEXT, WEIGHTS, codes_of
from lensctl.models.magiclens import MagicLens
from lensctl.models.onnx_clip import image_model, is_plain_clip, text_model
from lensctl.models.onnx_fusion import fusion_model
from lensctl.models.onnx_graph import Graph
from lensctl.models.onnx_int8 import PROBES, Int8Graph, ProbeGraph, agree, smooth_noise
from lensctl.models.safetensors_file import TensorPlace, read_layout
from lensctl.models.tokenizer import tokenize
from lensctl.models.verify import TEXTS


def export_query_side(module: MagicLens, config: MagicLensConfig, folder: Path) -> None:
    """Write text.onnx, image.onnx and fusion.onnx into a folder that holds the weights."""
    places = read_layout(folder / WEIGHTS)
    backbone = backbone_config(config.backbone)

    def graph() -> Graph:
        return Graph(places, WEIGHTS)

    _save(fusion_model(graph(), config, module.embedding_dim), folder / FUSION)
    if is_plain_clip(backbone):
        size = config.preprocessing.size
        _save(image_model(graph(), backbone, size), folder / IMAGE)
        _save(text_model(graph(), backbone, config.mask_padding), folder / TEXT)
        _export_in_integers(config, module.context_length, places, folder)
    else:
        _trace_towers(module, folder)


def _export_in_integers(
    config: MagicLensConfig,
    context_length: int,
    places: Mapping[str, TensorPlace],
    folder: Path,
) -> None:
    """Write those towers in integers, too, which then give nearly the same embeddings."""
    backbone, size = backbone_config(config.backbone), config.preprocessing.size

    def build_image(graph: Graph) -> onnx.ModelProto:
        return image_model(graph, backbone, size)

    def build_text(graph: Graph) -> onnx.ModelProto:
        return text_model(graph, backbone, config.mask_padding)

    pictures = [{"pixels": smooth_noise(size, seed)} for seed in range(2)]
    texts = [{"ids": tokenize(some, context_length)} for some in (PROBES, TEXTS)]
    for name, exact, build, (probes, tests) in (
        (INT8_IMAGE, IMAGE, build_image, pictures),
        (INT8_TEXT, TEXT, build_text, texts),
    ):
        path, codes = folder / name, folder / codes_of(name)
        probe = ProbeGraph(places, WEIGHTS)
        peaks = probe.peaks(build(probe), path, probes)
        with codes.open("wb") as file:
            _save(build(Int8Graph(places, folder / WEIGHTS, file, peaks)), path)
        if not agree(folder / exact, path, tests):
            path.unlink()
            codes.unlink()


def has_variable_text_length(config: MagicLensConfig) -> bool:
    """Whether text.onnx takes ids without their padding."""
    return is_plain_clip(backbone_config(config.backbone))


def _save(model: Any, path: Path) -> None:
    path.write_bytes(model.SerializeToString())


class _ImageTower(nn.Module):
    def __init__(self, module: MagicLens) -> None:
        super().__init__()
        self.module = module

    def forward(self, pixels: Tensor) -> Tensor:
        return self.module.encode_image(pixels)


class _TextTower(_ImageTower):
    def forward(self, ids: Tensor) -> Tensor:
        return self.module.encode_text(ids)


def _trace_towers(module: MagicLens, folder: Path) -> None:
    """Towers of any open_clip model; their weights go into files of their own."""
    size = module.config.preprocessing.size
    pixels = torch.zeros(2, 3, size, size)
    ids = torch.ones(2, module.context_length, dtype=torch.int64)
    _trace(_ImageTower(module), pixels, "pixels", folder / IMAGE)
    _trace(_TextTower(module), ids, "ids", folder / TEXT)


def _trace(tower: nn.Module, example: Tensor, name: str, path: Path) -> None:
    fast_path = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    logging.getLogger("onnxscript").setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            program = torch.onnx.export(
                tower.eval(),
                (example,),
                input_names=[name],
                output_names=["embeddings"],
                dynamic_shapes=({0: torch.export.Dim("batch")},),
                dynamo=True,
                verbose=False,
            )
    except ImportError as error:
        raise DependencyError(
            "this backbone's query side needs the package onnxscript",
            why=str(error),
            next_step="pip install onnxscript",
        ) from error
    finally:
        torch.backends.mha.set_fastpath_enabled(fast_path)
    if program is None:
        raise RuntimeError("torch.onnx.export returned nothing")
    program.save(path, external_data=True)
