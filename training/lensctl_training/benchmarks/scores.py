"""The score of one task: ranks of the right answers, then the mean of every measure.

Every query stays in every mean. One whose image cannot be read finds nothing; a right answer that
cannot be read is never found; a query without a right answer is a miss, as its authors count it.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from lensctl.models.interface import Floats
from lensctl_training.benchmarks.benchmark import Query, Task
from lensctl_training.benchmarks.bootstrap import Estimate, Interval, estimate
from lensctl_training.benchmarks.metrics import RankedPositives, rank_positives, top_k

BLOCK = 64
"""Queries scored at once: (64, candidates) float32, 32 MB for CIRCO."""
ABSENT = -1


@dataclass(frozen=True)
class QueryResult:
    """What happened to one query.

    `values` are its measures, `best_rank` the rank of its first right answer (infinity if none is
    found, NaN if the answers are hidden), `top` its best candidates.
    """

    query: Query
    values: tuple[float, ...]
    best_rank: float
    tied: bool
    top: tuple[int, ...]


@dataclass(frozen=True)
class TaskScore:
    """The means of a task, over all of its queries.

    Args:
        task: its name.
        estimates: measure -> mean, 0 to 1; empty where the answers are hidden.
        groups: group -> mean of the task's group measure over the queries in it.
        queries: how many there are, all of them counted.
        candidates: size of the gallery, or the mean size of the queries' own.
        tied: queries in which a right and a wrong candidate scored the same.
        without_image: queries whose own image cannot be read; they find nothing.
        without_answer: queries without a right answer; they count as misses.
        lost_answers: right answers whose image cannot be read; they are never found.
        results: one for each query, in order.
    """

    task: str
    estimates: dict[str, Estimate] = field(repr=False)
    groups: dict[str, float]
    queries: int
    candidates: float
    tied: int
    without_image: int
    without_answer: int
    lost_answers: int
    results: tuple[QueryResult, ...] = field(repr=False)

    @property
    def values(self) -> dict[str, float]:
        """Measure -> mean."""
        return {name: found.value for name, found in self.estimates.items()}

    @property
    def intervals(self) -> dict[str, Interval]:
        """Measure -> (low, high), a 95 % bootstrap interval over queries."""
        return {name: found.interval for name, found in self.estimates.items()}


class TaskScorer:
    """Scores one task; made once and used for every kind of query vectors.

    Args:
        task: what to score.
        candidates: (C, D) vectors, of which the task's candidates are rows.
        candidate_ok: (C,) whether each can be retrieved.
        image_ok: (N,) whether each image of the benchmark could be read.
    """

    def __init__(
        self,
        task: Task,
        candidates: Floats,
        candidate_ok: npt.NDArray[np.bool_],
        image_ok: npt.NDArray[np.bool_],
    ) -> None:
        self.task = task
        self._candidates = candidates
        self._candidate_ok = candidate_ok
        self._image_ok = image_ok
        self._gallery = self._retrievable(task.gallery)
        self._position = np.full(len(candidates), ABSENT, dtype=np.int64)
        self._position[self._gallery] = np.arange(len(self._gallery))
        whole = np.array_equal(self._gallery, np.arange(len(candidates)))
        self._rows = candidates if whole else candidates[self._gallery]

    def score(self, vectors: Floats) -> TaskScore:
        """(Q, D) query vectors, in the order of the task's queries -> its score."""
        queries = self.task.queries
        results = tuple(self._results(vectors))
        scored = not self.task.hidden
        return TaskScore(
            task=self.task.name,
            estimates=self._estimates(results) if scored else {},
            groups=self._group_means(results) if scored else {},
            queries=len(queries),
            candidates=float(np.mean([self._gallery_size(query) for query in queries])),
            tied=sum(result.tied for result in results),
            without_image=sum(not self._has_image(query) for query in queries),
            without_answer=sum(not query.positives for query in queries) if scored else 0,
            lost_answers=sum(int(not self._candidate_ok[p]) for q in queries for p in q.positives),
            results=results,
        )

    def quick_mean(self, vectors: Floats) -> float:
        """The mean of the first measure alone: what a search for the best weight maximises."""
        measure = self.task.measures[0]
        return float(np.mean([measure.function(ranked.ranks) for ranked, _ in self._rank(vectors)]))

    def _results(self, vectors: Floats) -> Iterator[QueryResult]:
        pairs = self._rank(vectors, self.task.keep)
        for query, (ranked, top) in zip(self.task.queries, pairs, strict=True):
            if self.task.hidden:
                yield QueryResult(query, (), float("nan"), False, top)
            else:
                values = tuple(measure.function(ranked.ranks) for measure in self.task.measures)
                yield QueryResult(query, values, float(ranked.ranks[0]), ranked.tied, top)

    def _rank(
        self, vectors: Floats, keep: int = 0
    ) -> Iterator[tuple[RankedPositives, tuple[int, ...]]]:
        """Ranks of the right answers and the `keep` best candidates, query by query."""
        for query, (ids, scores) in zip(self.task.queries, self._compare(vectors), strict=True):
            if not self._has_image(query):
                yield _never_found(query), ()
                continue
            excluded = self._locate(query, ids, query.excluded)
            right = self._locate(query, ids, query.positives)
            top = tuple(ids[top_k(scores, keep, excluded)].tolist()) if keep else ()
            if right:
                lost = len(query.positives) - len(right)
                yield rank_positives(scores, right, excluded, unreachable=lost), top
            else:
                yield _never_found(query), top

    def _compare(self, vectors: Floats) -> Iterator[tuple[npt.NDArray[np.int64], Floats]]:
        """The ids and scores of each query's candidates."""
        queries = self.task.queries
        for start in range(0, len(queries), BLOCK):
            block = vectors[start : start + BLOCK]
            shared = block @ self._rows.T
            for row, query in enumerate(queries[start : start + BLOCK]):
                if query.candidates is None:
                    yield self._gallery, shared[row]
                else:
                    ids = self._retrievable(query.candidates)
                    yield ids, self._candidates[ids] @ block[row]

    def _locate(
        self, query: Query, ids: npt.NDArray[np.int64], wanted: tuple[int, ...]
    ) -> list[int]:
        """Positions among the query's candidates of those of `wanted` that can be retrieved."""
        if query.candidates is None:
            found = self._position[list(wanted)]
            return found[found != ABSENT].tolist()
        return np.flatnonzero(np.isin(ids, wanted)).tolist()

    def _retrievable(self, ids: Sequence[int]) -> npt.NDArray[np.int64]:
        array = np.asarray(ids, dtype=np.int64)
        return array[self._candidate_ok[array]]

    def _gallery_size(self, query: Query) -> int:
        shared = query.candidates is None
        return len(self._gallery if shared else self._retrievable(query.candidates or ()))

    def _has_image(self, query: Query) -> bool:
        return query.image is None or bool(self._image_ok[query.image])

    def _estimates(self, results: tuple[QueryResult, ...]) -> dict[str, Estimate]:
        names = [measure.name for measure in self.task.measures]
        table = np.array([result.values for result in results])
        found = estimate(table, [result.query.id for result in results])
        return dict(zip(names, found, strict=True))

    def _group_means(self, results: tuple[QueryResult, ...]) -> dict[str, float]:
        measure = self.task.group_measure
        if measure is None:
            return {}
        column = self.task.measures.index(measure)
        groups: dict[str, list[float]] = {}
        for result in results:
            for group in result.query.groups:
                groups.setdefault(group, []).append(result.values[column])
        return {group: float(np.mean(groups[group])) for group in sorted(groups)}


def _never_found(query: Query) -> RankedPositives:
    """The ranks of a query that finds nothing: at least one right answer, all at infinity."""
    return RankedPositives(np.full(max(1, len(query.positives)), np.inf), False)
