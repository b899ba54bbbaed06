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
    """What one run took. `peak_mb` is the proportional set size of the whole process tree."""

    wall: float
    cpu: float
    peak_mb: float


def run_in_turn(commands: Sequence[Command], runs: int, warmups: int = 1) -> dict[str, Cost]:
    """Run all commands in turn, so that drift of the machine hits all alike; medians by name."""
    costs: dict[str, list[Cost]] = {command.name: [] for command in commands}
    for turn in range(warmups + runs):
        for command in commands:
            command.before()
            cost = run_once(command)
            if turn >= warmups:
                costs[command.name].append(cost)
    return {name: _median(rows) for name, rows in costs.items()}


def run_once(command: Command) -> Cost:
    """Run one command; exits where it fails."""
    started = time.monotonic()
    process = subprocess.Popen(
        list(command.line),
        env={**os.environ, **command.env},
        cwd=command.cwd,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )
    peak = _PeakMemory(process.pid)
    err = process.stderr.read() if process.stderr else b""
    _, status, usage = os.wait4(process.pid, 0)
    wall = time.monotonic() - started
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        sys.exit(f"{shlex.join(command.line)} failed:\n{err.decode()}")
    return Cost(wall, usage.ru_utime + usage.ru_stime, peak.stop() or usage.ru_maxrss / 1024)


def report(costs: Mapping[str, Cost], **facts: object) -> None:
    """One line of JSON for each command."""
    for name, cost in costs.items():
        row = {"what": name, **facts, "wall_s": round(cost.wall, 3), "cpu_s": round(cost.cpu, 3)}
        print(json.dumps({**row, "peak_mb": round(cost.peak_mb)}), flush=True)


def _median(rows: Sequence[Cost]) -> Cost:
    return Cost(
        statistics.median(row.wall for row in rows),
        statistics.median(row.cpu for row in rows),
        statistics.median(row.peak_mb for row in rows),
    )


class _PeakMemory:
    """Samples the proportional set size of a process and its children every 50 ms."""

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self._peak = 0.0
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def stop(self) -> float:
        """The peak in MB; 0 where the process ended before the first sample."""
        self._done.set()
        self._thread.join()
        return self._peak

    def _watch(self) -> None:
        while not self._done.wait(0.05):
            self._peak = max(self._peak, sum(_pss(pid) for pid in _tree(self._pid)) / 1024)


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


def _pss(pid: int) -> int:
    """Kilobytes; 0 for a process that ended."""
    try:
        text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in text.splitlines() if line[:4] == "Pss:"), 0)
