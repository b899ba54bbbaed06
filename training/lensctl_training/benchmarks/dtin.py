"""DTIN, domain transfer on ImageNet (Saito et al., CVPR 2023): this object, in another domain.

A real photo and the name of a domain find the images of the same class in that domain. Labels
are 1000 * domain + class; real photos are domain 6. Two measures go by the name of recall:
`true R@k`, the share of the right images found (the data set's own code), and `hit R@k`, whether
any is found (the published MagicLens code). Both are given. A class may have no image in a
domain: such queries count as misses in both codes, and here.
"""

from functools import partial
from pathlib import Path

from lensctl_training.benchmarks.benchmark import (
    Benchmark,
    ImageTable,
    Mean,
    Measure,
    Query,
    Task,
)
from lensctl_training.benchmarks.files import DataFolder, refuse_duplicates
from lensctl_training.benchmarks.metrics import hit_rate_at, true_recall_at

DOMAINS = ("cartoon", "origami", "toy", "sculpture")
MEASURES = (
    *(Measure(f"true R@{k}", partial(true_recall_at, k=k)) for k in (10, 50)),
    *(Measure(f"hit R@{k}", partial(hit_rate_at, k=k)) for k in (10, 50)),
)


def load(folder: DataFolder) -> Benchmark:
    """Read the two lists; images lie under the paths in them, with or without `imgnet/`."""
    images = ImageTable()
    entries = _read(folder, "imgnet_targets.txt", images)
    queries = _read(folder, "imgnet_real_query.txt", images)
    by_label: dict[int, list[int]] = {}
    for image, label in entries:
        by_label.setdefault(label, []).append(image)
    gallery = [image for image, _ in entries]
    tasks, notes = [], []
    for number, domain in enumerate(DOMAINS):
        right = {label: tuple(by_label.get(1000 * number + label, ())) for _, label in queries}
        asked = [
            Query(images.images[image].name, image, f"find this object in {domain}", right[label])
            for image, label in queries
        ]
        tasks.append(Task(domain, asked, gallery, MEASURES))
        empty = sum(not query.positives for query in asked)
        if empty:
            notes.append(
                f"{domain}: {empty} of {len(asked)} queries have no right image and count as misses"
            )
    means = [Mean("mean", measure.name, DOMAINS) for measure in MEASURES]
    return Benchmark("dtin", images.images, tasks, means, notes=notes, files=folder.hashes)


def _read(folder: DataFolder, file: str, images: ImageTable) -> list[tuple[int, int]]:
    """(position of the image, label) of every line."""
    rows = folder.labelled_paths(file, f"imgnet/{file}")
    refuse_duplicates(folder, Path(file), "images", (path for path, _ in rows))
    return [(images.add(path, _path(folder, path)), label) for path, label in rows]


def _path(folder: DataFolder, path: str) -> Path:
    whole = folder.root / path
    return whole if whole.exists() else folder.root / path.partition("/")[2]
