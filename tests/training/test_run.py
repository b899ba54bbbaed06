"""Whole runs of a tiny recipe: what they leave, how they go on, how they end."""

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch

from lensctl.errors import CheckpointError, DataError, TrainingError, UsageError
from lensctl_training.checkpoint import find_checkpoints, load_checkpoint
from lensctl_training.data import source
from lensctl_training.log import read_log
from lensctl_training.loop import Progress, Trainer
from lensctl_training.train import train
from support.training_runs import (
    make_recipe,
    make_triplets,
    make_values,
    run_process,
    write_jsonl,
    write_shards,
    write_toml,
)


def curve(out):
    """Everything about the steps that does not depend on the clock."""
    records = [r for r in read_log(out / "log.jsonl") if r["kind"] == "train"]
    return [{k: v for k, v in r.items() if k != "seconds"} for r in records]


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    out = tmp_path_factory.mktemp("undisturbed")
    return out, train(make_recipe(), out)


def test_a_run_leaves_log_checkpoints_report_and_model(undisturbed):
    out, outcome = undisturbed
    assert [r["step"] for r in curve(out)] == list(range(1, 9))
    steps = list(find_checkpoints(out / "checkpoints"))
    assert steps[-1] == 8 and len(steps) <= 2
    assert outcome.metrics["candidates"] == 8 + 8 * 9
    page = (out / "report.html").read_text()
    assert "What it retrieves" in page and "<svg" in page
    from lensctl.models.registry import open_model

    model = open_model(str(out / "model"))
    assert model.info.name == "tiny" and model.info.licence == "Apache-2.0"
    pixels = torch.zeros(2, 3, 32, 32).numpy()
    assert model.index_side("cpu").encode_images(pixels).shape == (2, 16)
    assert model.query_side().encode_texts(["at night"]).shape == (1, 16)


def test_the_same_recipe_gives_the_same_curve(undisturbed, tmp_path):
    train(make_recipe(), tmp_path)
    assert curve(tmp_path) == curve(undisturbed[0])


@pytest.mark.parametrize("chunk", [2, 3])
def test_gradcache_gives_the_same_curve(undisturbed, tmp_path, chunk):
    train(make_recipe(batch={"chunk": chunk}), tmp_path)
    losses = [r["loss"] for r in curve(tmp_path)]
    assert losses == pytest.approx([r["loss"] for r in curve(undisturbed[0])], abs=2e-3)


def test_activation_checkpointing_gives_the_same_curve(undisturbed, tmp_path):
    train(make_recipe(batch={"checkpoint_activations": True}), tmp_path)
    losses = [r["loss"] for r in curve(tmp_path)]
    assert losses == pytest.approx([r["loss"] for r in curve(undisturbed[0])], abs=1e-4)


class KilledError(Exception):
    pass


@pytest.mark.parametrize("kind", ["scenes", "shards", "shards with workers"])
def test_a_run_killed_at_a_random_step_goes_on_exactly(kind, tmp_path, monkeypatch):
    """The kill is an exception that nothing handles: only what is on the disk goes on."""
    tables = {}
    if kind != "scenes":
        write_shards(tmp_path / "shards")
        workers = 2 if "workers" in kind else 0
        tables["data"] = {
            "scenes": 0,
            "train": str(tmp_path / "shards"),
            "workers": workers,
            "shuffle_buffer": 20,
        }
    recipe = make_recipe(**tables, optimiser={"steps": 12})
    train(recipe, tmp_path / "whole")
    stop_at = random.SystemRandom().randint(4, 11)
    step = Trainer._step

    def killed(self, fetched):
        if self.progress.step == stop_at:
            raise KilledError
        return step(self, fetched)

    monkeypatch.setattr(Trainer, "_step", killed)
    with pytest.raises(KilledError):
        train(recipe, tmp_path / "out")
    monkeypatch.undo()
    train(recipe, tmp_path / "out", resume=True)
    assert curve(tmp_path / "out") == curve(tmp_path / "whole"), f"killed at step {stop_at}"


def start_run(tmp_path, *arguments, **tables):
    recipe = tmp_path / "tiny.toml"
    write_toml(recipe, make_values(**tables))
    command = [
        sys.executable,
        "-m",
        "lensctl",
        "train",
        str(recipe),
        "--out",
        str(tmp_path / "out"),
    ]
    return subprocess.Popen(
        [*command, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )


def wait_for_step(out, step, run):
    until = time.monotonic() + 120
    while time.monotonic() < until:
        records = read_log(out / "log.jsonl")
        if records and records[-1]["step"] >= step:
            return
        if run.poll() is not None:
            pytest.fail(run.communicate()[1])
        time.sleep(0.05)
    pytest.fail("the run made no progress")


def test_sigterm_saves_and_exits_143_on_two_processes(tmp_path):
    """Also the DDP run of CI: two gloo processes from the command line."""
    run = start_run(tmp_path, "--nproc", "2", optimiser={"steps": 100_000})
    wait_for_step(tmp_path / "out", 3, run)
    run.send_signal(signal.SIGTERM)
    _, errors = run.communicate(timeout=120)
    assert run.returncode == 143, errors
    steps = curve(tmp_path / "out")
    assert max(find_checkpoints(tmp_path / "out/checkpoints")) == steps[-1]["step"]
    assert "--resume" in errors


def test_ctrl_c_on_a_terminal_saves_with_two_processes(tmp_path):
    """It goes to all of the terminal's processes, and the launcher passes it on."""
    run = start_run(tmp_path, "--nproc", "2", optimiser={"steps": 100_000})
    wait_for_step(tmp_path / "out", 3, run)
    os.killpg(run.pid, signal.SIGINT)
    _, errors = run.communicate(timeout=120)
    assert run.returncode == 130, errors
    steps = curve(tmp_path / "out")
    assert max(find_checkpoints(tmp_path / "out/checkpoints")) == steps[-1]["step"]
    assert errors.count("saved at step") == 1
    assert "Traceback" not in errors


ADAFACTOR = {
    "name": "adafactor",
    "rate": 1e-2,
    "backbone_rate": 1e-2,
    "scale_by_parameter": True,
}


@pytest.fixture(scope="module")
def alone(undisturbed, tmp_path_factory):
    """The losses of a single process with either optimiser."""
    out = tmp_path_factory.mktemp("adafactor")
    train(make_recipe(optimiser=ADAFACTOR), out)
    folders = {"adamw": undisturbed[0], "adafactor": out}
    return {name: [r["loss"] for r in curve(folder)] for name, folder in folders.items()}


@pytest.mark.parametrize("sharding", ["ddp", "fsdp"])
@pytest.mark.parametrize("optimiser", ["adamw", "adafactor"])
def test_two_processes_give_the_curve_of_one(alone, tmp_path, free_port, sharding, optimiser):
    """Same global batch, same seed: losses within 1e-3 over 8 steps (sums in another order)."""
    tables = {"optimiser": ADAFACTOR} if optimiser == "adafactor" else {}
    values = make_values(machine={"sharding": sharding}, batch={"chunk": 2}, **tables)
    torch.multiprocessing.spawn(run_process, (2, free_port, values, tmp_path), nprocs=2)
    losses = [r["loss"] for r in curve(tmp_path)]
    assert losses == pytest.approx(alone[optimiser], abs=1e-3)
    assert (tmp_path / "model" / "model.safetensors").is_file()


def test_a_folder_with_a_run_is_not_overwritten(undisturbed):
    with pytest.raises(UsageError, match="already holds a run"):
        train(make_recipe(), undisturbed[0])


def test_resuming_with_another_recipe_is_refused(undisturbed):
    with pytest.raises(UsageError, match=r"loss\.query_negatives changed"):
        train(make_recipe(loss={"query_negatives": False}), undisturbed[0], resume=True)


@pytest.mark.parametrize(
    "table",
    [
        {"optimiser": {"rate": 1e-4, "backbone_rate": 0.0, "steps": 8}},
        {"optimiser": {"steps": 8}, "data": {"max_bad": 7, "max_validation": 5}},
    ],
)
def test_what_advice_says_to_change_may_change_on_resume(tmp_path, table):
    constant = {"decay": "constant", "warmup": 0, "steps": 4}
    train(make_recipe(optimiser=constant), tmp_path)
    again = make_recipe(**{**table, "optimiser": constant | table["optimiser"]})
    assert train(again, tmp_path, resume=True).step == 8
    rates = [r["rate"] for r in curve(tmp_path)]
    assert rates == [1e-3] * 4 + [again.optimiser.backbone_rate] * 4
    before, after = (
        load_checkpoint(path)["model"]
        for path in find_checkpoints(tmp_path / "checkpoints").values()
    )
    moved = {name for name in before if not torch.equal(before[name], after[name])}
    assert any(name.startswith("model.clip.") for name in moved) == (
        "rate" not in table["optimiser"]
    )


def test_what_does_not_change_the_curve_may_change_on_resume(undisturbed, tmp_path):
    """As after a lack of memory; a set that is read by the step needs no certain workers."""
    shutil.copytree(undisturbed[0], tmp_path / "out")
    for step, path in find_checkpoints(tmp_path / "out" / "checkpoints").items():
        if step > 6:
            path.unlink()
    changed = {"batch": {"chunk": 3, "checkpoint_activations": True}, "data": {"workers": 1}}
    train(make_recipe(**changed), tmp_path / "out", resume=True)
    then, now = curve(undisturbed[0]), curve(tmp_path / "out")
    assert [r["batch"] for r in now] == [r["batch"] for r in then]
    assert [r["loss"] for r in now] == pytest.approx([r["loss"] for r in then], abs=1e-4)


def test_adafactors_rates_of_earlier_runs_stay_relative(tmp_path):
    relative = ADAFACTOR | {"decay": "constant", "steps": 4}
    train(make_recipe(optimiser=relative), tmp_path)
    for path in find_checkpoints(tmp_path / "checkpoints").values():
        state = load_checkpoint(path)
        del state["recipe"]["optimiser"]["scale_by_parameter"]
        torch.save(state, path)
    more = relative | {"steps": 8}
    with pytest.raises(UsageError, match="scale_by_parameter changed") as refused:
        train(make_recipe(optimiser=more | {"scale_by_parameter": False}), tmp_path, resume=True)
    assert "True then, False now" in refused.value.why
    assert train(make_recipe(optimiser=more), tmp_path, resume=True).step == 8


def test_more_steps_of_a_falling_rate_are_refused(undisturbed):
    with pytest.raises(UsageError, match=r"optimiser\.steps changed"):
        train(make_recipe(optimiser={"steps": 9}), undisturbed[0], resume=True)


def test_resume_without_a_checkpoint_starts(tmp_path):
    """And removes what a kill in the first save left."""
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints" / ".0123456789abcdef.part").write_bytes(b"cut short")
    assert train(make_recipe(optimiser={"steps": 2}), tmp_path, resume=True).step == 2
    assert [path.name for path in (tmp_path / "checkpoints").iterdir()] == ["step-00000002.pt"]


def not_a_number(value):
    return value * float("nan")


def endless_gradients(value):
    """A finite loss whose gradients are not."""
    value = value.clone()
    value.register_hook(lambda gradient: gradient * float("inf"))
    return value


def poison(monkeypatch, bad_steps, how=not_a_number):
    """Spoil the loss of some steps."""
    loss = Trainer._loss

    def poisoned(self, vectors, same):
        value = loss(self, vectors, same)
        return how(value) if self.progress.step in bad_steps else value

    monkeypatch.setattr(Trainer, "_loss", poisoned)


def watch_weights(monkeypatch):
    """Notes of every step whether it changed the weights."""
    moved, step = [], Trainer._step

    def weights(trainer):
        return torch.cat([p.detach().flatten().clone() for p in trainer.encoder.parameters()])

    def watched(self, fetched):
        before = weights(self)
        record = step(self, fetched)
        moved.append(not torch.equal(weights(self), before))
        return record

    monkeypatch.setattr(Trainer, "_step", watched)
    return moved


@pytest.mark.parametrize("how", [not_a_number, endless_gradients])
def test_a_loss_that_is_not_finite_changes_nothing_and_is_counted(tmp_path, monkeypatch, how):
    poison(monkeypatch, {2, 5}, how)
    moved = watch_weights(monkeypatch)
    train(make_recipe(), tmp_path)
    records = curve(tmp_path)
    assert [r["step"] for r in records if r["loss"] is None] == [3, 6]
    assert records[-1]["bad_losses"] == 2
    assert moved == [True, True, False, True, True, False, True, True]
    state = load_checkpoint(find_checkpoints(tmp_path / "checkpoints")[8])
    assert all(value.isfinite().all() for value in state["model"].values())


def test_too_many_bad_losses_in_a_row_stop_the_run(tmp_path, monkeypatch):
    poison(monkeypatch, set(range(100)))
    with pytest.raises(TrainingError, match="4 steps in a row"):
        train(make_recipe(max_bad_losses=3), tmp_path)


def test_bad_examples_are_counted_in_the_log_and_stop_at_the_limit(tmp_path):
    shards = write_shards(tmp_path / "shards")
    shards[0].write_bytes(shards[0].read_bytes()[:9000])
    data = {"scenes": 0, "train": str(tmp_path / "shards"), "shuffle_buffer": 10}
    train(make_recipe(data=data), tmp_path / "out")
    assert curve(tmp_path / "out")[-1]["bad_examples"] >= 2
    assert "truncated shard" in (tmp_path / "out/report.html").read_text()
    with pytest.raises(DataError, match="more than the 1 allowed"):
        train(make_recipe(data=data | {"max_bad": 1}), tmp_path / "strict")


def test_a_frozen_backbone_trains_the_fusion_on_kept_embeddings(undisturbed, tmp_path):
    start = str(undisturbed[0] / "model")
    model = {"start": start, "backbone": "", "preprocessing": {}, "freeze_backbone": True}
    recipe = make_recipe(model=model)
    train(recipe, tmp_path)
    first, last = (
        load_checkpoint(p)["model"] for p in (*find_checkpoints(tmp_path / "checkpoints").values(),)
    )
    moved = {name for name in first if not torch.equal(first[name], last[name])}
    assert moved and all(name.startswith("model.fusion.") for name in moved)
    assert (tmp_path / "embeddings" / "texts.npy").is_file()


def test_too_little_shared_memory_is_refused_before_the_first_step(tmp_path, monkeypatch):
    monkeypatch.setattr(source.shutil, "disk_usage", lambda _: SimpleNamespace(free=589_823))
    train(make_recipe(optimiser={"steps": 2}), tmp_path / "none")
    with pytest.raises(TrainingError, match="is too small for the batches of 1 data") as caught:
        train(make_recipe(data={"workers": 1}), tmp_path / "one")
    assert caught.value.why == ("3 batches of 0.2 MB may lie there at a time, and 0.6 MB are free")


def test_rows_whose_target_is_in_the_batch_again_are_counted(undisturbed, tmp_path):
    """Two rows share a target, and a third row's target is another's query image."""
    triplets = make_triplets(8)
    triplets[1] = replace(triplets[1], target=triplets[0].target)
    triplets[2] = replace(triplets[2], target=triplets[7].query)
    data = {"scenes": 0, "train": str(write_jsonl(tmp_path, triplets))}
    train(make_recipe(data=data, optimiser={"steps": 2}), tmp_path / "out")
    assert [r["repeated_targets"] for r in curve(tmp_path / "out")] == [3 / 8] * 2
    assert {r["repeated_targets"] for r in curve(undisturbed[0])} == {None}  # scenes have no files


def test_instructions_that_are_cut_are_counted_and_said_once(tmp_path, capsys):
    """Two of eight are longer than 16 tokens, one has just as many; all are in every batch."""
    triplets = make_triplets(8)
    for place, words in enumerate((14, 15, 99)):
        triplets[place] = replace(triplets[place], instruction=" ".join(["word"] * words))
    data = {"scenes": 0, "train": str(write_jsonl(tmp_path, triplets))}
    train(make_recipe(data=data, optimiser={"steps": 3}), tmp_path / "out")
    assert [r["cut_texts"] for r in curve(tmp_path / "out")] == [2, 4, 6]
    assert capsys.readouterr().err.count("2 instructions are cut, as they are longer") == 1
    assert "6 instructions shown were cut" in (tmp_path / "out/report.html").read_text()


def test_hard_negatives_join_the_loss_and_triplets_without_are_counted(tmp_path):
    write_shards(tmp_path / "with", number=40, negatives=2)
    data = {"scenes": 0, "train": str(tmp_path / "with"), "shuffle_buffer": 10}
    for name, number in (("two", 2), ("none", 0)):
        train(make_recipe(data=data | {"hard_negatives": number}), tmp_path / name)
    two, none = (curve(tmp_path / name)[0] for name in ("two", "none"))
    assert two["batch"] == none["batch"] and two["loss"] > none["loss"] + 0.3
    with pytest.raises(DataError) as caught:
        train(make_recipe(data=data | {"hard_negatives": 3}), tmp_path / "three")
    assert "fewer than 3 hard negatives" in caught.value.why


def test_a_run_starts_from_a_model_folder(undisturbed, tmp_path):
    start = str(undisturbed[0] / "model")
    model = {"start": start, "backbone": "", "layers": 1, "heads": 2, "preprocessing": {}}
    rates = {"rate": 1e-12, "backbone_rate": 0.0}
    outcome = train(make_recipe(model=model, optimiser=rates), tmp_path)
    assert outcome.metrics == pytest.approx(undisturbed[1].metrics, abs=1e-6)


def test_bf16_stays_near_fp32(undisturbed, tmp_path):
    train(make_recipe(machine={"precision": "bf16"}), tmp_path)
    losses = [r["loss"] for r in curve(tmp_path)]
    assert losses == pytest.approx([r["loss"] for r in curve(undisturbed[0])], abs=0.3)
    assert losses != [r["loss"] for r in curve(undisturbed[0])]


def test_a_jsonl_file_trains_as_shards_do(tmp_path):
    path = write_jsonl(tmp_path, make_triplets(24))
    data = {"scenes": 0, "train": str(path), "validation": str(path)}
    outcome = train(make_recipe(data=data), tmp_path / "out")
    assert outcome.metrics["queries"] == 24 and outcome.metrics["candidates"] == 48


def test_tensorboard_has_what_the_log_has(undisturbed):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(undisturbed[0] / "tensorboard"))
    events.Reload()
    losses = [event.value for event in events.Scalars("train/loss")]
    assert losses == pytest.approx([r["loss"] for r in curve(undisturbed[0])], rel=1e-6)


def test_a_damaged_checkpoint_is_refused_by_name(undisturbed, tmp_path):
    path = tmp_path / "checkpoints" / "step-00000004.pt"
    path.parent.mkdir()
    path.write_bytes(b"PK\x03\x04 not really")
    with pytest.raises(CheckpointError, match="step-00000004"):
        train(make_recipe(), tmp_path, resume=True)


def test_early_stopping_waits_for_patience():
    progress = Progress(scores={10: 0.2, 20: 0.5, 30: 0.4, 40: 0.5})
    assert progress.best_steps(2) == [20, 40]
    assert progress.best_steps(1) == [20]
    assert progress.is_stale(2) and not progress.is_stale(3) and not progress.is_stale(0)
