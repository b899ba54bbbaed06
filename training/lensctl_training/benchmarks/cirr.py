"""CIRR (Liu et al., ICCV 2021): real-life images, open-ended changes.

Recall is over the whole split without the reference image; subset recall among the five other
members of the query's image set. The answers of test1 are hidden: its rankings are written for
the authors' server.
"""

from functools import partial
from pathlib import Path

from lensctl_training.benchmarks.benchmark import Benchmark, ImageTable, Measure, Query, Task
from lensctl_training.benchmarks.files import DataFolder, refuse_duplicates
from lensctl_training.benchmarks.metrics import hit_rate_at

RECALL = tuple(Measure(f"R@{k}", partial(hit_rate_at, k=k)) for k in (1, 5, 10, 50))
SUBSET = tuple(Measure(f"Rsub@{k}", partial(hit_rate_at, k=k)) for k in (1, 2, 3))
SPLITS = {"val": "val", "test": "test1"}
TOP_RECALL, TOP_SUBSET = 50, 3


def load(folder: DataFolder, splits: tuple[str, ...] = ("val", "test")) -> Benchmark:
    """Read `captions/`, `image_splits/` and the images of the splits in `img_raw/`."""
    images = ImageTable()
    tasks = [task for split in splits for task in _tasks(folder, split, images)]
    return Benchmark("cirr", images.images, tasks, files=folder.hashes)


def _tasks(folder: DataFolder, split: str, images: ImageTable) -> list[Task]:
    hidden = split == "test"
    file_split = SPLITS[split]
    caption_file = f"captions/cap.rc2.{file_split}.json"
    keys = ["pairid", "reference", "caption", "img_set", *(() if hidden else ("target_hard",))]
    records = folder.records(keys, *_places(caption_file))
    refuse_duplicates(folder, Path(caption_file), "pair ids", (r["pairid"] for r in records))
    paths = folder.json(*_places(f"image_splits/split.rc2.{file_split}.json"))
    place = {name: images.add(name, _path(folder, path)) for name, path in paths.items()}
    recall, subset = [], []
    for record in records:
        others = [name for name in record["img_set"]["members"] if name != record["reference"]]
        named = [record["reference"], *others, *([] if hidden else [record["target_hard"]])]
        unknown = [name for name in named if name not in place]
        if unknown:
            reason = f"pair {record['pairid']} names {unknown[0]}, which is not in the split"
            raise folder.wrong(Path(caption_file), reason)
        query = Query(
            id=str(record["pairid"]),
            image=place[record["reference"]],
            text=record["caption"],
            positives=() if hidden else (place[record["target_hard"]],),
            excluded=(place[record["reference"]],),
        )
        recall.append(query)
        subset.append(
            Query(query.id, query.image, query.text, query.positives, (), _all(others, place))
        )
    gallery = list(place.values())
    return [
        Task(split, recall, gallery, RECALL, hidden=hidden, keep=TOP_RECALL),
        Task(f"{split}, subset", subset, (), SUBSET, hidden=hidden, keep=TOP_SUBSET),
    ]


def _all(names: list[str], place: dict[str, int]) -> tuple[int, ...]:
    return tuple(place[name] for name in names)


def _places(path: str) -> tuple[str, str]:
    """The annotations lie in the folder itself, or in the `cirr` beside the images."""
    return path, f"cirr/{path}"


def _path(folder: DataFolder, path: str) -> Path:
    """`./dev/NAME.png` is in `img_raw/`, as documented, or beside the annotations."""
    documented = folder.root / "img_raw" / path
    return documented if documented.exists() else _beside(folder, path, documented)


def _beside(folder: DataFolder, path: str, documented: Path) -> Path:
    beside = folder.root / path
    return beside if beside.exists() else documented
