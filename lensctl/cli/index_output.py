"""What `index` and `watch` show of a run: the bar, the changes, what could not be read."""

import sys
from typing import TYPE_CHECKING

from lensctl.cli.terminal import GracefulStop, count, duration, note
from lensctl.show.names import show_path

if TYPE_CHECKING:
    from tqdm import tqdm

    from lensctl.library.index_run import IndexSummary

_LISTED = 20
"""Photos with problems that a terminal is shown."""

_KEPT = "nothing was forgotten (moved: lensctl relocate OLD NEW; gone for good: lensctl forget)"


class IndexProgress:
    """The progress bar: on a terminal only, and gone when the work is done.

    Args:
        quiet: no bar, no words.
        brief: a bar, no words.
    """

    def __init__(self, stop: GracefulStop, *, quiet: bool = False, brief: bool = False) -> None:
        self._stop = stop
        self._quiet = quiet
        self._brief = brief
        self._bar: tqdm | None = None

    def __enter__(self) -> "IndexProgress":
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.close()

    def scanning(self, folder: bytes) -> None:
        if not self._quiet and not self._brief and sys.stderr.isatty():
            note(f"looking through {show_path(folder)}")

    def encoding(self, photos: int, seconds_per_photo: float) -> None:
        from tqdm import tqdm

        if not self._quiet and not self._brief:
            most = duration(photos * seconds_per_photo)  # whose content is known is not known yet
            note(f"{count(photos, 'photo')} to read; encoding alone takes at most about {most}")
        if self._bar is not None:
            self._bar.close()
        self._bar = tqdm(
            total=photos, unit="photo", disable=True if self._quiet else None, leave=False
        )

    def advanced(self, photos: int) -> None:
        assert self._bar is not None
        self._bar.update(photos)

    def wants_stop(self) -> bool:
        return self._stop.signal != 0


def print_summary(summary: "IndexSummary") -> None:
    """One line on stdout; what went wrong on stderr."""
    found, changes = count(summary.found, "photo"), told_changes(summary)
    print(f"{found} found: {changes} ({duration(summary.seconds)})")
    for path in summary.offline_folders:
        note(f"offline: {show_path(path)}: missing, empty or closed, {_KEPT}")
    print_problems(summary)
    if summary.stopped:
        note("stopped; run the command again to go on")


def print_news(summary: "IndexSummary") -> None:
    """On stderr, what a job that runs quietly should be told, and the next run does not repeat:
    photos that went offline in this run, or proved unreadable in it."""
    for path, photos in summary.went_offline:
        note(f"offline: {show_path(path)}: {count(photos, 'photo')} since this run, {_KEPT}")
    _list("could not be read", summary.unreadable, "lensctl status --errors")


def told_changes(summary: "IndexSummary") -> str:
    """ "12 encoded, 3 gone", or "nothing new"."""
    parts = [
        (summary.encoded, "encoded"),
        (summary.linked, "known by content"),
        (summary.moved, "renamed"),
        (summary.gone, "gone"),
        (summary.excluded, "excluded"),
        (summary.offline, "offline"),
        (len(summary.unreadable), "unreadable"),
    ]
    return ", ".join(f"{number:,} {what}" for number, what in parts if number) or "nothing new"


def print_problems(summary: "IndexSummary") -> None:
    """What could not be read, on stderr, with reasons."""
    _list("could not be read", summary.unreadable, "lensctl status --errors")
    _list("skipped", summary.skipped, "lensctl index --json")  # the library does not keep them


def _list(what: str, rows: list[tuple[bytes, str]], whole: str) -> None:
    listed = _LISTED if sys.stderr.isatty() else len(rows)
    for path, reason in rows[:listed]:
        note(f"{what}: {show_path(path)}: {reason}")
    if len(rows) > listed:
        note(f"... and {len(rows) - listed:,} more; all of them: {whole}")


def summary_to_dict(summary: "IndexSummary") -> dict[str, object]:
    """As docs/json.md names it; paths are bytes."""
    return {
        "found": summary.found,
        "encoded": summary.encoded,
        "known_by_content": summary.linked,
        "renamed": summary.moved,
        "gone": summary.gone,
        "excluded": summary.excluded,
        "offline": summary.offline,
        "offline_folders": summary.offline_folders,
        "unreadable": [{"path": p, "reason": r} for p, r in summary.unreadable],
        "skipped": [{"path": p, "reason": r} for p, r in summary.skipped],
        "stopped": summary.stopped,
    }
