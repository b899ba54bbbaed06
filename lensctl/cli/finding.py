"""One search, from what was asked to what was found."""

import shlex
from typing import TYPE_CHECKING

from lensctl.cli.asking import Asked
from lensctl.cli.opening import session_of
from lensctl.cli.terminal import count, note
from lensctl.config import Settings
from lensctl.show.names import show_path

if TYPE_CHECKING:
    from lensctl.library.catalog import Catalog
    from lensctl.library.filters import Filters
    from lensctl.library.search import Match
    from lensctl.library.session import Session


_ALONE = "there is no other photo"


def find(
    settings: Settings, asked: Asked, filters: "Filters", *, include_self: bool
) -> "list[Match]":
    """The best matches in the library, best first; says on stderr why there are none."""
    with session_of(settings) as session:
        question = asked.question(session)
        if question.cut:
            note("the words are longer than the model reads: the end is left out")
        matches = session.find(
            question,
            settings.results,
            filters=filters,
            include_self=include_self,
            min_relevance=settings.min_score,
        )
        tell_unsearched(session)
        if matches and (unknown := unknown_folder(session.catalog, filters)):
            note(f"{unknown}; see its folders: lensctl status")
        if not matches:
            why = why_nothing(session, settings.min_score, filters)
            hint = "; to see the query photo itself: --include-self" if why == _ALONE else ""
            note(f"no results: {why}{hint}")
    return matches


def unknown_folder(catalog: "Catalog", filters: "Filters") -> str:
    """Which of a filter's folders are wrong; empty where the library knows photos in each."""
    folders = filters.located(catalog).folders
    unknown = [show_path(folder) for folder in folders if not catalog.photos_under(folder)]
    return f"the library knows no photo in {' or '.join(unknown)}" if unknown else ""


def tell_unsearched(session: "Session") -> None:
    """Say how many photos were not searched, as they have no vectors of the model."""
    if missing := session.unsearched():
        name = session.model.info.name
        note(
            f"not searched: {count(missing, 'photo')} without vectors of {name} as it is now;"
            f" make them: lensctl index --model {shlex.quote(session.model_name)}"
        )


def why_nothing(session: "Session", min_score: float, filters: "Filters") -> str:
    """Why a search found nothing, and what shows more."""
    catalog = session.catalog
    filters = filters.located(catalog)
    if unknown := unknown_folder(catalog, filters):
        return f"{unknown}; see its folders: lensctl status"
    if not len(filters.allowed(catalog)):
        return "no photo passes the filters" if filters else "the library holds no photo"
    if min_score > 0:
        return f"none reaches a score of {min_score}"
    if session.unsearched():
        return "no photo that passes has vectors of the model"
    return _ALONE
