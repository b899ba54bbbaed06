"""`lensctl check`: is the library sound?"""

import sys
from typing import Annotated

import typer

from lensctl.cli.options import LibraryOption
from lensctl.cli.terminal import note
from lensctl.config import load_settings


def check(
    mend: Annotated[bool, typer.Option("--repair", help="Mend what is wrong.")] = False,
    library: LibraryOption = None,
) -> None:
    """Check that the library is sound; exit status 3 where it is not.

    Search files are caches: one that is damaged or missing costs nothing but the time to make it.
    """
    from lensctl.library.check import check as find_problems
    from lensctl.library.check import repair
    from lensctl.library.library import Library

    place = Library(load_settings(library=library).library)
    problems = find_problems(place)
    for problem in problems:
        print(problem)
    if problems and mend:
        for done in repair(place):
            print(f"repaired: {done}")
        problems = find_problems(place)
        for problem in problems:
            print(f"still wrong: {problem}")
    if problems:
        note("next: lensctl check --repair" if not mend else "next: move it away and index again")
        sys.exit(3)
    print("the library is sound")
