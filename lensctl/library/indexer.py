"""The journey of indexing: scan, compare, read, encode in batches, commit, refresh the caches."""

import os
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from lensctl.library.catalog import KnownLens, to_floats
from lensctl.library.library import Library
from lensctl.library.pipeline import PhotoReader, Prepared, Unreadable, read_ahead
from lensctl.library.reconcile import Changes, Reconciler
from lensctl.library.recorder import ReadPhoto, Recorder
from lensctl.library.vectors import refresh_search_files
from lensctl.models.interface import IndexSide, Model
from lensctl.photos.scan import FoundPhoto, ScanRules, SkippedFile, scan

_FIRST_BATCH = 16
_LARGEST_BATCH = {"cpu": 64}
_TARGET_ROWS = 1024


@dataclass(frozen=True)
class IndexOptions:
    """How to index. `workers` 0 means one per CPU; sizes in bytes and pixels."""

    exclude: Sequence[str] = ()
    retry_errors: bool = False
    max_pixels: int = 500_000_000
    memory_limit: int = 800_000_000
    workers: int = 0
    batch_size: int = 0
    device: str = "auto"
    precision: str = "auto"


@dataclass
class IndexSummary:
    """What an index run did, in photos."""

    found: int = 0
    encoded: int = 0
    linked: int = 0
    moved: int = 0
    excluded: int = 0
    offline: int = 0
    gone: int = 0
    unreadable: list[tuple[bytes, str]] = field(default_factory=list)
    skipped: list[tuple[bytes, str]] = field(default_factory=list)
    offline_folders: list[bytes] = field(default_factory=list)
    stopped: bool = False
    seconds: float = 0.0

    def add(self, changes: Changes) -> None:
        """Count in what reconciling a folder did."""
        self.found += changes.found
        self.moved += changes.moved
        self.excluded += changes.excluded
        self.offline += changes.offline
        self.gone += changes.gone


class Watcher(Protocol):
    """Who is told how an index run goes, and may stop it."""

    def scanning(self, folder: bytes) -> None:
        """A folder's scan begins."""

    def encoding(self, photos: int, seconds_per_photo: float) -> None:
        """So many photos are to be read; a first measured guess at the time for one."""

    def advanced(self, photos: int) -> None:
        """So many more photos are done."""

    def wants_stop(self) -> bool:
        """Whether to stop after the photos in hand."""


class Indexer:
    """Brings a library up to date with folders of photos.

    Args:
        library: the library; made when missing.
        model: whose vectors to keep; loaded only when a photo must be encoded.
        model_name: the name or folder it was opened by; queries will open it by that.
        options: how.
        watcher: is told of the progress.
    """

    def __init__(
        self,
        library: Library,
        model: Model,
        model_name: str,
        options: IndexOptions,
        watcher: Watcher,
    ) -> None:
        self._library = library
        self._model = model
        self._model_name = model_name
        self._options = options
        self._watcher = watcher
        self._side: IndexSide | None = None
        self.summary = IndexSummary()

    def run(self, folders: Sequence[bytes]) -> IndexSummary:
        """Index folders given as absolute paths; without any, all that were indexed before.

        Raises LibraryBusyError, LibraryError, StorageError, ModelError.
        """
        started = time.monotonic()
        with self._library.writing() as recorder:
            lens = recorder.register(self._model.info)
            recorder.set_fact("model", self._model_name)
            for folder in folders or [path for _, path in recorder.roots()]:
                self._index_folder(recorder, lens, folder)
                if self.summary.stopped:
                    break
            self._make_missing_targets(recorder, lens)
            recorder.mark_orphans()
            self._refresh_search_files(recorder, lens)
        self.summary.seconds = time.monotonic() - started
        return self.summary

    def _index_folder(self, recorder: Recorder, lens: KnownLens, folder: bytes) -> None:
        root_id = recorder.root_for(folder)
        reconciler = Reconciler(recorder, root_id, folder)
        if _is_absent(folder) and reconciler.known():
            self._note_offline(folder, reconciler)
            return
        self._watcher.scanning(folder)
        reconciler.take_in(self._scan(folder))
        changes = reconciler.settle()
        self.summary.add(changes)
        if changes.offline and not changes.found:
            self.summary.offline_folders.append(folder)
        count = reconciler.count_to_read(lens, retry_errors=self._options.retry_errors)
        if count:
            photos = reconciler.to_read(lens, retry_errors=self._options.retry_errors)
            self._read_and_encode(recorder, lens, root_id, photos, count)

    def _note_offline(self, folder: bytes, reconciler: Reconciler) -> None:
        reconciler.set_offline()
        self.summary.offline_folders.append(folder)
        self.summary.add(reconciler.changes)

    def _scan(self, folder: bytes) -> Iterator[FoundPhoto]:
        rules = ScanRules(
            exclude=self._options.exclude,
            skip_folders=(os.fsencode(self._library.folder.resolve()),),
        )
        for one in scan(folder, rules):
            if isinstance(one, SkippedFile):
                self.summary.skipped.append((one.path, one.reason))
            else:
                yield one

    def _read_and_encode(
        self,
        recorder: Recorder,
        lens: KnownLens,
        root_id: int,
        photos: Iterator[FoundPhoto],
        count: int,
    ) -> None:
        side = self._open_side()
        batches = _BatchSize(side, self._options.batch_size)
        self._watcher.encoding(count, batches.measure())
        reader = PhotoReader(
            side.preprocess,
            at_least=2 * side.info.image_size,
            max_pixels=self._options.max_pixels,
            known=_KnownContents(self._library, lens),
            memory_limit=self._options.memory_limit,
        )
        workers = self._options.workers or os.cpu_count() or 1
        writer = _BatchWriter(recorder, lens, root_id, side, self.summary)
        results = read_ahead(self._until_stop(photos), reader, workers, window=4 * workers + 8)
        waiting: list[Prepared | Unreadable] = []
        to_encode = 0
        for result in results:
            waiting.append(result)
            to_encode += isinstance(result, Prepared) and result.pixels is not None
            if to_encode >= batches.size or len(waiting) >= 1024:
                batches.learn(to_encode, writer.write(waiting))
                self._watcher.advanced(len(waiting))
                waiting, to_encode = [], 0
        writer.write(waiting)
        self._watcher.advanced(len(waiting))

    def _until_stop(self, photos: Iterator[FoundPhoto]) -> Iterator[FoundPhoto]:
        for found in photos:
            if self._watcher.wants_stop():
                self.summary.stopped = True
                return
            yield found

    def _open_side(self) -> IndexSide:
        if self._side is None:
            self._side = self._model.index_side(self._options.device, self._options.precision)
        return self._side

    def _make_missing_targets(self, recorder: Recorder, lens: KnownLens) -> None:
        """A new lens over an encoder that is known: targets from kept embeddings, no pixels."""
        while rows := recorder.without_target(lens, _TARGET_ROWS):
            embeddings = np.stack([to_floats(blob) for _, blob in rows])
            targets = self._open_side().make_targets(embeddings)
            with recorder.transaction():
                for (content_id, _), target in zip(rows, targets, strict=True):
                    recorder.record_target(lens, content_id, target)

    def _refresh_search_files(self, recorder: Recorder, lens: KnownLens) -> None:
        def text_keys(embeddings: np.ndarray) -> np.ndarray:
            return self._open_side().text_keys(embeddings)

        refresh_search_files(
            self._library.search_folder, recorder, lens, self._model.info, text_keys
        )


def _is_absent(folder: bytes) -> bool:
    """Whether a folder is missing or empty: what an unmounted disk looks like."""
    try:
        with os.scandir(folder) as entries:
            return next(entries, None) is None
    except (FileNotFoundError, NotADirectoryError):
        return True


class _KnownContents:
    """Whether a content's vectors are kept; asked from reader threads, each with a connection."""

    def __init__(self, library: Library, lens: KnownLens) -> None:
        import threading

        self._library = library
        self._lens = lens
        self._local = threading.local()

    def __call__(self, content_hash: bytes) -> bool:
        if not hasattr(self._local, "connection"):
            self._local.connection = self._library.connect()
        row = self._local.connection.execute(
            "SELECT 1 FROM contents JOIN embeddings ON embeddings.content_id = contents.id"
            " WHERE contents.hash = ? AND embeddings.encoder_id = ?",
            (content_hash, self._lens.encoder_id),
        ).fetchone()
        return row is not None


class _BatchWriter:
    """Encodes what was read and commits it: one batch, one transaction."""

    def __init__(
        self,
        recorder: Recorder,
        lens: KnownLens,
        root_id: int,
        side: IndexSide,
        summary: IndexSummary,
    ) -> None:
        self._recorder = recorder
        self._lens = lens
        self._root_id = root_id
        self._side = side
        self._summary = summary

    def write(self, results: Sequence[Prepared | Unreadable]) -> float:
        """Returns the seconds that encoding took."""
        fresh = [one for one in results if isinstance(one, Prepared) and one.pixels is not None]
        started = time.monotonic()
        embeddings, targets = self._encode(fresh)
        seconds = time.monotonic() - started
        with self._recorder.transaction():
            for one in results:
                if isinstance(one, Unreadable):
                    self._refuse(one.found, one.reason)
                elif one.pixels is None:
                    self._link(one)
            for one, embedding, target in zip(fresh, embeddings, targets, strict=True):
                self._keep(one, embedding, target)
        return seconds

    def _encode(self, fresh: Sequence[Prepared]) -> tuple[np.ndarray, np.ndarray]:
        if not fresh:
            return np.empty((0, 0), np.float32), np.empty((0, 0), np.float32)
        pixels = np.stack([one.pixels for one in fresh if one.pixels is not None])
        embeddings = self._side.encode_images(pixels)
        return embeddings, self._side.make_targets(embeddings)

    def _refuse(self, found: FoundPhoto, reason: str) -> None:
        self._recorder.record_error(self._root_id, found, reason)
        self._summary.unreadable.append((found.path, reason))

    def _link(self, one: Prepared) -> None:
        content_id = self._recorder.content_of_hash(one.content_hash)
        assert content_id is not None
        self._recorder.record_place(self._root_id, one.found, content_id)
        self._summary.linked += 1

    def _keep(self, one: Prepared, embedding: np.ndarray, target: np.ndarray) -> None:
        if not (np.isfinite(embedding).all() and np.isfinite(target).all()):
            self._refuse(one.found, "the model gave no usable vector for it")
            return
        assert one.facts is not None
        content_id = self._recorder.record_photo(
            self._root_id, ReadPhoto(one.found, one.content_hash, one.facts)
        )
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
    """The batch size: given, or doubled for as long as a photo gets cheaper by it."""

    def __init__(self, side: IndexSide, given: int) -> None:
        self._side = side
        self._fixed = given > 0
        self.size = given or _FIRST_BATCH
        self._largest = _LARGEST_BATCH.get(side.device, 1024)
        self._best = float("inf")

    def measure(self) -> float:
        """Seconds for one photo in the encoder, from a batch of noise; also warms it up."""
        size = self._side.info.image_size
        noise = np.random.default_rng(0).standard_normal((4, 3, size, size), dtype=np.float32)
        self._side.encode_images(noise[:1])
        started = time.monotonic()
        self._side.encode_images(noise)
        return (time.monotonic() - started) / len(noise)

    def learn(self, photos: int, seconds: float) -> None:
        """Take in what a batch cost."""
        if self._fixed or photos < self.size:
            return
        cost = seconds / photos
        if cost < 0.95 * self._best and self.size < self._largest:
            self.size *= 2
        else:
            self._fixed = True
        self._best = min(self._best, cost)
