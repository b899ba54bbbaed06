"""The journey of indexing: scan, compare, read, encode in batches, commit, refresh the caches."""

import os
import time
from collections.abc import Iterator, Sequence

import numpy as np

from lensctl.library.catalog import KnownLens, to_floats
from lensctl.library.encoding import EncodingRun
from lensctl.library.index_run import IndexOptions, IndexSummary, Watcher
from lensctl.library.library import Library
from lensctl.library.reconcile import Reconciler
from lensctl.library.recorder import Recorder
from lensctl.library.vectors import refresh_search_files
from lensctl.models.interface import IndexSide, Model
from lensctl.photos.scan import FoundPhoto, LeftOutRaw, ScanRules, SkippedFile, scan

__all__ = ["IndexOptions", "IndexSummary", "Indexer", "Watcher"]

_TARGET_ROWS = 1024


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

        The model becomes the library's with its first batch of photos, or once all are known: a
        run that is refused, or stopped before, leaves the library's model as it was.

        Raises LibraryBusyError, LibraryError, StorageError, ModelError.
        """
        started = time.monotonic()
        info = self._model.info
        with self._library.writing() as recorder:
            if recorder.lens(info) is None:
                self._open_side()  # may be refused, and must be before anything is entered
            lens = recorder.register(info)
            for folder in folders or [path for _, path in recorder.roots()]:
                self._index_folder(recorder, lens, folder)
                if self.summary.stopped:
                    break
            self._make_missing_targets(recorder, lens)
            is_first = recorder.fact("model") is None
            if is_first or (not self.summary.stopped and recorder.has_targets(lens)):
                recorder.use_model(self._model_name, info)
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
        root = dict(recorder.roots())[root_id]
        reconciler.take_in(self._scan(folder, root, reconciler))
        if self._watcher.wants_stop():
            # Half a scan says nothing about the photos that it did not come to.
            self.summary.stopped = True
            return
        changes = reconciler.settle()
        self.summary.add(folder, changes)
        if changes.offline and not changes.found:
            self.summary.offline_folders.append(folder)
        self._read(reconciler, recorder, lens, root_id)
        if not self.summary.stopped:
            self.summary.add(folder, reconciler.take_in_raws())
            self._read(reconciler, recorder, lens, root_id)

    def _read(
        self, reconciler: Reconciler, recorder: Recorder, lens: KnownLens, root_id: int
    ) -> None:
        """Encode what was taken in and is not known."""
        retry = self._options.retry_errors
        count = reconciler.count_to_read(lens, retry_errors=retry)
        if count:
            photos = reconciler.to_read(lens, retry_errors=retry)
            side, name = self._open_side(), self._model_name
            run = EncodingRun(self._library, recorder, lens, root_id, side, name)
            run.encode(photos, count, self._options, self._watcher, self.summary)

    def _note_offline(self, folder: bytes, reconciler: Reconciler) -> None:
        reconciler.set_offline()
        self.summary.offline_folders.append(folder)
        self.summary.add(folder, reconciler.changes)

    def _scan(
        self, folder: bytes, root: bytes, reconciler: Reconciler
    ) -> Iterator[FoundPhoto | LeftOutRaw]:
        rules = ScanRules(
            exclude=self._options.exclude,
            skip_folders=(os.fsencode(self._library.folder.resolve()),),
        )
        for one in scan(folder, rules, root):
            if self._watcher.wants_stop():
                return
            if isinstance(one, SkippedFile):
                self.summary.skipped.append((one.path, one.reason))
                if one.is_folder:
                    reconciler.closed.append(one.path)
            else:
                yield one

    def _open_side(self) -> IndexSide:
        if self._side is None:
            self._side = self._model.index_side(self._options.device, self._options.precision)
        return self._side

    def _make_missing_targets(self, recorder: Recorder, lens: KnownLens) -> None:
        """A new lens over an encoder that is known: targets from kept embeddings, no pixels."""
        for rows in recorder.without_target(lens, _TARGET_ROWS):
            embeddings = np.stack([to_floats(blob) for _, _, blob in rows])
            targets = self._open_side().make_targets(embeddings)
            with recorder.transaction():
                for (_, content_id, _), target in zip(rows, targets, strict=True):
                    recorder.record_target(lens, content_id, target)

    def _refresh_search_files(self, recorder: Recorder, lens: KnownLens) -> None:
        def text_keys(embeddings: np.ndarray) -> np.ndarray:
            return self._open_side().text_keys(embeddings)

        refresh_search_files(
            self._library.search_folder, recorder, lens, self._model.info, text_keys
        )


def _is_absent(folder: bytes) -> bool:
    """Whether a folder is missing, empty or closed: what a disk that is away looks like."""
    try:
        with os.scandir(folder) as entries:
            return next(entries, None) is None
    except OSError:  # a mount whose server is gone gives errors of many kinds
        return True
