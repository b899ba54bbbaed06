"""Evaluate models on a benchmark: one straight walk."""

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np

from lensctl.errors import DataError
from lensctl.models.interface import IndexSide, Model
from lensctl.whole import write_json, write_whole
from lensctl_training.benchmarks.benchmark import Benchmark, Task
from lensctl_training.benchmarks.gallery import Gallery, GalleryStore, missing_images
from lensctl_training.benchmarks.methods import (
    LABELS,
    WEIGHTS,
    Asked,
    Baseline,
    QueryVectors,
)
from lensctl_training.benchmarks.names import folder_names, model_names
from lensctl_training.benchmarks.page import write_page
from lensctl_training.benchmarks.registry import LoadOptions, load_benchmark
from lensctl_training.benchmarks.report import (
    MethodScore,
    Report,
    document,
    make_folder,
    table,
)
from lensctl_training.benchmarks.scores import TaskScore, TaskScorer
from lensctl_training.benchmarks.submission import write_submissions


@dataclass(frozen=True)
class EvalOptions:
    """What a user can choose about a run.

    Args:
        cache: the folder for vectors of galleries.
        baselines: scored beside each model, over its own vectors.
        device: auto, cpu, cuda or mps.
        precision: auto, fp32 or bf16.
        batch_size: images encoded at once.
        workers: threads that read images.
        allow_missing: count what cannot be read as never found; otherwise it is refused.
        quiet: no progress bar.
    """

    cache: Path
    baselines: tuple[Baseline, ...] = ()
    device: str = "auto"
    precision: str = "auto"
    batch_size: int = 32
    workers: int = 2
    allow_missing: bool = False
    quiet: bool = False


def run_benchmark(
    name: str,
    root: Path,
    models: Sequence[Model],
    reading: LoadOptions,
    options: EvalOptions,
    out: Path | None = None,
) -> Report:
    """Read a benchmark's files and evaluate the models on it; errors as of `evaluate`."""
    report = evaluate(load_benchmark(name, root, reading), models, options, out)
    return replace(report, options=asdict(reading) | {"data": str(root)} | report.options)


def evaluate(
    benchmark: Benchmark, models: Sequence[Model], options: EvalOptions, out: Path | None = None
) -> Report:
    """Score every model, and the baselines over its vectors, on one benchmark.

    Args:
        benchmark: as its loader read it.
        models: each one once.
        options: what the user chose.
        out: where the results will go; made, and refused, before hours of encoding.

    Raises:
        UsageError: a model was given twice, or `out` cannot be a folder.
        DataError: images are missing or cannot be read, and `allow_missing` is not set.
        ModelError: a model cannot be opened, or gives vectors that are not finite.
    """
    names = model_names([model.info for model in models])
    _refuse_missing(benchmark, options)
    if out is not None:
        make_folder(out)
    methods: list[MethodScore] = []
    for name, model in zip(names, models, strict=True):
        index = model.index_side(options.device, options.precision)
        gallery = _encode_gallery(benchmark, index, options)
        _refuse_unreadable(benchmark, gallery, options)
        methods.extend(_score_model(benchmark, name, model, index, gallery, options))
    chosen = asdict(options) | {"cache": str(options.cache)}
    return Report(benchmark, tuple(methods), chosen, tuple(_inapplicable(benchmark, options)))


def write_results(report: Report, folder: Path) -> list[Path]:
    """Write results.json, table.txt, and per method a page, the rankings and submissions."""
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / "results.json", document(report))
    write_whole(folder / "table.txt", table(report) + "\n")
    written = [folder / "results.json", folder / "table.txt"]
    names = folder_names([method.label for method in report.methods])
    for name, method in zip(names, report.methods, strict=True):
        own = folder / name
        write_page(own / "page.html", report, method)
        write_whole(own / "rankings.jsonl", "".join(_ranking_lines(report.benchmark, method)))
        written += [own / "page.html", own / "rankings.jsonl"]
        written += write_submissions(own, report.benchmark, method.tasks)
    return written


def _refuse_missing(benchmark: Benchmark, options: EvalOptions) -> None:
    missing = missing_images(benchmark.images)
    if not missing or (options.allow_missing and len(missing) < len(benchmark.images)):
        return
    first = benchmark.images[missing[0]].path
    raise DataError(
        f"{benchmark.name}: {len(missing)} of {len(benchmark.images)} images are missing",
        why=f"such as {first}; a score without them cannot be compared with any other",
        next_step="complete the data, or use --allow-missing to count them as never found",
    )


def _refuse_unreadable(benchmark: Benchmark, gallery: Gallery, options: EvalOptions) -> None:
    if not gallery.failures or options.allow_missing:
        return
    first, reason = next(iter(gallery.failures.items()))
    raise DataError(
        f"{benchmark.name}: {len(gallery.failures)} images cannot be read",
        why=f"such as {benchmark.images[first].path}: {reason}",
        next_step="replace them, or use --allow-missing to count them as never found",
    )


def _encode_gallery(benchmark: Benchmark, index: IndexSide, options: EvalOptions) -> Gallery:
    store = GalleryStore(options.cache, benchmark.name, benchmark.images, index)
    with _progress(f"{index.info.name}: images", len(benchmark.images), options.quiet) as advance:
        return store.encode(
            batch_size=options.batch_size, workers=options.workers, progress=advance
        )


def _score_model(
    benchmark: Benchmark,
    name: str,
    model: Model,
    index: IndexSide,
    gallery: Gallery,
    options: EvalOptions,
) -> Iterator[MethodScore]:
    with _progress(f"{index.info.name}: queries", None, options.quiet) as advance:
        vectors = QueryVectors(benchmark, gallery, model.query_side(), advance)
        scored: list[tuple[str, float | None, tuple[TaskScore, ...]]] = []
        tasks = [_score(task, vectors.model(task), gallery) for task in benchmark.tasks]
        scored.append(("model", None, tuple(tasks)))
        for which in options.baselines:
            applies = [task for task in benchmark.tasks if _applies(task, which)]
            if not applies:
                continue
            weight = _best_weight(applies, vectors, gallery) if which == "sum" else None
            asked = [vectors.baseline(task, which, weight or 1.0) for task in applies]
            pairs = zip(applies, asked, strict=True)
            results = tuple(_score(task, one, gallery) for task, one in pairs)
            scored.append((LABELS[which], weight, results))
    failures = {benchmark.images[p].name: reason for p, reason in gallery.failures.items()}
    for method, weight, results in scored:
        yield MethodScore(
            info=index.info,
            model=name,
            method=method,
            weight=weight,
            device=index.device,
            precision=index.precision,
            tasks=results,
            images_hash=gallery.images_hash,
            content_hash=gallery.content_hash,
            failures=failures,
            cut_texts=len(vectors.cut),
        )


def _score(task: Task, asked: Asked, gallery: Gallery) -> TaskScore:
    return _scorer(task, asked, gallery).score(asked.queries)


def _scorer(task: Task, asked: Asked, gallery: Gallery) -> TaskScorer:
    return TaskScorer(task, asked.candidates, asked.candidate_ok, gallery.available)


def _applies(task: Task, which: Baseline) -> bool:
    """Baselines need an image and, unless they ignore it, a text with every query."""
    if task.direction != "composed":
        return False
    return which == "image" or all(query.text for query in task.queries)


def _inapplicable(benchmark: Benchmark, options: EvalOptions) -> Iterator[Baseline]:
    for which in options.baselines:
        if not any(_applies(task, which) for task in benchmark.tasks):
            yield which


def _best_weight(tasks: Sequence[Task], vectors: QueryVectors, gallery: Gallery) -> float | None:
    """The weight with the highest mean, over the scored tasks, of their first measures.

    None where every answer is hidden: nothing can be searched, and the weight is 1.
    """
    scored = [task for task in tasks if not task.hidden]
    if not scored:
        return None
    totals = dict.fromkeys(WEIGHTS, 0.0)
    for task in scored:
        scorer = _scorer(task, vectors.baseline(task, "sum"), gallery)
        for weight in WEIGHTS:
            queries = vectors.baseline(task, "sum", weight).queries
            totals[weight] += scorer.quick_mean(queries)
    return max(WEIGHTS, key=lambda weight: totals[weight])


def _ranking_lines(benchmark: Benchmark, method: MethodScore) -> Iterator[str]:
    """A JSON line a query: its values, the rank of its first right answer, its best candidates."""
    directions = {task.name: task.direction for task in benchmark.tasks}
    for task in method.tasks:
        for result in task.results:
            if directions[task.task] == "image-to-text":
                top = [str(position) for position in result.top]
            else:
                top = [benchmark.images[position].name for position in result.top]
            line = {
                "task": task.task,
                "query": result.query.id,
                "values": result.values,
                "best_rank": int(result.best_rank) if np.isfinite(result.best_rank) else None,
                "tied": result.tied,
                "top": top,
            }
            yield json.dumps(line) + "\n"


@contextmanager
def _progress(title: str, total: int | None, quiet: bool) -> Iterator[Callable[[int], None]]:
    """A bar on stderr; its function advances it by a count."""
    from tqdm import tqdm

    with tqdm(total=total, desc=title, unit="", disable=quiet or None) as bar:

        def advance(count: int) -> None:
            bar.update(count)

        yield advance
