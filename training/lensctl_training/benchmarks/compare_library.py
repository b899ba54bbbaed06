"""Both models' answers to a user's questions, from the user's own library."""

import os
from collections.abc import Sequence
from pathlib import Path

from lensctl.errors import UsageError
from lensctl.library.library import Library
from lensctl.library.session import open_session
from lensctl.models.interface import Model
from lensctl_training.benchmarks.compare import Ask, Ballot, make_ballot, read_asks
from lensctl_training.benchmarks.report import make_folder


def prepare_ballot(
    library: Library,
    models: tuple[Model, Model],
    queries: Path,
    folder: Path,
    *,
    count: int,
    seed: int,
) -> Ballot:
    """Ask both models everything in the queries file and draw the sides.

    Raises:
        UsageError: both models are the same, or `folder` cannot be one.
        NoLibraryError: the library was not indexed with one of them.
        DataError: the queries file cannot be used, or `folder` holds another comparison.
    """
    names = models[0].info.name, models[1].info.name
    if names[0] == names[1]:
        raise UsageError(
            f"both models are {names[0]}", next_step="name two different models to compare"
        )
    asks = read_asks(queries)
    make_folder(folder)
    a, b = (_answers(library, model, asks, count) for model in models)
    return make_ballot(folder, names, asks, (a, b), seed)


def _answers(library: Library, model: Model, asks: Sequence[Ask], count: int) -> list[list[str]]:
    """Paths of the photos found for each question, best first; by exact search."""
    with open_session(library, model, mode="exact") as session:
        answers = []
        for ask in asks:
            if ask.image:
                question = session.ask_photo(Path(ask.image), ask.text)
            else:
                question = session.ask_text(ask.text)
            found = session.find(question, count)
            answers.append([os.fsdecode(match.facts.path) for match in found])
        return answers
