"""The folder of a run: who may write to it, what a full disk leaves, and which data it is of."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from filelock import FileLock

from lensctl.errors import DataError, LibraryBusyError, StorageError, UsageError
from lensctl_training.checkpoint import find_checkpoints, load_checkpoint, save_checkpoint
from lensctl_training.data.shards import ShardWriter
from lensctl_training.data.triplet import Triplet
from lensctl_training.log import read_log
from lensctl_training.train import train
from support.full_disk import no_file_above
from support.training_runs import make_jpeg, make_recipe, make_triplets, write_jsonl, write_shards

TINY = [
    "data.scenes=64",
    "data.held_out_scenes=2",
    "batch.size=8",
    "optimiser.warmup=0",
    "machine.device=cpu",
    "machine.threads=1",
]


def start(out: Path, *arguments: str) -> "subprocess.Popen[str]":
    """A run of a small recipe from the command line."""
    command = [sys.executable, "-m", "lensctl", "train", "smoke", "--out", str(out)]
    settings = [part for setting in TINY for part in ("--set", setting)]
    return subprocess.Popen(
        [*command, *settings, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )


def wait_for(happened, seconds=300.0):
    until = time.monotonic() + seconds
    while not happened():
        assert time.monotonic() < until, "it did not happen"
        time.sleep(0.05)


def processes_that_name(out: Path) -> list[int]:
    """The processes whose command line has this folder in it."""
    found = []
    for entry in Path("/proc").iterdir():
        try:
            arguments = (entry / "cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        if entry.name.isdigit() and os.fsencode(out) in arguments:
            found.append(int(entry.name))
    return found


def test_a_second_run_into_the_same_folder_is_refused_and_harms_nothing(tmp_path):
    out = tmp_path / "out"
    train(make_recipe(), out)
    before = {path: path.stat() for path in (out / "checkpoints").iterdir()}
    with FileLock(out / "run.lock"):
        for resume in (True, False):
            with pytest.raises(LibraryBusyError, match="another run is training into") as caught:
                train(make_recipe(), out, resume=resume)
        assert caught.value.exit_code == 4 and "another --out" in caught.value.next_step
    assert {path: path.stat() for path in (out / "checkpoints").iterdir()} == before
    train(make_recipe(), out, resume=True)


def test_a_folder_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match=r"cannot write to .*file/out"):
        train(make_recipe(), tmp_path / "file" / "out")


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux ends children with their parent")
def test_killing_the_launcher_leaves_no_process_training_and_no_lock(tmp_path):
    out = tmp_path / "out"
    run = start(out, "--nproc", "2", "--set", "optimiser.steps=100000")
    wait_for(lambda: read_log(out / "log.jsonl") or run.poll() is not None)
    assert run.poll() is None, run.communicate()[1]
    assert len(processes_that_name(out)) == 3
    second = start(out, "--resume")
    errors = second.communicate(timeout=300)[1]
    assert second.returncode == 4 and "another run is training into" in errors
    run.send_signal(signal.SIGKILL)
    run.communicate(timeout=60)
    wait_for(lambda: not processes_that_name(out), seconds=30)
    with FileLock(out / "run.lock", timeout=10):
        pass


@pytest.mark.parametrize(("wrong", "number"), [("batch.size=16", "3"), ("data.train=none", "2")])
def test_several_processes_tell_an_error_once(tmp_path, wrong, number):
    """An error that all of them meet, and one that the first alone looks for."""
    settings = ["--set", wrong] + ["--set", "data.scenes=0"] * ("train" in wrong)
    run = start(tmp_path / "out", "--nproc", number, *settings)
    errors = run.communicate(timeout=300)[1]
    assert errors.count("error: ") == 1 and "Traceback" not in errors, errors
    assert run.returncode == (6 if "train" in wrong else 2)


def test_a_checkpoint_that_fills_the_disk_leaves_nothing_and_names_the_folder(tmp_path):
    path = tmp_path / "checkpoints" / "step-00000002.pt"
    save_checkpoint(path.with_name("step-00000001.pt"), {"model": torch.zeros(4)})
    with no_file_above(2**20), pytest.raises(StorageError) as caught:
        save_checkpoint(path, {"model": torch.zeros(10**6)})
    assert str(path.parent) in caught.value.what and "File too large" in caught.value.why
    assert "--resume" in caught.value.next_step
    assert [p.name for p in path.parent.iterdir()] == ["step-00000001.pt"]
    assert load_checkpoint(path.with_name("step-00000001.pt"))["model"].tolist() == [0.0] * 4


def test_a_checkpoint_is_on_the_disk_before_it_has_its_name(tmp_path, synced_and_renamed):
    save_checkpoint(tmp_path / "step-00000001.pt", {"model": torch.zeros(4)})
    assert synced_and_renamed == ["synced", "renamed"]


def test_an_error_that_is_not_the_disks_stays_what_it_is(tmp_path):
    with pytest.raises(Exception, match="pickle") as caught:
        save_checkpoint(tmp_path / "step-00000001.pt", {"model": lambda: None})
    assert not isinstance(caught.value, StorageError) and not list(tmp_path.iterdir())


@pytest.mark.parametrize("number", [6, 200])
def test_shards_that_fill_the_disk_leave_none_half_written(tmp_path, number):
    """The few fail as the shard is closed, the many while it is written."""
    image = make_jpeg((1, 2, 3)) + bytes(5000)
    with (
        no_file_above(2**15),
        pytest.raises(StorageError, match="cannot write shards into") as caught,
        ShardWriter(tmp_path / "set", max_count=1000) as writer,
    ):
        for n in range(number):
            writer.write(Triplet(f"k{n}", image, image, "the same again"))
    assert str(tmp_path / "set") in caught.value.what
    assert list((tmp_path / "set").iterdir()) == []


def shard_tables(folder: Path) -> dict[str, object]:
    return {"data": {"scenes": 0, "train": str(folder), "shuffle_buffer": 10}}


def test_resuming_on_other_shards_is_refused_and_names_them(tmp_path):
    folder, out = tmp_path / "shards", tmp_path / "out"
    write_shards(folder)
    recipe = make_recipe(**shard_tables(folder), optimiser={"steps": 4})
    train(recipe, out)
    assert json.loads((out / "data.json").read_text())["train"].keys() == {
        f"set-{n:06d}.tar" for n in range(4)
    }
    (folder / "set-000003.tar").rename(folder / "set-000004.tar")
    (folder / "set-000001.tar").write_bytes(b"")
    with pytest.raises(UsageError, match=r"other data: data\.train changed") as caught:
        train(recipe, out, resume=True)
    why = caught.value.why
    assert "set-000003.tar is gone" in why and "set-000004.tar is new" in why
    assert "set-000001.tar is another file" in why and "0 now" in why


def test_resuming_on_the_same_data_or_without_a_record_of_it_goes_on(tmp_path):
    """Runs of earlier versions have no record; theirs begins when they go on."""
    folder, out = tmp_path / "shards", tmp_path / "out"
    write_shards(folder)
    recipe = make_recipe(**shard_tables(folder), optimiser={"steps": 4})
    train(recipe, out)
    for path in folder.iterdir():
        os.utime(path, (0, 0))  # a copy, another mount: the same data
    train(recipe, out, resume=True)
    (out / "data.json").unlink()
    (folder / "set-000003.tar").unlink()
    train(recipe, out, resume=True)
    assert len(json.loads((out / "data.json").read_text())["train"]) == 3


def test_the_same_data_at_another_place_go_on(tmp_path, monkeypatch):
    folder, out = tmp_path / "shards", tmp_path / "out"
    write_shards(folder)
    train(make_recipe(**shard_tables(folder), optimiser={"steps": 4}), out)
    folder.rename(tmp_path / "moved")
    monkeypatch.chdir(tmp_path)
    there = make_recipe(**shard_tables(Path("moved")), optimiser={"steps": 4})
    train(there, out, resume=True)
    (out / "data.json").unlink()  # nothing says that they are the same
    with pytest.raises(UsageError, match=r"data\.train changed"):
        train(
            make_recipe(**shard_tables(tmp_path / "moved"), optimiser={"steps": 4}),
            out,
            resume=True,
        )


def test_resuming_on_another_jsonl_of_the_same_length_is_refused(tmp_path):
    path = write_jsonl(tmp_path, make_triplets(12))
    recipe = make_recipe(data={"scenes": 0, "train": str(path)}, optimiser={"steps": 2})
    train(recipe, tmp_path / "out")
    path.write_text("\n".join(reversed(path.read_text().splitlines())))
    with pytest.raises(UsageError) as caught:
        train(recipe, tmp_path / "out", resume=True)
    assert caught.value.why == "set.jsonl is another file"


def test_data_that_is_not_there_is_named_before_anything_is_built(tmp_path):
    for data, said in (("none", "there is no "), (".", "there are no shards in ")):
        recipe = make_recipe(**shard_tables(tmp_path / data))
        with pytest.raises(DataError, match=said) as caught:
            train(recipe, tmp_path / "out")
        assert str(tmp_path) in caught.value.what and ".jsonl" in caught.value.why
    assert not find_checkpoints(tmp_path / "out" / "checkpoints")
