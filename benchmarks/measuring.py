"""Whole commands measured: wall seconds, CPU seconds, peak memory of the process tree."""

import json
import os
import shlex
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True)
class Command:
    """A command line under a name; `before` is run, untimed, before every turn."""

    name: str
    line: Sequence[str]
    env: Mapping[str, str] = field(default_factory=dict)
    cwd: Path | None = None
    before: Callable[[], None] = lambda: None


@dataclass(frozen=True)
class Cost:
    """What one run took.

    `peak_mb` is the proportional set size of the whole process tree, `anonymous_mb` the part of it
    that no file backs: mapped files can be dropped from memory at any time, this cannot.
    """

    wall: float
    cpu: float
    peak_mb: float
    anonymous_mb: float


def run_in_turn(commands: Sequence[Command], runs: int, warmups: int = 1) -> dict[str, Cost]:
    """Run all commands in turn, so that drift of the machine hits all alike; medians by name.

    Memory is watched in the warm-up turns, which are not timed: reading it twenty times a second
    holds up a process that maps and unmaps much, by a tenth of its time.
    """
    costs: dict[str, list[Cost]] = {command.name: [] for command in commands}
    watched = {command.name: _warm_up(command, warmups) for command in commands}
    for _ in range(runs):
        for command in commands:
            command.before()
            costs[command.name].append(run_once(command))
    return {name: _median(rows, watched[name]) for name, rows in costs.items()}


def _warm_up(command: Command, turns: int) -> list[Cost]:
    costs = []
    for _ in range(turns):
        command.before()
        costs.append(run_once(command, watch=True))
    return costs


def run_once(command: Command, *, watch: bool = False) -> Cost:
    """Run one command; exits where it fails. Without `watch` its memory is what the kernel says."""
    started = time.monotonic()
    process = subprocess.Popen(
        list(command.line),
        env={**os.environ, **command.env},
        cwd=command.cwd,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )
    peak = _PeakMemory(process.pid) if watch else None
    err = process.stderr.read() if process.stderr else b""
    _, status, usage = os.wait4(process.pid, 0)
    wall = time.monotonic() - started
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        sys.exit(f"{shlex.join(command.line)} failed:\n{err.decode()}")
    mapped, anonymous = peak.stop() if peak else (0.0, 0.0)
    cpu = usage.ru_utime + usage.ru_stime
    return Cost(wall, cpu, mapped or usage.ru_maxrss / 1024, anonymous)


def report(costs: Mapping[str, Cost], **facts: object) -> None:
    """One line of JSON for each command."""
    for name, cost in costs.items():
        row = {"what": name, **facts, "wall_s": round(cost.wall, 3), "cpu_s": round(cost.cpu, 3)}
        memory = {"peak_mb": round(cost.peak_mb), "anonymous_mb": round(cost.anonymous_mb)}
        print(json.dumps({**row, **memory}), flush=True)


def _median(rows: Sequence[Cost], watched: Sequence[Cost]) -> Cost:
    return Cost(
        statistics.median(row.wall for row in rows),
        statistics.median(row.cpu for row in rows),
        max((row.peak_mb for row in watched), default=0.0),
        max((row.anonymous_mb for row in watched), default=0.0),
    )


class _PeakMemory:
    """Samples the proportional set size of a process and its children every 50 ms."""

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self._peak = self._anonymous = 0
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def stop(self) -> tuple[float, float]:
        """Peaks in MB, all and anonymous; 0 where the process ended before the first sample."""
        self._done.set()
        self._thread.join()
        return self._peak / 1024, self._anonymous / 1024

    def _watch(self) -> None:
        while not self._done.wait(0.05):
            rows = [_pss(pid) for pid in _tree(self._pid)]
            self._peak = max(self._peak, sum(one for one, _ in rows))
            self._anonymous = max(self._anonymous, sum(one for _, one in rows))


def _tree(pid: int) -> list[int]:
    pids = [pid]
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        try:
            children = task.read_text().split()
        except OSError:
            continue
        for child in children:
            pids += _tree(int(child))
    return pids


def _pss(pid: int) -> tuple[int, int]:
    """Kilobytes, all and anonymous; 0 for a process that ended."""
    try:
        text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    except OSError:
        return 0, 0
    fields = {line.split()[0]: line.split()[1] for line in text.splitlines()[1:]}
    return int(fields.get("Pss:", 0)), int(fields.get("Pss_Anon:", 0))
