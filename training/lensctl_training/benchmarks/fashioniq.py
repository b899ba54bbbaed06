"""FashionIQ (Wu et al., CVPR 2021): change a garment as two short captions say.

Two galleries are in use and both are scored: `original` is the validation split as distributed,
`val` the union of the reference and target images of the queries, which gives higher scores. The
captions are joined in the order given ("c1 and c2", as MagicLens does) and in the other one. The
reference image stays in the gallery, as in the authors' code.
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
from lensctl_training.benchmarks.files import DataFolder, Record, is_text, refuse_duplicates
from lensctl_training.benchmarks.metrics import hit_rate_at

CATEGORIES = ("dress", "shirt", "toptee")
GALLERIES = ("original", "val")
ORDERS = ("captions 1-2", "captions 2-1")
CAPTIONS = 2
"""Of every query: with one of them left out its score would be of another question."""
MEASURES = tuple(Measure(f"R@{k}", partial(hit_rate_at, k=k)) for k in (1, 5, 10, 50))


def load(folder: DataFolder) -> Benchmark:
    """Read `captions/`, `image_splits/` and the names in `images/`."""
    images = ImageTable()
    tasks = [task for category in CATEGORIES for task in _tasks(folder, category, images)]
    means = [
        Mean(f"mean, {gallery} gallery, {order}", measure.name, _names(gallery, order))
        for gallery in GALLERIES
        for order in ORDERS
        for measure in MEASURES
    ]
    return Benchmark("fashioniq", images.images, tasks, means, files=folder.hashes)


def _names(gallery: str, order: str) -> tuple[str, ...]:
    return tuple(f"{category}, {gallery} gallery, {order}" for category in CATEGORIES)


def _tasks(folder: DataFolder, category: str, images: ImageTable) -> list[Task]:
    split_file = f"image_splits/split.{category}.val.json"
    split = folder.json(split_file)
    if not isinstance(split, list) or not all(map(is_text, split)):
        raise folder.wrong(folder.root / split_file, "it is not a list of image names")
    refuse_duplicates(folder, folder.root / split_file, "image ids", split)
    caption_file = f"captions/cap.{category}.val.json"
    records = folder.records(("target", "candidate", "captions"), caption_file)
    known = set(split)
    for record in records:
        if not set(_pair(record)) <= known:
            raise record.wrong(f"it names an image that is not in {split_file}")
        if len(record.texts("captions")) != CAPTIONS:
            raise record.wrong(f"it has not {CAPTIONS} captions: {record.values['captions']}")
    place = {name: images.add(name, _path(folder, name)) for name in split}
    used = dict.fromkeys(name for record in records for name in _pair(record))
    galleries = {"original": list(place.values()), "val": [place[name] for name in used]}
    return [
        Task(
            f"{category}, {gallery} gallery, {order}",
            [_query(record, place, order) for record in records],
            galleries[gallery],
            MEASURES,
        )
        for gallery in GALLERIES
        for order in ORDERS
    ]


def _pair(record: Record) -> tuple[str, str]:
    return record.text("candidate"), record.text("target")


def _query(record: Record, place: dict[str, int], order: str) -> Query:
    captions = record.texts("captions")
    candidate, target = _pair(record)
    return Query(
        id=str(record.number),
        image=place[candidate],
        text=" and ".join(captions if order == ORDERS[0] else captions[::-1]),
        positives=(place[target],),
    )


def _path(folder: DataFolder, name: str) -> Path:
    """Images are distributed as .png and, in an older collection, as .jpg."""
    jpeg = folder.root / "images" / f"{name}.jpg"
    return jpeg if jpeg.exists() else jpeg.with_suffix(".png")
