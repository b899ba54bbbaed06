"""Shards as an endless, shuffled stream that can be left and taken up again anywhere."""

import io
import random
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import count
from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError
from torch.utils.data import IterableDataset, get_worker_info
from webdataset.filters import shuffle

from lensctl.models.interface import Floats
from lensctl.models.preprocessing import Preprocessing
from lensctl_training.data.batches import (
    START,
    TOO_FEW,
    BadExampleError,
    Example,
    Fetched,
    Position,
    collate,
    fingerprint,
)
from lensctl_training.data.shards import read_shard
from lensctl_training.data.triplet import Problems, Triplet

MAX_PIXELS = 100_000_000
"""An image larger than this in a training set is a mistake or an attack."""
MOST_PENDING = 10_000
"""Bad examples while one batch is made, after which a data set is given up."""
MOST_FRUITLESS = 20
"""Epochs in a row in which the shards that fell to a worker filled no batch, likewise."""


class ShardStream(IterableDataset[Fetched]):
    """Batches of one training process from shards, decoded by DataLoader workers.

    A process owns the same triplets in every epoch: as many whole shards as every other process,
    and its n-th part of the shards that are left over. So processes that reach the end of their
    epochs at different steps still never show the same triplet in one step. In every epoch the
    workers of a process divide its shards anew; where there are fewer than workers, each takes
    every n-th triplet. The order depends on the seed, the epoch and the reader alone. The triplets
    that fill no batch at the end of a worker's epoch wait for another one, so that no batch holds
    one twice. The position of a worker is its epoch and the number of triplets that it has taken
    in it; to go on it reads as many again, without decoding them. What it read in earlier epochs
    has no part in the order of this one, and is not read again.

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
        positions: of every worker, to go on from; empty: from the start. A number alone is of an
            earlier version: triplets taken since the first epoch.
        first_worker: the worker whose turn it is, so that batches come in the same order.
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
        positions: Sequence[Position | int] = (),
        first_worker: int = 0,
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

    def __iter__(self) -> Iterator[Fetched]:
        info = get_worker_info()
        workers = info.num_workers if info else 1
        worker = ((info.id if info else 0) + self.first_worker) % workers
        position = self.positions[worker] if self.positions else START
        first, taken = (0, position) if isinstance(position, int) else position
        return self._batches(worker, workers, first, taken)

    def _batches(self, worker: int, workers: int, first: int, taken: int) -> Iterator[Fetched]:
        """Batches for ever; one without a batch where a whole epoch could not fill any."""
        problems: list[tuple[str, str]] = []
        examples: list[Example] = []
        fruitless = 0
        # With whole shards a worker may get the short one this time and a long one the next.
        most_fruitless = MOST_FRUITLESS if 1 < workers <= len(self._own_shards()) else 1
        for epoch in count(first):
            made, number = False, 0
            for triplet in self._shuffled(epoch, worker, workers, problems):
                number += 1
                if taken > 0:
                    taken -= 1
                    # Positions are taken after a batch, so this epoch has had one, and what was
                    # met until then has been told.
                    made = True
                    problems.clear()
                    continue
                try:
                    examples.append(decode_triplet(triplet, self.preprocessing, self.negatives))
                except BadExampleError as bad:
                    problems.append((bad.reason, bad.where))
                if len(examples) == self.batch:
                    batch = collate(examples, self.context_length)
                    yield Fetched(batch, fingerprint(batch), (epoch, number), problems.copy())
                    made = True
                    examples.clear()
                    problems.clear()
                elif len(problems) > MOST_PENDING:
                    yield Fetched(None, "", (epoch, number), problems)
                    return
            fruitless = 0 if made else fruitless + 1
            if fruitless == most_fruitless:
                if examples:
                    said = f"{len(examples)} for one reader, which needs {self.batch}"
                    problems.append((TOO_FEW, said))
                yield Fetched(None, "", (epoch, number), problems)
                return
            examples.clear()

    def _shuffled(
        self, epoch: int, worker: int, workers: int, problems: list[tuple[str, str]]
    ) -> Iterator[Triplet]:
        """A worker's triplets of one epoch."""
        reader = self.rank * workers + worker
        generator = random.Random(f"{self.seed}/{epoch}/{reader}")
        mix = shuffle(self.shuffle_buffer, initial=self.shuffle_buffer, rng=generator)
        yield from mix(self._one_epoch(epoch, worker, workers, problems))

    def _one_epoch(
        self, epoch: int, worker: int, workers: int, problems: list[tuple[str, str]]
    ) -> Iterator[Triplet]:
        own = self._own_shards()
        order = np.random.default_rng((self.seed, epoch, self.rank)).permutation(len(own))
        whole_shards = len(own) >= workers
        taken = order[worker::workers] if whole_shards else order
        number = 0
        for place in taken:
            shard, owner = own[place]
            found = Problems()
            for index, triplet in enumerate(read_shard(shard, found)):
                if owner is not None and index % self.world != owner:
                    continue
                number += 1
                if whole_shards or number % workers == worker:
                    yield triplet
            problems.extend(found.listed())

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


def decode_triplet(triplet: Triplet, preprocessing: Preprocessing, negatives: int = 0) -> Example:
    """Encoded images -> pixels. Raises BadExampleError for one that is missing or undecodable."""
    if len(triplet.negatives) < negatives:
        raise BadExampleError(f"fewer than {negatives} hard negatives", triplet.key)
    images = (triplet.query, triplet.target, *triplet.negatives[:negatives])
    try:
        query, target, *others = (decode_image(data, preprocessing) for data in images)
    except BadExampleError as bad:
        raise BadExampleError(bad.reason, f"{triplet.key} ({bad.where})") from bad
    return Example(query, target, triplet.instruction, tuple(others))


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
