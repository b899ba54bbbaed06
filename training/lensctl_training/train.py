"""One training run from a recipe: set up, train, report, export."""

import contextlib
import hashlib
import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from lensctl.errors import CheckpointError, DataError, LensctlError, LibraryBusyError, UsageError
from lensctl.lock import held_alone
from lensctl.whole import write_whole
from lensctl_training import checkpoint
from lensctl_training.data.batches import Batch, Example, collate
from lensctl_training.data.shards import find_shards
from lensctl_training.data.source import is_jsonl
from lensctl_training.data.triplet import Problems
from lensctl_training.datasets import open_held_out, open_source, require_one_set
from lensctl_training.distributed import Processes, processes, wrap
from lensctl_training.loop import Progress, Trainer
from lensctl_training.loss import Temperature
from lensctl_training.model import (
    BACKBONE,
    TripletEncoder,
    build_model,
    export_model,
    freeze_backbone,
    freeze_unreached,
)
from lensctl_training.optimiser import make_optimiser, make_schedule
from lensctl_training.recipe import Recipe, recipe_from_dict
from lensctl_training.report import write_report
from lensctl_training.validation import validate

_MAY_CHANGE = {
    "about",
    "licence",
    "machine",
    "validation",
    "saving",
    "max_bad_losses",
    "data.max_bad",
    "data.max_validation",
    "batch.chunk",
    "batch.checkpoint_activations",
    "optimiser.rate",
    "optimiser.backbone_rate",
}
LOCK, DATA_FACTS = "run.lock", "data.json"
_NAMED = 3
"""Files that a refusal names."""


@dataclass(frozen=True)
class Outcome:
    """How a run ended.

    Args:
        stopped_by: the signal that ended it early, or 0.
        step: steps done.
        metrics: of the exported checkpoint, or of none.
        model: the exported model's folder; None where the run was stopped.
        report: the page with curves and examples; None likewise.
    """

    stopped_by: int
    step: int
    metrics: dict[str, float]
    model: Path | None = None
    report: Path | None = None


def train(recipe: Recipe, out: Path, *, resume: bool = False) -> Outcome:
    """Train as the recipe says, in this process of however many there are.

    `out` receives recipe.json, data.json, log.jsonl, checkpoints/, and in the end model/ and
    report.html. run.lock in it is held while the run lasts.

    Args:
        recipe: whole; see lensctl_training.recipe.
        out: made where it is missing.
        resume: go on from the last checkpoint in `out`; without one, start.

    Raises:
        UsageError: `out` holds another run, the data is not what it was, or the recipe cannot be
            followed.
        LibraryBusyError: another run is writing to `out`.
        StorageError: `out` cannot be written.
        TrainingError, DataError: see Trainer.run.
    """
    if recipe.machine.threads:
        torch.set_num_threads(recipe.machine.threads)
    with processes(recipe.machine.device) as group:
        require_one_set(recipe, group.world)
        with _held(out, group):
            states = _take_place(recipe, out, resume=resume, group=group)
            trainer = _set_up(recipe, out, group)
            data_state = trainer.restore(states) if states else None
            signal = trainer.run(data_state)
            if signal:
                return Outcome(signal, trainer.progress.step, {})
            return _finish(trainer)


@contextlib.contextmanager
def _held(out: Path, group: Processes) -> Iterator[None]:
    """Keep other runs out of the folder: they would delete each other's checkpoints.

    The first process holds the lock, and the system frees it however that process ends.
    """
    busy = LibraryBusyError(
        f"another run is training into {out}",
        why="two runs in one folder would delete each other's checkpoints",
        next_step="wait for it to end, or choose another --out",
    )
    refused: LensctlError | None = None
    with contextlib.ExitStack() as held:
        if group.first:
            try:
                held.enter_context(held_alone(out / LOCK, busy, elsewhere="choose another --out"))
            except LensctlError as error:
                refused = error
        group.refuse_together(refused)
        yield


def _take_place(
    recipe: Recipe, out: Path, *, resume: bool, group: Processes
) -> dict[str, Any] | None:
    """Refuse to mix runs; the last readable checkpoint to go on from, if there is one."""
    state: dict[str, Any] | None = None
    refused: LensctlError | None = None
    try:
        found = checkpoint.find_checkpoints(out / "checkpoints")
        if found and not resume:
            raise UsageError(
                f"{out} already holds a run",
                why=f"its last checkpoint is of step {max(found)}",
                next_step="add --resume to go on, or choose another --out",
            )
        state = checkpoint.load_checkpoint(found[max(found)]) if found else None
        if group.first:
            facts = _data_facts(recipe)
            if state is not None:
                proven = _refuse_other_data(facts, out / DATA_FACTS)
                _refuse_other_recipe(recipe, _saved_recipe(state["recipe"]), proven)
            _write_json(out / DATA_FACTS, facts)
            _write_json(out / "recipe.json", recipe.to_dict())
    except LensctlError as error:
        refused = error
    group.refuse_together(refused)
    _refuse_other_places(group.gather(state["progress"]["step"] if state else 0), out)
    return state


def _saved_recipe(values: dict[str, Any]) -> Recipe:
    """The recipe of a checkpoint; before Adafactor's rates could be absolute they were relative."""
    optimiser = {"scale_by_parameter": values["optimiser"]["name"] == "adafactor"}
    return recipe_from_dict(values | {"optimiser": optimiser | values["optimiser"]})


def _refuse_other_places(steps: list[int], out: Path) -> None:
    """Processes that go on from different checkpoints would train different models."""
    if len(set(steps)) > 1:
        raise UsageError(
            f"the processes do not find the same checkpoint in {out}",
            why="; ".join(
                f"process {rank} finds {f'step {step}' if step else 'none'}"
                for rank, step in enumerate(steps)
            ),
            next_step="give an --out that all machines share, or copy its checkpoints to each",
        )


def _write_json(path: Path, values: dict[str, Any]) -> None:
    text = json.dumps(values, indent=1, ensure_ascii=False)
    write_whole(path, text + "\n")


def _data_facts(recipe: Recipe) -> dict[str, Any]:
    """What tells data sets apart without reading them whole, for `data.json`.

    Names and sizes of shards, or the contents of a JSONL file; not the images that it names.

    Raises:
        DataError: there is no such data.
    """
    if recipe.data.scenes:
        return {}
    named = {"train": recipe.data.train, "validation": recipe.data.validation}
    return {name: _facts(Path(place)) for name, place in named.items() if place}


def _facts(data: Path) -> dict[str, Any]:
    try:
        if is_jsonl(data):
            with data.open("rb") as file:
                return {data.name: hashlib.file_digest(file, "sha256").hexdigest()}
        return {shard.name: shard.stat().st_size for shard in find_shards(data)}
    except OSError as error:
        raise DataError(f"{data} cannot be read", why=error.strerror or str(error)) from error


def _refuse_other_data(now: dict[str, Any], path: Path) -> set[str]:
    """Compare with what the run began with; a run of an earlier version does not say.

    Returns:
        The settings whose data are known to be the same, wherever they lie now.
    """
    try:
        then = json.loads(path.read_text(encoding="utf-8"))
        changed = {name: _differences(then[name], now[name]) for name in now if name in then}
    except (FileNotFoundError, ValueError, AttributeError, TypeError):
        return set()
    for name, lines in changed.items():
        if lines:
            more = f" and {len(lines) - _NAMED} more" if len(lines) > _NAMED else ""
            raise UsageError(
                f"the checkpoint was made with other data: data.{name} changed",
                why="; ".join(lines[:_NAMED]) + more,
                next_step="bring back the data as it was, or choose another --out",
            )
    return {f"data.{name}" for name in changed}


def _differences(then: dict[str, Any], now: dict[str, Any]) -> list[str]:
    lines = [f"{name} is gone" for name in then.keys() - now.keys()]
    lines += [f"{name} is new" for name in now.keys() - then.keys()]
    for name in then.keys() & now.keys():
        if then[name] != now[name]:
            sizes = f", {then[name]} bytes then and {now[name]} now"
            lines.append(f"{name} is another file" + (sizes if isinstance(now[name], int) else ""))
    return sorted(lines)


def _refuse_other_recipe(recipe: Recipe, before: Recipe, proven: set[str]) -> None:
    """`proven` are settings that may be written otherwise, as their data are the same."""
    may_change = _MAY_CHANGE | proven
    if recipe.optimiser.decay == "constant":
        # A rate that falls to zero at the last step has been another one since the first.
        may_change |= {"optimiser.steps"}
    if recipe.data.scenes or (recipe.data.train and is_jsonl(Path(recipe.data.train))):
        # Only in shards is the position one for every worker.
        may_change |= {"data.workers"}
    now, then = _settings(recipe), _settings(before)
    changed = [
        name
        for name in now
        if now[name] != then[name] and not may_change & {name, name.partition(".")[0]}
    ]
    if changed:
        raise UsageError(
            f"the checkpoint was made with another recipe: {', '.join(changed)} changed",
            why="; ".join(f"{name}: {then[name]!r} then, {now[name]!r} now" for name in changed),
            next_step="resume with the recipe in recipe.json, or choose another --out",
        )


def _settings(recipe: Recipe) -> dict[str, Any]:
    """`name` or `table.name` -> value."""
    flat: dict[str, Any] = {}
    for name, value in recipe.to_dict().items():
        inner = value.items() if isinstance(value, dict) else ()
        flat |= {f"{name}.{setting}": one for setting, one in inner} or {name: value}
    return flat


def _set_up(recipe: Recipe, out: Path, group: Processes) -> Trainer:
    """Build every piece; random weights are the same in all processes."""
    torch.manual_seed(recipe.seed)
    encoder = TripletEncoder(
        build_model(recipe.model),
        recipe.model.query_from,
        bf16=recipe.machine.precision == "bf16",
        query_negatives=recipe.loss.query_negatives,
    )
    temperature = Temperature(
        recipe.loss.temperature,
        recipe.loss.lowest_temperature,
        recipe.loss.highest_temperature,
        learned=recipe.loss.learn_temperature,
    )
    if recipe.model.freeze_backbone:
        freeze_backbone(encoder)
    freeze_unreached(encoder, _probe(encoder, embedded=recipe.model.freeze_backbone))
    encoder.to(group.device).train()
    temperature.to(group.device)
    if recipe.batch.checkpoint_activations:
        encoder.model.set_grad_checkpointing(True)
    problems = Problems(limit=recipe.data.max_bad)
    source = open_source(recipe, encoder, group, out, problems)
    held_out = open_held_out(recipe, encoder, problems)
    wrapped = wrap(encoder, group, recipe.machine.sharding)
    if recipe.machine.compile:
        encoder.model.clip.visual.compile()
    # After sharding, whose parameters are others; from here on each process draws for itself.
    optimiser = make_optimiser(encoder, temperature, recipe.optimiser, BACKBONE)
    torch.manual_seed(recipe.seed + 1 + group.rank)
    return Trainer(
        recipe=recipe,
        out=out,
        group=group,
        encoder=encoder,
        wrapped=wrapped,
        temperature=temperature,
        optimiser=optimiser,
        schedule=make_schedule(optimiser, recipe.optimiser),
        source=source,
        held_out=held_out,
        problems=problems,
    )


def _probe(encoder: TripletEncoder, *, embedded: bool) -> Batch:
    """One triplet of zeros with a word in it, to see which parameters are used."""
    model = encoder.model
    if embedded:
        nothing = torch.zeros(model.embedding_dim).numpy()
        return collate([Example(nothing, nothing, "", text=nothing)], model.context_length)
    side = model.config.preprocessing.size
    black = torch.zeros(3, side, side).numpy()
    return collate([Example(black, black, "word")], model.context_length)


def _finish(trainer: Trainer) -> Outcome:
    """Take the best checkpoint, write the report and the model folder."""
    progress, out, recipe = trainer.progress, trainer.out, trainer.recipe
    if not trainer.group.first:
        return Outcome(0, progress.step, {})
    best, state = _best_checkpoint(progress, trainer.checkpoints)
    # Built anew: the trainer's own may be sharded, or hold the weights of a later step.
    encoder = TripletEncoder(build_model(recipe.model), recipe.model.query_from)
    encoder.load_state_dict(state["model"])
    encoder.to(trainer.group.device).eval()
    metrics: dict[str, float] = {}
    if trainer.held_out is not None:
        trainer.validated = validate(encoder, trainer.held_out)
        metrics = trainer.validated.metrics
    report = write_report(trainer, best)
    model = export_model(encoder, out / "model", _model_facts(recipe, best, metrics))
    return Outcome(0, progress.step, metrics, model, report)


def _best_checkpoint(progress: Progress, folder: Path) -> tuple[int, dict[str, Any]]:
    """The step and contents of the best checkpoint that can be read, in the end of the last one.

    Raises:
        CheckpointError: none of them can be read.
    """
    found = checkpoint.find_checkpoints(folder)
    best = progress.best_steps(len(progress.scores))
    for step in best:
        with contextlib.suppress(CheckpointError):
            if step in found:
                state = checkpoint.load_checkpoint(found[step])
                break
    else:
        step = progress.step
        state = checkpoint.load_checkpoint(checkpoint.checkpoint_path(folder, step))
    if best and step != best[0]:
        said = (
            f"the checkpoint of step {best[0]}, the best, is lost; that of step {step} is exported"
        )
        tqdm.write(said, file=sys.stderr)
    return step, state


def _model_facts(recipe: Recipe, step: int, metrics: dict[str, float]) -> dict[str, Any]:
    scores = ", ".join(f"{k} {v:.3f}" for k, v in metrics.items() if k.startswith("recall"))
    return {
        "name": recipe.name,
        "licence": recipe.licence,
        "description": f"trained by lensctl, recipe {recipe.name}, step {step}",
        "source": f"lensctl train {recipe.name}, seed {recipe.seed}"
        + (f"; held-out {scores}" if scores else ""),
    }
