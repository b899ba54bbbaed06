"""Shards as an endless, shuffled stream that can be left and taken up again anywhere."""

import hashlib
import io
import random
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image, UnidentifiedImageError
from torch.utils.data import IterableDataset, get_worker_info
from webdataset.filters import shuffle

from lensctl.models.interface import Floats
from lensctl.models.preprocessing import Preprocessing
from lensctl_training.data.batches import (
    TOO_FEW,
    BadExampleError,
    Example,
    Fetched,
    Position,
    fetch,
)
from lensctl_training.data.shards import read_shard
from lensctl_training.data.triplet import Problems, Triplet

MAX_PIXELS = 100_000_000
"""An image larger than this in a training set is a mistake or an attack."""
MOST_PENDING = 10_000
"""Bad examples while one batch is made, after which a data set is given up."""
MOST_FRUITLESS = 20
"""Epochs in a row in which the shards that fell to a worker filled no batch, likewise."""


class Place(NamedTuple):
    """A triplet that has not been read: a shard, and its number among the usable ones in it."""

    shard: Path
    number: int


class Unread:
    """The triplets in a shuffle buffer of which only the places are known; others pass through.

    A shard is read when the first of them is needed, once, and those that are still in the buffer
    are kept: no more than an undisturbed run has there.
    """

    def __init__(self) -> None:
        self._numbers: defaultdict[Path, set[int]] = defaultdict(set)
        self._read: dict[Place, Triplet] = {}

    def put(self, item: Triplet | Place) -> Triplet | Place:
        """One that goes into the buffer."""
        if isinstance(item, Place):
            self._numbers[item.shard].add(item.number)
        return item

    def drop(self, item: Triplet | Place) -> None:
        """One that comes out of the buffer, and was used before the run was left."""
        if isinstance(item, Place):
            self._numbers[item.shard].discard(item.number)

    def take(self, item: Triplet | Place) -> Triplet:
        """One that comes out of the buffer. Raises BadExampleError where its shard lacks it."""
        if not isinstance(item, Place):
            return item
        if wanted := self._numbers.pop(item.shard, None):
            for number, triplet in enumerate(read_shard(item.shard, Problems())):
                if number in wanted:
                    self._read[Place(item.shard, number)] = triplet
        if item not in self._read:
            where = f"{item.shard.name}, number {item.number}"
            raise BadExampleError("triplet that is no longer in its shard", where)
        return self._read.pop(item)


@dataclass
class Reader:
    """One of the `workers` of a process, and where it stands.

    Args:
        number: of it, from 0.
        workers: of this process.
        epoch: see Position, as of the next two.
        taken: likewise.
        sizes: likewise.
        problems: (reason, where) that it has met and no batch has told.
    """

    number: int
    workers: int
    epoch: int
    taken: int
    sizes: list[int]
    problems: list[tuple[str, str]] = field(default_factory=list)

    @property
    def position(self) -> Position:
        """To go on from."""
        return Position(self.epoch, self.taken, tuple(self.sizes))

    def begin_next_epoch(self) -> None:
        """Stand at the beginning of the next epoch."""
        self.epoch, self.taken, self.sizes = self.epoch + 1, 0, []


class ShardStream(IterableDataset[Fetched]):
    """Batches of one training process from shards, decoded by DataLoader workers.

    A process owns the same triplets in every epoch: as many whole shards as every other process,
    and its n-th part of the shards that are left over. So processes that reach the end of their
    epochs at different steps still never show the same triplet in one step. In every epoch the
    workers of a process divide its shards anew; where there are fewer than workers, each takes
    every n-th triplet. The order depends on the seed, the epoch and the reader alone. The triplets
    that fill no batch at the end of a worker's epoch wait for another one, so that no batch holds
    one twice.

    To go on from a position, its epoch is shuffled again on the places of triplets alone, as the
    sizes of the shards that were read to the end are known. Read again are the shard that was begun
    and those with triplets in the shuffle buffer, and nothing of earlier epochs.

    Args:
        shards: the same list in every process.
        preprocessing: what the model reads.
        context_length: of the model's text tower.
        batch: triplets of this process per step; a worker's epoch has to fill one.
        seed: of shard order and shuffling.
        shuffle_buffer: triplets kept to choose from.
        negatives: hard negatives per triplet.
        rank: of this process.
        world: number of processes.
        positions: of every worker, to go on from; empty: from the start.
        first_worker: the worker whose turn it is, so that batches come in the same order.
        announced: every worker first hands over its first batch without the tensors, so that it is
            known whether all can fill one before any lies in shared memory.
    """

    def __init__(
        self,
        shards: Sequence[Path],
        preprocessing: Preprocessing,
        context_length: int,
        batch: int,
        *,
        seed: int,
        shuffle_buffer: int,
        negatives: int = 0,
        rank: int = 0,
        world: int = 1,
        positions: Sequence[Position] = (),
        first_worker: int = 0,
        announced: bool = False,
    ) -> None:
        self.shards = list(shards)
        self.preprocessing = preprocessing
        self.context_length = context_length
        self.batch = batch
        self.seed = seed
        self.shuffle_buffer = shuffle_buffer
        self.negatives = negatives
        self.rank, self.world = rank, world
        self.positions = list(positions)
        self.first_worker = first_worker
        self.announced = announced

    def __iter__(self) -> Iterator[Fetched]:
        info = get_worker_info()
        workers = info.num_workers if info else 1
        worker = ((info.id if info else 0) + self.first_worker) % workers
        epoch, taken, sizes = self.positions[worker] if self.positions else Position()
        batches = self._batches(Reader(worker, workers, epoch, taken, list(sizes)))
        if self.announced:
            first = next(batches)
            yield first._replace(batch=None)
            yield first
            del first
        yield from batches

    def _batches(self, reader: Reader) -> Iterator[Fetched]:
        """Batches for ever; one without a batch where a whole epoch could not fill any."""
        problems = reader.problems
        examples: list[Example] = []
        fruitless = 0
        # With whole shards a worker may get the short one this time and a long one the next.
        most_fruitless = MOST_FRUITLESS if 1 < reader.workers <= len(self._own_shards()) else 1
        while True:
            # Positions are taken after a batch: an epoch that was begun has had one.
            made = reader.taken > 0
            for triplet in self._shuffled(reader):
                try:
                    examples.append(decode_triplet(triplet, self.preprocessing, self.negatives))
                except BadExampleError as bad:
                    problems.append((bad.reason, bad.where))
                if len(examples) == self.batch:
                    yield fetch(examples, self.context_length, problems.copy(), reader.position)
                    made = True
                    examples.clear()
                    problems.clear()
                elif len(problems) > MOST_PENDING:
                    yield Fetched(None, "", problems)
                    return
            fruitless = 0 if made else fruitless + 1
            if fruitless == most_fruitless:
                if examples:
                    said = f"{len(examples)} for one reader, which needs {self.batch}"
                    problems.append((TOO_FEW, said))
                yield Fetched(None, "", problems)
                return
            examples.clear()
            reader.begin_next_epoch()

    def _shuffled(self, reader: Reader) -> Iterator[Triplet]:
        """A worker's triplets of its epoch, from where it stands."""
        seed = f"{self.seed}/{reader.epoch}/{self.rank * reader.workers + reader.number}"
        mix = shuffle(self.shuffle_buffer, initial=self.shuffle_buffer, rng=random.Random(seed))
        unread = Unread()
        mixed = mix(map(unread.put, self._one_epoch(reader)))
        for item in islice(mixed, reader.taken):
            unread.drop(item)
        for item in mixed:
            reader.taken += 1
            try:
                triplet = unread.take(item)
            except BadExampleError as bad:
                reader.problems.append((bad.reason, bad.where))
            else:
                yield triplet

    def _one_epoch(self, reader: Reader) -> Iterator[Triplet | Place]:
        """A worker's triplets in the order of the files; of shards of known size the places."""
        own = self._own_shards()
        order = np.random.default_rng((self.seed, reader.epoch, self.rank)).permutation(len(own))
        whole_shards = len(own) >= reader.workers
        sizes = iter(reader.sizes.copy())
        number = 0
        for place in order[reader.number :: reader.workers] if whole_shards else order:
            shard, owner = own[place]
            for index, item in enumerate(_items(shard, next(sizes, None), reader)):
                if owner is not None and index % self.world != owner:
                    continue
                number += 1
                if whole_shards or number % reader.workers == reader.number:
                    yield item

    def _own_shards(self) -> list[tuple[Path, int | None]]:
        """This process's shards, in every epoch the same.

        Beside each stands None, or of a shard that all processes share the remainder, modulo
        their number, of the places that are this one's.
        """
        order = np.random.default_rng(self.seed).permutation(len(self.shards))
        shared = len(order) % self.world
        whole, rest = order[shared:], order[:shared]
        # Another remainder in every shard, so that shards of a triplet or two serve all.
        return [
            *((self.shards[shard], None) for shard in whole[self.rank :: self.world]),
            *(
                (self.shards[shard], (self.rank + place) % self.world)
                for place, shard in enumerate(rest)
            ),
        ]


def _items(shard: Path, size: int | None, reader: Reader) -> Iterator[Triplet | Place]:
    """The triplets of a shard, whose size and faults the reader learns; else their places."""
    if size is not None:
        yield from (Place(shard, number) for number in range(size))
        return
    found, size = Problems(), 0
    for triplet in read_shard(shard, found):
        size += 1
        yield triplet
    reader.sizes.append(size)
    reader.problems.extend(found.listed())


def decode_triplet(triplet: Triplet, preprocessing: Preprocessing, negatives: int = 0) -> Example:
    """Encoded images -> pixels. Raises BadExampleError for one that is missing or undecodable."""
    if len(triplet.negatives) < negatives:
        raise BadExampleError(f"fewer than {negatives} hard negatives", triplet.key)
    images = (triplet.query, triplet.target, *triplet.negatives[:negatives])
    try:
        query, target, *others = (decode_image(data, preprocessing) for data in images)
    except BadExampleError as bad:
        raise BadExampleError(bad.reason, f"{triplet.key} ({bad.where})") from bad
    pictures = tuple(_digest(data) for data in images)
    return Example(query, target, triplet.instruction, tuple(others), pictures=pictures)


def _digest(data: bytes) -> int:
    """64 bits, signed: of the millions of pairs in a batch, no two that differ are alike."""
    return int.from_bytes(hashlib.blake2b(data, digest_size=8).digest(), "big", signed=True)


def decode_image(data: bytes, preprocessing: Preprocessing) -> Floats:
    """JPEG, PNG or WebP bytes -> pixels. Raises BadExampleError."""
    with _opened(data) as image:
        image.draft("RGB", (2 * preprocessing.size, 2 * preprocessing.size))
        return preprocessing(image.convert("RGB"))


def image_size(data: bytes) -> tuple[int, int]:
    """Width and height of an image, which is decoded to see that it can be. As decode_image."""
    with _opened(data) as image:
        image.load()
        return image.size


@contextmanager
def _opened(data: bytes) -> Iterator[Image.Image]:
    """The image; its size is looked at before anything is decoded."""
    try:
        with Image.open(io.BytesIO(data), formats=("JPEG", "PNG", "WEBP")) as image:
            if image.width * image.height > MAX_PIXELS:
                raise ValueError(f"{image.width} x {image.height} pixels")
            yield image
    except UnidentifiedImageError as error:
        # Its text has the address of an object in it: one bad image would be another every epoch.
        raise BadExampleError("undecodable image", "not an image") from error
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise BadExampleError("undecodable image", str(error)) from error
