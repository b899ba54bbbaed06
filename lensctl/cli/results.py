"""Search matches handed to the room that shows them."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from lensctl.cli.terminal import show_path

if TYPE_CHECKING:
    from lensctl.library.search import Match


def print_table(matches: "Sequence[Match]") -> None:
    """A table on a terminal, plain lines in a pipe."""
    for match in matches:
        print(f"{match.relevance:.2f}  {show_path(match.facts.path)}")


def print_json(asked: Mapping[str, str], matches: "Sequence[Match]") -> None:
    """The documented JSON."""
    raise NotImplementedError


def print_paths(matches: "Sequence[Match]", *, null: bool) -> None:
    """Paths alone."""
    raise NotImplementedError
