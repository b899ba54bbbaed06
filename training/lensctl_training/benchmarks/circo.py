"""CIRCO (Baldrati et al., ICCV 2023): several right answers among COCO's unlabeled images.

mAP@K divides by min(number of right answers, K). Recall@K looks for the one target image that the
caption was written for. The reference image is not removed. The answers of test are hidden: its
rankings are written for the authors' server.
"""

from functools import partial
from typing import Any

from lensctl_training.benchmarks.benchmark import Benchmark, ImageTable, Measure, Query, Task
from lensctl_training.benchmarks.files import DataFolder, refuse_duplicates
from lensctl_training.benchmarks.metrics import average_precision_at, hit_rate_at

CUTOFFS = (5, 10, 25, 50)
MAP = tuple(Measure(f"mAP@{k}", partial(average_precision_at, k=k)) for k in CUTOFFS)
RECALL = tuple(Measure(f"R@{k}", partial(hit_rate_at, k=k)) for k in CUTOFFS)
TOP = 50


def load(folder: DataFolder, splits: tuple[str, ...] = ("val", "test")) -> Benchmark:
    """Read `annotations/` and the list of COCO's unlabeled images."""
    info_file = "COCO2017_unlabeled/annotations/image_info_unlabeled2017.json"
    info = folder.json(info_file)["images"]
    refuse_duplicates(folder, folder.root / info_file, "image ids", (row["id"] for row in info))
    images = ImageTable()
    root = folder.root / "COCO2017_unlabeled" / "unlabeled2017"
    place = {row["id"]: images.add(str(row["id"]), root / row["file_name"]) for row in info}
    tasks = [task for split in splits for task in _tasks(folder, split, place)]
    return Benchmark("circo", images.images, tasks, files=folder.hashes)


def _tasks(folder: DataFolder, split: str, place: dict[int, int]) -> list[Task]:
    hidden = split == "test"
    file = f"annotations/{split}.json"
    keys = ["id", "reference_img_id", "relative_caption", "shared_concept"]
    records = folder.records(keys if hidden else [*keys, "target_img_id", "gt_img_ids"], file)
    refuse_duplicates(folder, folder.root / file, "query ids", (r["id"] for r in records))
    for record in records:
        unknown = [image for image in _named(record) if image not in place]
        if unknown:
            reason = f"query {record['id']} names image {unknown[0]}, which COCO's list lacks"
            raise folder.wrong(folder.root / file, reason)
    gallery = list(place.values())
    queries = [_query(record, place, record.get("gt_img_ids", ())) for record in records]
    if hidden:
        return [Task("test", queries, gallery, MAP, hidden=True, keep=TOP)]
    targets = [_query(record, place, [record["target_img_id"]]) for record in records]
    return [
        Task("val", queries, gallery, MAP, group_measure=MAP[1], keep=TOP),
        Task("val, target image only", targets, gallery, RECALL),
    ]


def _named(record: dict[str, Any]) -> list[int]:
    target = [record["target_img_id"]] if "target_img_id" in record else []
    return [record["reference_img_id"], *target, *record.get("gt_img_ids", ())]


def _query(record: dict[str, Any], place: dict[int, int], right: Any) -> Query:
    return Query(
        id=str(record["id"]),
        image=place[record["reference_img_id"]],
        text=f"find {record['shared_concept']} but {record['relative_caption']}",
        positives=tuple(place[image] for image in dict.fromkeys(right)),
        groups=tuple(record.get("semantic_aspects", ())),
    )
