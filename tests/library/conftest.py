"""A folder of small photos, a library, and a way to index the one into the other."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from lensctl.library.indexer import Indexer, IndexOptions, IndexSummary
from lensctl.library.library import Library
from support.colour_model import ColourModel
from support.photo_files import write_photo


class QuietWatcher:
    """Watches an index run; asks it to stop once `stop_after` photos went to the readers."""

    def __init__(self, stop_after: int | None = None) -> None:
        self.done = 0
        self.asked: int | None = None
        self.stop_after = stop_after

    def scanning(self, folder: bytes) -> None:
        pass

    def encoding(self, photos: int, seconds_per_photo: float) -> None:
        self.asked = 0

    def advanced(self, photos: int) -> None:
        self.done += photos

    def wants_stop(self) -> bool:
        if self.asked is None or self.stop_after is None:
            return False
        self.asked += 1
        return self.asked > self.stop_after


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Twelve photos in two folders."""
    folder = tmp_path / "photos"
    for number in range(12):
        write_photo(folder / ("a" if number < 6 else "b") / f"{number:02}.png", number)
    return folder


@pytest.fixture
def library(tmp_path: Path) -> Library:
    return Library(tmp_path / "library")


@pytest.fixture
def model() -> ColourModel:
    return ColourModel()


@pytest.fixture
def index(library: Library, model: ColourModel) -> Callable[..., IndexSummary]:
    """Index folders; keyword arguments are IndexOptions."""

    def run(*folders: Path, using: ColourModel | None = None, **options: object) -> IndexSummary:
        chosen = using or model
        stop_after = options.pop("stop_after", None)
        watcher = QuietWatcher(stop_after)  # type: ignore[arg-type]
        indexer = Indexer(library, chosen, chosen.info.name, IndexOptions(**options), watcher)  # type: ignore[arg-type]
        return indexer.run([os.fsencode(folder) for folder in folders])

    return run
