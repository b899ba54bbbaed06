"""Full-size random checkpoints in the published container: convert, load, compare, time.

    python benchmarks/full_size.py --folder FOLDER [--size base] [--size large]

Random weights of the published shapes take the place of the published ones, so no download is
needed. Each load is timed in a fresh process after its imports; where other work shares the cores
the CPU time is the one to read. The folder needs 5 GB for both.
"""

import argparse
import os
import platform
import resource
import subprocess
import sys
import time
from pathlib import Path

sys.path.append(str(Path(__file__).parents[1] / "tests"))

CLOCK = """
import sys, time
from contextlib import contextmanager
@contextmanager
def timed(what):
    wall, cpu = time.perf_counter(), time.process_time()
    yield
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    print(f"  {what}: {wall:.2f} s, of which {cpu:.2f} s CPU time")
"""

LOAD = """
from pathlib import Path
import torch, open_clip
import lensctl.models.index_side
from lensctl.models.folder import open_folder
from lensctl.models.weights import load_module
folder = open_folder(Path(sys.argv[1]))
with timed("torch module, mapped"):
    module = load_module(folder.config, folder.file("model.safetensors"))
with timed(f"index side, {sys.argv[2]}"):
    side = folder.index_side(device="cpu", precision=sys.argv[2])
"""

QUERY = """
with timed("query side: imports"):
    from pathlib import Path
    import numpy as np
    from lensctl.models.folder import open_folder
    import lensctl.models.query_side
with timed("query side: library photo and instruction"):
    folder = open_folder(Path(sys.argv[1]))
    side = folder.query_side()
    rng = np.random.default_rng(0)
    kept = rng.standard_normal((1, folder.info.embedding_dim), dtype=np.float32)
    side.make_queries(kept, ["inside view of the same building"])
with timed("query side: outside photo besides"):
    size = folder.info.image_size
    side.encode_images(np.zeros((1, 3, size, size), np.float32))
assert "torch" not in sys.modules
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--size", action="append", choices=["base", "large"])
    arguments = parser.parse_args()
    arguments.folder.mkdir(parents=True, exist_ok=True)
    print(f"{platform.machine()}, {os.cpu_count()} cores, {time.strftime('%Y-%m-%d')}")
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
    from lensctl.models.weights import assign_weights
    from lensctl.models.write import save_model_folder
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
    command = [sys.executable, "-c", CLOCK + code, *arguments]
    print(subprocess.run(command, check=True, capture_output=True, text=True).stdout, end="")


if __name__ == "__main__":
    main()
