"""One library, one model, ready to be asked: what `query`, `export` and `shell` stand on."""

import contextlib
import shlex
from collections.abc import Iterator
from functools import cached_property
from io import BytesIO
from pathlib import Path

from lensctl.errors import NoLibraryError
from lensctl.library.catalog import Catalog
from lensctl.library.filters import Filters
from lensctl.library.library import Library
from lensctl.library.question import Question, ask_photo, ask_text, photo_embedding
from lensctl.library.search import Match, Searcher, SearchMode
from lensctl.models.interface import Floats, Model, QuerySide
from lensctl.photos.formats import MAX_PIXELS


class Session:
    """Made by `open_session`; the model's query side is loaded by the first question."""

    def __init__(
        self,
        library: Library,
        catalog: Catalog,
        model: Model,
        *,
        mode: SearchMode,
        max_pixels: int,
        model_name: str,
    ) -> None:
        self.library = library
        self.catalog = catalog
        self.model = model
        self.model_name = model_name
        self._max_pixels = max_pixels
        self._lens = catalog.lens(model.info)
        self.searcher = Searcher(
            catalog,
            library.search_folder,
            model.info,
            lambda embeddings: self.side.text_keys(embeddings),
            mode=mode,
        )

    @cached_property
    def side(self) -> QuerySide:
        """The model's torch-free side."""
        return self.model.query_side()

    def ask_text(self, text: str) -> Question:
        """A question in words."""
        return ask_text(self.side, text)

    def ask_photo(self, photo: Path | BytesIO, instruction: str = "") -> Question:
        """A question by a photo, and an instruction where it is not empty. Raises PhotoError."""
        return ask_photo(self.side, self.catalog, self._lens, photo, instruction, self._max_pixels)

    def photo_embedding(self, photo: Path) -> tuple[Floats, int | None]:
        """(E,) embedding of a photo, and its content id where known. Raises PhotoError."""
        return photo_embedding(self.side, self.catalog, self._lens, photo, self._max_pixels)

    def kept_embedding(self, content_id: int) -> Floats | None:
        """(E,) embedding that the library keeps of a content, or None."""
        if self._lens is None:
            return None
        return self.catalog.embedding(self._lens.encoder_id, content_id)

    def unsearched(self) -> int:
        """How many photos no search can find yet, as they have no vectors of this model.

        The model was changed, or has not been given all folders. Cheap where there are none.
        """
        if self._lens is None or self.searcher.rows(self._lens) >= self.catalog.contents():
            return 0
        return self.catalog.photos_without_target(self._lens.lens_id)

    def find(
        self,
        question: Question,
        count: int,
        *,
        filters: Filters | None = None,
        include_self: bool = False,
        min_relevance: float = 0.0,
    ) -> list[Match]:
        """The best matches, best first; without the query photos unless they are asked for."""
        return self.searcher.search(
            question.vector,
            question.kind,
            count,
            filters=filters,
            leave_out=() if include_self else question.content_ids,
            min_relevance=min_relevance,
        )


@contextlib.contextmanager
def open_session(
    library: Library,
    model: Model,
    *,
    mode: SearchMode = "auto",
    max_pixels: int = MAX_PIXELS,
    model_name: str = "",
) -> Iterator[Session]:
    """A session over a library that has photos indexed with the model.

    Args:
        model_name: the name or folder that the model was opened by, which advice repeats; its own
            name where empty.

    Raises NoLibraryError where there is no library or nothing in it for this model.
    """
    model_name = model_name or model.info.name
    with library.reading() as catalog:
        if catalog.lens(model.info) is None:
            raise _not_indexed(library, model.info.name, model_name, catalog.models())
        yield Session(
            library, catalog, model, mode=mode, max_pixels=max_pixels, model_name=model_name
        )


def _not_indexed(library: Library, model: str, model_name: str, held: list[str]) -> NoLibraryError:
    if model in held:
        return NoLibraryError(
            f"{library.folder} was indexed with another version of {model}",
            why="the weights of this one differ, and vectors of different weights do not compare",
            next_step="bring it up to date: lensctl index",
        )
    return NoLibraryError(
        f"nothing in {library.folder} was indexed with {model}",
        why=f"it holds vectors of {', '.join(held) or 'no model'}",
        next_step=f"lensctl index --model {shlex.quote(model_name)}, or query with another --model",
    )
