"""One search, from what was asked to what was found."""

from typing import TYPE_CHECKING, cast

from lensctl.cli.asking import Asked
from lensctl.cli.opening import existing_library, model_for
from lensctl.cli.terminal import note
from lensctl.config import Settings
from lensctl.show.names import show_path

if TYPE_CHECKING:
    from lensctl.library.catalog import Catalog
    from lensctl.library.filters import Filters
    from lensctl.library.search import Match, SearchMode


def find(
    settings: Settings, asked: Asked, filters: "Filters", *, include_self: bool
) -> "list[Match]":
    """The best matches in the library, best first; says on stderr why there are none."""
    from lensctl.library.session import open_session

    library = existing_library(settings.library)
    model = model_for(library, settings.model)
    mode = cast("SearchMode", settings.search)
    pixels = round(settings.max_megapixels * 1e6)
    with open_session(library, model, mode=mode, max_pixels=pixels) as session:
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
        if not matches:
            _explain_nothing(session.catalog, settings, filters)
    return matches


def _explain_nothing(catalog: "Catalog", settings: Settings, filters: "Filters") -> None:
    filters = filters.located(catalog)
    if filters.folder is not None and not catalog.photos_under(filters.folder):
        where = show_path(filters.folder)
        reason = f"the library knows no photo in {where}; see its folders: lensctl status"
    elif not len(filters.allowed(catalog)):
        reason = "no photo passes the filters" if filters else "the library holds no photo"
    elif settings.min_score > 0:
        reason = f"none reaches a score of {settings.min_score}"
    else:
        reason = "there is no other photo; to see the query photo itself: --include-self"
    note(f"no results: {reason}")
