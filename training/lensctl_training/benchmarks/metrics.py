"""Ranking metrics, in plain numpy, from one quantity: the ranks of a query's right answers.

`rank_positives` turns scores into ranks; everything else is arithmetic on them. Ties are settled
against the model: of candidates with the same score the wrong ones come first. A benchmark file
that lists the right answer first, or a model that gives one score to everything, gains nothing.

A right answer that cannot be retrieved (its file is missing) has the rank infinity: it stays in
every denominator and is never found.

Ranks are float64, start at 1 and are sorted ascending.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Ranks = npt.NDArray[np.float64]
Indices = npt.NDArray[np.int64]


@dataclass(frozen=True)
class RankedPositives:
    """Where a query's right answers were ranked.

    `ranks` is (P,). `tied` says that a right and a wrong answer had the same score, so that a
    kinder rule for ties could give a better rank.
    """

    ranks: Ranks
    tied: bool


def rank_positives(
    scores: npt.ArrayLike,
    positives: npt.ArrayLike,
    excluded: npt.ArrayLike = (),
    *,
    unreachable: int = 0,
) -> RankedPositives:
    """Rank the right answers among all candidates of one query.

    Args:
        scores: (M,) similarity of every candidate, higher is better, finite.
        positives: (P,) indices of the right answers.
        excluded: indices of candidates that are not ranked at all, such as the query image.
            An index in both is excluded.
        unreachable: right answers that have no candidate; each gets the rank infinity.

    Raises:
        ValueError: a score is not finite, an index is out of range, or there is no right answer.
    """
    values = np.asarray(scores)
    if not np.isfinite(values).all():
        raise ValueError("a score is not finite")
    is_candidate = np.ones(len(values), dtype=bool)
    is_candidate[_as_indices(excluded, len(values))] = False
    is_positive = np.zeros(len(values), dtype=bool)
    is_positive[_as_indices(positives, len(values))] = True
    is_positive &= is_candidate
    right = np.sort(values[is_positive])
    if len(right) + unreachable == 0:
        raise ValueError("a query without a right answer cannot be scored")
    wrong = values[is_candidate & ~is_positive]
    ahead = _count_at_least(wrong, right)
    ranks = ahead[::-1] + np.arange(1, len(right) + 1)
    tied = bool((ahead != _count_above(wrong, right)).any())
    return RankedPositives(np.concatenate([ranks, np.full(unreachable, np.inf)]), tied)


def _as_indices(indices: npt.ArrayLike, count: int) -> Indices:
    array = np.asarray(indices, dtype=np.int64)
    if array.size and (array.min() < 0 or array.max() >= count):
        raise ValueError(f"an index lies outside 0 to {count - 1}")
    return array


def _count_at_least(wrong: npt.NDArray, right: npt.NDArray) -> Indices:
    """(W,) and ascending (P,) -> (P,): how many of `wrong` are >= each of `right`."""
    return _count_beaten(np.searchsorted(right, wrong, side="right"), len(right))


def _count_above(wrong: npt.NDArray, right: npt.NDArray) -> Indices:
    """(W,) and ascending (P,) -> (P,): how many of `wrong` are > each of `right`."""
    return _count_beaten(np.searchsorted(right, wrong, side="left"), len(right))


def _count_beaten(beaten: npt.NDArray[np.intp], size: int) -> Indices:
    """Each wrong answer beats the `beaten` lowest right ones -> (P,) how many beat each."""
    histogram = np.bincount(beaten, minlength=size + 1)
    return np.cumsum(histogram[::-1])[::-1][1:].astype(np.int64)


def hit_rate_at(ranks: Ranks, k: int) -> float:
    """1 if any right answer is among the first k, else 0. With one right answer: recall at k."""
    return float(ranks[0] <= k)


def true_recall_at(ranks: Ranks, k: int) -> float:
    """The share of the right answers that are among the first k."""
    return float(np.count_nonzero(ranks <= k) / len(ranks))


def precision_at(ranks: Ranks, k: int) -> float:
    """The share of the first k that are right."""
    return float(np.count_nonzero(ranks <= k) / k)


def capped_precision_at(ranks: Ranks, k: int) -> float:
    """Right answers among the first k, divided by the most there could be, min(k, P).

    What code for zero-shot sketch retrieval usually prints as P@k.
    """
    return float(np.count_nonzero(ranks <= k) / min(k, len(ranks)))


def average_precision(ranks: Ranks) -> float:
    """The mean over right answers of the precision at their rank."""
    return float((np.arange(1, len(ranks) + 1) / ranks).mean())


def average_precision_at(ranks: Ranks, k: int) -> float:
    """AP@k as CIRCO defines it: precision summed at right answers within k, over min(P, k)."""
    precisions = np.arange(1, len(ranks) + 1) / ranks
    return float(precisions[ranks <= k].sum() / min(len(ranks), k))


def interpolated_average_precision(ranks: Ranks) -> float:
    """AP under the precision envelope (PASCAL VOC since 2010): never below the plain AP.

    The precision at a recall level counts as the best precision at that level or beyond.
    """
    precisions = np.arange(1, len(ranks) + 1) / ranks
    return float(np.maximum.accumulate(precisions[::-1]).mean())


def reciprocal_rank(ranks: Ranks) -> float:
    """1 / rank of the first right answer."""
    return float(1.0 / ranks[0])


def top_k(scores: npt.NDArray, k: int, excluded: Sequence[int] | Indices = ()) -> Indices:
    """(M,) scores -> the indices of the k best candidates, best first; ties in gallery order.

    Gives fewer than k where there are fewer candidates. Excluded ones never appear.
    """
    values = np.array(scores, dtype=np.float64)
    values[_as_indices(excluded, len(values))] = -np.inf
    k = min(k, int(np.isfinite(values).sum()))
    if k == 0:
        return np.empty(0, dtype=np.int64)
    threshold = np.partition(values, len(values) - k)[len(values) - k]
    candidates = np.flatnonzero(values >= threshold)
    best = candidates[np.argsort(-values[candidates], kind="stable")][:k]
    return best.astype(np.int64)
