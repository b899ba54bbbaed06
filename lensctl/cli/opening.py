"""Which model serves a library: the flag, the environment, the config file, the library, mini."""

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
    from lensctl.models.interface import Model


def existing_library(folder: Path) -> "Library":
    """The library in a folder. Raises NoLibraryError where there is none."""
    from lensctl.library.library import Library

    library = Library(folder)
    library.require()
    return library


def model_for(library: "Library", name: str) -> "Model":
    """Open the named model, or the one that the library was last indexed with."""
    from lensctl.models.registry import open_model

    return open_model(model_name(library, name))


def model_name(library: "Library", name: str) -> str:
    """The model's name, or the absolute path of its folder where it was given as one."""
    if name:
        folder = expanded(name)
        # A folder that happens to be called like the embedded model must not stand in for it.
        is_folder = os.sep in name or (name != EMBEDDED and (folder / "config.json").is_file())
        return str(folder.resolve()) if is_folder else name
    if library.exists():
        with library.reading() as catalog:
            return catalog.fact("model") or EMBEDDED
    return EMBEDDED


def session_of(settings: "Settings") -> "AbstractContextManager[Session]":
    """A session over the settings' library and model. Raises NoLibraryError, ModelError."""
    from lensctl.library.session import open_session

    library = existing_library(settings.library)
    model = model_for(library, settings.model)
    mode = cast("SearchMode", settings.search)
    return open_session(library, model, mode=mode, max_pixels=settings.max_pixels)
