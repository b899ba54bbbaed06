"""The training loop: batch -> vectors -> loss -> gradients -> step, and what happens in between."""

import math
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR
from tqdm import tqdm

from lensctl.errors import LensctlError, TrainingError, UsageError
from lensctl_training import checkpoint
from lensctl_training.data.batches import Batch, Fetched
from lensctl_training.data.held_out import HeldOut
from lensctl_training.data.source import Source
from lensctl_training.data.triplet import Problems
from lensctl_training.distributed import Processes, StopRequest, Wrapped
from lensctl_training.gradcache import cached_backward
from lensctl_training.log import RunLog
from lensctl_training.loss import (
    SamePictures,
    Temperature,
    Vectors,
    contrastive_loss,
    same_pictures,
)
from lensctl_training.model import TripletEncoder
from lensctl_training.optimiser import clip, resume_schedule
from lensctl_training.recipe import Recipe, ValidationRecipe
from lensctl_training.validation import METRICS, Validated, validate

if TYPE_CHECKING:
    from lensctl_training.benchmarks.benchmark import Benchmark


@dataclass
class Progress:
    """What the loop remembers from step to step; plain values, kept in every checkpoint.

    Args:
        step: steps done.
        scores: step -> the validation metric at it.
        bad_losses: steps in a row whose loss was not finite.
        skipped: all steps whose loss was not finite.
        metric: the name of what `scores` are; larger is better.
        cut_texts: instructions shown so far, in all processes, whose end was not read.
    """

    step: int = 0
    scores: dict[int, float] = field(default_factory=dict)
    bad_losses: int = 0
    skipped: int = 0
    metric: str = ""
    cut_texts: int = 0

    def best_steps(self, number: int) -> list[int]:
        """The steps with the best scores, best first; of equals the earlier."""
        return sorted(self.scores, key=lambda step: (-self.scores[step], step))[:number]

    def is_stale(self, patience: int) -> bool:
        """Whether the last `patience` validations brought nothing better."""
        if not patience or not self.scores:
            return False
        after_best = [step for step in self.scores if step > self.best_steps(1)[0]]
        return len(after_best) >= patience


@dataclass
class Trainer:
    """All pieces of a run, and the loop over its steps."""

    recipe: Recipe
    out: Path
    group: Processes
    encoder: TripletEncoder
    wrapped: Wrapped
    temperature: Temperature
    optimiser: Optimizer
    schedule: LambdaLR
    source: Source
    held_out: HeldOut | None
    problems: Problems
    progress: Progress = field(default_factory=Progress)
    validated: Validated | None = None
    benchmarks: "list[Benchmark]" = field(default_factory=list)

    @property
    def checkpoints(self) -> Path:
        """The folder of this run's checkpoints."""
        return self.out / "checkpoints"

    @property
    def sharded(self) -> bool:
        """Whether every process holds a part of the weights only."""
        return self.recipe.machine.sharding == "fsdp" and self.group.world > 1

    @property
    def validates(self) -> bool:
        """Whether there is anything to try the model on."""
        wanted = self.recipe.validation
        return self.held_out is not None or bool(wanted.cirr or wanted.circo)

    @property
    def trained(self) -> nn.Module:
        """Everything that the optimiser moves, under one roof."""
        return nn.ModuleDict({"encoder": self.encoder, "temperature": self.temperature})

    def run(self, data_state: dict[str, Any] | None) -> int:
        """Train to the end, to early stopping, or until a signal asks to stop.

        Returns:
            The number of the signal, or 0.

        Raises:
            TrainingError: too many losses in a row were not finite.
            DataError: more examples were bad than the recipe allows; before the first step also
                where a benchmark to validate on is not whole.
            UsageError: before the first step, where validation does not give the metric.
        """
        self._open_validation()
        self._count_bad_examples(self.problems.listed())
        log = RunLog(self.out, self.progress.step) if self.group.first else None
        batches = self.source.start(data_state)
        with StopRequest() as stop, self._bar() as bar:
            try:
                return self._steps(batches, stop, bar, log)
            finally:
                if log is not None:
                    log.close()

    def _steps(
        self, batches: Iterator[Fetched], stop: StopRequest, bar: "tqdm[Any]", log: RunLog | None
    ) -> int:
        recipe, progress = self.recipe, self.progress
        if progress.step and self._awaits_validation():
            # The run was cut short by its validation, or goes on with another metric.
            self._validate(log)
            self.save()
        while not self._is_done():
            record = self._step(next(batches))
            if log is not None:
                log.write(progress.step, "train", record)
            bar.update()
            bar.set_postfix(loss=record["loss"], tau=record["tau"], refresh=False)
            validating = self._awaits_validation()
            if validating:
                # A validation that fails must not take the steps since the last checkpoint along.
                self.save()
                self._validate(log)
            asked = self.group.any(stop.signal != 0)
            if asked or validating or self._is_done() or self._is_due(recipe.saving.every):
                self.save()
            if asked:
                return max(self.group.gather(stop.signal))
        return 0

    def _is_due(self, every: int) -> bool:
        return self.progress.step % every == 0 or self.progress.step == self.recipe.optimiser.steps

    def _awaits_validation(self) -> bool:
        """Whether this step is one to validate at, and has not been."""
        due = self.validates and self._is_due(self.recipe.validation.every)
        return due and self.progress.step not in self.progress.scores

    def _is_done(self) -> bool:
        """All steps made, or nothing gained for too long."""
        return self.progress.step >= self.recipe.optimiser.steps or self.progress.is_stale(
            self.recipe.validation.patience
        )

    def _bar(self) -> "tqdm[Any]":
        return tqdm(
            total=self.recipe.optimiser.steps,
            initial=self.progress.step,
            unit="step",
            desc=self.recipe.name,
            # None: shown on a terminal only; a log file of a cluster stays readable.
            disable=None if self.group.first else True,
        )

    def _step(self, fetched: Fetched) -> dict[str, Any]:
        """One step of the optimiser, or none where the loss is not finite."""
        start = time.perf_counter()
        self._count_bad_examples(fetched.problems)
        assert fetched.batch is not None, "sources raise where there is no batch"
        self.optimiser.zero_grad(set_to_none=True)
        batch = fetched.batch.to(self.group.device)
        same = None if batch.pictures is None else same_pictures(batch.pictures)
        own_loss = self._backward(batch, same)
        repeated = own_loss.new_tensor(0.0) if same is None else same.rows.to(own_loss).mean()
        # One exchange for all figures of the step.
        figures = torch.stack([own_loss, own_loss.new_tensor(fetched.cut), repeated])
        loss, cut, repeated_targets = self.group.mean(figures).tolist()
        self.group.average_gradients(self.temperature)
        norm = clip(self._parameters(), self.recipe.optimiser.clip_norm)
        finite = math.isfinite(loss) and math.isfinite(norm)
        rate = self.schedule.get_last_lr()[-1]
        if finite:
            self.optimiser.step()
            self.temperature.keep_in_bounds()
        self.schedule.step()
        self.progress.step += 1
        self._count_bad_loss(finite)
        self._count_cut_texts(round(cut * self.group.world))
        return {
            "loss": loss if finite else None,
            "norm": norm if finite else None,
            "tau": round(self.temperature.tau, 6),
            "rate": rate,
            "batch": fetched.fingerprint,
            "repeated_targets": None if same is None else round(repeated_targets, 6),
            "bad_examples": self.problems.total,
            "bad_losses": self.progress.skipped,
            "cut_texts": self.progress.cut_texts,
            "seconds": round(time.perf_counter() - start, 4),
        }

    def _backward(self, batch: Batch, same: SamePictures | None) -> Tensor:
        """Gradients of the whole batch, in chunks where the recipe asks for it."""
        chunks = batch.chunks(self.recipe.batch.chunk)
        if len(chunks) == 1:
            loss = self._loss(self.wrapped.call(batch), same)
            loss.backward()
            return loss.detach()
        # Under FSDP the wrapped module has to be called in both passes: it gathers the weights.
        plain = None if self.sharded else self.encoder
        return cached_backward(
            self.wrapped.call,
            chunks,
            lambda vectors: self._loss(vectors, same),
            without_sync=self.wrapped.without_sync,
            encode_without_gradient=plain,
        )

    def _loss(self, vectors: Vectors, same: SamePictures | None) -> Tensor:
        return contrastive_loss(vectors, self.temperature(), self.recipe.loss.options, same)

    def _parameters(self) -> list[nn.Parameter]:
        return [p for group in self.optimiser.param_groups for p in group["params"]]

    def _count_bad_examples(self, met: list[tuple[str, str]]) -> None:
        """What any process has met, in every process: all stop at the limit, and go on from it."""
        if self.group.any(bool(met)):
            for reason, where in chain.from_iterable(self.group.gather(met)):
                self.problems.add(reason, where)

    def _count_cut_texts(self, met: int) -> None:
        """Those of a batch; said when the first are met."""
        if met and not self.progress.cut_texts and self.group.first:
            said = (
                f"step {self.progress.step}: {met} instructions are cut, as they are longer than "
            )
            said += f"the {self.encoder.model.context_length} tokens that the model reads; "
            tqdm.write(said + "cut_texts in log.jsonl counts them", file=sys.stderr)
        self.progress.cut_texts += met

    def _count_bad_loss(self, finite: bool) -> None:
        progress = self.progress
        progress.bad_losses = 0 if finite else progress.bad_losses + 1
        progress.skipped += not finite
        if progress.bad_losses > self.recipe.max_bad_losses:
            raise TrainingError(
                f"the loss was not finite in {progress.bad_losses} steps in a row",
                why=f"the last of them was step {progress.step}; none of them changed the weights",
                next_step="lower optimiser.rate, use fp32, and go on from the last checkpoint "
                "with --resume",
            )

    def _open_validation(self) -> None:
        """Read the benchmarks and check the metric, before any step is made that could be lost.

        Only the processes that validate need the benchmarks' folders; all hear of a failure.
        """
        wanted = self.recipe.validation
        refusal: LensctlError | None = None
        if self.group.first or self.sharded:
            try:
                self._read_benchmarks(wanted)
            except LensctlError as error:
                refusal = error
        self.group.refuse_together(refusal)
        self.progress.metric = wanted.metric
        asks = wanted.patience or wanted.metric != ValidationRecipe().metric
        if asks and not self.validates and self.group.first:
            said = "validation.patience and validation.metric do nothing: there is nothing to "
            said += "validate on; set data.validation, validation.cirr or validation.circo"
            tqdm.write(said, file=sys.stderr)

    def _read_benchmarks(self, wanted: ValidationRecipe) -> None:
        """Open what the recipe names. Raises UsageError where that does not give the metric."""
        allowed = list(METRICS) if self.held_out is not None else []
        if wanted.cirr or wanted.circo:
            from lensctl_training.benchmark_validation import cost, measures, open_benchmarks

            self.benchmarks = open_benchmarks(wanted)
            if self.group.first:
                tqdm.write(cost(self.benchmarks, wanted.every), file=sys.stderr)
            allowed += measures(self.benchmarks)
        if allowed and wanted.metric not in allowed:
            raise UsageError(
                f"validation.metric {wanted.metric!r} cannot choose a checkpoint",
                why=f"of what this run validates on, {', '.join(allowed)} can: larger is better",
                next_step="set validation.metric to one of these",
            )

    def _validate(self, log: RunLog | None) -> None:
        """Try the model; every process learns the score, as all decide on early stopping."""
        metrics: dict[str, float] = {}
        by_kind: dict[str, float] = {}
        if self.group.first or self.sharded:
            if self.held_out is not None:
                self.validated = validate(self.encoder, self.held_out)
                metrics, by_kind = self.validated.metrics, self.validated.by_kind
            metrics = metrics | self._try_benchmarks()
        metrics = self.group.gather(metrics)[0]
        self.progress.scores[self.progress.step] = metrics[self.recipe.validation.metric]
        if log is not None:
            log.write(self.progress.step, "validation", metrics | {"by_kind": by_kind})

    def _try_benchmarks(self) -> dict[str, float]:
        """CIRR and CIRCO validation, where the recipe names their folders."""
        if not self.benchmarks:
            return {}
        from lensctl_training.benchmark_validation import validate_benchmarks

        return validate_benchmarks(self.encoder, self.benchmarks, self.recipe.data.workers)

    def save(self) -> None:
        """A checkpoint of this step; those that are neither last nor among the best go."""
        sharded = self.sharded
        own = {"random": checkpoint.random_state(), "data": self.source.state()}
        everyone = self.group.gather(own)
        state = {
            "model": checkpoint.model_state(self.encoder, sharded=sharded),
            "optimiser": checkpoint.optimiser_state(self.trained, self.optimiser, sharded=sharded),
            "temperature": self.temperature.state_dict(),
            "schedule": self.schedule.state_dict(),
            "progress": vars(self.progress),
            "processes": everyone,
            "problems": self.problems.listed(),
            "recipe": self.recipe.to_dict(),
        }
        refused: LensctlError | None = None
        if self.group.first:
            path = checkpoint.checkpoint_path(self.checkpoints, self.progress.step)
            best = self.progress.best_steps(self.recipe.saving.keep_best)
            try:
                checkpoint.save_checkpoint(path, state)
                checkpoint.prune(self.checkpoints, [*best, self.progress.step])
            except LensctlError as error:
                refused = error
        self.group.refuse_together(refused)

    def restore(self, state: dict[str, Any]) -> dict[str, Any] | None:
        """Take up a checkpoint; returns the data position of this process.

        A run that goes on with another number of processes has no position for a stream of
        shards; a map-style set needs only the step, which all positions hold.
        """
        checkpoint.load_model_state(self.encoder, state["model"], sharded=self.sharded)
        checkpoint.load_optimiser_state(
            self.trained, self.optimiser, state["optimiser"], sharded=self.sharded
        )
        self.temperature.load_state_dict(state["temperature"])
        self.progress = Progress(**state["progress"])
        resume_schedule(self.schedule, state["schedule"], self.recipe.optimiser)
        # Checkpoints did not always say what their scores are of.
        before = state["recipe"]
        metric = self.progress.metric or before["validation"]["metric"]
        other_triplets = before["data"]["max_validation"] != self.recipe.data.max_validation
        if metric != self.recipe.validation.metric or other_triplets:
            # Scores by two metrics, or of other triplets, cannot be compared: forget the old.
            self.progress.scores.clear()
        for reason, where in state["problems"]:
            self.problems.add(reason, where)
        everyone = state["processes"]
        own = everyone[self.group.rank] if self.group.rank < len(everyone) else everyone[0]
        checkpoint.restore_random_state(own["random"])
        if len(everyone) != self.group.world and "positions" in own["data"]:
            raise TrainingError(
                f"the checkpoint is of {len(everyone)} processes, this run has {self.group.world}",
                why="the position in a stream of shards is kept for every process",
                next_step=f"resume with {len(everyone)} processes",
            )
        data: dict[str, Any] = own["data"]
        return data
