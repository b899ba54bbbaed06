"""Which model serves a library: the flag, the environment, the library, the config file, mini."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, cast

from lensctl.config import expanded
from lensctl.models.home import EMBEDDED

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from lensctl.config import Settings
    from lensctl.library.library import Library
    from lensctl.library.search import SearchMode
    from lensctl.library.session import Session


def existing_library(folder: Path) -> "Library":
    """The library in a folder. Raises NoLibraryError where there is none."""
    from lensctl.library.library import Library

    library = Library(folder)
    library.require()
    return library


def model_name(library: "Library", settings: "Settings") -> str:
    """The model's name, or the absolute path of its folder where it was given as one."""
    if settings.model:
        return _whole_name(settings.model)
    if library.exists():
        with library.reading() as catalog:
            if name := catalog.fact("model"):
                return name
    return _whole_name(settings.default_model or EMBEDDED)


def _whole_name(name: str) -> str:
    folder = expanded(name)
    # A folder that happens to be called like the embedded model must not stand in for it.
    is_folder = os.sep in name or (name != EMBEDDED and (folder / "config.json").is_file())
    return str(folder.resolve()) if is_folder else name


def session_of(settings: "Settings") -> "AbstractContextManager[Session]":
    """A session over the settings' library and model. Raises NoLibraryError, ModelError."""
    from lensctl.library.session import open_session
    from lensctl.models.registry import open_model

    library = existing_library(settings.library)
    name = model_name(library, settings)
    mode = cast("SearchMode", settings.search)
    return open_session(
        library, open_model(name), mode=mode, max_pixels=settings.max_pixels, model_name=name
    )
