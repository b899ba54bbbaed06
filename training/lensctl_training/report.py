"""The page that a run leaves: curves, scores, bad data, and what the model retrieves."""

from collections.abc import Sequence
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lensctl.show.sheet import Chart, Picture, Section, Series, Table, write_sheet
from lensctl_training.data.held_out import HeldOut, Image
from lensctl_training.log import read_log
from lensctl_training.validation import Validated

if TYPE_CHECKING:
    from lensctl_training.loop import Trainer

SMALLEST_SIDE = 96
"""Pictures smaller than this are enlarged, without smoothing, so that one can see them."""
POINTS = 400
"""Points of a curve; longer logs are averaged."""


def write_report(trainer: "Trainer", best: int) -> Path:
    """Write `report.html` beside the log; `best` is the step of the exported checkpoint."""
    path = trainer.out / "report.html"
    records = read_log(trainer.out / "log.jsonl")
    sections = [
        Section("Training", _about(trainer, best), chart=_loss_chart(records)),
        *_validation_sections(records),
        *_bad_data(trainer),
    ]
    if trainer.held_out is not None and trainer.validated is not None:
        shown = trainer.recipe.validation.examples
        sections += _retrieved(trainer.held_out, trainer.validated, shown)
    write_sheet(path, f"Training {trainer.recipe.name}", sections, picture_side=256)
    return path


def _about(trainer: "Trainer", best: int) -> str:
    recipe, progress = trainer.recipe, trainer.progress
    return (
        f"{recipe.about.strip()} {progress.step:,} steps of {recipe.batch.size:,} triplets, "
        f"seed {recipe.seed}. The exported model is that of step {best:,}. "
        f"Temperature {trainer.temperature.tau:.4f}; "
        f"{progress.skipped} steps without a finite loss. "
        + (f"{progress.cut_texts:,} instructions shown were cut." if progress.cut_texts else "")
    ).strip()


def _loss_chart(records: Sequence[dict[str, Any]]) -> Chart:
    points = [(r["step"], r["loss"]) for r in records if r["kind"] == "train" and r["loss"]]
    width = max(1, len(points) // POINTS)
    means = [
        (group[-1][0], sum(loss for _, loss in group) / len(group))
        for group in (points[i : i + width] for i in range(0, len(points), width))
    ]
    series = Series("loss", [loss for _, loss in means], [step for step, _ in means])
    return Chart([series], x_label="step", y_label="loss")


def _validation_sections(records: Sequence[dict[str, Any]]) -> list[Section]:
    found = [r for r in records if r["kind"] == "validation"]
    if not found:
        return []
    steps = [r["step"] for r in found]
    names = ("recall@1", "recall@5", "recall@10", "reference_first")
    chart = Chart(
        [Series(name, [r[name] for r in found], steps) for name in names if name in found[0]],
        x_label="step",
        y_label="share of queries",
    )
    last = {k: v for k, v in found[-1].items() if isinstance(v, float)}
    scores = Table(("metric", "last"), [(name, f"{value:.4f}") for name, value in last.items()])
    sections = [Section("Validation", chart=chart, table=scores)]
    if kinds := found[-1].get("by_kind"):
        rows = [(kind, f"{value:.3f}") for kind, value in kinds.items()]
        sections.append(Section("Recall@1 by kind of query", table=Table(("kind", "R@1"), rows)))
    return sections


def _bad_data(trainer: "Trainer") -> list[Section]:
    problems = trainer.problems
    if not problems.total:
        return []
    rows = [
        (reason, str(count), ", ".join(problems.examples[reason]))
        for reason, count in problems.counts.most_common()
    ]
    return [Section("Bad examples", table=Table(("reason", "number", "first few"), rows))]


def _retrieved(held_out: HeldOut, validated: Validated, number: int) -> list[Section]:
    """A row a query: its image, the instruction, the first five results, the right answer."""
    rows = []
    for index in range(min(number, len(held_out.queries))):
        right = held_out.positives[index]
        row: list[Picture | str] = [
            Picture(as_picture(held_out.queries[index]), mark="query"),
            held_out.instructions[index],
        ]
        for place, candidate in enumerate(validated.best[index], 1):
            image = as_picture(held_out.candidate(int(candidate)))
            row.append(Picture(image, str(place), mark="good" if candidate in right else "bad"))
        if not any(int(c) in right for c in validated.best[index]):
            row.append(Picture(as_picture(held_out.targets[index]), "wanted"))
        rows.append(row)
    return [Section("What it retrieves", "Query, instruction, first five results.", rows=rows)]


def as_picture(image: Image) -> bytes:
    """Bytes stay; an array becomes PNG bytes, enlarged where it is small."""
    if isinstance(image, bytes):
        return image
    from PIL import Image as Pillow

    picture = Pillow.fromarray(image)
    scale = max(1, -(-SMALLEST_SIDE // max(picture.size)))
    buffer = BytesIO()
    picture.resize((picture.width * scale, picture.height * scale), Pillow.Resampling.NEAREST).save(
        buffer, "PNG"
    )
    return buffer.getvalue()
