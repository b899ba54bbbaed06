"""Several processes: what they wait for, what they count together, and how they fail together."""

import os
import subprocess
import sys
import time
from dataclasses import replace
from datetime import timedelta

import pytest
import torch

from lensctl.errors import UsageError
from lensctl_training import loop
from lensctl_training.checkpoint import find_checkpoints
from lensctl_training.data.shards import ShardWriter
from lensctl_training.log import read_log
from lensctl_training.train import train
from support.benchmark_data import make_cirr
from support.training_runs import (
    make_recipe,
    make_triplets,
    make_values,
    run_process,
    write_jsonl,
    write_toml,
)


def run(process, *arguments):
    torch.multiprocessing.spawn(process, (2, *arguments), nprocs=2)


def command(folder, **tables):
    """Two processes by the command line -> exit status, stderr."""
    write_toml(folder / "tiny.toml", make_values(**tables))
    words = ["train", str(folder / "tiny.toml"), "--out", str(folder / "out"), "--nproc", "2"]
    ended = subprocess.run(
        [sys.executable, "-m", "lensctl", *words],
        capture_output=True,
        text=True,
        timeout=300,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    return ended.returncode, ended.stderr


def with_slow_validation(rank, world, port, values, out):
    """Tensors of other processes are waited for 4 s, and validation takes 8."""
    join, validate = torch.distributed.init_process_group, loop.validate

    def impatient(*arguments, **named):
        join(*arguments, **named, timeout=timedelta(seconds=4))

    def slow(*arguments):
        time.sleep(8)
        return validate(*arguments)

    torch.distributed.init_process_group, loop.validate = impatient, slow
    run_process(rank, world, port, values, out)


def test_a_long_validation_is_waited_for(tmp_path, free_port):
    values = make_values(validation={"every": 100}, optimiser={"steps": 2})
    run(with_slow_validation, free_port, values, tmp_path)
    assert [r["kind"] for r in read_log(tmp_path / "log.jsonl")] == ["train", "train", "validation"]


@pytest.fixture
def bad_shards(tmp_path):
    """Four shards with twelve good triplets and six whose target is cut short."""
    triplets = make_triplets(72)
    for n, triplet in enumerate(triplets):
        if n % 18 >= 12:
            triplets[n] = replace(triplet, target=triplet.target[:300])
    with ShardWriter(tmp_path / "shards", max_count=18) as writer:
        for triplet in triplets:
            writer.write(triplet)
    return {"scenes": 0, "train": str(tmp_path / "shards"), "shuffle_buffer": 10}


def bad_examples(out):
    return [r["bad_examples"] for r in read_log(out / "log.jsonl") if r["kind"] == "train"]


def test_bad_examples_of_all_processes_count_and_stay_counted_on_resume(
    tmp_path, free_port, bad_shards
):
    values = make_values(data=bad_shards, optimiser={"steps": 14})
    out = tmp_path / "out"
    run(run_process, free_port, values, out)
    whole = bad_examples(out)
    assert whole[-1] == 24
    find_checkpoints(out / "checkpoints")[14].unlink()
    run(run_process, free_port, values, out, True)
    assert bad_examples(out) == whole


def test_the_limit_of_bad_examples_is_one_for_all_processes(tmp_path, bad_shards):
    status, errors = command(tmp_path, data=bad_shards | {"max_bad": 20})
    assert status == 6 and errors.count("error: 2") == 1 and "Traceback" not in errors, errors


def test_an_error_of_the_first_process_as_it_embeds_is_told_once(tmp_path):
    train(make_recipe(optimiser={"steps": 2}), tmp_path / "start")
    triplets = make_triplets(16)
    triplets[:10] = [replace(triplet, target=b"no image") for triplet in triplets[:10]]
    data = {"scenes": 0, "train": str(write_jsonl(tmp_path, triplets)), "max_bad": 3}
    model = {"start": str(tmp_path / "start/model"), "backbone": "", "preprocessing": {}}
    status, errors = command(tmp_path, data=data, model=model | {"freeze_backbone": True})
    assert status == 6 and errors.count("error: 4 bad") == 1 and "Traceback" not in errors, errors


def test_a_split_model_is_tried_on_a_benchmark_alone(tmp_path, free_port):
    """Nothing else has gathered its weights before. The log is of both processes' rows, too."""
    make_cirr(tmp_path / "cirr")
    triplets = make_triplets(8)
    triplets[:6] = [replace(one, target=triplets[7].query) for one in triplets[:6]]
    triplets[0] = replace(triplets[0], instruction="word " * 20)
    data = {"scenes": 0, "train": str(write_jsonl(tmp_path, triplets))}
    validation = {"cirr": str(tmp_path / "cirr"), "metric": "cirr/R@1", "every": 2}
    values = make_values(
        data=data,
        validation=validation,
        optimiser={"steps": 2},
        machine={"sharding": "fsdp"},
    )
    run(run_process, free_port, values, tmp_path / "out")
    *steps, validation = read_log(tmp_path / "out" / "log.jsonl")
    assert "cirr/R@1" in validation
    found = [(step["repeated_targets"], step["cut_texts"]) for step in steps]
    assert found == [(6 / 8, 1), (6 / 8, 2)]


def into_its_own(rank, world, port, values, out):
    with pytest.raises(UsageError, match="not find the same checkpoint") as caught:
        run_process(rank, world, port, values, out / str(rank), True)
    assert caught.value.why == "process 0 finds step 4; process 1 finds none"


def test_processes_that_find_other_checkpoints_do_not_train(tmp_path, free_port):
    train(make_recipe(optimiser={"steps": 4}), tmp_path / "0")
    run(into_its_own, free_port, make_values(optimiser={"steps": 4}), tmp_path)
