"""The terminal: one thin file per command. A command validates, makes one call, formats."""

import os
import sys

from lensctl.cli.streams import prepare_streams


def main() -> None:
    """`lensctl`: run the command line, or answer a shell that asks what Tab could write.

    A shell waits for the answer with every press of Tab; it is given without loading the commands.
    """
    if os.environ.get("_LENSCTL_COMPLETE", "").startswith("complete_"):
        from lensctl.cli.completion import answer

        if answer(os.environ):
            return
    prepare_streams()
    try:
        from lensctl.cli.commands import run
    except KeyboardInterrupt:  # Ctrl-C in the first moments; later ones are `run`'s
        sys.exit(130)
    run()
