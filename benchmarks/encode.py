"""Images per second of the index side, beside the measured matmul peak.

    python benchmarks/encode.py --model FOLDER_OR_NAME [--model ...] [--device auto]
        [--batch 1 --batch 8 ...] [--seconds 5] [--photos FOLDER] [--autocast] [--threads N]

On a CPU the rates are per second of the process's own CPU time, divided by the threads, so that a
busy machine does not change them; run with --threads 1 where others use the cores as well.

For every model and precision: the best batch size, images per second, and the share of the peak
that a square matrix product reaches in the same precision on the same device in the same run.
With --photos the cosines between bf16 and fp32 embeddings of real photos, and between the
torch-free query side and fp32, are printed too.
`benchmarks/full_size.py` makes models of the published sizes with random weights; speed does not
depend on the values.
"""

import argparse
import platform
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch.utils.flop_counter import FlopCounterMode

from lensctl.models.folder import WEIGHTS, ModelFolder
from lensctl.models.index_side import TorchIndexSide, choose_device
from lensctl.models.registry import open_model
from lensctl.models.verify import least_cosine
from lensctl.models.weights import load_module

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", action="append", required=True)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--batch", action="append", type=int)
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--photos", type=Path)
    parser.add_argument("--autocast", action="store_true", help="also time fp32 weights under it")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    device = choose_device(arguments.device)
    print(f"{_hardware(device)}, torch {torch.__version__}, {time.strftime('%Y-%m-%d')}")
    peaks = {name: matmul_peak(device, dtype) for name, dtype in DTYPES.items()}
    for name, peak in peaks.items():
        print(f"matmul peak {name}: {peak / 1e12:.3f} TFLOP/s")
    for name in arguments.model:
        measure(name, device, peaks, arguments)


def measure(name: str, device: str, peaks: dict[str, float], arguments: argparse.Namespace) -> None:
    """Print one line per precision of a model."""
    folder = open_model(name)
    assert isinstance(folder, ModelFolder)
    work = flops_per_image(folder)
    batches = arguments.batch or ([1, 8, 32] if device == "cpu" else [32, 128, 512])
    rates = {}
    for precision in DTYPES:
        side = TorchIndexSide(folder, device, precision)
        rates[precision], batch = best_rate(side, batches, arguments.seconds)
        _print_rate(folder.info.name, precision, rates[precision], batch, work, peaks[precision])
    print(f"{folder.info.name}: bf16 / fp32 = {rates['bf16'] / rates['fp32']:.2f}")
    if arguments.autocast:
        side = TorchIndexSide(folder, device, "fp32")
        with torch.autocast(device, torch.bfloat16):
            rate, batch = best_rate(side, batches, arguments.seconds)
        _print_rate(folder.info.name, "autocast", rate, batch, work, peaks["bf16"])
    if arguments.photos:
        compare(folder, device, arguments.photos)


def best_rate(side: TorchIndexSide, batches: list[int], seconds: float) -> tuple[float, int]:
    """Images per second of the best batch size, which comes second."""
    size = side.info.image_size
    rates = {}
    for batch in batches:
        pixels = np.random.default_rng(0).standard_normal((batch, 3, size, size), np.float32)
        side.encode_images(pixels)
        rates[batch] = batch * _per_second(
            side.device, lambda p=pixels: side.encode_images(p), seconds
        )
    best = max(rates, key=lambda batch: rates[batch])
    return rates[best], best


def matmul_peak(device: str, dtype: torch.dtype, size: int = 2048) -> float:
    """FLOP/s of a product of two square matrices; larger ones on an accelerator."""
    if device != "cpu":
        size = 8192
    a = torch.randn(size, size, device=device).to(dtype)
    b = torch.randn(size, size, device=device).to(dtype)

    def multiply() -> None:
        torch.mm(a, b)
        if device == "cuda":
            torch.cuda.synchronize()

    multiply()
    return 2 * size**3 * _per_second(device, multiply, 3.0)


def flops_per_image(folder: ModelFolder) -> int:
    """Of the image tower, multiplications and additions counted apart."""
    module = load_module(folder.config, folder.file(WEIGHTS))
    size = folder.info.image_size
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        # With gradients enabled for one tensor torch's fused attention is not taken, so that
        # every product is counted.
        module.encode_image(torch.zeros(1, 3, size, size, requires_grad=True).clone())
    return int(counter.get_total_flops())


def compare(folder: ModelFolder, device: str, photos: Path) -> None:
    """Cosines between precisions on real photos."""
    pixels = np.stack(list(_pixels(folder, photos)))
    found = {}
    for precision in DTYPES:
        side = TorchIndexSide(folder, device, precision)
        parts = [side.encode_images(pixels[i : i + 16]) for i in range(0, len(pixels), 16)]
        found[precision] = np.concatenate(parts)
        found[f"{precision} targets"] = side.make_targets(found[precision])
    for kind in ("", " targets"):
        cosine = least_cosine(found[f"fp32{kind}"], found[f"bf16{kind}"])
        label = kind.strip() or "embeddings"
        print(f"{folder.info.name}: least cosine of {label}, {len(pixels)} photos: {cosine:.6f}")
    for label, exact in (("in float32", True), ("as it is used", False)):
        query = folder.query_side(exact=exact).encode_images(pixels[:8])
        cosine = least_cosine(found["fp32"][:8], query)
        print(f"{folder.info.name}: least cosine of the query side {label}: {cosine:.7f}")


def _pixels(folder: ModelFolder, photos: Path) -> Iterator[np.ndarray]:
    endings = {".jpg", ".jpeg", ".png", ".webp"}
    for path in sorted(p for p in photos.rglob("*") if p.suffix.lower() in endings)[:64]:
        with Image.open(path) as image:
            yield folder.config.preprocessing(image.convert("RGB"))


def _per_second(device: str, call: Callable[[], object], seconds: float) -> float:
    calls, start = 0, _clock(device)
    while (spent := _clock(device) - start) < seconds:
        call()
        calls += 1
    return calls / spent


def _clock(device: str) -> float:
    if device == "cpu":
        return time.process_time() / torch.get_num_threads()
    return time.perf_counter()


def _print_rate(name: str, precision: str, rate: float, batch: int, work: int, peak: float) -> None:
    share = rate * work / peak
    print(f"{name} {precision}: {rate:.2f} images/s at batch {batch}, {share:.0%} of the peak")


def _hardware(device: str) -> str:
    if device == "cuda":
        return torch.cuda.get_device_name()
    name = torch.cpu.get_capabilities().get("cpu_name", "") or platform.processor()
    return f"{name}, {torch.get_num_threads()} threads"


if __name__ == "__main__":
    main()
