"""CIRR (Liu et al., ICCV 2021): real-life images, open-ended changes.

Recall is over the whole split without the reference image; subset recall among the five other
members of the query's image set. The answers of test1 are hidden: its rankings are written for
the authors' server.
"""

from functools import partial
from pathlib import Path

from lensctl_training.benchmarks.benchmark import Benchmark, ImageTable, Measure, Query, Task
from lensctl_training.benchmarks.files import DataFolder, Record, is_text, refuse_duplicates
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
    refuse_duplicates(folder, records[0].path, "pair ids", (r.id("pairid") for r in records))
    paths = _split(folder, *_places(f"image_splits/split.rc2.{file_split}.json"))
    place = {name: images.add(name, _path(folder, path)) for name, path in paths.items()}
    recall, subset = [], []
    for record in records:
        reference, others, target = _images(record, place, hidden)
        query = Query(
            id=str(record.id("pairid")),
            image=place[reference],
            text=record.text("caption"),
            positives=tuple(place[name] for name in target),
            excluded=(place[reference],),
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


def _images(
    record: Record, place: dict[str, int], hidden: bool
) -> tuple[str, list[str], list[str]]:
    """Names: the reference, the others of its set, and the target, which test1 hides."""
    reference = record.text("reference")
    group = record.values["img_set"]
    members = group.get("members") if isinstance(group, dict) else None
    if not isinstance(members, list) or not members:
        raise record.wrong("img_set has no list of members")
    others = [name for name in members if name != reference]
    target = [] if hidden else [record.text("target_hard")]
    unknown = [name for name in (reference, *others, *target) if not _is_in(name, place)]
    if unknown:
        raise record.wrong(f"it names {unknown[0]}, which is not in the split")
    if reference in target:
        raise record.wrong(f"its target is its reference, {reference}, which is not ranked")
    if not set(target) <= set(others):
        raise record.wrong(f"its target, {target[0]}, is not among the members of its img_set")
    return reference, others, target


def _is_in(name: object, place: dict[str, int]) -> bool:
    return isinstance(name, str) and name in place


def _split(folder: DataFolder, *places: str) -> dict[str, str]:
    """Name -> path of every image of a split."""
    paths = folder.json(*places)
    if not isinstance(paths, dict):
        raise folder.wrong(folder.find(*places), "it is not an object of names and paths")
    for name, path in paths.items():
        if not is_text(name) or not is_text(path):
            raise folder.wrong(folder.find(*places), f"the path of {name!r} is not a text")
    return paths


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
