"""What an index run is told, what it tells while it goes, and what it did."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

from lensctl.library.reconcile import Changes
from lensctl.photos.formats import MAX_PIXELS


@dataclass(frozen=True)
class IndexOptions:
    """How to index. `workers` 0 means one per CPU; sizes in bytes and pixels."""

    exclude: Sequence[str] = ()
    retry_errors: bool = False
    max_pixels: int = MAX_PIXELS
    memory_limit: int = 800_000_000
    workers: int = 0
    batch_size: int = 0
    device: str = "auto"
    precision: str = "auto"


@dataclass
class IndexSummary:
    """What an index run did, in photos.

    Attributes:
        went_offline: (indexed folder, how many of its photos went offline in this run).
    """

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
    went_offline: list[tuple[bytes, int]] = field(default_factory=list)
    stopped: bool = False
    seconds: float = 0.0

    def add(self, folder: bytes, changes: Changes) -> None:
        """Count in what reconciling a folder did."""
        if changes.went_offline:
            self.went_offline.append((folder, changes.went_offline))
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
