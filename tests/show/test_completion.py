"""Tab in the shells: commands, options, values."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pexpect
import pytest

from lensctl.cli.completion import TABLE, complete

PROGRAM = Path(sys.executable).with_name("lensctl")
ENVIRONMENT = {**os.environ, "PATH": f"{PROGRAM.parent}:{os.environ['PATH']}"}
Ask = Callable[[list[str]], list[str]]
TABLES = json.loads(TABLE.read_text())


def _script(shell: str) -> str:
    environment = {**os.environ, "_LENSCTL_COMPLETE": f"source_{shell}"}
    done = subprocess.run([PROGRAM], env=environment, capture_output=True, text=True, check=True)
    return done.stdout


def _offers(*words: str) -> list[str]:
    return [value for value, _ in complete(list(words[:-1]), words[-1])[0]]


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_a_script_for_each_shell(shell: str) -> None:
    script = _script(shell)
    assert f"_LENSCTL_COMPLETE=complete_{shell}" in script
    if program := shutil.which(shell):
        subprocess.run([program, "-n"], input=script, text=True, check=True)


@pytest.fixture
def ask_typer(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Ask:
    """What Typer itself offers, asked as its script for fish does."""
    from lensctl.cli.commands import app

    def ask(words: list[str]) -> list[str]:
        monkeypatch.setenv("_LENSCTL_COMPLETE", "complete_fish")
        monkeypatch.setenv("_TYPER_COMPLETE_FISH_ACTION", "get-args")
        monkeypatch.setenv("_TYPER_COMPLETE_ARGS", " ".join(["lensctl", *words]))
        with pytest.raises(SystemExit):
            app(prog_name="lensctl")
        return [line.split("\t")[0] for line in capsys.readouterr().out.splitlines()]

    return ask


@pytest.mark.parametrize(
    "line",
    [
        [],
        *([name] for name in TABLES["commands"]),
        ["models", "convert"],
        ["query", "--json", "--paths"],
        ["query", "--library", "/x"],
        ["query", "--image", "a.jpg", "words"],
        ["index", "--exclude", "a", "--exclude", "b", "/photos"],
        ["index", "--library=/x", "--", "/photos"],
    ],
    ids=" ".join,
)
@pytest.mark.parametrize("started", ["", "-", "--n", "--l"])
def test_the_table_says_what_typer_says(ask_typer: Ask, line: list[str], started: str) -> None:
    """Names of commands and options; of values, Typer knows less."""
    told = [one for one in ask_typer([*line, started]) if one and one != started]
    assert sorted(_offers(*line, started)) == sorted(told)


def test_values_are_offered() -> None:
    assert _offers("index", "--device", "") == ["auto", "cpu", "cuda", "mps"]
    assert _offers("query", "--search=h") == ["--search=hnsw"]
    assert _offers("query", "--image", "--") == []
    assert complete(["query"], "")[1] == "file"
    assert complete(["query", "a.jpg"], "")[1] == "text"
    assert complete(["index", "/a"], "")[1] == "folder"


def test_names_of_models_are_offered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("magiclens-base", "mini", "minute", ".part"):
        (tmp_path / name).mkdir()
    monkeypatch.setenv("LENSCTL_MODELS", str(tmp_path))
    assert _offers("query", "--model", "m") == ["magiclens-base", "mini", "minute"]
    assert _offers("models", "info", "ma") == ["magiclens-base"]


def test_tab_loads_no_command() -> None:
    program = (
        "import sys, lensctl.cli; lensctl.cli.main()\n"
        "heavy = {'typer', 'pydantic', 'click', 'lensctl.cli.commands'} & set(sys.modules)\n"
        "sys.exit(f'loaded: {heavy}' if heavy else 0)\n"
    )
    variables = {"COMP_WORDS": "lensctl\nquery\n--dev", "COMP_CWORD": "2"}
    environment = {**os.environ, "_LENSCTL_COMPLETE": "complete_bash", **variables}
    done = subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A working folder for shells, with a photo and a folder in it."""
    (tmp_path / "holidays").mkdir()
    (tmp_path / "harbour.jpg").touch()
    return tmp_path


def _spawn(shell: str, arguments: list[str], folder: Path, **variables: str) -> pexpect.spawn:
    if not (program := shutil.which(shell)):
        pytest.skip(f"{shell} is not installed")
    environment = {**ENVIRONMENT, "HOME": str(folder), "TERM": "xterm", **variables}
    return pexpect.spawn(
        program,
        arguments,
        env=environment,
        cwd=folder,
        encoding="utf-8",
        timeout=30,
        dimensions=(40, 120),
    )


def _start_bash(folder: Path) -> pexpect.spawn:
    script = folder / ".completion"
    script.write_text(_script("bash"))
    bash = _spawn("bash", ["--norc", "--noprofile"], folder, PS1="$ ")
    bash.sendline(f"source {script}; echo rea''dy")
    bash.expect("ready")
    return bash


def _start_zsh(folder: Path) -> pexpect.spawn:
    script = folder / ".completion"
    script.write_text(_script("zsh"))
    zsh = _spawn("zsh", ["-f"], folder)
    zsh.sendline(f"PROMPT='$ '; autoload -U compinit && compinit -u -D; source {script}")
    zsh.sendline("echo rea''dy")
    zsh.expect("ready\r\n")
    return zsh


def _start_fish(folder: Path) -> pexpect.spawn:
    completions = folder / ".config" / "fish" / "completions"
    completions.mkdir(parents=True)
    (completions / "lensctl.fish").write_text(_script("fish"))
    fish = _spawn("fish", [], folder)
    fish.sendline("echo rea''dy")
    fish.expect("ready\r\n")
    return fish


_SHELLS = {"bash": _start_bash, "zsh": _start_zsh, "fish": _start_fish}


@pytest.fixture(params=list(_SHELLS))
def shell(request: pytest.FixtureRequest, folder: Path) -> Iterator[pexpect.spawn]:
    """A real shell in a terminal, with the completion loaded."""
    process = _SHELLS[request.param](folder)
    yield process
    process.close(force=True)


def test_tab_in_a_real_shell(shell: pexpect.spawn) -> None:
    shell.send("lensctl dup\t")
    shell.expect("licates")
    shell.send("--ex\t")
    shell.expect("act")
    shell.send("\x15lensctl index --device cu\t")
    shell.expect("cuda|da")
    shell.send("\x15lensctl query harb\t")
    shell.expect("our.jpg")
