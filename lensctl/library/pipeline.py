"""Photos read ahead of the encoder: threads decode and encode side by side.

Pillow, the codecs and the encoders release the interpreter's lock, so threads scale; results keep
the order of the photos, so that two runs write the same rows.
"""

import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from typing import TypeVar, cast

from lensctl.errors import PhotoError
from lensctl.models.interface import Floats, Preprocessor
from lensctl.photos.facts import Facts
from lensctl.photos.near_duplicates import telling_hash
from lensctl.photos.reader import read_photo
from lensctl.photos.scan import FoundPhoto

Item = TypeVar("Item")
Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class Prepared:
    """A photo ready for the encoder; `pixels` is None where its vectors are kept already.

    Attributes:
        looks: its perceptual hash; None where it has none, too.
    """

    found: FoundPhoto
    content_hash: bytes
    facts: Facts | None
    pixels: Floats | None
    looks: int | None = None


@dataclass(frozen=True, slots=True)
class Unreadable:
    """A photo that cannot be read, and why.

    Attributes:
        lasts: whether it would be the same at the next run.
    """

    found: FoundPhoto
    reason: str
    lasts: bool = True


class MemoryBudget:
    """Bounds the bytes that concurrent decodes hold; one photo above the bound runs alone."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._used = 0
        self._freed = threading.Condition()

    @contextmanager
    def reserve(self, cost: int) -> Iterator[None]:
        """Wait until `cost` bytes fit, hold them for the block."""
        cost = min(cost, self._limit)
        with self._freed:
            self._freed.wait_for(lambda: self._used + cost <= self._limit)
            self._used += cost
        try:
            yield
        finally:
            with self._freed:
                self._used -= cost
                self._freed.notify_all()


class PhotoReader:
    """Reads one photo for the encoder, in any thread.

    Args:
        preprocess: the model's image -> pixels.
        at_least: shortest side in pixels that decoding must keep.
        max_pixels: larger photos are refused before decoding.
        known: whether a content's vectors are kept already; such a photo is not decoded.
        memory_limit: bytes that all decodes together may hold.
    """

    def __init__(
        self,
        preprocess: Preprocessor,
        *,
        at_least: int,
        max_pixels: int,
        known: Callable[[bytes], bool],
        memory_limit: int,
    ) -> None:
        self._preprocess = preprocess
        self._at_least = at_least
        self._max_pixels = max_pixels
        self._known = known
        self._budget = MemoryBudget(memory_limit)

    def __call__(self, found: FoundPhoto) -> Prepared | Unreadable:
        try:
            read = read_photo(
                found.path,
                at_least=self._at_least,
                max_pixels=self._max_pixels,
                known=self._known,
                reserve=self._budget.reserve,
            )
        except PhotoError as error:
            lasts = not isinstance(error.__cause__, MemoryError)
            return Unreadable(found, error.what, lasts)
        except OSError as error:
            return Unreadable(found, error.strerror or str(error))
        if read.image is None:
            return Prepared(found, read.content_hash, None, None)
        pixels, looks = self._preprocess(read.image), telling_hash(read.image)
        return Prepared(found, read.content_hash, read.facts, pixels, looks)


def in_order(
    items: Iterable[Item], work: Callable[[Item], Result], workers: int, window: int
) -> Generator[Result]:
    """`work` done by `workers` threads, at most `window` items ahead; results in order.

    The first ones are begun at once, before the first result is asked for. Closing it waits for the
    threads, whether or not a result was asked for: what they use must be closed after it.
    """
    results = _results(iter(items), work, workers, window)
    next(results)  # up to where the first ones are begun
    return cast("Generator[Result]", results)


def _results(
    items: Iterator[Item], work: Callable[[Item], Result], workers: int, window: int
) -> Generator[Result | None]:
    """None, once the first ones are begun, then the results."""
    pool = ThreadPoolExecutor(workers)
    try:
        pending = deque(pool.submit(work, item) for item in islice(items, window - 1))
        yield None
        for item in items:
            pending.append(pool.submit(work, item))
            if len(pending) >= window:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
