"""Where models live, and what a model may be called."""

import os
import re
from pathlib import Path

from lensctl.config import expanded, user_folder
from lensctl.errors import UsageError

EMBEDDED = "mini"
"""The model that is part of lensctl."""

_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")


MODELS_VARIABLE = "LENSCTL_MODELS"


def models_home(*, needed: bool = False) -> Path:
    """`LENSCTL_MODELS`, or the folder `models` in the user's data folder. It may not exist yet.

    Raises UsageError where no home folder is known, and there has to be one.
    """
    if place := os.environ.get(MODELS_VARIABLE):
        return expanded(place)
    return user_folder("data", instead=MODELS_VARIABLE if needed else "") / "models"


def is_model_name(name: str) -> bool:
    """Whether a model may be called so."""
    return _NAME.fullmatch(name) is not None


def names_here() -> list[str]:
    """What lies in `models_home` under a name that a model may have, but the embedded one's.

    Raises OSError where the folder cannot be listed.
    """
    home = models_home()
    names = [path.name for path in home.iterdir()] if home.is_dir() else []
    return [name for name in names if name != EMBEDDED and is_model_name(name)]


def model_path(name: str) -> Path:
    """The folder of a named model, present or not. Raises UsageError for an impossible name."""
    if not is_model_name(name):
        raise UsageError(
            f"{name!r} cannot be the name of a model",
            why="a name is 1 to 64 small letters, digits, dots, dashes or underscores",
            next_step="choose another name, or give the path of a model folder",
        )
    return models_home() / name


def new_model_path(name: str) -> Path:
    """The folder for a model that is made.

    Raises UsageError as `model_path` and `models_home`, and for the embedded model's name.
    """
    models_home(needed=True)
    if name == EMBEDDED:
        raise UsageError(
            f"{name!r} is the name of the embedded model",
            why="a model of that name could never be opened",
            next_step="choose another with --name",
        )
    return model_path(name)
