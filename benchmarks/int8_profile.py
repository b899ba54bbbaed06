"""Where an image tower in integers spends its time, by operator.

    python benchmarks/int8_profile.py FOLDER [--batch 8] [--runs 5]

FOLDER is a model folder with `image_int8.onnx`. onnxruntime's own profiler, one thread, as indexing
runs it; prints milliseconds a photo and the share of every operator that takes a hundredth or more.
"""

import argparse
import json
import tempfile
from collections import Counter
from pathlib import Path

import numpy as np
import onnxruntime as ort

from lensctl.models.folder import INT8_IMAGE, ModelFolder, open_folder
from lensctl.models.query_side import open_session, run_session, shared_options

LEAST_SHARE = 0.01


def profile(folder: ModelFolder, batch: int, runs: int, scratch: str) -> Counter[str]:
    """Microseconds by operator, all runs together; the first one warms up and counts."""
    options = shared_options()
    options.intra_op_num_threads = 1
    options.enable_profiling = True
    options.profile_file_prefix = f"{scratch}/profile"
    session: ort.InferenceSession = open_session(folder, INT8_IMAGE, options)
    size = folder.config.preprocessing.size
    pixels = np.random.default_rng(0).standard_normal((batch, 3, size, size), dtype=np.float32)
    for _ in range(runs):
        run_session(session, pixels=pixels)
    spent: Counter[str] = Counter()
    for event in json.loads(Path(session.end_profiling()).read_text()):
        if event.get("cat") == "Node" and event["name"].endswith("_kernel_time"):
            spent[event["args"]["op_name"]] += event["dur"]
    return spent


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--runs", type=int, default=5)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = open_folder(arguments.folder)
        spent = profile(folder, arguments.batch, arguments.runs, scratch)
    photos, whole = arguments.batch * arguments.runs, spent.total()
    print(f"{whole / photos / 1000:.1f} ms a photo")
    for operator, microseconds in spent.most_common():
        if microseconds >= LEAST_SHARE * whole:
            share = 100 * microseconds / whole
            print(f"{operator}: {microseconds / photos / 1000:.2f} ms, {share:.1f} %")


if __name__ == "__main__":
    main()
