"""The fusion against its baselines and ablations on the synthetic scenes, from scratch.

    python benchmarks/train_scenes.py --out RUNS [--seeds 0 1 2] [--methods fusion sum ...]

Every (method, seed) is one run of the recipe `scenes`; all see the same triplets for the same
number of steps, the baselines until validation gains nothing more. A baseline is tried in several
settings on the first seed, and the one that is best on the validation split is used for all seeds.
What is printed is measured on the test split, whose combinations of shape and colour neither
training nor validation shows; its gallery holds every query image, and for every query eight
distractors. Runs that are finished are not made again, so the script can be stopped at any time.
"""

import argparse
import json
import platform
import time
from datetime import date
from pathlib import Path

import numpy as np
import torch

from lensctl_training.checkpoint import find_checkpoints, load_checkpoint
from lensctl_training.model import TripletEncoder, build_model
from lensctl_training.recipe import load_recipe, recipe_from_dict
from lensctl_training.scenes.edits import ABSOLUTE, EXCHANGES
from lensctl_training.scenes.examples import render_held_out
from lensctl_training.train import train
from lensctl_training.validation import validate

NO_NEGATIVES = "loss.query_negatives=false"
SUM = "model.fusion=sum"
FROM_IMAGE = "model.query_from=image"
FROM_TEXT = "model.query_from=text"
UNTIL_STALE = "validation.patience=3"
OFTEN = "validation.every=250"
ONE_EDIT = [
    *("data.scenes_per_group=1", "data.scenes=80000", "optimiser.steps=1000"),
    *("optimiser.rate=4e-4", "optimiser.backbone_rate=4e-4"),
]
"""Without another edit of a scene in its batch, a hard negative of its own; short, so faster."""
SETTINGS: dict[str, list[list[str]]] = {
    "fusion": [[]],
    "image encoder alone": [[SUM, FROM_IMAGE, NO_NEGATIVES, UNTIL_STALE, OFTEN]],
    "text encoder alone": [
        [SUM, FROM_TEXT, UNTIL_STALE, OFTEN],
        [SUM, FROM_TEXT, NO_NEGATIVES, UNTIL_STALE, OFTEN],
    ],
    "vector sum": [[SUM, UNTIL_STALE], [SUM, NO_NEGATIVES, UNTIL_STALE]],
    "without query negatives": [[NO_NEGATIVES]],
    "without instruction": [[FROM_IMAGE, NO_NEGATIVES, UNTIL_STALE, OFTEN]],
    "one edit a scene": [ONE_EDIT],
    "one edit a scene without query negatives": [[*ONE_EDIT, NO_NEGATIVES]],
}
"""Method -> the settings that are tried; the ablations have the fusion's own."""
QUERIES = 250


def main() -> None:
    arguments = parse_arguments()
    torch.set_num_threads(arguments.threads)
    rows = []
    for method in arguments.methods:
        best = choose_setting(method, arguments)
        scores = [score(run(method, best, seed, arguments), "test") for seed in arguments.seeds]
        rows.append((method, scores))
        print_row(method, SETTINGS[method][best], scores)
    print_kinds(rows)
    print(f"{platform.machine()}, {arguments.threads} threads, {date.today()}")


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, help="folder of the runs")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--methods", nargs="+", default=list(SETTINGS), choices=list(SETTINGS))
    parser.add_argument("--threads", type=int, default=2, help="CPU threads of a run")
    parser.add_argument("--set", nargs="+", default=[], help="further settings of every run")
    parser.add_argument("--no-search", action="store_true", help="use each first setting")
    return parser.parse_args()


def choose_setting(method: str, arguments: argparse.Namespace) -> int:
    """The index of the setting that is best on the validation split, by the first seed."""
    settings = SETTINGS[method]
    if len(settings) == 1 or arguments.no_search:
        return 0
    first = arguments.seeds[0]
    found = [
        score(run(method, number, first, arguments), "val")["recall@1"]
        for number in range(len(settings))
    ]
    return int(np.argmax(found))


def run(method: str, setting: int, seed: int, arguments: argparse.Namespace) -> Path:
    """The folder of a finished run, made if it is not there."""
    out = arguments.out / f"{method.replace(' ', '-')}-{setting}-seed{seed}"
    done = out / "seconds.json"
    if not done.is_file():
        overrides = [*SETTINGS[method][setting], f"seed={seed}", *arguments.set]
        recipe = load_recipe("scenes", [f"machine.threads={arguments.threads}", *overrides])
        start, cpu = time.perf_counter(), time.process_time()
        if (stopped_by := train(recipe, out, resume=True).stopped_by) != 0:
            raise SystemExit(128 + stopped_by)
        seconds = {"wall": time.perf_counter() - start, "cpu": time.process_time() - cpu}
        done.write_text(json.dumps(seconds))
    return out


def score(out: Path, split: str) -> dict[str, object]:
    """Scores of the run's best checkpoint on one split, kept beside it."""
    kept = out / f"{split}.json"
    if not kept.is_file():
        recipe = recipe_from_dict(json.loads((out / "recipe.json").read_text()))
        scores = load_checkpoint(last_checkpoint(out))["progress"]["scores"]
        best = max(scores, key=lambda step: (scores[step], -step))
        encoder = TripletEncoder(build_model(recipe.model), recipe.model.query_from)
        encoder.load_state_dict(
            load_checkpoint(find_checkpoints(out / "checkpoints")[best])["model"]
        )
        found = validate(encoder, render_held_out(split, QUERIES, recipe.seed))
        seconds = json.loads((out / "seconds.json").read_text())
        kept.write_text(
            json.dumps(found.metrics | {"by_kind": found.by_kind, "seconds": seconds, "step": best})
        )
    return json.loads(kept.read_text())


def last_checkpoint(out: Path) -> Path:
    return list(find_checkpoints(out / "checkpoints").values())[-1]


def print_row(method: str, settings: list[str], scores: list[dict]) -> None:
    recall, fifth, first = (
        [s[name] for s in scores] for name in ("recall@1", "recall@5", "reference_first")
    )
    each = " ".join(f"{value:.3f}" for value in recall)
    minutes = np.mean([s["seconds"]["wall"] for s in scores]) / 60
    cpu = np.mean([s["seconds"]["cpu"] for s in scores]) / 60
    print(
        f"{method}: R@1 {np.mean(recall):.3f} ({each})  R@5 {np.mean(fifth):.3f}  "
        f"query image first {np.mean(first):.3f}  gallery {scores[0]['candidates']:.0f}  "
        f"{minutes:.1f} min, {cpu:.1f} CPU min  {' '.join(settings)}",
        flush=True,
    )


def print_kinds(rows: list[tuple[str, list[dict]]]) -> None:
    """R@1 by kind of edit, mean over seeds."""
    kinds = sorted({kind for _, scores in rows for s in scores for kind in s["by_kind"]})
    print("kind".ljust(28), *(method.rjust(24) for method, _ in rows))
    for kind in kinds:
        means = [np.mean([s["by_kind"].get(kind, np.nan) for s in scores]) for _, scores in rows]
        sort = "absolute" if kind in ABSOLUTE else "exchange" if kind in EXCHANGES else "relational"
        print(f"{kind} ({sort})".ljust(28), *(f"{value:.2f}".rjust(24) for value in means))


if __name__ == "__main__":
    main()
