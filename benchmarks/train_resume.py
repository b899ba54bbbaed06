"""Kill a training run at random moments and resume it; compare its curve with an undisturbed run.

    python benchmarks/train_resume.py [--kills 10] [--steps 60] [--seed N]

Two runs of the recipe `smoke`, shortened, on one CPU process each. The second is ended by SIGKILL
as many times as asked, each after a random number of further steps, and resumed with --resume. The
two logs must agree in every loss, norm, temperature, rate and batch, to the last bit.
"""

import argparse
import os
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from lensctl_training.log import read_log


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(10**6))
    arguments = parser.parse_args()
    rng = random.Random(arguments.seed)
    with tempfile.TemporaryDirectory() as folder:
        whole, killed = Path(folder, "whole"), Path(folder, "killed")
        if start(whole, arguments.steps).wait() != 0:
            sys.exit("the undisturbed run failed")
        moments = kill_often(killed, arguments, rng)
        last = start(killed, arguments.steps).wait()
        same = curve(whole) == curve(killed)
        print(f"seed {arguments.seed}; killed at steps {moments}; exit status at the end {last}")
        print(f"{len(curve(killed))} records of steps and validations; equal: {same}")
        sys.exit(0 if same and last == 0 else 1)


def start(out: Path, steps: int) -> "subprocess.Popen[bytes]":
    settings = [
        f"optimiser.steps={steps}",
        "optimiser.warmup=10",
        "batch.size=32",
        "data.scenes=800",
        "data.held_out_scenes=20",
        "validation.every=20",
        "saving.every=4",
    ]
    command = [sys.executable, "-m", "lensctl", "train", "smoke", "--out", str(out), "--resume"]
    command += [part for setting in settings for part in ("--set", setting)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )


def kill_often(out: Path, arguments: argparse.Namespace, rng: random.Random) -> list[int]:
    """SIGKILL the run at random steps; returns the steps that were logged at those moments."""
    moments = []
    share = arguments.steps // (arguments.kills + 1)
    for number in range(arguments.kills):
        run = start(out, arguments.steps)
        wait_for(out, number * share + rng.randint(1, share), run)
        time.sleep(rng.random() * 0.3)
        run.kill()
        run.wait()
        moments.append(last_step(out))
    return moments


def wait_for(out: Path, step: int, run: "subprocess.Popen[bytes]") -> None:
    while last_step(out) < step and run.poll() is None:
        time.sleep(0.02)


def last_step(out: Path) -> int:
    records = read_log(out / "log.jsonl")
    return records[-1]["step"] if records else 0


def curve(out: Path) -> list[dict]:
    """All records without the clock."""
    records = read_log(out / "log.jsonl")
    return [{k: v for k, v in record.items() if k != "seconds"} for record in records]


if __name__ == "__main__":
    main()
