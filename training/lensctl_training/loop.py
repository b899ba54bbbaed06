"""The training loop: batch -> vectors -> loss -> gradients -> step, and what happens in between."""

import math
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR
from tqdm import tqdm

from lensctl.errors import TrainingError
from lensctl_training import checkpoint
from lensctl_training.data.batches import Batch, Fetched
from lensctl_training.data.held_out import HeldOut
from lensctl_training.data.source import Source
from lensctl_training.data.triplet import Problems
from lensctl_training.distributed import Processes, StopRequest, Wrapped
from lensctl_training.gradcache import cached_backward
from lensctl_training.log import RunLog
from lensctl_training.loss import Temperature, Vectors, contrastive_loss
from lensctl_training.model import TripletEncoder
from lensctl_training.optimiser import clip
from lensctl_training.recipe import Recipe
from lensctl_training.validation import Validated, validate


@dataclass
class Progress:
    """What the loop remembers from step to step; plain values, kept in every checkpoint.

    Args:
        step: steps done.
        scores: step -> the validation metric at it.
        bad_losses: steps in a row whose loss was not finite.
        skipped: all steps whose loss was not finite.
    """

    step: int = 0
    scores: dict[int, float] = field(default_factory=dict)
    bad_losses: int = 0
    skipped: int = 0

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

    @property
    def checkpoints(self) -> Path:
        """The folder of this run's checkpoints."""
        return self.out / "checkpoints"

    @property
    def sharded(self) -> bool:
        """Whether every process holds a part of the weights only."""
        return self.recipe.machine.sharding == "fsdp" and self.group.world > 1

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
            DataError: more examples were bad than the recipe allows.
        """
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
        while not self._is_done():
            record = self._step(next(batches))
            if log is not None:
                log.write(progress.step, "train", record)
            bar.update()
            bar.set_postfix(loss=record["loss"], tau=record["tau"], refresh=False)
            is_best = False
            if self._is_due(recipe.validation.every) and self.held_out is not None:
                self._validate(log)
                is_best = progress.step in progress.best_steps(recipe.saving.keep_best)
            asked = self.group.any(stop.signal != 0)
            if asked or is_best or self._is_done() or self._is_due(recipe.saving.every):
                self.save()
            if asked:
                return max(self.group.gather(stop.signal))
        return 0

    def _is_due(self, every: int) -> bool:
        return self.progress.step % every == 0 or self.progress.step == self.recipe.optimiser.steps

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
        for reason, where in fetched.problems:
            self.problems.add(reason, where)
        assert fetched.batch is not None, "sources raise where there is no batch"
        self.optimiser.zero_grad(set_to_none=True)
        loss = self.group.mean(self._backward(fetched.batch.to(self.group.device))).item()
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
        return {
            "loss": loss if finite else None,
            "norm": norm if finite else None,
            "tau": round(self.temperature.tau, 6),
            "rate": rate,
            "batch": fetched.fingerprint,
            "bad_examples": self.problems.total,
            "bad_losses": self.progress.skipped,
            "seconds": round(time.perf_counter() - start, 4),
        }

    def _backward(self, batch: Batch) -> Tensor:
        """Gradients of the whole batch, in chunks where the recipe asks for it."""
        chunks = batch.chunks(self.recipe.batch.chunk)
        if len(chunks) == 1:
            loss = self._loss(self.wrapped.call(batch))
            loss.backward()
            return loss.detach()
        # Under FSDP the wrapped module has to be called in both passes: it gathers the weights.
        plain = None if self.sharded else self.encoder
        return cached_backward(
            self.wrapped.call,
            chunks,
            self._loss,
            without_sync=self.wrapped.without_sync,
            encode_without_gradient=plain,
        )

    def _loss(self, vectors: Vectors) -> Tensor:
        return contrastive_loss(vectors, self.temperature(), self.recipe.loss.options)

    def _parameters(self) -> list[nn.Parameter]:
        return [p for group in self.optimiser.param_groups for p in group["params"]]

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

    def _validate(self, log: RunLog | None) -> None:
        """Try the model; every process learns the score, as all decide on early stopping."""
        assert self.held_out is not None
        metrics: dict[str, float] = {}
        if self.group.first or self.sharded:
            self.validated = validate(self.encoder, self.held_out)
            metrics = self.validated.metrics | self._benchmarks()
        metrics = self.group.gather(metrics)[0]
        wanted = self.recipe.validation.metric
        if wanted not in metrics:
            raise TrainingError(
                f"there is no metric {wanted!r}",
                why=f"validation gives {', '.join(metrics)}",
                next_step="set validation.metric to one of these",
            )
        self.progress.scores[self.progress.step] = metrics[wanted]
        if log is not None and self.validated is not None:
            log.write(
                self.progress.step, "validation", metrics | {"by_kind": self.validated.by_kind}
            )

    def _benchmarks(self) -> dict[str, float]:
        """CIRR and CIRCO validation, where the recipe names their folders."""
        if not (self.recipe.validation.cirr or self.recipe.validation.circo):
            return {}
        from lensctl_training.benchmark_validation import validate_benchmarks

        return validate_benchmarks(self.encoder, self.recipe.validation)

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
        if self.group.first:
            path = checkpoint.checkpoint_path(self.checkpoints, self.progress.step)
            checkpoint.save_checkpoint(path, state)
            best = self.progress.best_steps(self.recipe.saving.keep_best)
            checkpoint.prune(self.checkpoints, [*best, self.progress.step])
        self.group.wait()

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
        self.schedule.load_state_dict(state["schedule"])
        self.progress = Progress(**state["progress"])
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
