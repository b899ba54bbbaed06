"""The image tower's graph without weights, and where its weights lie in the package's file.

    python -m lensctl_training.mini.graph

Writes `image_tower.onnx` and `image_weights.json`. Needs torch, timm and onnx; the result is the
architecture alone, so nothing of the package is copied.
"""

import json
from collections.abc import Iterator
from pathlib import Path

import onnx
import timm
import torch
from timm.layers import BatchNormAct2d
from timm.models.efficientnet import EfficientNet
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from lensctl.models.mini import image_tower
from lensctl.models.mini.packages import IMAGE_WEIGHTS, verified

DATA = Path(image_tower.__file__).parent / "data"
ARCHITECTURE = "tf_efficientnet_lite2"
_NORM_PARTS = {
    "gamma": "weight",
    "beta": "bias",
    "mean": "running_mean",
    "variance": "running_var",
}


def load_tensors(path: Path) -> dict[str, torch.Tensor]:
    """The package's tensors under timm's names: both networks list them in the same order."""
    tensors = torch.load(path, weights_only=True, map_location="cpu")
    names = timm.create_model(ARCHITECTURE, pretrained=False).state_dict()
    return dict(zip(names, tensors.values(), strict=True))


def load_backbone() -> EfficientNet:
    """timm's network with the package's tensors."""
    model = timm.create_model(ARCHITECTURE, pretrained=False)
    model.load_state_dict(load_tensors(verified(IMAGE_WEIGHTS)))
    assert isinstance(model, EfficientNet)
    return model.eval()


def convolution_pairs(model: EfficientNet) -> Iterator[tuple[str, str]]:
    """(convolution, its batch normalisation), by module name, in network order."""
    yield "conv_stem", "bn1"
    for name, module in model.named_modules():
        if isinstance(module, nn.Conv2d) and name.startswith("blocks."):
            yield name, _norm_of(model, name)
    yield "conv_head", "bn2"


def _norm_of(model: EfficientNet, conv: str) -> str:
    """The normalisation that follows: blocks name them bn1, bn2, bn3 in the order of use."""
    block, own = conv.rsplit(".", 1)
    siblings = [name for name, _ in model.get_submodule(block).named_children()]
    convs = [name for name in siblings if name.startswith("conv")]
    return f"{block}.bn{convs.index(own) + 1}"


def find_layout(model: EfficientNet, path: Path) -> dict[str, list]:
    """Where each array lies in the file, by searching for its bytes.

    Raises:
        ValueError: an array is not stored as one run of bytes.
    """
    content = path.read_bytes()
    state = load_tensors(path)
    layout: dict[str, list] = {}
    for conv, norm in convolution_pairs(model):
        names = {f"{conv}.weight": f"{conv}.weight"}
        names |= {f"{conv}.{ours}": f"{norm}.{theirs}" for ours, theirs in _NORM_PARTS.items()}
        layout |= {ours: _place(content, state[theirs]) for ours, theirs in names.items()}
    layout["classifier.weight"] = _place(content, state["classifier.weight"])
    layout["classifier.bias"] = _place(content, state["classifier.bias"])
    return layout


def _place(content: bytes, tensor: torch.Tensor) -> list:
    """Offset in bytes, shape, strides in elements: kernels lie in TensorFlow's order."""
    offset = content.find(bytes(tensor.untyped_storage()))
    if offset < 0:
        raise ValueError("an array is not stored as one run of bytes")
    return [offset, list(tensor.shape), list(tensor.stride())]


def fold(model: EfficientNet) -> EfficientNet:
    """Batch normalisation folded into convolutions; what remains of it is its activation."""
    for conv, norm in list(convolution_pairs(model)):
        kernel, bn = model.get_submodule(conv), model.get_submodule(norm)
        assert isinstance(kernel, nn.Conv2d) and isinstance(bn, BatchNormAct2d)
        model.set_submodule(conv, fuse_conv_bn_eval(kernel, bn))
        model.set_submodule(norm, bn.act)
    return model


class FeatureMap(nn.Module):
    """The network up to the map that is pooled."""

    def __init__(self, model: EfficientNet) -> None:
        super().__init__()
        self.model = model

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        """(N, 3, 240, 240) -> (N, 1280, 8, 8)."""
        return self.model.forward_features(pixels)


def export_graph(model: EfficientNet, out: Path) -> None:
    """Write the folded network as ONNX whose convolutions are to be supplied on loading."""
    pixels = torch.zeros(2, 3, image_tower.SIZE, image_tower.SIZE)
    program = torch.onnx.export(
        FeatureMap(model),
        (pixels,),
        input_names=["pixels"],
        output_names=["map"],
        dynamic_shapes=({0: torch.export.Dim("images")},),
        dynamo=True,
    )
    assert program is not None
    proto = program.model_proto
    for tensor in proto.graph.initializer:
        if tensor.name.startswith("model."):
            _rename(proto, tensor.name, tensor.name.removeprefix("model."))
    for tensor in proto.graph.initializer:
        if tensor.name.endswith((".weight", ".bias")):
            _strip(tensor)
    _drop_debugging(proto)
    out.write_bytes(proto.SerializeToString())


def _rename(proto: onnx.ModelProto, old: str, new: str) -> None:
    for node in proto.graph.node:
        for place, name in enumerate(node.input):
            if name == old:
                node.input[place] = new
    for tensor in proto.graph.initializer:
        if tensor.name == old:
            tensor.name = new


def _strip(tensor: onnx.TensorProto) -> None:
    """Keep name, type and shape; the content is supplied by the reader."""
    tensor.ClearField("raw_data")
    tensor.data_location = onnx.TensorProto.EXTERNAL
    entry = tensor.external_data.add()
    entry.key, entry.value = "location", "supplied-when-loaded"


def _drop_debugging(proto: onnx.ModelProto) -> None:
    """The exporter's stack traces and value notes name places on the exporting machine."""
    for node in proto.graph.node:
        del node.metadata_props[:]
        node.doc_string = ""
    del proto.graph.value_info[:]
    del proto.graph.metadata_props[:]
    del proto.metadata_props[:]


def main() -> None:
    """Write both files into the package's data folder."""
    model = load_backbone()
    layout = find_layout(model, verified(IMAGE_WEIGHTS))
    (DATA / image_tower.LAYOUT).write_text(json.dumps(layout, indent=0) + "\n", encoding="utf-8")
    export_graph(fold(model), DATA / image_tower.GRAPH)


if __name__ == "__main__":
    main()
