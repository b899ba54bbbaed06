"""The batch side of a model folder, in torch: image tower and fusion on the best device."""

import numpy as np
import torch
from torch import Tensor, nn

from lensctl.config import DEVICES
from lensctl.errors import ModelError, UsageError
from lensctl.models.backbone import encode_images
from lensctl.models.folder import WEIGHTS, ModelFolder
from lensctl.models.interface import MOST_LANES, Floats, Preprocessor
from lensctl.models.query_side import read_empty_text, unit
from lensctl.models.weights import load_module

PRECISIONS = ("auto", "fp32", "bf16")

_CORES = torch.get_num_threads()
"""Read before anything changes it."""


class TorchIndexSide:
    """Implements `interface.IndexSide`.

    The image tower's weights are kept in the chosen precision; the fusion, a thousandth of the
    work, always runs in float32. The text tower is never read: targets use the kept embedding
    of "".
    """

    def __init__(self, folder: ModelFolder, device: str = "auto", precision: str = "auto") -> None:
        self.info = folder.info
        self.preprocess: Preprocessor = folder.config.preprocessing
        self.device = choose_device(device)
        self.precision = choose_precision(precision, self.device)
        self._dtype = torch.bfloat16 if self.precision == "bf16" else torch.float32
        module = load_module(folder.config, folder.file(WEIGHTS))
        self._visual = _unmapped(module.clip.visual, self.device, self._dtype)
        self._fusion = _unmapped(module.fusion, self.device, torch.float32)
        self._empty_text = torch.from_numpy(read_empty_text(folder)).to(self.device)

    def share_cores(self) -> int:
        """One thread for each call on a CPU, up to MOST_LANES calls; one call on an accelerator."""
        if self.device != "cpu":
            return 1
        lanes = min(_CORES, MOST_LANES)
        torch.set_num_threads(_CORES // lanes)
        return lanes

    @torch.inference_mode()
    def encode_images(self, pixels: Floats) -> Floats:
        """(N, 3, S, S) pixels -> (N, E) embeddings, unnormalised."""
        batch = torch.from_numpy(np.ascontiguousarray(pixels, dtype=np.float32))
        return _numpy(encode_images(self._visual, batch.to(self.device, self._dtype)))

    @torch.inference_mode()
    def make_targets(self, embeddings: Floats) -> Floats:
        """(N, E) embeddings -> (N, D) unit targets."""
        images = torch.from_numpy(np.ascontiguousarray(embeddings, dtype=np.float32))
        images = images.to(self.device)
        return _numpy(self._fusion(images, self._empty_text.expand(len(images), -1)))

    def text_keys(self, embeddings: Floats) -> Floats:
        """(N, E) embeddings -> (N, T) unit text keys."""
        return unit(embeddings)


def choose_device(device: str) -> str:
    """`auto` becomes cuda, mps or cpu, whichever is there first. Raises UsageError, ModelError."""
    if device not in DEVICES:
        raise UsageError(f"--device {device!r}: choose one of {', '.join(DEVICES)}")
    present = {
        "cuda": torch.cuda.is_available(),
        "mps": torch.backends.mps.is_available(),
        "cpu": True,
    }
    if device == "auto":
        return next(name for name, is_there in present.items() if is_there)
    if not present[device]:
        raise ModelError(
            f"the device {device} is not available",
            why="torch does not see it",
            next_step="use --device auto, or install a torch build for this device",
        )
    return device


def choose_precision(precision: str, device: str) -> str:
    """`auto` becomes bf16 where the hardware multiplies it fast, else fp32. Raises UsageError."""
    if precision not in PRECISIONS:
        raise UsageError(f"precision {precision!r}: choose one of {', '.join(PRECISIONS)}")
    if precision != "auto":
        return precision
    return "bf16" if has_fast_bf16(device) else "fp32"


def has_fast_bf16(device: str) -> bool:
    """Tensor cores, or a CPU with AMX or AVX-512 bf16 instructions."""
    if device == "cuda":
        return torch.cuda.get_device_capability() >= (8, 0)
    if device == "mps":
        return False
    cpu = torch.cpu.get_capabilities()
    return bool(cpu.get("amx_bf16") or cpu.get("avx512_bf16"))


def _unmapped(module: nn.Module, device: str, dtype: torch.dtype) -> nn.Module:
    """The module with weights of its own: while one tensor lies in the mapped file, all of the
    file that was read counts as this process's memory."""
    for tensor in (*module.parameters(), *module.buffers()):
        kept = dtype if tensor.is_floating_point() else tensor.dtype
        tensor.data = tensor.data.to(device, kept, copy=True)
    return module


def _numpy(tensor: Tensor) -> Floats:
    return tensor.float().cpu().numpy()
