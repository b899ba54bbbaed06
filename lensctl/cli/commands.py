"""All commands, and what becomes of their errors.

This module and the command files import nothing heavy: `lensctl --help` loads them all.
"""

import contextlib
import os
import sys
from collections.abc import Iterator
from io import TextIOWrapper
from typing import Any, NoReturn, cast

import typer
from typer.core import TyperGroup

from lensctl import __version__
from lensctl.cli.check import check
from lensctl.cli.demo import demo
from lensctl.cli.duplicates import duplicates
from lensctl.cli.eval import eval_app
from lensctl.cli.export import export
from lensctl.cli.forget import forget
from lensctl.cli.index import index
from lensctl.cli.mine import mine
from lensctl.cli.models import models
from lensctl.cli.query import query
from lensctl.cli.relocate import relocate
from lensctl.cli.shell import shell
from lensctl.cli.status import status
from lensctl.cli.streams import STDOUT
from lensctl.cli.terminal import as_memory_error, as_storage_error, lacks_memory
from lensctl.cli.train import train_app
from lensctl.cli.watch import watch
from lensctl.errors import LensctlError, StorageError


class _ReaderLeftError(Exception):
    """Whoever read our output went away: `lensctl query ... | head`. Not an error of ours."""


@contextlib.contextmanager
def _printing() -> Iterator[None]:
    """Flushes stdout while its errors can still be told, and keeps broken pipes from typer, which
    would end with 1 and say nothing.
    """
    try:
        try:
            yield
        finally:
            sys.stdout.flush()
    except OSError as error:
        if error.filename == STDOUT:
            _give_up_stdout()
            raise _output_error(error) from error
        if isinstance(error, BrokenPipeError):
            raise as_storage_error(error) from error
        raise


class _Commands(TyperGroup):
    def make_context(self, *args: Any, **extra: Any) -> Any:
        with _printing():  # --help and --version are answered here
            return super().make_context(*args, **extra)

    def invoke(self, ctx: Any) -> Any:
        with _printing():
            return super().invoke(ctx)


app = typer.Typer(
    name="lensctl",
    cls=_Commands,
    help="Search your photos by image, by instruction, by words.",
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"lensctl {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: bool = typer.Option(
        False,
        "--version",
        help="Print the version and exit.",
        callback=_print_version,
        is_eager=True,
    ),
) -> None:
    pass


for _command in (
    index,
    watch,
    shell,
    duplicates,
    status,
    forget,
    relocate,
    check,
    demo,
    mine,
):
    app.command()(_command)
for _asking in (query, export):
    # What is too much is told with the words that were meant, see `read_question`.
    app.command(context_settings={"allow_extra_args": True})(_asking)
app.add_typer(models, name="models")
app.add_typer(eval_app)
app.add_typer(train_app)


def run() -> NoReturn:
    """Run the command line; every error of the tree ends here, without a traceback."""
    # A terminal or a pipe need not take every character: it shall see an escape, not an error.
    cast("TextIOWrapper", sys.stdout).reconfigure(errors="backslashreplace")
    try:
        app()
    except LensctlError as error:
        _fail(error)
    except KeyboardInterrupt:
        print("\ninterrupted", file=sys.stderr)
        sys.exit(130)
    except _ReaderLeftError:
        sys.exit(0)
    except OSError as error:
        _fail(as_storage_error(error))
    except Exception as error:
        if not lacks_memory(error):
            raise
        _fail(as_memory_error(error))
    sys.exit(0)


def _output_error(error: OSError) -> StorageError | _ReaderLeftError:
    if isinstance(error, BrokenPipeError):
        return _ReaderLeftError()
    return StorageError(
        "what the command prints cannot be written",
        why=error.strerror or str(error),
        next_step="free some space there, or send the output elsewhere",
    )


def _give_up_stdout() -> None:
    """What it still holds goes nowhere, or the interpreter would complain of it at exit."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _fail(error: LensctlError) -> NoReturn:
    print("\n".join(error.lines()), file=sys.stderr)
    sys.exit(error.exit_code)
