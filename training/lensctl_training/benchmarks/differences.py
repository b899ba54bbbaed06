"""`lensctl eval difference`: two finished runs on the same queries, from what they wrote.

A run is the folder that a benchmark's results went into (results.json, METHOD/rankings.jsonl), or
the JSON document of `eval triplets` with the rankings beside it.
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from lensctl.errors import DataError, UsageError
from lensctl_training.benchmarks.benchmark import Mean
from lensctl_training.benchmarks.bootstrap import CONFIDENCE, Estimate, estimate
from lensctl_training.benchmarks.files import MALFORMED
from lensctl_training.benchmarks.names import folder_names
from lensctl_training.benchmarks.report import (
    DIFFERENCES,
    FORMAT,
    align,
    difference_document,
    means_over,
    percent,
    points,
)
from lensctl_training.benchmarks.triplet_set import COLUMNS, TASK, rankings_of

Name = tuple[str, str]
"""A task, or the label of a mean, and a measure."""


@dataclass
class MethodResults:
    """What a run wrote of one method.

    Args:
        run: the folder or file.
        label: the method.
        benchmark: its name; "triplets" for `eval triplets`.
        hashes: what the queries were read from -> its hash.
        images: a hash of the candidates' contents.
        measures: task -> names of its values.
        means: those of the benchmark.
        queries: task -> names of the queries, in order.
        values: task -> a row of values for each query.
    """

    run: Path
    label: str
    benchmark: str
    hashes: dict[str, str]
    images: str
    measures: dict[str, list[str]]
    means: list[Mean]
    queries: dict[str, list[str]] = field(default_factory=dict)
    values: dict[str, list[list[float]]] = field(default_factory=dict)

    def estimates(self, tasks: Sequence[str]) -> dict[Name, Estimate]:
        """Of every measure of these tasks, and of the means over them."""
        found: dict[Name, Estimate] = {}
        for task in tasks:
            names = [(task, measure) for measure in self.measures[task]]
            rows = np.array(self.values[task], dtype=np.float64).reshape(-1, len(names))
            found |= zip(names, estimate(rows, self.queries[task]), strict=True)
        return found | means_over(found, self.means)


def read_method(run: Path, label: str = "") -> MethodResults:
    """One method of a run, the first where none is named.

    Raises:
        UsageError: the run has no such method.
        DataError: `run` holds no results, or not those of every query.
    """
    place = run / "results.json" if run.is_dir() else run
    try:
        document = json.loads(place.read_text(encoding="utf-8"))
        read = _of_benchmark if "methods" in document else _of_triplets
        found, rankings = read(run, document, label)
        for row in _rows(rankings, found):
            found.queries.setdefault(row["task"], []).append(str(row["query"]))
            found.values.setdefault(row["task"], []).append(row["values"])
        if any(found.queries.get(task) is None for task in found.measures):
            raise ValueError(f"{rankings} does not hold every task")
    except (OSError, *MALFORMED) as error:
        raise DataError(
            f"{run} holds no results that can be compared",
            why=f"{type(error).__name__}: {error}",
            next_step="give a benchmark's folder of results, or the --out of `lensctl eval "
            "triplets`; evaluate again what an older version scored without a file of its queries",
        ) from error
    return found


def _of_benchmark(run: Path, document: dict[str, Any], label: str) -> tuple[MethodResults, Path]:
    labels = [method["label"] for method in document["methods"]]
    place = _place(run, labels, label)
    method, data = document["methods"][place], document["data"]
    found = MethodResults(
        run=run,
        label=labels[place],
        benchmark=document["benchmark"],
        hashes=data["files"],
        images=data["content_hash"],
        measures={t["task"]: list(t["values"]) for t in method["tasks"] if t["values"]},
        means=[
            Mean(m["label"], m["measure"], tuple(m["tasks"])) for m in document.get("means", ())
        ],
    )
    return found, run / folder_names(labels)[place] / "rankings.jsonl"


def _of_triplets(run: Path, document: dict[str, Any], label: str) -> tuple[MethodResults, Path]:
    labels = list(document["scores"])
    content = document["models"][0]["content_hash"]
    found = MethodResults(
        run=run,
        label=labels[_place(run, labels, label)],
        benchmark=TASK,
        hashes={"triplets": content},
        images=content,
        measures={TASK: list(COLUMNS)},
        means=[],
    )
    return found, rankings_of(run)


def _place(run: Path, labels: list[str], label: str) -> int:
    if label and label not in labels:
        raise UsageError(
            f"{run} has no method {label!r}", why=f"its methods are {'; '.join(labels)}"
        )
    return labels.index(label) if label else 0


def _rows(rankings: Path, wanted: MethodResults) -> Iterator[dict[str, Any]]:
    """The lines of one method in tasks whose answers are known."""
    with rankings.open(encoding="utf-8") as file:
        for line in file:
            row = json.loads(line)
            measures = wanted.measures.get(row["task"])
            if measures is None or row.get("method", wanted.label) != wanted.label:
                continue
            if len(row["values"]) != len(measures):
                raise ValueError(f"{rankings}: {row['query']} has not one value for each measure")
            yield row


@dataclass(frozen=True)
class RunDifference:
    """Two methods on the tasks that both were scored on.

    Args:
        one: A.
        other: B.
        estimates: (task, measure) -> A's mean, B's mean, A - B.
        notes: what a reader must know.
    """

    one: MethodResults
    other: MethodResults
    estimates: dict[Name, tuple[Estimate, Estimate, Estimate]]
    notes: tuple[str, ...]

    def document(self) -> dict[str, Any]:
        """As `--json` prints it."""
        return {
            "format": FORMAT,
            "benchmark": self.one.benchmark,
            "a": {"run": str(self.one.run), "method": self.one.label},
            "b": {"run": str(self.other.run), "method": self.other.label},
            "interval_confidence": CONFIDENCE,
            "differences": [
                {"task": task, "measure": measure, "a": a.value, "b": b.value}
                | difference_document(difference)
                for (task, measure), (a, b, difference) in self.estimates.items()
            ],
            "notes": list(self.notes),
        }

    def table(self) -> str:
        """Aligned columns in percent."""
        rows = [["task", "measure", "A", "B", "A - B"]]
        for name, (a, b, difference) in self.estimates.items():
            rows.append([*name, percent(a.value), percent(b.value), points(difference)])
        head = [
            f"{self.one.benchmark} (percent)",
            *(f"{w}: {m.label} ({m.run})" for w, m in (("A", self.one), ("B", self.other))),
            DIFFERENCES,
        ]
        return "\n".join([*head, *align(rows), *(f"note: {note}" for note in self.notes)])


def compare_runs(one: MethodResults, other: MethodResults) -> RunDifference:
    """A minus B, paired by query.

    Raises:
        DataError: they were not asked the same.
    """
    common = [task for task in one.measures if task in other.measures]
    changed = [f for f in one.hashes if one.hashes[f] != other.hashes.get(f, one.hashes[f])]
    why = ""
    if one.benchmark != other.benchmark:
        why = f"one is of {one.benchmark}, the other of {other.benchmark}"
    elif not common:
        why = "no task was scored in both"
    elif changed:
        why = f"{', '.join(changed)} changed between them"
    elif unlike := [t for t in common if not _alike(one, other, t)]:
        why = f"the queries or measures of {', '.join(unlike)} differ"
    if why:
        raise DataError(
            f"{one.run} and {other.run} cannot be compared",
            why=why,
            next_step="evaluate both models on the same data, by the same version",
        )
    mine, theirs = one.estimates(common), other.estimates(common)
    estimates = {n: (mine[n], theirs[n], mine[n] - theirs[n]) for n in mine if n in theirs}
    return RunDifference(one, other, estimates, tuple(_notes(one, other, len(common))))


def _alike(one: MethodResults, other: MethodResults, task: str) -> bool:
    return one.measures[task] == other.measures[task] and one.queries[task] == other.queries[task]


def _notes(one: MethodResults, other: MethodResults, common: int) -> Iterator[str]:
    left_out = len({*one.measures, *other.measures}) - common
    if left_out:
        yield f"{left_out} tasks were scored in one run only, and are left out"
    elif one.images != other.images:
        yield "the contents of the images differ between the runs"
