"""`lensctl models`, run as a user runs it."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from support import published


@pytest.fixture
def run(tmp_path: Path):
    def run_models(*arguments: str) -> subprocess.CompletedProcess[str]:
        environment = os.environ | {"LENSCTL_MODELS": str(tmp_path / "models")}
        command = [sys.executable, "-m", "lensctl", "models", *arguments]
        return subprocess.run(command, capture_output=True, text=True, env=environment, timeout=300)

    return run_models


def test_a_model_from_birth_to_end(run, tmp_path: Path) -> None:
    weights = tmp_path / "magic_lens_clip_base.pkl"
    weights.write_bytes(published.checkpoint_bytes())
    converted = run("convert", str(weights), "--name", "tiny")
    assert converted.returncode == 0, converted.stderr
    assert converted.stdout.strip() == str(tmp_path / "models" / "tiny")
    assert "lensctl index DIR --model tiny" in converted.stderr

    again = run("pull", str(weights), "--name", "tiny")
    assert again.returncode == 5 and "already" in again.stderr

    rows = {row["name"]: row for row in json.loads(run("list", "--json").stdout)}
    assert rows["tiny"]["present"] and not rows["magiclens-large"]["present"]
    assert {"mini", "bge-vl-base", "bge-vl-large", "clip-vit-l-14"} <= rows.keys()
    assert rows["magiclens-large"]["licence"].startswith("CC-BY-4.0")

    info = run("info", "tiny", "--check", "--json")
    assert info.returncode == 0, info.stderr
    facts = json.loads(info.stdout)
    assert facts["parameters"] == 3_692_385 and "sha256" in facts["source"]
    assert facts["relevance text"] == {"slope": 40.0, "midpoint": 0.25}

    assert run("remove", "tiny").returncode == 0
    assert list((tmp_path / "models").iterdir()) == []
    assert run("info", "tiny").returncode == 5


def test_names_that_lead_elsewhere(run, tmp_path: Path) -> None:
    home, elsewhere = tmp_path / "models", tmp_path / "elsewhere"
    home.mkdir()
    elsewhere.mkdir()
    weights = tmp_path / "weights.pkl"
    weights.write_bytes(published.checkpoint_bytes())
    for number, place in enumerate((elsewhere, tmp_path / "nowhere")):
        (home / f"link{number}").symlink_to(place)
        refused = run("convert", str(weights), "--name", f"link{number}")
        assert refused.returncode == 5 and "already" in refused.stderr
        assert run("remove", f"link{number}").returncode == 0
    assert elsewhere.is_dir() and list(home.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["remove", "mini"], 2, "cannot be removed"),
        (["remove", "nosuch"], 5, "no model"),
        (["remove", "../../etc"], 2, "cannot be the name"),
        (["pull", "nosuch"], 2, "known names"),
        (["convert", "nosuch.pkl"], 2, "no file"),
        (["info", "magiclens-base"], 5, "lensctl models pull magiclens-base"),
    ],
)
def test_errors_say_what_to_do(run, arguments: list[str], code: int, message: str) -> None:
    done = run(*arguments)
    assert done.returncode == code
    assert message in done.stderr and "Traceback" not in done.stderr
    assert done.stdout == ""
