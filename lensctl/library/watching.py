"""Folders observed for changes, through unmounts and back.

The system tells of changes where it can (inotify, FSEvents); a network share changed by another
machine tells nothing, so everything is also looked through from time to time. A folder that
vanishes and returns is observed anew, and so is one where a disk was mounted or unmounted, be it
the folder itself or one inside it: an observer of what was unmounted stays deaf for ever.
"""

import contextlib
import ctypes
import errno
import os
import re
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from watchdog.events import (
    FileClosedNoWriteEvent,
    FileOpenedEvent,
    FileSystemEvent,
    FileSystemEventHandler,
)
from watchdog.observers import Observer
from watchdog.observers.api import BaseObserver, ObservedWatch
from watchdog.observers.polling import PollingObserver

from lensctl.library.catalog import with_slash
from lensctl.photos.formats import PHOTO_ENDINGS, ending_of
from lensctl.photos.rules import IGNORE_FILE

_IN_ATTRIB = 4
_NO_MORE_WATCHES = "the system watches no more folders (fs.inotify.max_user_watches)"
_POLLING = "looking for changes by polling instead"
TICK_SECONDS = 0.5
LOOK_SECONDS = 5.0
"""How often a folder is checked for having vanished or come back."""


@dataclass(frozen=True)
class WatchOptions:
    """Seconds: of quiet before acting, at most until acting, between full looks; 0 for never."""

    quiet: float = 2.0
    patience: float = 30.0
    rescan: float = 3600.0
    poll: bool = False


class FolderWatch:
    """Which of some folders changed, told after things went quiet.

    Args:
        folders: absolute paths.
        ignore: a folder inside them whose changes are our own: the library.
        note: is told what a person should know, and of which folder.
    """

    def __init__(
        self,
        folders: Sequence[bytes],
        ignore: Path,
        options: WatchOptions,
        note: Callable[[str, bytes], None],
    ) -> None:
        self._roots = [_Root(folder) for folder in folders]
        self._ignore = os.fsencode(ignore.resolve()) + b"/"
        self._options = options
        self._note = note
        self._polling = options.poll
        self._observer = self._start_observer()

    def close(self) -> None:
        """Stop observing."""
        self._observer.stop()
        self._observer.join(timeout=5)

    def wait(self, wants_stop: Callable[[], bool]) -> list[bytes]:
        """Block until folders changed and are quiet again; empty where asked to stop."""
        looked = 0.0
        while not wants_stop():
            now = time.monotonic()
            if now - looked >= LOOK_SECONDS:
                looked = now
                for root in self._roots:
                    self._look(root)
            due = [root for root in self._roots if root.is_due(now, self._options)]
            if due:
                for root in due:
                    root.settle(now)
                return [root.folder for root in due]
            time.sleep(TICK_SECONDS)
        return []

    def touch(self, folders: Sequence[bytes]) -> None:
        """Have folders told again: what was to be done for them could not be done now."""
        for root in self._roots:
            if root.folder in folders:
                root.touch()

    def _look(self, root: "_Root") -> None:
        """Observe a folder anew where it came back, or where a disk came or went."""
        seen = _Place.of(root.folder)
        if seen == root.place:
            if root.watch is not None and not self._polling and not _room_for_a_watch(root.folder):
                self._poll_instead(_NO_MORE_WATCHES, root.folder)
            return
        if root.watch is not None:
            self._observer.unschedule(root.watch)
            root.watch = None
        if seen.identity is not None:
            root.watch = self._observe(root)
        if root.place is not None:
            for path in sorted(root.place.missing_in(seen)):
                self._note("away; waiting for it to come back", path)
            for path in sorted(seen.missing_in(root.place)):
                self._note("back", path)
        root.place = seen
        root.touch()

    def _observe(self, root: "_Root") -> ObservedWatch | None:
        handler = _Handler(root, self._ignore)
        try:
            return self._observer.schedule(handler, os.fsdecode(root.folder), recursive=True)
        except FileNotFoundError:
            return None
        except OSError as error:
            if self._polling:
                raise
            self._poll_instead(str(error.strerror or error), root.folder)
            return self._observer.schedule(handler, os.fsdecode(root.folder), recursive=True)

    def _poll_instead(self, why: str, folder: bytes) -> None:
        """Leave the system's watches, of which there is a limit, for looking: slower, but whole."""
        self._note(f"{why}; {_POLLING}", folder)
        with contextlib.suppress(OSError):
            self._observer.stop()
        self._polling = True
        self._observer = self._start_observer()

    def _start_observer(self) -> BaseObserver:
        for root in self._roots:
            root.watch = root.place = None
        if not self._polling:
            try:
                observer = Observer()
                observer.start()
                return observer
            except OSError as error:  # as the limit of watchers for one user
                self._note(f"{error.strerror}; {_POLLING}", self._roots[0].folder)
                self._polling = True
        polling = PollingObserver(timeout=LOOK_SECONDS)
        polling.start()
        return polling


@dataclass(frozen=True)
class _Place:
    """What stands at a path: device and inode, None where it is away; and the disks mounted there
    or below."""

    path: bytes
    identity: tuple[int, int] | None
    mounts: frozenset[bytes]

    @staticmethod
    def of(path: bytes) -> "_Place":
        """What stands there now."""
        try:
            status = os.stat(path)
        except OSError:
            return _Place(path, None, frozenset())
        return _Place(path, (status.st_dev, status.st_ino), _mounts_in(os.path.realpath(path)))

    def missing_in(self, other: "_Place") -> set[bytes]:
        """Mounts that the other lacks; the folder itself where the other has none."""
        if other.identity is None:
            return {self.path} if self.identity is not None else set()
        return set(self.mounts - other.mounts) if self.identity is not None else set()


@dataclass
class _Root:
    """A folder, and when it changed."""

    folder: bytes
    place: "_Place | None" = None
    watch: ObservedWatch | None = None
    first_change: float = 0.0
    last_change: float = 0.0
    settled: float = field(default_factory=time.monotonic)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def touch(self) -> None:
        now = time.monotonic()
        with self.lock:
            self.first_change = self.first_change or now
            self.last_change = now

    def is_due(self, now: float, options: WatchOptions) -> bool:
        with self.lock:
            if options.rescan and now - self.settled >= options.rescan:
                return True
            if not self.first_change:
                return False
            is_quiet = now - self.last_change >= options.quiet
            return is_quiet or now - self.first_change >= options.patience

    def settle(self, now: float) -> None:
        with self.lock:
            self.first_change = self.last_change = 0.0
            self.settled = now


class _Handler(FileSystemEventHandler):
    """Notes changes that could concern a photo."""

    def __init__(self, root: _Root, ignore: bytes) -> None:
        self._root = root
        self._ignore = ignore

    def on_any_event(self, event: FileSystemEvent) -> None:
        if isinstance(event, FileOpenedEvent | FileClosedNoWriteEvent):
            return
        if event.is_directory and event.event_type == "modified":
            return
        paths = [os.fsencode(path) for path in (event.src_path, event.dest_path) if path]
        if any(self._concerns(path, event.is_directory) for path in paths):
            self._root.touch()

    def _concerns(self, path: bytes, is_folder: bool) -> bool:
        if (path + b"/").startswith(self._ignore):
            return False
        name = os.path.basename(path)
        return is_folder or name == os.fsencode(IGNORE_FILE) or ending_of(name) in PHOTO_ENDINGS


def _room_for_a_watch(folder: bytes) -> bool:
    """Whether the system would watch one more folder.

    watchdog keeps silent of folders below the first that it could not have watched.
    """
    try:
        from watchdog.observers.inotify_c import inotify_add_watch, inotify_init
    except (ImportError, OSError):  # not Linux
        return True
    descriptor = inotify_init()
    if descriptor < 0:
        return True
    try:
        added = inotify_add_watch(descriptor, folder, _IN_ATTRIB)
        return added >= 0 or ctypes.get_errno() != errno.ENOSPC
    finally:
        os.close(descriptor)


def _mounts_in(folder: bytes) -> frozenset[bytes]:
    """The mount points at and below a folder; none where the system does not list them."""
    try:
        lines = Path("/proc/self/mountinfo").read_bytes().splitlines()
    except OSError:
        return frozenset()
    mounts = (_unescape(line.split()[4]) for line in lines)
    return frozenset(one for one in mounts if one == folder or one.startswith(with_slash(folder)))


def _unescape(path: bytes) -> bytes:
    """The kernel writes spaces, tabs, newlines and backslashes as octal numbers."""
    return re.sub(rb"\\([0-7]{3})", lambda found: bytes([int(found[1], 8)]), path)
