"""Full-size random checkpoints in the published container: convert, load, compare, time.

    python benchmarks/full_size.py --folder /tmp/full-size [--size base] [--size large]

Random weights of the published shapes take the place of the published ones, so no download is
needed. Each load is timed in a fresh process after its imports. The folder needs 4 GB for both.
"""

import argparse
import platform
import resource
import subprocess
import sys
import time
from pathlib import Path

sys.path.append(str(Path(__file__).parents[1] / "tests"))

LOAD = """
import sys, time
from pathlib import Path
import torch, open_clip
import lensctl.models.index_side
from lensctl.models.folder import open_folder
from lensctl.models.weights import load_module
folder = open_folder(Path(sys.argv[1]))
start = time.perf_counter()
module = load_module(folder.config, folder.file("model.safetensors"))
print(f"torch module, mapped: {time.perf_counter() - start:.2f} s")
start = time.perf_counter()
side = folder.index_side(device="cpu", precision=sys.argv[2])
print(f"index side, {sys.argv[2]}: {time.perf_counter() - start:.2f} s")
"""

QUERY = """
import sys, time
start = time.perf_counter()
from pathlib import Path
import numpy as np
from lensctl.models.folder import open_folder
import lensctl.models.query_side
print(f"query side, imports: {time.perf_counter() - start:.2f} s")
start = time.perf_counter()
folder = open_folder(Path(sys.argv[1]))
side = folder.query_side()
kept = np.random.default_rng(0).standard_normal((1, folder.info.embedding_dim), dtype=np.float32)
side.make_queries(kept, ["inside view of the same building"])
print(f"query side, library photo + instruction: {time.perf_counter() - start:.2f} s")
start = time.perf_counter()
size = folder.info.image_size
side.encode_images(np.zeros((1, 3, size, size), np.float32))
print(f"query side, outside photo besides: {time.perf_counter() - start:.2f} s")
assert "torch" not in sys.modules
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--size", action="append", choices=["base", "large"])
    arguments = parser.parse_args()
    arguments.folder.mkdir(parents=True, exist_ok=True)
    print(f"{platform.processor() or platform.machine()}, {time.strftime('%Y-%m-%d')}")
    for size in arguments.size or ["base", "large"]:
        measure(size, arguments.folder)


def measure(size: str, folder: Path) -> None:
    """Make, convert and load one model."""
    model = folder / f"magiclens-{size}"
    if not model.exists():
        _convert(size, folder, model)
    from lensctl.models.folder import open_folder

    print(f"{size}: {open_folder(model).info.parameters:,} parameters")
    for precision in ("fp32", "bf16"):
        _run(LOAD, str(model), precision)
    _run(QUERY, str(model))


def _convert(size: str, folder: Path, model: Path) -> None:
    import torch

    from lensctl.models.convert.official import read_official
    from lensctl.models.folder import save_model_folder
    from lensctl.models.weights import assign_weights
    from support.official_checkpoint import BASE, LARGE, random_arrays, write_checkpoint

    checkpoint = folder / f"magic_lens_clip_{size}.pkl"
    if not checkpoint.exists():
        write_checkpoint(checkpoint, random_arrays(BASE if size == "base" else LARGE))
    start = time.perf_counter()
    config, arrays = read_official(checkpoint)
    print(f"{size}: checkpoint read and checked in {time.perf_counter() - start:.1f} s")
    state = {name: torch.from_numpy(array) for name, array in arrays.items()}
    save_model_folder(
        assign_weights(config, state, checkpoint),
        config,
        model,
        name=model.name,
        licence="none: random weights",
        description="random weights of the published shapes",
    )
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(f"{size}: converted in {time.perf_counter() - start:.1f} s, peak {peak:.1f} GiB")


def _run(code: str, *arguments: str) -> None:
    command = [sys.executable, "-c", code, *arguments]
    print(subprocess.run(command, check=True, capture_output=True, text=True).stdout, end="")


if __name__ == "__main__":
    main()
