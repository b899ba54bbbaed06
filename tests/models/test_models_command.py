"""`lensctl models`, run as a user runs it."""

import json
import os
import subprocess
import sys
import tempfile
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


LOSE_RIGHTS = """
import os
if os.getuid() == 0:
    os.setgroups([]); os.setgid(65534); os.setuid(65534)
"""
WARM = """
from lensctl.cli.completion import complete
from lensctl.models.registry import list_models, open_model
open_model("mini"), complete(["query", "--model"], "")
"""
TAB = """
print("offers", *(value for value, _ in complete(["query", "--model"], "")[0]))
"""
LIST = """
for model in list_models():
    print(model.name, model.present, model.problem, sep="|")
"""


def _seen_without_rights(home: Path, code: str) -> list[str]:
    """The lines that a user who is not root gets."""
    environment = os.environ | {"LENSCTL_MODELS": str(home)}
    # Root's interpreter may be out of that user's reach: what it needs is imported before.
    command = [sys.executable, "-c", WARM + LOSE_RIGHTS + code]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_a_model_without_rights_is_listed_with_its_problem() -> None:
    with tempfile.TemporaryDirectory() as place:
        home = Path(place)
        home.chmod(0o755)
        for name in ("closed", "not.json", "No Name", ".hidden"):
            (home / name).mkdir()
            (home / name / "config.json").write_text("x")
        (home / "file").touch()
        (home / "closed").chmod(0)
        *lines, offers = _seen_without_rights(home, LIST + TAB)
        (home / "closed").chmod(0o755)
    assert "closed|True|config.json cannot be read: Permission denied" in lines
    here = {line.split("|")[0] for line in lines if "|True|" in line}
    assert here == {"mini", "closed", "not.json"}
    assert offers == "offers closed mini not.json"


def test_tab_says_nothing_of_a_folder_without_rights() -> None:
    with tempfile.TemporaryDirectory() as place:
        Path(place).chmod(0o755)
        home = Path(place) / "closed"
        home.mkdir(mode=0)
        assert _seen_without_rights(home, TAB) == ["offers mini"]


def test_what_a_model_says_is_printed_as_text(run, tmp_path: Path) -> None:
    weights = tmp_path / "weights.pkl"
    weights.write_bytes(published.checkpoint_bytes())
    assert run("convert", str(weights), "--name", "tiny").returncode == 0
    config = tmp_path / "models" / "tiny" / "config.json"
    values = json.loads(config.read_text())
    values["info"]["description"] = "\x1b[31mred\x1b]0;owned\x07\nsecond line"
    config.write_text(json.dumps(values))
    for arguments in (["list"], ["info", "tiny"]):
        shown = run(*arguments).stdout
        assert "\\x1b[31mred" in shown and "\\nsecond" in shown
        assert shown.replace("\n", "").isprintable()


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
