"""`lensctl train` from the command line; whole runs are in test_run.py."""

import json

import pytest
from typer.testing import CliRunner

from lensctl.cli.commands import app
from lensctl.errors import DataError, UsageError
from support.training_runs import make_jpeg, write_shards


def call(*arguments):
    """Exit status, stdout; errors of the tree come out as they are, as in `cli.main`."""
    found = CliRunner().invoke(app, ["train", *map(str, arguments)])
    if found.exception is not None and not isinstance(found.exception, SystemExit):
        raise found.exception
    return found.exit_code, found.stdout


def test_help_names_recipes_and_both_ways_of_use():
    status, text = call("--help")
    assert status == 0 and "magiclens-base" in text and "RECIPE [DATA] --out DIR" in text
    assert all(command in text for command in ("run", "check", "import"))
    status, text = call("run", "--help")
    assert status == 0 and "--resume" in text and "--nproc" in text and "143" in text


def test_a_recipe_needs_no_word_run_before_it(tmp_path):
    for words in (["nosuch"], ["run", "nosuch"]):
        with pytest.raises(UsageError, match="no recipe 'nosuch'"):
            call(*words, "--out", tmp_path)
    assert call("smoke")[0] == 2


@pytest.mark.parametrize(
    "words",
    [
        ("smoke", "--set", "seed=1", "data.scenes=64"),
        ("--set", "seed=1", "data.scenes=64", "smoke"),
        ("smoke", "x.jsonl", "--set", "seed=1", "data.scenes=64"),
    ],
)
def test_a_second_setting_after_set_is_told_how_to_be_written(tmp_path, words):
    with pytest.raises(UsageError) as caught:
        call(*words, "--out", tmp_path / "out")
    assert caught.value.next_step == "did you mean --set data.scenes=64"


def test_one_word_too_many_is_refused(tmp_path):
    assert call("smoke", "x.jsonl", "y.jsonl", "--out", tmp_path / "out")[0] == 2
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("digits", [400, 5000])
def test_a_number_too_large_for_a_float_is_a_wrong_setting(tmp_path, digits):
    with pytest.raises(UsageError, match="recipe is wrong"):
        call("smoke", "--out", tmp_path, "--set", f"optimiser.rate=1{'0' * digits}")


def test_options_may_stand_before_the_recipe(tmp_path):
    with pytest.raises(UsageError, match="no recipe 'nosuch'"):
        call("--out", tmp_path, "nosuch")


def test_a_recipe_without_data_says_how_to_give_it(tmp_path):
    with pytest.raises(UsageError, match="needs a data set") as caught:
        call("coca-base", "--out", tmp_path, "--set", "model.backbone=ViT-B-32")
    assert "DATA --out DIR" in caught.value.next_step


def test_check_prints_facts_and_exits_6_for_a_bad_set(tmp_path):
    shards = write_shards(tmp_path / "set", number=6)
    status, text = call("check", tmp_path / "set", "--sheet", tmp_path / "sheet.html")
    assert status == 0 and "triplets\t6" in text and (tmp_path / "sheet.html").is_file()
    shards[0].write_bytes(shards[0].read_bytes()[:5000])
    status, text = call("check", tmp_path / "set")
    assert status == 6 and "problem\t1 x truncated shard" in text


def test_import_writes_shards_and_never_mixes_two_imports(tmp_path):
    (tmp_path / "a.jpg").write_bytes(make_jpeg((1, 2, 3)))
    line = {"query": "a.jpg", "target": "a.jpg", "instruction": "the same again"}
    (tmp_path / "x.jsonl").write_text(json.dumps(line))
    arguments = ("import", "jsonl", tmp_path / "x.jsonl", "--out", tmp_path / "out")
    status, text = call(*arguments)
    assert status == 0 and text == "triplets\t1\n"
    with pytest.raises(UsageError, match="already holds shards"):
        call(*arguments)


def test_check_of_a_missing_set_is_a_data_error(tmp_path):
    with pytest.raises(DataError, match=f"there is no {tmp_path}/none$"):
        call("check", tmp_path / "none")
    (tmp_path / "imgs").mkdir()
    with pytest.raises(DataError, match=f"there are no shards in {tmp_path}/imgs$") as caught:
        call("check", tmp_path / "imgs")
    assert ".tar" in caught.value.why and ".jsonl" in caught.value.why


@pytest.mark.parametrize("name", ["none", 'it\'s "none"'])
def test_data_replaces_the_scenes_of_a_recipe(tmp_path, name):
    """They were rendered all the same, and DATA, a misspelt one too, was never looked at."""
    with pytest.raises(DataError) as caught:
        call("smoke", tmp_path / name, "--out", tmp_path / "out", "--set", "machine.device=cpu")
    assert caught.value.what == f"there is no {tmp_path / name}"
    with pytest.raises(UsageError) as wrong:
        call("smoke", tmp_path / name, "--out", tmp_path / "out", "--set", "data=3")
    assert "data" in wrong.value.why


@pytest.mark.parametrize("device", ["cuda:99", "cpu:7"])
def test_a_device_that_is_not_there_is_an_error_that_names_it(tmp_path, device):
    with pytest.raises(UsageError, match=f"there is no device {device}") as caught:
        call("smoke", "--out", tmp_path, "--set", f"machine.device={device}")
    assert "machine.device" in caught.value.next_step


def test_one_gpu_is_not_for_several_processes(tmp_path, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(UsageError, match="for a single process"):
        call("smoke", "--out", tmp_path, "--set", "machine.device=cuda:0")
