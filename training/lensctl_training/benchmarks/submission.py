"""Rankings for the servers that hold the hidden answers of CIRR's and CIRCO's test splits."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from lensctl.whole import write_json
from lensctl_training.benchmarks.benchmark import Benchmark
from lensctl_training.benchmarks.scores import TaskScore


def write_submissions(
    folder: Path, benchmark: Benchmark, tasks: tuple[TaskScore, ...]
) -> list[Path]:
    """Write one file for each hidden task; the paths written.

    Nothing is written for a task with an unreadable query image: the servers want every query.
    """
    written = []
    for task in tasks:
        form = _FORMS.get((benchmark.name, task.task))
        if form is None or task.without_image:
            continue
        name, make = form
        write_json(folder / name, make(benchmark, task))
        written.append(folder / name)
    return written


def _rankings(benchmark: Benchmark, task: TaskScore) -> dict[str, list[str]]:
    """Query id -> names of its best images, each once, best first."""
    images = benchmark.images
    return {r.query.id: [images[position].name for position in r.top] for r in task.results}


def _cirr(metric: str) -> Callable[[Benchmark, TaskScore], dict[str, Any]]:
    def make(benchmark: Benchmark, task: TaskScore) -> dict[str, Any]:
        return {"version": "rc2", "metric": metric, **_rankings(benchmark, task)}

    return make


def _circo(benchmark: Benchmark, task: TaskScore) -> dict[str, list[int]]:
    rankings = _rankings(benchmark, task)
    return {query: [int(name) for name in names] for query, names in rankings.items()}


_FORMS: dict[tuple[str, str], tuple[str, Callable[[Benchmark, TaskScore], dict[str, Any]]]] = {
    ("cirr", "test"): ("cirr-test1-recall.json", _cirr("recall")),
    ("cirr", "test, subset"): ("cirr-test1-recall_subset.json", _cirr("recall_subset")),
    ("circo", "test"): ("circo-test.json", _circo),
}
