"""The nearest photos to a question, exact or by hnswlib.

A search file gives candidates; their cosines are computed from the catalog's own vectors. A file
that lies is found out and made again, and exact and approximate search agree on scores to the last
digit.
"""

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from lensctl.library.catalog import Catalog, ContentFacts, KnownLens
from lensctl.library.filters import Filters
from lensctl.library.hnsw import Graph
from lensctl.library.vectors import (
    SearchFile,
    Space,
    cosines_of,
    near_cosines,
    open_search_file,
    search_path,
    top_rows,
)
from lensctl.models.interface import Floats, ModelInfo, QueryKind, ScoreCurve

SearchMode = Literal["auto", "exact", "hnsw"]

_GATHER = 2000
"""Up to so many photos that pass the filters, their vectors are read from the catalog."""

_TOLERANCE = 0.03
"""How far a search file's cosine may lie from the catalog's: several times what rounding does."""

_SPARE = 100
"""Candidates beyond twice what is wanted; with them recall@10 is 0.998 or better: docs/speed.md."""
_TIES = 8
_DEFAULT_CURVE = ScoreCurve(slope=12.0, midpoint=0.5)


@dataclass(frozen=True, slots=True)
class Match:
    """A photo found: its facts, its cosine, and its relevance from 0 to 1."""

    facts: ContentFacts
    cosine: float
    relevance: float


class _DamagedSearchFileError(Exception):
    """A search file's vectors are not the catalog's."""


class Searcher:
    """Searches one library with one model's vectors.

    Args:
        catalog: open for reading.
        folder: the library's search folder.
        info: the model.
        text_keys: the model's embeddings -> text keys.
        mode: auto is exact: making a graph of so many photos that it pays takes many minutes.
    """

    def __init__(
        self,
        catalog: Catalog,
        folder: Path,
        info: ModelInfo,
        text_keys: Callable[[Floats], Floats],
        *,
        mode: SearchMode = "auto",
    ) -> None:
        self._catalog = catalog
        self._folder = folder
        self._info = info
        self._text_keys = text_keys
        self._mode = mode
        self._files: dict[Space, SearchFile] = {}
        self._graphs: dict[Space, Graph] = {}

    def search(
        self,
        vector: Floats,
        kind: QueryKind,
        count: int,
        *,
        filters: Filters | None = None,
        leave_out: Collection[int] = (),
        min_relevance: float = 0.0,
    ) -> list[Match]:
        """The `count` best matches, best first; exact copies of a photo are one match.

        Args:
            vector: (D,) for image and composed, (T,) for text; unit length.
            filters: their folder by any name that leads to it.
            leave_out: content ids that are not wanted, the query photo's own above all.
            min_relevance: matches below are dropped.
        """
        lens = self._catalog.lens(self._info)
        if lens is None or count < 1:
            return []
        filters = (filters or Filters()).located(self._catalog)
        search = _Search(self, lens, vector, kind, count, filters, set(leave_out))
        try:
            matches = search.run()
        except _DamagedSearchFileError:
            self._discard(search.space)
            matches = search.run()
        return [match for match in matches if match.relevance >= min_relevance]

    def file(self, lens: KnownLens, space: Space) -> SearchFile:
        """The search file of a space, up to date with the catalog."""
        file = self._files.get(space)
        if file is None or file.header.state != self._catalog.vector_state(lens):
            file = open_search_file(
                self._folder, self._catalog, lens, self._info, space, self._text_keys
            )
            self._files[space] = file
            self._graphs.pop(space, None)
        return file

    def rows(self, lens: KnownLens) -> int:
        """How many contents are searched: the rows of a search file, one that is open if any is."""
        file = next(iter(self._files.values()), None) or self.file(lens, "target")
        return file.header.rows

    def graph(self, lens: KnownLens, space: Space) -> Graph | None:
        """The hnswlib graph of a space where it is asked for, else None."""
        if self._mode != "hnsw":
            return None
        file = self.file(lens, space)
        if space not in self._graphs:
            self._graphs[space] = Graph(file)
        return self._graphs[space]

    def kept_vectors(
        self, lens: KnownLens, space: Space, content_ids: Sequence[int]
    ) -> dict[int, Floats]:
        """Content id -> vector in a space, from the catalog itself."""
        if space == "target":
            return self._catalog.targets(lens.lens_id, content_ids)
        kept = self._catalog.embeddings(lens.encoder_id, content_ids)
        if not kept:
            return {}
        keys = self._text_keys(np.stack(list(kept.values())))
        return dict(zip(kept, keys, strict=True))

    def curve(self, kind: QueryKind) -> ScoreCurve:
        """The model's calibration for a kind of question."""
        return self._info.curves.get(kind, _DEFAULT_CURVE)

    @property
    def catalog(self) -> Catalog:
        """The catalog that is searched."""
        return self._catalog

    def _discard(self, space: Space) -> None:
        self._files.pop(space, None)
        self._graphs.pop(space, None)
        for ending in ("vec", "hnsw", "hnsw.json"):
            search_path(self._folder, self._info, space, ending).unlink(missing_ok=True)


class _Search:
    """One question on its way to its matches."""

    def __init__(
        self,
        searcher: Searcher,
        lens: KnownLens,
        vector: Floats,
        kind: QueryKind,
        count: int,
        filters: Filters,
        leave_out: set[int],
    ) -> None:
        self._searcher = searcher
        self._lens = lens
        self._vector = vector
        self._kind: QueryKind = kind
        self._count = count
        self._filters = filters
        self._leave_out = leave_out
        self.space: Space = "text" if kind == "text" else "target"

    def run(self) -> list[Match]:
        if not self._filters:
            return self._nearest(None)
        allowed = self._filters.allowed(self._searcher.catalog)
        if len(allowed) <= _GATHER:
            return self._matches(allowed.tolist())
        return self._nearest(allowed)

    def _nearest(self, allowed: np.ndarray | None) -> list[Match]:
        """Go down the ranking until enough photos are found that may be shown."""
        matches: list[Match] = []
        for ids, cosines in self._ranking(allowed):
            claimed = dict(zip(ids.tolist(), cosines.tolist(), strict=True))
            matches = self._matches(list(claimed), claimed)
            if len(matches) >= self._count:
                break
        return matches

    def _ranking(self, allowed: np.ndarray | None) -> Iterator[tuple[np.ndarray, Floats]]:
        """(content ids, cosines) of ever more of the nearest allowed rows, until all were given."""
        file = self._searcher.file(self._lens, self.space)
        graph = self._searcher.graph(self._lens, self.space)
        want = 2 * self._count + len(self._leave_out) + _SPARE
        if graph is not None and allowed is None and want < file.header.rows // 2:
            rows, cosines = graph.nearest(self._vector, want)
            yield file.ids_at(rows), cosines
            want *= 4
        everything = near_cosines(file, self._vector)
        given = len(everything)
        if allowed is not None:
            is_allowed = np.isin(file.ids_at(slice(None)), allowed)
            everything[~is_allowed] = -np.inf
            given = int(is_allowed.sum())
        while True:
            rows = top_rows(everything, min(want, given))
            yield file.ids_at(rows), everything[rows]
            if want >= given:
                return
            want *= 4

    def _matches(self, ids: list[int], claimed: dict[int, float] | None = None) -> list[Match]:
        """The best of some contents, scored by the catalog's own vectors."""
        ids = [one for one in ids if one not in self._leave_out]
        kept = self._searcher.kept_vectors(self._lens, self.space, ids)
        if claimed is not None and len(kept) < len(ids):
            raise _DamagedSearchFileError
        if not kept:
            return []
        known = list(kept)
        cosines = cosines_of(np.stack(list(kept.values())), self._vector)
        if claimed is not None:
            self._require_truth(known, cosines, claimed)
        order = np.argsort(-cosines, kind="stable")
        found = self._described([(known[row], float(cosines[row])) for row in order])
        curve = self._searcher.curve(self._kind)
        return [
            Match(facts, cosine, float(curve.relevance(cosine)))
            for facts, cosine in found[: self._count]
        ]

    def _described(self, ranked: list[tuple[int, float]]) -> list[tuple[ContentFacts, float]]:
        """The facts of the best contents that may be shown, ties by path; enough of them."""
        found: list[tuple[ContentFacts, float]] = []
        step = self._count + _TIES
        for start in range(0, len(ranked), step):
            some = ranked[start : start + step]
            facts = self._searcher.catalog.describe(
                [content_id for content_id, _ in some], self._filters.folders
            )
            found += [(facts[one], cosine) for one, cosine in some if one in facts]
            if len(found) >= self._count:
                break
        return sorted(found, key=lambda one: (-one[1], one[0].path))

    def _require_truth(self, ids: list[int], cosines: Floats, claimed: dict[int, float]) -> None:
        told = np.array([claimed[one] for one in ids])
        if np.abs(told - cosines).max() > _TOLERANCE:
            raise _DamagedSearchFileError
