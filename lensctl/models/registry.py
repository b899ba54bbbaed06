"""Models by name: what is embedded, what is on this machine, what can be pulled. No torch."""

from dataclasses import dataclass
from pathlib import Path

from lensctl.config import expanded
from lensctl.errors import LensctlError, ModelError
from lensctl.models.folder import CONFIG, open_folder
from lensctl.models.home import EMBEDDED, model_path, models_home, names_here
from lensctl.models.interface import Model
from lensctl.models.named import NAMED


@dataclass(frozen=True)
class ListedModel:
    """A line of `lensctl models list`; the `problem` of a damaged folder says what is wrong."""

    name: str
    description: str
    licence: str
    present: bool
    path: Path | None = None
    problem: str = ""


def open_model(name_or_path: str) -> Model:
    """A model that is on this machine. Never reaches the network.

    Args:
        name_or_path: a name, or the path of a model folder (it holds a separator, or the folder
            has a config.json).

    Raises ModelError where it is not here, with the command that gets it.
    """
    if name_or_path == EMBEDDED:
        return _open_embedded()
    path = expanded(name_or_path)
    if path.parent != Path() or (path / CONFIG).is_file():
        return open_folder(path)
    folder = model_path(name_or_path)
    if folder.is_dir():
        return open_folder(folder)
    raise _absent(name_or_path)


def list_models() -> list[ListedModel]:
    """The embedded model, then all others by name: present ones and those that can be pulled."""
    here = {name for name in names_here() if _has_config(models_home() / name)}
    others = [_listed(name) for name in sorted(here | NAMED.keys())]
    return [_embedded(), *others]


def _has_config(folder: Path) -> bool:
    """Also where that cannot be seen, so that the folder is listed with its problem."""
    try:
        (folder / CONFIG).stat()
    except OSError as error:
        return not isinstance(error, FileNotFoundError | NotADirectoryError)
    return True


def _embedded() -> ListedModel:
    try:
        info = _open_embedded().info
    except LensctlError as error:
        return ListedModel(EMBEDDED, "the embedded default", "", False, problem=error.what)
    return ListedModel(EMBEDDED, info.description, info.licence, True)


def _listed(name: str) -> ListedModel:
    path = models_home() / name
    known = NAMED.get(name)
    if not path.is_dir() and known is not None:
        return ListedModel(name, known.description, known.licence, False)
    try:
        info = open_folder(path).info
    except ModelError as error:
        return ListedModel(name, "", "", True, path=path, problem=error.why)
    return ListedModel(name, info.description, info.licence, True, path)


def _open_embedded() -> Model:
    try:
        from lensctl.models.mini import open_mini
    except ImportError as error:
        raise ModelError(
            "the embedded model is not part of this installation",
            why=str(error),
            next_step="install lensctl again",
        ) from error
    return open_mini()


def _absent(name: str) -> ModelError:
    if name in NAMED:
        return ModelError(
            f"the model {name!r} is not on this machine", next_step=f"lensctl models pull {name}"
        )
    return ModelError(
        f"there is no model named {name!r}",
        why=f"known names: {', '.join([EMBEDDED, *sorted(NAMED)])}",
        next_step="lensctl models list",
    )
