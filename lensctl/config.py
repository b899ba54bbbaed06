"""Settings: flags over environment over the config file over defaults.

The config file is TOML, in the platform's config folder (`lensctl status` prints where) or where
LENSCTL_CONFIG says. Its keys are the fields of `Settings`.
"""

import contextlib
import dataclasses
import os
import stat
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args, get_type_hints

from lensctl.errors import UsageError

DEVICES = ("auto", "cpu", "cuda", "mps")
PRECISIONS = ("auto", "fp32", "bf16", "int8")
_MOST_BYTES = 1 << 20
"""Of a config file."""
_NOWHERE = Path(os.devnull)
SEARCH_MODES = ("auto", "exact", "hnsw")
_IN_WORDS = {
    Path: "a path",
    str: "text",
    bool: "true or false",
    int: "a whole number",
    float: "a number",
}


@dataclass(frozen=True)
class Settings:
    """What a user can set once for all commands.

    Attributes:
        library: the library's folder; LENSCTL_LIBRARY, --library. In the config file it may be
            relative to that file.
        model: the model to use; LENSCTL_MODEL, --model. Empty: the library's own. In the config
            file: that of libraries that have none yet, `default_model` here.
        device: auto, cpu, cuda or mps; LENSCTL_DEVICE, --device.
        precision: auto, fp32, bf16 or int8; LENSCTL_PRECISION, --precision.
        exclude: gitignore patterns of photos to leave out, added to --exclude.
        max_megapixels: larger photos are recorded, not decoded; LENSCTL_MAX_MEGAPIXELS.
        workers: threads that read photos, 0 for one per CPU; LENSCTL_WORKERS, --workers.
        results: how many results a query shows; LENSCTL_RESULTS, -k.
        search: auto, exact or hnsw; LENSCTL_SEARCH, --search.
        min_score: drop results of less relevance, 0 to 1; LENSCTL_MIN_SCORE, --min-score.
        thumbs: thumbnails in the terminal where it can; LENSCTL_THUMBS, --thumbs/--no-thumbs.
    """

    library: Path = Path()
    model: str = ""
    device: str = "auto"
    precision: str = "auto"
    exclude: tuple[str, ...] = ()
    max_megapixels: float = 500.0
    workers: int = 0
    results: int = 10
    search: str = "auto"
    min_score: float = 0.0
    thumbs: bool = True
    default_model: str = ""

    @property
    def max_pixels(self) -> int:
        """`max_megapixels` in pixels."""
        return round(self.max_megapixels * 1e6)

    def __post_init__(self) -> None:
        _require_choice("device", self.device, DEVICES)
        _require_choice("precision", self.precision, PRECISIONS)
        _require_choice("search", self.search, SEARCH_MODES)
        _require("results", self.results >= 1, "at least 1")
        _require("workers", self.workers >= 0, "0 or more")
        _require("min_score", 0 <= self.min_score <= 1, "between 0 and 1")
        _require("max_megapixels", 0 < self.max_megapixels <= 1e9, "above 0 and at most 1e9")


def load_settings(**flags: Any) -> Settings:
    """Settings of this run; flags that are None are not given. Raises UsageError."""
    in_file = _from_file(config_path())
    # What was written once, for all libraries, must not move one to another model.
    in_file["default_model"] = in_file.pop("model", "")
    values = in_file | _from_environment(os.environ)
    given = {name: value for name, value in flags.items() if value is not None}
    if "exclude" in given:
        given["exclude"] = (*values.get("exclude", ()), *given["exclude"])
    values |= given
    if "library" not in values:
        values["library"] = user_folder("data", instead="LENSCTL_LIBRARY") / "library"
    return Settings(**values)


def config_path() -> Path:
    """Where the config file is looked for; an empty one where no home folder is known."""
    if path := os.environ.get("LENSCTL_CONFIG"):
        return expanded(path)
    folder = user_folder("config")
    return folder if folder == _NOWHERE else folder / "config.toml"


def user_folder(kind: Literal["cache", "config", "data"], *, instead: str = "") -> Path:
    """The platform's folder for what lensctl keeps for one user. It may not exist yet.

    Args:
        instead: what else names the place, for whom it must be one; else, where no home folder is
            known, it is a place that holds nothing and where nothing can be made.

    Raises:
        UsageError: no home folder is known, and there has to be one.
    """
    import platformdirs

    try:
        folder: Path = getattr(platformdirs, f"user_{kind}_path")("lensctl")
    except RuntimeError:
        folder = _NOWHERE
    if folder.parts[0] == "~":  # what older platformdirs say instead
        folder = _NOWHERE
    if instead and folder == _NOWHERE:
        raise UsageError(
            "no home folder is known",
            why="neither HOME nor the list of users names one",
            next_step=f"set HOME, or name the place: {instead}",
        )
    return folder


def _from_file(path: Path) -> dict[str, Any]:
    try:
        table = tomllib.loads(_read_bounded(path).decode("utf-8-sig"))
    except FileNotFoundError as error:
        if not os.environ.get("LENSCTL_CONFIG"):
            return {}
        raise UsageError(
            f"there is no config file {path}",
            why="LENSCTL_CONFIG names it",
            next_step="correct the variable, or unset it",
        ) from error
    except (OSError, ValueError, RecursionError) as error:
        raise UsageError(
            f"cannot read the config file {path}", why=str(error), next_step="correct or move it"
        ) from error
    hints = _types()
    for name in table:
        if name not in hints:
            raise UsageError(
                f"unknown setting {name!r} in {path}",
                why=f"known are: {', '.join(hints)}",
                next_step="correct or remove the line",
            )
    values = {name: _typed(name, value, str(path)) for name, value in table.items()}
    if "library" in values:
        values["library"] = path.parent.absolute() / values["library"]
    _check(values, str(path))
    return values


def _read_bounded(path: Path) -> bytes:
    """A file's bytes. Raises OSError, and ValueError for what would never end."""
    status = path.stat()
    if stat.S_ISREG(status.st_mode):
        if status.st_size > _MOST_BYTES:
            raise ValueError(f"it is larger than {_MOST_BYTES >> 20} MB")
    elif path != Path(os.devnull):
        raise ValueError("it is no regular file")
    return path.read_bytes()


def _from_environment(environment: Mapping[str, str]) -> dict[str, Any]:
    values = {}
    for name in _types():
        variable = f"LENSCTL_{name.upper()}"
        if name != "exclude" and environment.get(variable):
            values[name] = _typed(name, _parse(name, environment[variable]), variable)
            _check({name: values[name]}, variable)
    return values


def _check(values: dict[str, Any], source: str) -> None:
    """Raise UsageError, naming the source, where a value is out of its range."""
    try:
        Settings(**values)
    except UsageError as error:
        raise UsageError(f"{source}: {error.what}", next_step="correct it there") from error


def expanded(path: str) -> Path:
    """A path with the home folder for ~, as it is where there is no such user."""
    return Path(os.path.expanduser(path))  # noqa: PTH111 (Path's raises where there is no such user)


def _parse(name: str, text: str) -> Any:
    kind = _types()[name]
    if kind is bool:
        return {"1": True, "true": True, "yes": True, "0": False, "false": False, "no": False}.get(
            text.lower(), text
        )
    if kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            return text
    return text


def _typed(name: str, value: Any, source: str) -> Any:
    kind = _types()[name]
    if kind is Path and isinstance(value, str) and value:  # "" would be the file's folder
        return expanded(value)
    if kind is float and type(value) is int:
        with contextlib.suppress(OverflowError):
            return float(value)
    if get_args(kind) and isinstance(value, list) and all(isinstance(one, str) for one in value):
        return tuple(value)
    if isinstance(kind, type) and type(value) is kind:
        return value
    raise UsageError(
        f"{source}: {name} cannot be {value!r}",
        why=f"it must be {_IN_WORDS.get(kind, 'a list of texts')}",
        next_step="correct it; docs/reference/settings.md lists all settings",
    )


def _types() -> dict[str, Any]:
    hints = get_type_hints(Settings)
    names = [one.name for one in dataclasses.fields(Settings) if one.name != "default_model"]
    return {name: hints[name] for name in names}


def _require_choice(name: str, value: str, choices: tuple[str, ...]) -> None:
    _require(name, value in choices, f"one of {', '.join(choices)}")


def _require(name: str, holds: bool, what: str) -> None:
    if not holds:
        # What the file and the environment say was checked before: then it is the flag.
        flag = "-k" if name == "results" else f"--{name.replace('_', '-')}"
        raise UsageError(f"{name} must be {what}", next_step=f"correct {flag}")
