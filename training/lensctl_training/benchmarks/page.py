"""Wins and failures of one method as a page of pictures."""

from dataclasses import replace
from pathlib import Path

import numpy as np

from lensctl.errors import PhotoError
from lensctl.show.sheet import Mark, Picture, Section, Table, write_sheet
from lensctl_training.batching import spread
from lensctl_training.benchmarks.benchmark import Benchmark, Task
from lensctl_training.benchmarks.images import read_image
from lensctl_training.benchmarks.report import Cells, MethodScore, Report, cells, difference_cells
from lensctl_training.benchmarks.scores import QueryResult, TaskScore

SHOWN = 8
"""Wins, and as many failures, of each task."""
TOP = 5
SIDE = 240


def write_page(path: Path, report: Report, method: MethodScore) -> None:
    """A row a query: its image, its text, the best candidates framed right or wrong, the answer."""
    tasks = {task.name: task for task in report.benchmark.tasks}
    sections = [
        section
        for score in method.tasks
        if not tasks[score.task].hidden
        for section in _sections(report.benchmark, tasks[score.task], score)
    ]
    title = f"{report.benchmark.name}: {method.label}"
    made = cells(replace(report, methods=(method,)))
    scores = Section("Scores, percent", table=_table(made))
    compared = difference_cells(report, method)
    differences = Section("Differences", "\n".join(compared.below), table=_table(compared))
    notes = Section("Notes", text="\n".join(made.below))
    path.parent.mkdir(parents=True, exist_ok=True)
    tables = [scores, differences] if compared.rows else [scores]
    write_sheet(path, title, [*tables, *sections, notes], picture_side=SIDE)


def _table(made: Cells) -> Table:
    return Table(made.header, made.rows)


def _sections(benchmark: Benchmark, task: Task, score: TaskScore) -> list[Section]:
    wins = [result for result in score.results if result.best_rank == 1]
    failures = [result for result in score.results if result.best_rank > TOP]
    return [
        Section(
            f"{task.name}: {heading}",
            text=f"{len(results)} of {score.queries} queries; {SHOWN} at most are shown",
            rows=[_row(benchmark, task, result) for result in spread(results, SHOWN)],
        )
        for heading, results in (
            ("right at rank 1", wins),
            (f"nothing right within {TOP}", failures),
        )
    ]


def _row(benchmark: Benchmark, task: Task, result: QueryResult) -> list[Picture | str]:
    query = result.query
    cells: list[Picture | str] = []
    if query.image is not None:
        cells.append(_picture(benchmark, query.image, "query"))
    if query.text:
        cells.append(query.text)
    cells += [_candidate(benchmark, task, result, item) for item in result.top[:TOP]]
    if result.best_rank > TOP and query.positives:
        rank = f"rank {result.best_rank:.0f}" if np.isfinite(result.best_rank) else "never found"
        cells.append(f"the answer ({rank}):")
        cells.append(_candidate(benchmark, task, result, query.positives[0]))
    return cells


def _candidate(benchmark: Benchmark, task: Task, result: QueryResult, item: int) -> Picture | str:
    right = item in result.query.positives
    if task.direction == "image-to-text":
        return f"{'[right]' if right else '[wrong]'} {benchmark.texts[item]}"
    return _picture(benchmark, item, "good" if right else "bad")


def _picture(benchmark: Benchmark, position: int, mark: Mark) -> Picture:
    """As the model saw it; a file that cannot be read is left to the sheet, which says why."""
    ref = benchmark.images[position]
    try:
        image, _ = read_image(ref)
    except PhotoError:
        return Picture(ref.path, caption=ref.path.name, mark=mark)
    return Picture(image, caption=ref.path.name, mark=mark)
