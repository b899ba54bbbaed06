"""What limits indexing on an accelerator: disk, decoding, transfer or the encoder.

    python benchmarks/index_gpu.py PHOTOS --model FOLDER_OR_NAME [--device auto] [--workers 0]
        [--batch 64] [--seconds 5]

Prints images per second of every stage alone and of the whole `lensctl index`, which of them is the
least, and the share of it that the whole reaches; and the encoder's share of the measured peak of
matrix products. With CUDA, decoding by nvJPEG (through torchvision) stands beside decoding on the
CPU. Without an accelerator it runs on the CPU, where all stages share the same cores.
"""

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from encode import DTYPES, best_rate, flops_per_image, matmul_peak
from index_speed import our_command
from measuring import run_once

from lensctl.models.folder import ModelFolder
from lensctl.models.index_side import TorchIndexSide
from lensctl.models.registry import open_model
from lensctl.photos.reader import read_photo


def stages(
    photos: Sequence[Path], side: TorchIndexSide, workers: int, batch: int, seconds: float
) -> dict[str, float]:
    """Images per second of every stage alone."""
    size = side.info.image_size

    def prepare(path: Path) -> np.ndarray:
        image = read_photo(os.fsencode(path), at_least=2 * size).image
        assert image is not None
        return side.preprocess(image)

    rates = {
        "disk": _rate(Path.read_bytes, photos, workers),
        "decode on the CPU": _rate(prepare, photos, workers),
    }
    if side.device == "cuda":
        rates["decode by nvJPEG"] = _nvjpeg_rate(photos, size, batch)
    if side.device != "cpu":
        pixels = np.zeros((batch, 3, size, size), dtype=np.float32)
        rates["transfer"] = batch * _calls(lambda: _transfer(pixels, side.device), seconds)
    rates["encode"], _ = best_rate(side, [batch], seconds)
    return rates


def _rate(work: Callable[[Path], object], photos: Sequence[Path], workers: int) -> float:
    with ThreadPoolExecutor(workers) as pool:
        started = time.monotonic()
        for _ in pool.map(work, photos):
            pass
        return len(photos) / (time.monotonic() - started)


def _nvjpeg_rate(photos: Sequence[Path], size: int, batch: int) -> float:
    """Whole JPEGs decoded on the device and reduced there; files are in memory already."""
    from torchvision.io import decode_jpeg

    files = [torch.from_numpy(np.fromfile(path, np.uint8)) for path in photos]
    decode_jpeg(files[:1], device="cuda")
    torch.cuda.synchronize()
    started = time.monotonic()
    for start in range(0, len(files), batch):
        for image in decode_jpeg(files[start : start + batch], device="cuda"):
            torch.nn.functional.interpolate(
                image[None].float(), (size, size), mode="bicubic", antialias=True
            )
    torch.cuda.synchronize()
    return len(files) / (time.monotonic() - started)


def _transfer(pixels: np.ndarray, device: str) -> None:
    torch.from_numpy(pixels).to(device)
    if device == "cuda":
        torch.cuda.synchronize()


def _calls(work: Callable[[], None], seconds: float) -> float:
    work()
    done, started = 0, time.monotonic()
    while (spent := time.monotonic() - started) < seconds:
        work()
        done += 1
    return done / spent


def whole(model: str, photos: Path, count: int, side: TorchIndexSide) -> float:
    """Images per second of the command, less the time of one that finds an empty folder."""
    with tempfile.TemporaryDirectory() as scratch:
        empty = Path(scratch) / "empty"
        empty.mkdir()
        command = our_command(model, photos, Path(scratch), side.precision)
        line = [*command.line, "--device", side.device]
        all_of_it = run_once(type(command)("index", line, before=command.before)).wall
        start = [str(empty) if part == str(photos) else part for part in line]
        start[start.index("--library") + 1] += "-empty"
        return count / (all_of_it - run_once(type(command)("start", start)).wall)


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("photos", type=Path)
    parser.add_argument("--model", required=True)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--seconds", type=float, default=5.0)
    options = parser.parse_args()
    folder = open_model(options.model)
    if not isinstance(folder, ModelFolder):
        sys.exit("name a model that runs in torch")
    photos = sorted(options.photos.resolve().rglob("*.jpg"))
    side = TorchIndexSide(folder, options.device)
    rates = stages(photos, side, options.workers, options.batch, options.seconds)
    least = min(rates, key=lambda name: rates[name])
    peak = matmul_peak(side.device, DTYPES[side.precision])
    share = rates["encode"] * flops_per_image(folder) / peak
    together = whole(options.model, options.photos.resolve(), len(photos), side)
    print(json.dumps({"device": side.device, "precision": side.precision, "photos": len(photos)}))
    print(json.dumps({f"{name}, images/s": round(rate, 1) for name, rate in rates.items()}))
    print(json.dumps({"encoder's share of the matmul peak": round(share, 2)}))
    print(json.dumps({"whole, images/s": round(together, 1), "limit": least,
                      "share of the limit": round(together / rates[least], 2)}))  # fmt: skip


if __name__ == "__main__":
    main()
