"""Throughput per core of the stages, and where the time goes.

    OMP_NUM_THREADS=1 python benchmarks/mine_throughput.py FOLDER --out scratch/ [--profile]

Runs each stage alone, in this process, over FOLDER, into an empty DIR. Prints for each stage the
CPU seconds (the machine may be busy with other things: wall time is shown, too), what it took in
and put out, and units per CPU second. With --profile it prints each stage's dearest functions by
their own time instead of figures: profiling slows Python code, not libraries.
"""

import argparse
import cProfile
import pstats
import time
from pathlib import Path

from lensctl_training.mining.config import MineConfig
from lensctl_training.mining.engine import InProcess
from lensctl_training.mining.funnel import Funnel
from lensctl_training.mining.pipeline import run_pipeline

STAGES = ("pages", "groups", "annotate", "pairs", "instruct", "write")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--profile", action="store_true")
    arguments = parser.parse_args()
    total = 0.0
    print("stage\tCPU s\twall s\tunit\tin\tout\tin per CPU s")
    for stage in STAGES:
        inputs = [arguments.folder] if stage == "pages" else []
        profile = cProfile.Profile()
        cpu, wall = time.process_time(), time.monotonic()
        if arguments.profile:
            profile.enable()
        funnel = run_pipeline(inputs, arguments.out, MineConfig(), InProcess(), stage)[stage]
        profile.disable()
        cpu, wall = time.process_time() - cpu, time.monotonic() - wall
        total += cpu
        _show(stage, funnel, cpu, wall)
        if arguments.profile:
            pstats.Stats(profile).sort_stats("tottime").print_stats(8)
    print(f"all\t{total:.1f}")


def _show(stage: str, funnel: Funnel, cpu: float, wall: float) -> None:
    for unit in funnel.entered:
        rate = funnel.entered[unit] / cpu
        print(
            f"{stage}\t{cpu:.1f}\t{wall:.1f}\t{unit}\t{funnel.entered[unit]}"
            f"\t{funnel.left[unit]}\t{rate:.1f}"
        )


if __name__ == "__main__":
    main()
