"""What an evaluation found: a table for people, a JSON document for programs."""

import platform
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any

from lensctl import __version__
from lensctl.errors import UsageError
from lensctl.models.interface import ModelInfo
from lensctl_training.benchmarks.benchmark import Benchmark, Mean
from lensctl_training.benchmarks.bootstrap import CONFIDENCE, Estimate, Interval, mean_of
from lensctl_training.benchmarks.names import compared_pairs
from lensctl_training.benchmarks.published import COLUMNS, REMARKS, published
from lensctl_training.benchmarks.scores import TaskScore

LIBRARIES = ("numpy", "pillow", "onnxruntime", "torch", "open_clip_torch", "timm")
FORMAT = 1
"""Version of the JSON document; grows when a key changes its meaning."""
DIFFERENCES = (
    "differences in points, with the 95 % interval of a paired bootstrap; * where it excludes 0"
)


@dataclass(frozen=True)
class MethodScore:
    """One column: a model, or a baseline over its vectors.

    Args:
        info: the model.
        model: what it is called in this table: its name, unless another model shares that.
        method: "model", "image only", "text only" or "sum".
        weight: of `sum`, searched on the very queries that are scored.
        device: where images were encoded, and `precision` in what.
        tasks: the scores, in the order of the benchmark's tasks; a baseline lacks tasks that it
            does not apply to.
        images_hash: of names, sizes and times of the images; content_hash of their content.
        failures: image -> why it could not be read.
        cut_texts: texts longer than the model reads, whose end was left out.
    """

    info: ModelInfo
    model: str
    method: str
    weight: float | None
    device: str
    precision: str
    tasks: tuple[TaskScore, ...]
    images_hash: str
    content_hash: str
    failures: dict[str, str]
    cut_texts: int

    @property
    def label(self) -> str:
        """The heading of its column."""
        if self.method == "model":
            return self.model
        weight = "" if self.weight is None else f" x{self.weight:g}"
        return f"{self.model}, {self.method}{weight}"


@dataclass(frozen=True)
class Row:
    """A line of the table: one measure of one task, or of the mean over some."""

    task: str
    measure: str
    estimates: tuple[Estimate | None, ...]

    @property
    def values(self) -> tuple[float | None, ...]:
        """One for each method."""
        return tuple(None if each is None else each.value for each in self.estimates)

    @property
    def intervals(self) -> tuple[Interval | None, ...]:
        """95 % bootstrap intervals, one for each method."""
        return tuple(None if each is None else each.interval for each in self.estimates)


@dataclass(frozen=True)
class Report:
    """All methods on one benchmark; `left_out` names the baselines that make no sense on it."""

    benchmark: Benchmark
    methods: tuple[MethodScore, ...]
    options: dict[str, Any]
    left_out: tuple[str, ...] = ()

    def rows(self) -> list[Row]:
        """Every measure of every scored task, then the means; None where a method has no score."""
        found = [all_estimates(m.tasks, self.benchmark.means) for m in self.methods]
        names = [
            *((t.name, m.name) for t in self.benchmark.tasks if not t.hidden for m in t.measures),
            *((mean.label, mean.measure) for mean in self.benchmark.means),
        ]
        return [Row(*name, tuple(each.get(name) for each in found)) for name in names]

    def pairs(self) -> list[tuple[int, int]]:
        """Which methods are compared: a model with its own baselines, and with later models."""
        return compared_pairs([m.label for m in self.methods], [m.model for m in self.methods])

    def notes(self) -> list[str]:
        """Everything that a reader of the table must know, one sentence each."""
        return [
            *self.benchmark.notes,
            *(f"the baseline {name} does not apply to this benchmark" for name in self.left_out),
            *_remarks(self),
            *REMARKS.get(self.benchmark.name, ()),
        ]


def all_estimates(
    tasks: Sequence[TaskScore], means: Sequence[Mean]
) -> dict[tuple[str, str], Estimate]:
    """(task, measure) -> estimate, of the tasks and of those means all of whose tasks are there."""
    found = {(task.task, name): each for task in tasks for name, each in task.estimates.items()}
    return found | means_over(found, means)


def means_over(
    found: Mapping[tuple[str, str], Estimate], means: Sequence[Mean]
) -> dict[tuple[str, str], Estimate]:
    """(label, measure) -> estimate of those means all of whose tasks are there."""
    wanted = {(m.label, m.measure): [(task, m.measure) for task in m.tasks] for m in means}
    return {
        name: mean_of([found[part] for part in parts])
        for name, parts in wanted.items()
        if all(part in found for part in parts)
    }


def _remarks(report: Report) -> Iterator[str]:
    """What was counted: unreadable images, ties, cut texts, weights searched on the test itself."""
    for method in report.methods:
        if method.method == "model" and method.failures:
            first, reason = next(iter(method.failures.items()))
            yield (
                f"{method.model}: {len(method.failures)} images could not be read and count as "
                f"never found, such as {first} ({reason})"
            )
        for task in method.tasks:
            if task.without_image:
                yield (
                    f"{method.label}, {task.task}: {task.without_image} of {task.queries} queries "
                    "have no readable image and count as misses"
                )
        ties = [f"{t.task} {t.tied} of {t.queries}" for t in method.tasks if t.tied]
        if ties:
            yield (
                f"{method.label}: queries in which a right and a wrong candidate tie, which counts "
                f"against the model: {'; '.join(ties)}"
            )
        if method.method == "model" and method.cut_texts:
            yield f"{method.model}: the end of {method.cut_texts} long texts was left out"
        if method.weight is not None:
            yield (
                f"{method.label}: the weight of the text was searched on these very queries, so "
                "this is the best that a vector sum can do, not a fair score"
            )


@dataclass(frozen=True)
class Cells:
    """The table as text: a header, its rows, and the lines below."""

    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    below: tuple[str, ...]


def cells(report: Report) -> Cells:
    """Scores in percent, the published numbers to their right, caveats and notes below."""
    known = published(report.benchmark.name)
    caveats: dict[str, int] = {}
    rows = []
    for row in report.rows():
        found = known.get((row.task, row.measure))
        mark = ""
        if found is not None and found.caveat:
            mark = f" [{caveats.setdefault(found.caveat, len(caveats) + 1)}]"
        theirs = [f"{v:.1f}{mark}" for v in found.values] if found else ["-"] * len(COLUMNS)
        rows.append((row.task, row.measure, *map(percent, row.values), *theirs))
    below = [f"[{number}] {caveat}" for caveat, number in caveats.items()]
    below += [f"note: {note}" for note in report.notes()]
    if rows and known:
        sources = sorted({row.source for row in known.values()})
        below.append(f"published MagicLens numbers: {'; '.join(sources)}")
    header = ("task", "measure", *(method.label for method in report.methods), *COLUMNS)
    return Cells(header, tuple(rows), tuple(below))


def difference_cells(report: Report, method: MethodScore | None = None) -> Cells:
    """Differences in points of percent with their intervals, one column a pair of methods.

    Where the benchmark has means only these are shown: results.json has the tasks. `method` leaves
    the pairs that it is one of. No row without a pair.
    """
    pairs = [
        pair for pair in report.pairs() if method in (None, *(report.methods[p] for p in pair))
    ]
    means = {(mean.label, mean.measure) for mean in report.benchmark.means}
    rows = [row for row in report.rows() if not means or (row.task, row.measure) in means]
    labels = [method.label for method in report.methods]
    return Cells(
        ("task", "measure", *(f"{labels[one]} - {labels[other]}" for one, other in pairs)),
        tuple(
            (row.task, row.measure, *(points(minus(row, *pair)) for pair in pairs))
            for row in rows
            if pairs
        ),
        (DIFFERENCES,),
    )


def minus(row: Row, one: int, other: int) -> Estimate | None:
    """The difference of two methods in a row, where both have a score."""
    found, reference = row.estimates[one], row.estimates[other]
    return None if found is None or reference is None else found - reference


def points(difference: Estimate | None) -> str:
    """`+3.20 [+1.10, +5.30] *`: in percent, starred where the interval excludes 0."""
    if difference is None:
        return "-"
    low, high = difference.interval
    star = " *" if difference.excludes_0 else "  "
    return f"{100 * difference.value:+.2f} [{100 * low:+.2f}, {100 * high:+.2f}]{star}"


def table(report: Report) -> str:
    """The table for a terminal, in aligned columns."""
    made, compared = cells(report), difference_cells(report)
    lines = align([made.header, *made.rows]) if made.rows else ["nothing to score"]
    if compared.rows:
        lines += [*compared.below, *align([compared.header, *compared.rows])]
    return "\n".join([f"{report.benchmark.name} (percent)", *lines, *made.below])


def align(rows: Sequence[Sequence[str]]) -> list[str]:
    """Rows of cells -> lines; the first two columns to the left, the others to the right."""
    widths = [max(len(cell) for cell in column) for column in zip(*rows, strict=True)]
    lines = []
    for row in rows:
        cells = [
            cell.ljust(width) if index < 2 else cell.rjust(width)
            for index, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        lines.append("  ".join(cells).rstrip())
    return lines


def percent(value: float | None) -> str:
    """A share as the tables print it."""
    return "-" if value is None else f"{100 * value:.2f}"


def document(report: Report) -> dict[str, Any]:
    """The JSON document: scores, and everything that is needed to repeat them."""
    return {
        "format": FORMAT,
        "benchmark": report.benchmark.name,
        "options": report.options,
        "data": {
            "files": report.benchmark.files,
            "images": len(report.benchmark.images),
            "images_hash": report.methods[0].images_hash if report.methods else "",
            "content_hash": report.methods[0].content_hash if report.methods else "",
        },
        "software": software(),
        "methods": [_method_document(method) for method in report.methods],
        "rows": [
            {
                "task": row.task,
                "measure": row.measure,
                "values": row.values,
                "intervals": row.intervals,
            }
            for row in report.rows()
        ],
        "differences": list(_differences(report)),
        "means": [asdict(mean) for mean in report.benchmark.means],
        "published": [
            {"task": task, "measure": measure, "columns": COLUMNS, **asdict(row)}
            for (task, measure), row in published(report.benchmark.name).items()
        ],
        "notes": report.notes(),
    }


def _differences(report: Report) -> Iterator[dict[str, Any]]:
    """Every measure of every pair of methods that are compared."""
    rows = report.rows()
    for one, other in report.pairs():
        names = {"method": report.methods[one].label, "reference": report.methods[other].label}
        for row in rows:
            found = minus(row, one, other)
            if found is not None:
                where = {"task": row.task, "measure": row.measure}
                yield names | where | difference_document(found)


def difference_document(difference: Estimate) -> dict[str, Any]:
    """A difference as the JSON documents have it."""
    return {
        "difference": difference.value,
        "interval": difference.interval,
        "excludes_0": difference.excludes_0,
    }


def software() -> dict[str, str]:
    """Versions of what a score may depend on."""
    found = {"lensctl": __version__, "python": platform.python_version()}
    for name in LIBRARIES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = ""
    return found | {"machine": platform.machine(), "system": platform.system()}


def _method_document(method: MethodScore) -> dict[str, Any]:
    info = method.info
    return {
        "label": method.label,
        "method": method.method,
        "model": info.name,
        "encoder_fingerprint": info.encoder_fingerprint,
        "lens_fingerprint": info.lens_fingerprint,
        "source": info.source,
        "device": method.device,
        "precision": method.precision,
        "sum_weight": method.weight,
        "sum_weight_searched_on_the_scored_queries": method.weight is not None,
        "unreadable_images": method.failures,
        "cut_texts": method.cut_texts,
        "tasks": [_task_document(task) for task in method.tasks],
    }


def _task_document(task: TaskScore) -> dict[str, Any]:
    names = [field.name for field in fields(task) if field.repr]
    means = {"values": task.values, "intervals": task.intervals}
    return {n: getattr(task, n) for n in names} | means | {"interval_confidence": CONFIDENCE}


def make_folder(folder: Path) -> None:
    """Make the folder that results go into, and try it: before the work, not after.

    Raises:
        UsageError: something else has that name, or nothing can be written there.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise UsageError(
            f"results cannot be written into {folder}",
            why=error.strerror or str(error),
            next_step="give --out a folder that can be written to, or a name not in use",
        ) from error
