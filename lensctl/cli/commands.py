"""All commands, and what becomes of their errors.

This module and the command files import nothing heavy: `lensctl --help` loads them all.
"""

import os
import sys
from typing import NoReturn

import typer

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
from lensctl.cli.terminal import as_storage_error
from lensctl.cli.train import train_app
from lensctl.cli.watch import watch
from lensctl.errors import LensctlError

app = typer.Typer(
    name="lensctl",
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
    query,
    shell,
    duplicates,
    export,
    status,
    forget,
    relocate,
    check,
    demo,
    mine,
):
    app.command()(_command)
app.add_typer(models, name="models")
app.add_typer(eval_app)
app.add_typer(train_app)


def run() -> NoReturn:
    """Run the command line; every error of the tree ends here, without a traceback."""
    try:
        app()
    except LensctlError as error:
        _fail(error)
    except KeyboardInterrupt:
        print("\ninterrupted", file=sys.stderr)
        sys.exit(130)
    except BrokenPipeError:
        # The reader of our output went away (`lensctl query ... | head`): not an error. stdout is
        # replaced so that the interpreter's own flush at exit does not complain.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)
    except OSError as error:
        _fail(as_storage_error(error))
    sys.exit(0)


def _fail(error: LensctlError) -> NoReturn:
    print("\n".join(error.lines()), file=sys.stderr)
    sys.exit(error.exit_code)
