"""Photos that must be read: decoded ahead, encoded in batches, committed batch by batch."""

import os
import threading
import time
from collections.abc import Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass

import numpy as np

from lensctl.errors import ModelError
from lensctl.library.catalog import KnownLens, from_floats
from lensctl.library.index_run import IndexOptions, IndexSummary, Watcher
from lensctl.library.library import Library
from lensctl.library.pipeline import PhotoReader, Prepared, Unreadable, in_order
from lensctl.library.recorder import ReadPhoto, Recorder
from lensctl.models.interface import IndexSide
from lensctl.photos.scan import FoundPhoto

_FIRST_BATCH = 8
"""A larger one gains a CPU nothing and costs memory: mini's held 1.8 GB at 64 photos."""

_LAST_BATCH = 2
_LARGEST_BATCH = 1024
_MOST_WAITING = 1024

_Results = Sequence[Prepared | Unreadable]


class EncodingRun:
    """Encodes photos of one root into a library that is open for writing."""

    def __init__(
        self,
        library: Library,
        recorder: Recorder,
        lens: KnownLens,
        root_id: int,
        side: IndexSide,
        model_name: str,
    ) -> None:
        self._library = library
        self._recorder = recorder
        self._lens = lens
        self._root_id = root_id
        self._side = side
        self._model_name = model_name

    def encode(
        self,
        photos: Iterator[FoundPhoto],
        count: int,
        options: IndexOptions,
        watcher: Watcher,
        summary: IndexSummary,
    ) -> None:
        """Read, encode and commit `count` photos; stops early where the watcher wants it."""
        lanes = self._side.share_cores()
        sizes = _BatchSize(self._side, options.batch_size, lanes)
        writer = _BatchWriter(
            self._recorder, self._lens, self._root_id, self._side, self._model_name, summary
        )
        with (
            closing(_KnownContents(self._library, self._lens)) as known,
            closing(self._read(_until_stop(photos, watcher, summary), options, known)) as results,
        ):
            watcher.encoding(count, sizes.measure() / lanes)
            batches = sizes.batches(results, count)
            with closing(in_order(batches, self._encode, lanes, window=lanes + 1)) as encoded:
                for batch in encoded:
                    writer.write(batch)
                    sizes.learn(batch)
                    watcher.advanced(len(batch.results))

    def _encode(self, results: _Results) -> "_Batch":
        fresh = [one for one in results if isinstance(one, Prepared) and one.pixels is not None]
        if not fresh:
            empty = np.empty((0, 0), np.float32)
            return _Batch(results, fresh, empty, empty, 0.0)
        started = time.monotonic()
        pixels = np.stack([one.pixels for one in fresh if one.pixels is not None])
        embeddings = self._side.encode_images(pixels)
        targets = self._side.make_targets(embeddings)
        return _Batch(results, fresh, embeddings, targets, time.monotonic() - started)

    def _read(
        self, photos: Iterator[FoundPhoto], options: IndexOptions, known: "_KnownContents"
    ) -> Generator[Prepared | Unreadable]:
        reader = PhotoReader(
            self._side.preprocess,
            at_least=self._side.info.decoded_side,
            max_pixels=options.max_pixels,
            known=known,
            memory_limit=options.memory_limit,
        )
        workers = options.workers or os.cpu_count() or 1
        return in_order(photos, reader, workers, window=4 * workers + 8)


@dataclass(frozen=True, slots=True)
class _Batch:
    """Photos that were read, and the vectors of those among them that are `fresh`."""

    results: _Results
    fresh: Sequence[Prepared]
    embeddings: np.ndarray
    targets: np.ndarray
    seconds: float


def _until_stop(
    photos: Iterator[FoundPhoto], watcher: Watcher, summary: IndexSummary
) -> Iterator[FoundPhoto]:
    for found in photos:
        if watcher.wants_stop():
            summary.stopped = True
            return
        yield found


class _KnownContents:
    """Whether a content's vectors are kept; asked from reader threads, one at a time."""

    def __init__(self, library: Library, lens: KnownLens) -> None:
        self._connection = library.connect(any_thread=True)
        self._lens = lens
        self._turn = threading.Lock()

    def __call__(self, content_hash: bytes) -> bool:
        with self._turn:
            row = self._connection.execute(
                "SELECT 1 FROM contents JOIN embeddings ON embeddings.content_id = contents.id"
                " WHERE contents.hash = ? AND embeddings.encoder_id = ?",
                (content_hash, self._lens.encoder_id),
            ).fetchone()
        return row is not None

    def close(self) -> None:
        self._connection.close()


class _BatchWriter:
    """Commits what was read and encoded: one batch, one transaction."""

    def __init__(
        self,
        recorder: Recorder,
        lens: KnownLens,
        root_id: int,
        side: IndexSide,
        model_name: str,
        summary: IndexSummary,
    ) -> None:
        self._recorder = recorder
        self._lens = lens
        self._root_id = root_id
        self._side = side
        self._model_name = model_name
        self._summary = summary

    def write(self, batch: _Batch) -> None:
        """All of the batch, or nothing."""
        with self._recorder.transaction():
            for one in batch.results:
                if isinstance(one, Unreadable):
                    self._refuse(one)
                elif one.pixels is None:
                    self._link(one)
            for one, embedding, target in zip(
                batch.fresh, batch.embeddings, batch.targets, strict=True
            ):
                self._keep(one, embedding, target)
            if self._summary.encoded or self._summary.linked:
                self._recorder.use_model(self._model_name, self._side.info)

    def _refuse(self, one: Unreadable) -> None:
        if one.lasts:
            self._recorder.record_error(self._root_id, one.found, one.reason)
        self._summary.unreadable.append((one.found.path, one.reason))

    def _link(self, one: Prepared) -> None:
        content_id = self._recorder.content_of_hash(one.content_hash)
        assert content_id is not None
        self._recorder.record_place(self._root_id, one.found, content_id)
        self._summary.linked += 1

    def _keep(self, one: Prepared, embedding: np.ndarray, target: np.ndarray) -> None:
        try:
            for vector in (embedding, target):
                from_floats(vector)
            usable = True
        except ValueError:
            usable = False
        assert one.facts is not None
        content_id = self._recorder.record_photo(
            self._root_id, ReadPhoto(one.found, one.content_hash, one.facts, one.looks)
        )
        if not usable:
            # No error of the photo's, which other models may know: the next run tries it again.
            self._summary.unreadable.append(
                (one.found.path, "the model gave no usable vector for it")
            )
            return
        self._recorder.record_embedding(
            self._lens,
            content_id,
            embedding,
            target,
            precision=self._side.precision,
            device=self._side.device,
        )
        self._summary.encoded += 1


class _BatchSize:
    """The batch size: given, 8 on a CPU, else doubled for as long as a photo gets cheaper by it.

    Where batches are encoded beside each other, the last ones are smaller, so that all cores have
    something to do until the end.
    """

    def __init__(self, side: IndexSide, given: int, lanes: int) -> None:
        self._side = side
        self._lanes = 0 if given else lanes
        self._fixed = given > 0 or side.device == "cpu"
        self.size = given or _FIRST_BATCH
        self._best = float("inf")

    def measure(self) -> float:
        """Seconds for one photo in the encoder, from a ramp of colours; also warms it up.

        Raises ModelError where not even a ramp gets usable vectors.
        """
        size = self._side.info.image_size
        number = 1 if self._side.device == "cpu" else 4
        ramp = np.linspace(-2, 2, number * 3 * size * size, dtype=np.float32)
        ramp = ramp.reshape(number, 3, size, size)
        self._side.encode_images(ramp[:1])
        started = time.monotonic()
        embeddings = self._side.encode_images(ramp)
        seconds = (time.monotonic() - started) / number
        try:
            from_floats(embeddings)
            from_floats(self._side.make_targets(embeddings))
        except ValueError as error:
            raise ModelError(
                f"the model {self._side.info.name} gives no usable vectors",
                why="they hold values that are not finite numbers: its files are damaged",
                next_step="pull or convert it again, or choose another with --model",
            ) from error
        return seconds

    def batches(
        self, results: Iterator[Prepared | Unreadable], count: int
    ) -> Iterator[list[Prepared | Unreadable]]:
        """`count` results in batches that hold `size` photos to encode, or fewer at the end."""
        batch: list[Prepared | Unreadable] = []
        to_encode, left = 0, count
        for result in results:
            batch.append(result)
            to_encode += _needs_encoding(result)
            if to_encode >= self._at_most(left) or len(batch) >= _MOST_WAITING:
                yield batch
                left -= len(batch)
                batch, to_encode = [], 0
        if batch:
            yield batch

    def _at_most(self, left: int) -> int:
        """Photos of the next batch, where so many are left."""
        if self._lanes < 2:
            return self.size
        return min(self.size, max(_LAST_BATCH, left // (2 * self._lanes)))

    def learn(self, batch: _Batch) -> None:
        """Take in what a batch cost."""
        if self._fixed or len(batch.fresh) < self.size:
            return
        cost = batch.seconds / len(batch.fresh)
        if cost < 0.95 * self._best and self.size < _LARGEST_BATCH:
            self.size *= 2
        else:
            self._fixed = True
        self._best = min(self._best, cost)


def _needs_encoding(result: Prepared | Unreadable) -> bool:
    return isinstance(result, Prepared) and result.pixels is not None
