"""Where the rows of *instruct* lie, in the order of their keys, without holding one of them."""

import json
from array import array
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from lensctl_training.mining.records import Instructed

Places = npt.NDArray[np.int64]
LOCATION = np.dtype([("file", "<i4"), ("offset", "<i8")])
Locations = npt.NDArray[np.void]
"""(n,) of LOCATION: the number of a file, and where in it a line begins."""
Look = tuple[str, int]
"""SHA-256 and perceptual hash (0: none) of a picture."""


class RowIndex:
    """The rows of some files; a place is a row's number in the order of keys, from 0.

    Of equal keys the order of the files decides. Memory: 16 bytes a row, about 100 while it is
    made, and the names of the sites.

    Args:
        files: JSON lines of `Instructed`; one that is missing has none.
    """

    def __init__(self, files: Sequence[Path]) -> None:
        self._files = files
        sites: dict[str, int] = {}
        keys, file_of, offsets, site_of = [np.empty(0, "S1")], array("i"), array("q"), array("i")
        for number, path in enumerate(files):
            in_file = []
            for offset, line in _lines(path):
                pair = json.loads(line)["pair"]
                in_file.append(pair["key"].encode())
                file_of.append(number)
                offsets.append(offset)
                site_of.append(sites.setdefault(pair["site"], len(sites)))
            if in_file:
                keys.append(np.array(in_file))
        order = np.argsort(np.concatenate(keys), kind="stable")
        self.sites = list(sites)
        self._file_of, self._offsets = np.array(file_of)[order], np.array(offsets)[order]
        self._site_of = np.array(site_of)[order]

    def __len__(self) -> int:
        return len(self._offsets)

    def of_sites(self, sites: set[str]) -> npt.NDArray[np.bool_]:
        """(n,) whether each row is of one of these sites."""
        wanted = [number for number, site in enumerate(self.sites) if site in sites]
        return np.isin(self._site_of, wanted)

    def looks(self, places: Places) -> Iterator[tuple[int, Look, Look]]:
        """The place and the two pictures of these rows, file by file."""
        order = np.lexsort((self._offsets[places], self._file_of[places]))
        places = places[order]
        read = read_at(self._files, self.locations(places))
        for place, (_, row) in zip(places.tolist(), read, strict=True):
            yield place, _look(row["pair"]["query"]), _look(row["pair"]["target"])

    def rows(self, places: Places) -> Iterator[Instructed]:
        """These rows, in this order."""
        return (
            Instructed.from_json(row) for _, row in read_at(self._files, self.locations(places))
        )

    def locations(self, places: Places) -> Locations:
        """Where these rows lie."""
        found = np.empty(len(places), LOCATION)
        found["file"], found["offset"] = self._file_of[places], self._offsets[places]
        return found


def read_locations(path: Path, start: int, stop: int) -> Locations:
    """Some of the locations that were written `tofile`."""
    return np.fromfile(path, LOCATION, stop - start, offset=start * LOCATION.itemsize)


def read_at(files: Sequence[Path], locations: Locations) -> Iterator[tuple[int, dict[str, Any]]]:
    """The JSON rows at these locations, in their order, each with the number of its file."""
    with ExitStack() as opened:
        file, number = None, -1
        for wanted, offset in locations.tolist():
            if file is None or wanted != number:
                opened.close()
                file, number = opened.enter_context(files[wanted].open("rb")), wanted
            file.seek(offset)
            yield number, json.loads(file.readline())


def _lines(path: Path) -> Iterator[tuple[int, bytes]]:
    """Lines with where they begin."""
    if not path.exists():
        return
    offset = 0
    with path.open("rb") as file:
        for line in file:
            yield offset, line
            offset += len(line)


def _look(picture: dict[str, Any]) -> Look:
    return picture["sha256"], picture["perceptual_hash"]
