"""What a person waits for before anything happens: --help, Tab, and small commands.

    python benchmarks/start.py [--runs 10]

Whole processes of the installed `lensctl`, in turn; medians. `python` alone is the least a command
can cost; "Tab, asked of Typer" is what a completion without the table of commands costs.
"""

import argparse
import sys
from pathlib import Path

from measuring import Command, report, run_in_turn

PROGRAM = str(Path(sys.executable).with_name("lensctl"))
_ASK_TYPER = "import sys; sys.argv = ['lensctl']; from lensctl.cli.commands import run; run()"


def commands() -> list[Command]:
    """The commands measured."""
    tab = {"_LENSCTL_COMPLETE": "complete_bash", "COMP_WORDS": "lensctl\nqu", "COMP_CWORD": "1"}
    line = {"_LENSCTL_COMPLETE": "complete_zsh", "_TYPER_COMPLETE_ARGS": "lensctl query --dev"}
    return [
        Command("python alone", [sys.executable, "-c", "pass"]),
        Command("Tab after a command's first letters (bash)", [PROGRAM], tab),
        Command("Tab after an option's first letters (zsh)", [PROGRAM], line),
        Command("Tab, asked of Typer", [sys.executable, "-c", _ASK_TYPER], tab),
        Command("lensctl --help", [PROGRAM, "--help"]),
        Command("lensctl --version", [PROGRAM, "--version"]),
        Command("lensctl query --help", [PROGRAM, "query", "--help"]),
        Command("lensctl models list", [PROGRAM, "models", "list", "--json"]),
    ]


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--runs", type=int, default=10)
    options = parser.parse_args()
    report(run_in_turn(commands(), options.runs, warmups=2))


if __name__ == "__main__":
    main()
