"""GeneCIS (Vaze et al., CVPR 2023): the same image, similar in the way that the condition says.

Each query has a gallery of its own, of about ten to fifteen images. The authors list the target
first, so that a model without preferences would win by the order of the list; here ties count
against the target. Attribute tasks show one object of a Visual Genome image: its box dilated by
0.7, cut out and padded with black to a square.
"""

from functools import partial
from math import isfinite
from pathlib import Path
from typing import Any

from lensctl_training.benchmarks.benchmark import (
    Benchmark,
    ImageTable,
    Mean,
    Measure,
    Query,
    Task,
)
from lensctl_training.benchmarks.files import DataFolder
from lensctl_training.benchmarks.metrics import hit_rate_at

TASKS = ("focus_attribute", "change_attribute", "focus_object", "change_object")
MEASURES = tuple(Measure(f"R@{k}", partial(hit_rate_at, k=k)) for k in (1, 2, 3))
COCO_PLACES = ("val2017", "coco/val2017")
GENOME_PLACES = ("VG_100K", "VG_100K_2", "visual_genome/VG_100K", "visual_genome/VG_100K_2")


def load(folder: DataFolder) -> Benchmark:
    """Read the tasks whose files are there; an absent one is noted, and there is no mean then."""
    images = ImageTable()
    notes: list[str] = []
    tasks = []
    for name in TASKS:
        places = (f"genecis/{name}.json", f"{name}.json")
        if folder.has(*places):
            tasks.append(_task(folder, name, places, images, notes))
        else:
            notes.append(f"{name}.json is absent: its task is left out, and so is the mean")
    if not tasks:
        folder.find(*(f"genecis/{name}.json" for name in TASKS))
    means = [Mean("mean", measure.name, TASKS) for measure in MEASURES]
    whole = len(tasks) == len(TASKS)
    return Benchmark(
        "genecis", images.images, tasks, means if whole else (), notes=notes, files=folder.hashes
    )


def _task(
    folder: DataFolder, name: str, places: tuple[str, ...], images: ImageTable, notes: list[str]
) -> Task:
    records = folder.records(("reference", "target", "condition", "gallery"), *places)
    add = _add_object if name.endswith("object") else _add_attribute
    queries, doubled = [], 0
    for record in records:
        with folder.reading(record.path, f"annotation {record.number}"):
            target = add(folder, record.values["target"], images)
            others = [add(folder, entry, images) for entry in record.values["gallery"]]
            reference = add(folder, record.values["reference"], images)
        candidates = tuple(dict.fromkeys([target, *others]))
        if len(candidates) == 1:
            raise record.wrong("its gallery has nothing but the target")
        doubled += len(candidates) < 1 + len(others)
        condition = record.text("condition")
        queries.append(Query(str(record.number), reference, condition, (target,), (), candidates))
    if doubled:
        notes.append(
            f"{name}: {doubled} of {len(queries)} galleries list an image twice; it is kept once"
        )
    return Task(name, queries, (), MEASURES)


def _add_object(folder: DataFolder, entry: dict[str, Any], images: ImageTable) -> int:
    image = int(entry["val_image_id"])
    return images.add(f"coco {image}", _in(folder, COCO_PLACES, f"{image:012d}.jpg"))


def _add_attribute(folder: DataFolder, entry: dict[str, Any], images: ImageTable) -> int:
    image = int(entry["image_id"])
    left, top, width, height = map(float, entry["instance_bbox"])
    if not all(map(isfinite, (left, top, width, height))):
        raise ValueError(f"the box {entry['instance_bbox']} is not finite")
    name = f"genome {image} {left:g},{top:g},{width:g},{height:g}"
    path = _in(folder, GENOME_PLACES, f"{image}.jpg")
    return images.add(name, path, (left, top, width, height))


def _in(folder: DataFolder, places: tuple[str, ...], name: str) -> Path:
    """The file in whichever of `places` has it; in the first one, to be reported, if none has."""
    paths = [folder.root / place / name for place in places]
    return next((path for path in paths if path.exists()), paths[0])
