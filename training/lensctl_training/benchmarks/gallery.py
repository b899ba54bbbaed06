"""Every image of a benchmark, encoded once.

The vectors of a benchmark's images under one encoder lie in a folder of the cache:

    manifest.json     what the folder belongs to
    state.npy         (N,) uint8: PENDING, DONE or FAILED
    embeddings.npy    (N, E) float32, unnormalised
    sha256.npy        (N, 32) uint8: the content of the file that was encoded
    failures.jsonl    one {"image": position, "reason": text} for each FAILED
    NAME-LENS.npy     (N, D) float32: targets and text keys of one lens

All are memory-mapped: RAM holds one batch of pixels, never the gallery's. A row counts once its
state is DONE, which is written every few seconds and after the rows themselves, so a run that was
killed goes on where it stood. The folder's name carries the encoder's fingerprint, the precision
and a hash of the images' names, sizes and times: a changed image or another encoder gives another
folder.
"""

import hashlib
import json
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt

from lensctl.errors import DataError, LibraryBusyError, ModelError, PhotoError
from lensctl.library.pipeline import in_order
from lensctl.lock import held_alone
from lensctl.models.interface import Floats, IndexSide
from lensctl.whole import whole_folder
from lensctl_training.batching import in_batches
from lensctl_training.benchmarks.benchmark import ImageRef
from lensctl_training.benchmarks.images import read_image
from lensctl_training.json_lines import append_lines, read_lines

PENDING, DONE, FAILED = 0, 1, 2
DERIVE_ROWS = 4096
"""Rows of embeddings turned into targets or keys at a time."""

COMMIT_SECONDS = 5.0
"""How much work a killed run may lose; bringing every batch to the disk would cost more."""

Progress = Callable[[int], object]


@dataclass(frozen=True)
class Gallery:
    """The vectors of all images of a benchmark; rows of unreadable images are zero.

    `available` is (N,) bool; `failures` maps a position to the reason why it is not.
    """

    embeddings: Floats
    targets: Floats
    text_keys: Floats
    available: npt.NDArray[np.bool_]
    failures: dict[int, str]
    images_hash: str
    content_hash: str


class GalleryStore:
    """The folder of one benchmark's images under one encoder.

    Args:
        cache: the folder that holds all such folders; made where it is missing.
        benchmark: the name that the folder's name begins with.
        images: in the order that positions refer to.
        side: the model that encodes.
    """

    def __init__(
        self, cache: Path, benchmark: str, images: Sequence[ImageRef], side: IndexSide
    ) -> None:
        self.images = images
        self.side = side
        self.images_hash = hash_images(images)
        encoder = side.info.encoder_fingerprint
        parts = (benchmark, self.images_hash[:16], encoder[:16], side.precision)
        self.folder = cache / "-".join(parts)

    def encode(
        self, *, batch_size: int = 32, workers: int = 2, progress: Progress = lambda count: None
    ) -> Gallery:
        """Encode what is not encoded yet, derive targets and text keys, and open everything.

        Args:
            batch_size: images given to the model at once.
            workers: threads that read and preprocess.
            progress: called with the number of images done since the last call.

        Raises:
            ModelError: the model gave a vector that is not finite.
            LibraryBusyError: another evaluation is encoding the same images.
            StorageError: the cache cannot be written to.
        """
        busy = LibraryBusyError(
            f"another evaluation is encoding into {self.folder}",
            why="two writers would mix their vectors",
            next_step="wait for it to end, or give --cache another folder",
        )
        lock = self.folder.with_name(f"{self.folder.name}.lock")
        with held_alone(lock, busy, elsewhere="give --cache another folder"):
            self._create()
            self._encode_pending(batch_size, workers, progress)
            return self._open()

    def _create(self) -> None:
        """Allocate the arrays, unless that was done."""
        if self.folder.exists():
            return
        with whole_folder(self.folder) as folder:
            count, width = len(self.images), self.side.info.embedding_dim
            _allocate(folder / "state.npy", (count,), np.uint8)
            _allocate(folder / "sha256.npy", (count, 32), np.uint8)
            _allocate(folder / "embeddings.npy", (count, width), np.float32)
            manifest = {
                "images": count,
                "images_hash": self.images_hash,
                "model": self.side.info.name,
                "encoder_fingerprint": self.side.info.encoder_fingerprint,
                "precision": self.side.precision,
            }
            (folder / "manifest.json").write_text(json.dumps(manifest, indent=2))

    def _encode_pending(self, batch_size: int, workers: int, progress: Progress) -> None:
        rows = _Rows(self, len(self.images), self.side.info.embedding_dim)
        pending = np.flatnonzero(rows.state == PENDING).tolist()
        progress(len(self.images) - len(pending))
        read = in_order(pending, self._read, workers, 2 * batch_size)
        try:
            for batch in in_batches(read, batch_size):
                good = [item for item in batch if isinstance(item, _Read)]
                if good:
                    vectors = self.side.encode_images(np.stack([item.pixels for item in good]))
                    self._refuse_not_finite(vectors, [item.position for item in good])
                    rows.write(good, vectors)
                failed = [item for item in batch if isinstance(item, _Unreadable)]
                if failed:
                    self._record_failures(failed)
                    rows.fail([item.position for item in failed])
                rows.commit(at_least_every=COMMIT_SECONDS)
                progress(len(batch))
        finally:
            rows.commit()

    def _read(self, position: int) -> "_Read | _Unreadable":
        try:
            image, sha256 = read_image(self.images[position])
        except PhotoError as error:
            return _Unreadable(position, error.what)
        return _Read(position, self.side.preprocess(image), sha256)

    def _record_failures(self, failed: "list[_Unreadable]") -> None:
        rows = ({"image": item.position, "reason": item.reason} for item in failed)
        append_lines(self.folder / "failures.jsonl", rows)

    def _refuse_not_finite(self, vectors: Floats, rows: list[int]) -> None:
        bad = ~np.isfinite(vectors).all(axis=1)
        if bad.any():
            first = self.images[rows[int(np.flatnonzero(bad)[0])]]
            raise ModelError(
                f"{self.side.info.name} gave a vector that is not finite for {first.path.name}",
                why=f"{int(bad.sum())} images of a batch of {len(rows)}, in {self.side.precision}",
                next_step="try --precision fp32",
            )

    def _open(self) -> Gallery:
        count = len(self.images)
        embeddings = self.array("embeddings", (count, self.side.info.embedding_dim), "r")
        state = self.array("state", (count,), "r")
        available = np.asarray(state == DONE)
        content = hashlib.sha256(self.array("sha256", (count, 32), "r").tobytes()).hexdigest()
        return Gallery(
            embeddings=embeddings,
            targets=self._derived("targets", self.side.make_targets, available, embeddings),
            text_keys=self._derived("keys", self.side.text_keys, available, embeddings),
            available=available,
            failures=self._failures(np.flatnonzero(state == FAILED).tolist()),
            images_hash=self.images_hash,
            content_hash=content,
        )

    def _derived(
        self,
        name: str,
        derive: Callable[[Floats], Floats],
        available: npt.NDArray[np.bool_],
        embeddings: Floats,
    ) -> Floats:
        """(N, D) rows derived from the embeddings, made once a lens and kept."""
        info = self.side.info
        width = info.target_dim if name == "targets" else info.text_dim
        name = f"{name}-{info.lens_fingerprint[:16]}"
        path = self.folder / f"{name}.npy"
        if not path.exists():
            temporary = self.folder / f".{name}.{os.getpid()}.npy"
            rows = np.flatnonzero(available)
            _allocate(temporary, (len(embeddings), width), np.float32)
            derived = np.lib.format.open_memmap(temporary, mode="r+")
            for start in range(0, len(rows), DERIVE_ROWS):
                block = rows[start : start + DERIVE_ROWS]
                derived[block] = derive(np.asarray(embeddings[block]))
            derived.flush()
            temporary.replace(path)
        return self.array(name, (len(embeddings), width), "r")

    def _failures(self, failed: list[int]) -> dict[int, str]:
        reasons = dict.fromkeys(failed, "the reason was lost")
        for entry in read_lines(self.folder / "failures.jsonl"):
            match entry:
                case {"image": int(position), "reason": str(reason)} if position in reasons:
                    reasons[position] = reason
        return reasons

    def array(self, name: str, shape: tuple[int, ...], mode: Literal["r", "r+"]) -> np.memmap:
        """One of the folder's arrays, memory-mapped. Raises DataError where it is damaged."""
        path = self.folder / f"{name}.npy"
        try:
            array = np.lib.format.open_memmap(path, mode=mode)
        except (OSError, ValueError) as error:
            raise _damaged(self.folder, f"{path.name}: {error}") from error
        if array.shape != shape:
            raise _damaged(self.folder, f"{path.name} is {array.shape}, not {shape}")
        return array


class _Rows:
    """The arrays that are being filled; a row's state follows once the row itself is on disk."""

    def __init__(self, store: GalleryStore, count: int, width: int) -> None:
        self.state = store.array("state", (count,), "r+")
        self._embeddings = store.array("embeddings", (count, width), "r+")
        self._hashes = store.array("sha256", (count, 32), "r+")
        self._waiting: list[tuple[int, int]] = []
        self._committed = time.monotonic()

    def write(self, read: "list[_Read]", vectors: Floats) -> None:
        positions = [item.position for item in read]
        self._embeddings[positions] = vectors
        self._hashes[positions] = [np.frombuffer(item.sha256, dtype=np.uint8) for item in read]
        self._waiting += [(position, DONE) for position in positions]

    def fail(self, positions: list[int]) -> None:
        self._waiting += [(position, FAILED) for position in positions]

    def commit(self, at_least_every: float = 0.0) -> None:
        """Bring rows, then their states, to the disk, unless that was done a moment ago."""
        if not self._waiting or time.monotonic() - self._committed < at_least_every:
            return
        self._embeddings.flush()
        self._hashes.flush()
        for position, state in self._waiting:
            self.state[position] = state
        self.state.flush()
        self._waiting.clear()
        self._committed = time.monotonic()


def _damaged(folder: Path, why: str) -> DataError:
    return DataError(
        f"the cached vectors in {folder} cannot be used",
        why=why,
        next_step=f"delete that folder and run the command again: rm -r {folder}",
    )


def _allocate(path: Path, shape: tuple[int, ...], dtype: npt.DTypeLike) -> None:
    """A file of zeros, sparse where the file system can."""
    np.lib.format.open_memmap(path, mode="w+", dtype=dtype, shape=shape).flush()


def hash_images(images: Sequence[ImageRef]) -> str:
    """sha256 over the names, boxes, sizes and times of the images; -1 stands for a missing file.

    Paths are not part of it, so a data set that was moved keeps its vectors.
    """
    digest = hashlib.sha256()
    for image in images:
        try:
            found = image.path.stat()
            size, time = found.st_size, found.st_mtime_ns
        except OSError:
            size = time = -1
        digest.update(f"{image.name}\0{image.box}\0{size}\0{time}\n".encode())
    return digest.hexdigest()


def missing_images(images: Sequence[ImageRef]) -> list[int]:
    """Positions of the images whose file does not exist."""
    return [position for position, image in enumerate(images) if not _is_file(image.path)]


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:  # a name longer than the system takes
        return False


@dataclass(frozen=True)
class _Read:
    position: int
    pixels: Floats
    sha256: bytes


@dataclass(frozen=True)
class _Unreadable:
    position: int
    reason: str
