"""Scores of (query, instruction) -> target triplets from their vectors.

Numpy only, so that training can call it after every few steps with the vectors it just made.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from lensctl_training.benchmarks.metrics import hit_rate_at, rank_positives, reciprocal_rank

CUTOFFS = (1, 5, 10, 50)
BLOCK = 256
"""Queries scored at once: a block of scores is (256, candidates) float32."""

Rows = Sequence[Sequence[int]] | Sequence[npt.NDArray[np.int64]]
"""Indices of candidates, for each query."""


@dataclass(frozen=True)
class TripletRanks:
    """What happened to each query.

    Args:
        values: measure -> (N,) float64: recall@1, @5, @10, @50 (1 if any right answer is found)
            and mrr; with references reference_first, 1 if the query's own image stands above
            every right answer, the failure that query negatives are there to cure.
        best_ranks: (N,) the rank of the first right answer.
        tied: (N,) whether the result hangs on a tie, which is settled against the model.
        candidates: their mean number over queries.
    """

    values: dict[str, npt.NDArray[np.float64]]
    best_ranks: npt.NDArray[np.float64]
    tied: npt.NDArray[np.bool_]
    candidates: float

    def summary(self) -> dict[str, float]:
        """Means over queries; median_rank, tied, queries and candidates."""
        means = {name: float(column.mean()) for name, column in self.values.items()}
        return means | {
            "median_rank": float(np.median(self.best_ranks)),
            "tied": float(self.tied.mean()),
            "queries": float(len(self.best_ranks)),
            "candidates": self.candidates,
        }


def evaluate_triplets(
    queries: npt.NDArray[np.floating],
    targets: npt.NDArray[np.floating],
    gallery: npt.NDArray[np.floating] | None = None,
    positives: Rows | None = None,
    exclude: Rows | None = None,
    references: npt.NDArray[np.int64] | Sequence[int] | None = None,
) -> dict[str, float]:
    """The means of `rank_triplets`; arguments and errors are its own."""
    return rank_triplets(queries, targets, gallery, positives, exclude, references).summary()


def rank_triplets(
    queries: npt.NDArray[np.floating],
    targets: npt.NDArray[np.floating],
    gallery: npt.NDArray[np.floating] | None = None,
    positives: Rows | None = None,
    exclude: Rows | None = None,
    references: npt.NDArray[np.int64] | Sequence[int] | None = None,
) -> TripletRanks:
    """Look for each query's target among all targets and the rest of the gallery.

    The candidates are the N targets followed by the M gallery rows; an index below N names a
    target, N + j names gallery row j. Rows are compared by dot product: give unit vectors.

    Args:
        queries: (N, D).
        targets: (N, D), row i is the answer to query i.
        gallery: (M, D), further candidates such as the query images; None for no others.
        positives: for each query all candidates that are right, its own target included;
            None: only target i. Give it where two queries share a target, for the second copy
            of the same picture would otherwise count as a wrong answer.
        exclude: for each query the candidates that are not ranked; None: every one is.
        references: (N,) the candidate that is the query's own image, -1 where there is none.

    Raises:
        ValueError: shapes do not fit, a vector is not finite, or a query has no right answer.
    """
    candidates = targets if gallery is None else np.concatenate([targets, gallery])
    _check_shapes(queries, targets, candidates, positives, exclude)
    ranked, own_first = [], np.zeros(len(queries))
    for start in range(0, len(queries), BLOCK):
        for row, scores in enumerate(queries[start : start + BLOCK] @ candidates.T, start):
            right = [row] if positives is None else positives[row]
            ranked.append(rank_positives(scores, right, () if exclude is None else exclude[row]))
            own = -1 if references is None else references[row]
            own_first[row] = own >= 0 and own not in right and _beats(scores, own, right)
    found = [positive.ranks for positive in ranked]
    left_out = 0.0 if exclude is None else np.mean([len(np.unique(row)) for row in exclude])
    values = {f"recall@{k}": np.array([hit_rate_at(ranks, k) for ranks in found]) for k in CUTOFFS}
    values["mrr"] = np.array([reciprocal_rank(ranks) for ranks in found])
    if references is not None:
        values["reference_first"] = own_first
    return TripletRanks(
        values,
        np.array([ranks[0] for ranks in found]),
        np.array([positive.tied for positive in ranked]),
        float(len(candidates) - left_out),
    )


def _beats(
    scores: npt.NDArray[np.floating], one: int, others: Sequence[int] | npt.NDArray[np.int64]
) -> bool:
    return bool(scores[one] >= np.max(scores[np.asarray(others)]))


def _check_shapes(
    queries: npt.NDArray[np.floating],
    targets: npt.NDArray[np.floating],
    candidates: npt.NDArray[np.floating],
    positives: Rows | None,
    exclude: Rows | None,
) -> None:
    if len(queries) == 0:
        raise ValueError("there is no query")
    if queries.shape != targets.shape or candidates.shape[1] != queries.shape[1]:
        raise ValueError(
            f"queries {queries.shape}, targets {targets.shape} and candidates "
            f"{candidates.shape} do not fit"
        )
    for name, rows in (("positives", positives), ("exclude", exclude)):
        if rows is not None and len(rows) != len(queries):
            raise ValueError(f"{name} has {len(rows)} rows for {len(queries)} queries")


def share_answers(
    targets: Sequence[str], questions: Sequence[str]
) -> tuple[list[npt.NDArray[np.int64]], npt.NDArray[np.int64]]:
    """What `positives` and `exclude` must say where triplets share pictures or questions.

    Args:
        targets: for each triplet the content of its target, as a hash or any other name.
        questions: for each triplet its query image's content and instruction, as one name.

    Returns:
        For each triplet the rows that answer its question (those of all triplets that ask the
        same), and the rows that repeat an earlier target, which nobody should be ranked against.
        Every distinct picture is left as one candidate.
    """
    first: dict[str, int] = {}
    for row, target in enumerate(targets):
        first.setdefault(target, row)
    repeated = np.array([r for r, t in enumerate(targets) if first[t] != r], dtype=np.int64)
    answers: dict[str, set[int]] = {}
    for question, target in zip(questions, targets, strict=True):
        answers.setdefault(question, set()).add(first[target])
    return [np.array(sorted(answers[question])) for question in questions], repeated
