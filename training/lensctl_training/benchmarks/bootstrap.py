"""Means over queries with intervals, and differences of such means between two methods.

The percentile bootstrap over queries (Efron and Tibshirani, "An Introduction to the Bootstrap",
1993, chapter 13). What is drawn depends on the queries alone, so that two methods on the same
queries, in one run or in two, are resampled alike: their difference is a paired one.
"""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import numpy.typing as npt

RESAMPLES = 1000
CONFIDENCE = 0.95

Interval = tuple[float, float]


@dataclass(frozen=True)
class Estimate:
    """A mean over queries.

    Args:
        value: the mean.
        resampled: (RESAMPLES,) float64, the mean over each draw of queries.
    """

    value: float
    resampled: npt.NDArray[np.float64] = field(repr=False, compare=False)

    @cached_property
    def interval(self) -> Interval:
        """(low, high), 95 %."""
        tail = (1 - CONFIDENCE) / 2
        low, high = np.quantile(self.resampled, [tail, 1 - tail])
        return float(low), float(high)

    @property
    def excludes_0(self) -> bool:
        """Whether the interval does."""
        low, high = self.interval
        return low > 0 or high < 0

    def __sub__(self, other: "Estimate") -> "Estimate":
        """The difference to another method on the same queries."""
        return Estimate(self.value - other.value, self.resampled - other.resampled)


def estimate(table: npt.NDArray[np.float64], ids: Sequence[str]) -> list[Estimate]:
    """The mean of each column.

    Args:
        table: (Q, M) values of Q queries, Q > 0.
        ids: (Q,) the queries' names; the same names in the same order, the same draws.
    """
    resampled = np.array([counts @ table for counts in _draws(ids)]) / len(table)
    means = table.mean(axis=0).tolist()
    return [Estimate(mean, column) for mean, column in zip(means, resampled.T, strict=True)]


def mean_of(parts: Sequence[Estimate]) -> Estimate:
    """The mean over parts that weigh the same, however many queries each has.

    Each part is resampled by itself. Parts that ask the same queries (DTIN asks for every photo in
    four domains) are drawn alike, as they are not independent.
    """
    resampled = np.mean([part.resampled for part in parts], axis=0)
    return Estimate(sum(part.value for part in parts) / len(parts), resampled)


def _draws(ids: Sequence[str]) -> Iterator[npt.NDArray[np.float64]]:
    """RESAMPLES times how often each query is drawn, (Q,)."""
    digest = hashlib.sha256("\0".join(ids).encode("utf-8", "surrogatepass")).digest()
    random = np.random.default_rng(int.from_bytes(digest))
    for _ in range(RESAMPLES):
        drawn = random.integers(0, len(ids), len(ids))
        yield np.bincount(drawn, minlength=len(ids)).astype(np.float64)
