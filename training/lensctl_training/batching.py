"""Runs of things, a batch at a time."""

from collections.abc import Iterable, Iterator
from itertools import islice
from typing import TypeVar

T = TypeVar("T")


def in_batches(items: Iterable[T], size: int) -> Iterator[list[T]]:
    """Consecutive batches of `size`, the last one shorter; reads no further than it has to."""
    rest = iter(items)
    while batch := list(islice(rest, size)):
        yield batch
