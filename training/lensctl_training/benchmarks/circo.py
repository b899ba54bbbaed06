"""CIRCO (Baldrati et al., ICCV 2023): several right answers among COCO's unlabeled images.

mAP@K divides by min(number of right answers, K). Recall@K looks for the one target image that the
caption was written for. The reference image is not removed. The answers of test are hidden: its
rankings are written for the authors' server.
"""

from collections.abc import Iterable
from functools import partial

from lensctl_training.benchmarks.benchmark import Benchmark, ImageTable, Measure, Query, Task
from lensctl_training.benchmarks.files import DataFolder, Record, refuse_duplicates
from lensctl_training.benchmarks.metrics import average_precision_at, hit_rate_at

CUTOFFS = (5, 10, 25, 50)
MAP = tuple(Measure(f"mAP@{k}", partial(average_precision_at, k=k)) for k in CUTOFFS)
RECALL = tuple(Measure(f"R@{k}", partial(hit_rate_at, k=k)) for k in CUTOFFS)
TOP = 50


def load(folder: DataFolder, splits: tuple[str, ...] = ("val", "test")) -> Benchmark:
    """Read `annotations/` and the list of COCO's unlabeled images."""
    info_file = "COCO2017_unlabeled/annotations/image_info_unlabeled2017.json"
    info = folder.records(("id", "file_name"), info_file, inside="images")
    ids = [row.whole("id") for row in info]
    refuse_duplicates(folder, folder.root / info_file, "image ids", ids)
    images = ImageTable()
    root = folder.root / "COCO2017_unlabeled" / "unlabeled2017"
    place = {
        number: images.add(str(number), root / row.text("file_name"))
        for number, row in zip(ids, info, strict=True)
    }
    tasks = [task for split in splits for task in _tasks(folder, split, place)]
    return Benchmark("circo", images.images, tasks, files=folder.hashes)


def _tasks(folder: DataFolder, split: str, place: dict[int, int]) -> list[Task]:
    hidden = split == "test"
    file = f"annotations/{split}.json"
    keys = ["id", "reference_img_id", "relative_caption", "shared_concept"]
    records = folder.records(keys if hidden else [*keys, "target_img_id", "gt_img_ids"], file)
    refuse_duplicates(folder, folder.root / file, "query ids", (r.id("id") for r in records))
    for record in records:
        unknown = [image for image in _named(record, hidden) if image not in place]
        if unknown:
            raise record.wrong(f"it names image {unknown[0]}, which COCO's list lacks")
        if not hidden and not record.wholes("gt_img_ids"):
            raise record.wrong("gt_img_ids is empty: nothing would be right")
    gallery = list(place.values())
    if hidden:
        queries = [_query(record, place, ()) for record in records]
        return [Task("test", queries, gallery, MAP, hidden=True, keep=TOP)]
    queries = [_query(record, place, record.wholes("gt_img_ids")) for record in records]
    targets = [_query(record, place, [record.whole("target_img_id")]) for record in records]
    return [
        Task("val", queries, gallery, MAP, group_measure=MAP[1], keep=TOP),
        Task("val, target image only", targets, gallery, RECALL),
    ]


def _named(record: Record, hidden: bool) -> list[int]:
    reference = record.whole("reference_img_id")
    right = [] if hidden else [record.whole("target_img_id"), *record.wholes("gt_img_ids")]
    return [reference, *right]


def _query(record: Record, place: dict[int, int], right: Iterable[int]) -> Query:
    aspects = record.texts("semantic_aspects") if "semantic_aspects" in record.values else ()
    return Query(
        id=str(record.id("id")),
        image=place[record.whole("reference_img_id")],
        text=f"find {record.text('shared_concept')} but {record.text('relative_caption')}",
        positives=tuple(place[image] for image in dict.fromkeys(right)),
        groups=tuple(aspects),
    )
