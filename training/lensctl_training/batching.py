"""Runs of things, a batch at a time, or a few of them."""

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import TypeVar

import numpy as np

T = TypeVar("T")


def in_batches(items: Iterable[T], size: int) -> Iterator[list[T]]:
    """Consecutive batches of `size`, the last one shorter; reads no further than it has to."""
    rest = iter(items)
    while batch := list(islice(rest, size)):
        yield batch


def spread(items: Sequence[T], most: int) -> list[T]:
    """Up to `most` of them, evenly from the first to the last: the same ones every time."""
    chosen = np.linspace(0, len(items) - 1, min(most, len(items))).round().astype(int)
    return [items[index] for index in chosen]
