"""Shards as an endless, shuffled stream that can be left and taken up again anywhere."""

import io
import random
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import count
from pathlib import Path

import numpy as np
from PIL import Image
from torch.utils.data import IterableDataset, get_worker_info
from webdataset.filters import shuffle

from lensctl.models.interface import Floats
from lensctl.models.preprocessing import Preprocessing
from lensctl_training.data.batches import BadExampleError, Example, Fetched, collate, fingerprint
from lensctl_training.data.shards import read_shard
from lensctl_training.data.triplet import Problems, Triplet

MAX_PIXELS = 100_000_000
"""An image larger than this in a training set is a mistake or an attack."""
MOST_PENDING = 10_000
"""Bad examples while one batch is made, after which a data set is given up."""


class ShardStream(IterableDataset[Fetched]):
    """Batches of one training process from shards, decoded by DataLoader workers.

    Every (process, worker) reads its own shards, in an order that depends on seed and epoch
    alone; where there are fewer shards than readers, each takes every n-th triplet of all shards
    instead. The position of a reader is the number of triplets that it has taken from its
    shuffled stream; to go on it skips as many, without decoding them.

    Args:
        shards: the same list in every process.
        preprocessing: what the model reads.
        context_length: of the model's text tower.
        batch: triplets of this process per step.
        seed: of shard order and shuffling.
        shuffle_buffer: triplets kept to choose from.
        negatives: hard negatives per triplet.
        rank: of this process.
        world: number of processes.
        positions: of every worker, to go on from; empty: from the start.
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
        positions: Sequence[int] = (),
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
        position = self.positions[worker] if self.positions else 0
        return self._batches(worker, workers, position)

    def _batches(self, worker: int, workers: int, position: int) -> Iterator[Fetched]:
        """Batches for ever; one without a batch where a whole epoch had no usable example."""
        reader, readers = self.rank * workers + worker, self.world * workers
        problems: list[tuple[str, str]] = []
        examples: list[Example] = []
        number = 0
        for epoch in count():
            usable = False
            for triplet in self._shuffled(epoch, reader, readers, problems):
                number += 1
                if number <= position:
                    usable = True
                    continue
                try:
                    examples.append(decode_triplet(triplet, self.preprocessing, self.negatives))
                    usable = True
                except BadExampleError as bad:
                    problems.append((bad.reason, bad.where))
                if len(examples) == self.batch:
                    batch = collate(examples, self.context_length)
                    yield Fetched(batch, fingerprint(batch), number, problems.copy())
                    examples.clear()
                    problems.clear()
                elif len(problems) > MOST_PENDING:
                    yield Fetched(None, "", number, problems)
                    return
            if not usable:
                yield Fetched(None, "", number, problems)
                return

    def _shuffled(
        self, epoch: int, reader: int, readers: int, problems: list[tuple[str, str]]
    ) -> Iterator[Triplet]:
        """This reader's triplets of one epoch."""
        generator = random.Random(f"{self.seed}/{epoch}/{reader}")
        mix = shuffle(self.shuffle_buffer, initial=self.shuffle_buffer, rng=generator)
        yield from mix(self._one_epoch(epoch, reader, readers, problems))

    def _one_epoch(
        self, epoch: int, reader: int, readers: int, problems: list[tuple[str, str]]
    ) -> Iterator[Triplet]:
        order = np.random.default_rng((self.seed, epoch)).permutation(len(self.shards))
        whole_shards = len(self.shards) >= readers
        taken = order[reader::readers] if whole_shards else order
        number = 0
        for shard in taken:
            found = Problems()
            for triplet in read_shard(self.shards[shard], found):
                number += 1
                if whole_shards or number % readers == reader:
                    yield triplet
            problems.extend(found.listed())


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
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise BadExampleError("undecodable image", str(error)) from error
