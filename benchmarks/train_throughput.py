"""Training speed: the whole batch through GradCache against the naive loss at what fits.

    python benchmarks/train_throughput.py [--backbone ViT-B-16-quickgelu] [--batch 2048] \\
        [--chunks 64 128 256] [--naive 64 128 256] [--precision bf16] [--compile] [--steps 3]

Random weights on generated pixels, so nothing has to be fetched. For every setting it prints
triplets per second, the peak memory, and the model FLOP utilisation: operations of the model alone
(forward and backward, not the second forward pass of GradCache or of activation checkpointing) per
second, over the speed of large matrix products measured on the same device and precision.
"""

import argparse
import platform
import resource
import time
from collections.abc import Callable
from datetime import date

import torch
from torch.utils.flop_counter import FlopCounterMode

from lensctl.models.config import MagicLensConfig
from lensctl.models.magiclens import MagicLens
from lensctl.models.preprocessing import Preprocessing
from lensctl_training.data.batches import Batch, token_ids
from lensctl_training.gradcache import cached_backward
from lensctl_training.loss import Temperature, contrastive_loss
from lensctl_training.model import TripletEncoder


def main() -> None:
    arguments = parse_arguments()
    device = torch.device(arguments.device)
    encoder = build(arguments, device)
    peak = matmul_peak(device, arguments.precision)
    per_triplet = count_operations(encoder, arguments, device)
    print(
        f"{arguments.backbone}, {arguments.precision}, {describe(device)}, {date.today()}: "
        f"{peak / 1e12:.3f} TFLOP/s of matrix products, {per_triplet / 1e9:.1f} GFLOP a triplet"
    )
    settings = [("naive", size, 0) for size in arguments.naive]
    settings += [("GradCache", arguments.batch, chunk) for chunk in arguments.chunks]
    for name, size, chunk in settings:
        print(
            measure(name, size, chunk, encoder, arguments, device, per_triplet / peak), flush=True
        )


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--backbone", default="ViT-B-16-quickgelu")
    parser.add_argument("--image-size", type=int, default=224)
    parser.add_argument("--heads", type=int, default=8)
    parser.add_argument("--batch", type=int, default=2048)
    parser.add_argument("--chunks", type=int, nargs="*", default=[64, 128, 256])
    parser.add_argument("--naive", type=int, nargs="*", default=[64, 128, 256, 512])
    parser.add_argument("--words", type=int, default=12, help="of an instruction")
    parser.add_argument("--precision", choices=["fp32", "bf16"], default="bf16")
    parser.add_argument("--compile", action="store_true")
    parser.add_argument("--checkpoint", action="store_true", help="activation checkpointing")
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    return parser.parse_args()


def build(arguments: argparse.Namespace, device: torch.device) -> TripletEncoder:
    config = MagicLensConfig(
        backbone=arguments.backbone,
        preprocessing=Preprocessing(size=arguments.image_size),
        heads=arguments.heads,
    )
    torch.manual_seed(0)
    encoder = TripletEncoder(MagicLens(config), bf16=arguments.precision == "bf16").to(device)
    encoder.model.set_grad_checkpointing(arguments.checkpoint)
    if arguments.compile:
        encoder.model.clip.visual.compile()
    return encoder


def make_batch(size: int, arguments: argparse.Namespace, device: torch.device) -> Batch:
    pixels = torch.rand(2, size, 3, arguments.image_size, arguments.image_size, device=device)
    ids = token_ids([" ".join(["word"] * arguments.words)] * size, 77).to(device)
    return Batch(pixels[0], pixels[1], ids)


def matmul_peak(device: torch.device, precision: str, side: int = 4096) -> float:
    """Operations a second of a large matrix product."""
    side = side if device.type == "cuda" else 2048
    dtype = torch.bfloat16 if precision == "bf16" else torch.float32
    a, b = (torch.rand(side, side, device=device, dtype=dtype) for _ in range(2))
    seconds = timed(lambda: a @ b, device, 5)
    return 2 * side**3 / seconds


def count_operations(
    encoder: TripletEncoder, arguments: argparse.Namespace, device: torch.device
) -> float:
    """Operations of a forward and a backward pass over one triplet; the latter costs twice."""
    batch = make_batch(2, arguments, device)
    with FlopCounterMode(display=False) as counter:
        encoder(batch)
    return 3 * counter.get_total_flops() / 2


def timed(work: Callable[[], object], device: torch.device, times: int) -> float:
    """Mean seconds, after one run that does not count."""
    work()
    if device.type == "cuda":
        torch.cuda.synchronize()
    start = time.perf_counter()
    for _ in range(times):
        work()
    if device.type == "cuda":
        torch.cuda.synchronize()
    return (time.perf_counter() - start) / times


def measure(
    name: str,
    size: int,
    chunk: int,
    encoder: TripletEncoder,
    arguments: argparse.Namespace,
    device: torch.device,
    least_seconds: float,
) -> str:
    temperature = Temperature().to(device)

    def step() -> None:
        encoder.zero_grad(set_to_none=True)
        pieces = batch.chunks(chunk)
        if len(pieces) == 1:
            contrastive_loss(encoder(batch), temperature()).backward()
        else:
            cached_backward(encoder, pieces, lambda v: contrastive_loss(v, temperature()))

    label = f"{name:<10} batch {size:>5} chunk {chunk or size:>5}"
    try:
        batch = make_batch(size, arguments, device)
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats()
        seconds = timed(step, device, arguments.steps)
    except torch.cuda.OutOfMemoryError:
        return f"{label}  does not fit"
    rate = size / seconds
    return (
        f"{label}  {rate:9.1f} triplets/s  peak {peak_memory(device):6.2f} GB  "
        f"MFU {rate * least_seconds:5.1%}"
    )


def peak_memory(device: torch.device) -> float:
    """Of this setting on a GPU; of the process so far on a CPU."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated() / 1e9
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6


def describe(device: torch.device) -> str:
    if device.type == "cuda":
        return torch.cuda.get_device_name()
    return f"{platform.machine()} CPU, {torch.get_num_threads()} threads"


if __name__ == "__main__":
    main()
