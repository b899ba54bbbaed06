"""TU-Berlin, zero-shot (Liu et al., ICCV 2019): a sketch finds photos of its class.

Thirty classes that models trained on the benchmark never saw: 2,400 sketches, 27,989 photos. The
usual code prints an AP under the interpolated precision envelope and a P@k divided by min(k,
number of right photos); the plain AP and P@k are given beside them.
"""

from functools import partial
from pathlib import Path

from lensctl_training.benchmarks.benchmark import Benchmark, ImageTable, Measure, Query, Task
from lensctl_training.benchmarks.files import DataFolder, refuse_duplicates
from lensctl_training.benchmarks.metrics import (
    average_precision,
    capped_precision_at,
    interpolated_average_precision,
    precision_at,
)

MEASURES = (
    Measure("mAP, interpolated", interpolated_average_precision),
    Measure("mAP, plain", average_precision),
    *(Measure(f"P@{k}, of min(k, right)", partial(capped_precision_at, k=k)) for k in (100, 200)),
    *(Measure(f"P@{k}, of k", partial(precision_at, k=k)) for k in (100, 200)),
)


def load(folder: DataFolder, instruction: str = "") -> Benchmark:
    """Read the zero-shot file lists; `instruction` goes with every sketch."""
    images = ImageTable()
    sketches = _read(folder, "zeroshot/png_ready_filelist_zero.txt", images)
    photos = _read(folder, "zeroshot/ImageResized_ready_filelist_zero.txt", images)
    by_class: dict[int, list[int]] = {}
    for image, label in photos:
        by_class.setdefault(label, []).append(image)
    lost = {label for _, label in sketches} - by_class.keys()
    if lost:
        reason = f"no photo has the class {min(lost)} of a sketch"
        raise folder.wrong(folder.root / "zeroshot", reason)
    right = {label: tuple(photos_of) for label, photos_of in by_class.items()}
    queries = [
        Query(images.images[image].name, image, instruction, right[label])
        for image, label in sketches
    ]
    tasks = [Task("sketches", queries, [image for image, _ in photos], MEASURES)]
    return Benchmark("tu-berlin", images.images, tasks, files=folder.hashes)


def _read(folder: DataFolder, file: str, images: ImageTable) -> list[tuple[int, int]]:
    rows = folder.labelled_paths(file)
    refuse_duplicates(folder, Path(file), "images", (path for path, _ in rows))
    return [(images.add(path, folder.root / path), label) for path, label in rows]
