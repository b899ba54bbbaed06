"""Tab in the shells: commands and options."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pexpect
import pytest

PROGRAM = Path(sys.executable).with_name("lensctl")


def _script(shell: str) -> str:
    environment = {**os.environ, "_LENSCTL_COMPLETE": f"source_{shell}"}
    done = subprocess.run([PROGRAM], env=environment, capture_output=True, text=True, check=True)
    return done.stdout


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_a_script_for_each_shell(shell: str) -> None:
    script = _script(shell)
    assert f"_LENSCTL_COMPLETE=complete_{shell}" in script
    if program := shutil.which(shell):
        subprocess.run([program, "-n"], input=script, text=True, check=True)


@pytest.mark.parametrize(
    ("shell", "variables"),
    [
        ("bash", {"COMP_WORDS": "lensctl dup", "COMP_CWORD": "1"}),
        ("zsh", {"_TYPER_COMPLETE_ARGS": "lensctl dup"}),
        (
            "fish",
            {"_TYPER_COMPLETE_ARGS": "lensctl dup", "_TYPER_COMPLETE_FISH_ACTION": "get-args"},
        ),
    ],
)
def test_commands_are_offered(shell: str, variables: dict[str, str]) -> None:
    environment = {**os.environ, "_LENSCTL_COMPLETE": f"complete_{shell}", **variables}
    done = subprocess.run([PROGRAM], env=environment, capture_output=True, text=True)
    assert "duplicates" in done.stdout
    assert "relocate" not in done.stdout


def test_tab_in_a_real_bash(tmp_path: Path) -> None:
    script = tmp_path / "completion.sh"
    script.write_text(_script("bash"))
    bash = pexpect.spawn(
        str(shutil.which("bash")),
        ["--norc", "--noprofile"],
        env={**os.environ, "PATH": f"{PROGRAM.parent}:{os.environ['PATH']}", "PS1": "$ "},
        encoding="utf-8",
        timeout=60,
    )
    bash.sendline(f"source {script}; echo rea''dy")
    bash.expect("ready")
    bash.send("lensctl dup\t")
    bash.expect("lensctl duplicates ")
    bash.send("--ex\t")
    bash.expect("--exact")
    bash.close(force=True)
