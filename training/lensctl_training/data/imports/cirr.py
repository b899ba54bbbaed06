"""CIRR (Liu et al., 2021): captions/cap.rc2.SPLIT.json, image_splits/split.rc2.SPLIT.json.

The paths in image_splits are relative to the folder `img_raw`, or to the data set's own.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from lensctl.errors import DataError
from lensctl_training.data.imports.files import load_list, load_object, within
from lensctl_training.data.jsonl import Row
from lensctl_training.data.triplet import Problems


def read(folder: Path, split: str, problems: Problems) -> Iterator[Row]:
    """(reference, caption) -> target_hard; the other members of its set are hard negatives."""
    images = folder / "img_raw" if (folder / "img_raw").is_dir() else folder
    places = load_object(folder / "image_splits" / f"split.rc2.{split}.json")
    records = load_list(folder / "captions" / f"cap.rc2.{split}.json")
    if records and not any(isinstance(r, dict) and "target_hard" in r for r in records):
        raise DataError(
            f"the {split} split of CIRR has no targets",
            next_step="import the train or val split",
        )
    for number, record in enumerate(records, 1):
        where = f"cap.rc2.{split}.json:{number}"
        try:
            where = f"cap.rc2.{split}.json:{record.get('pairid', number)}"
            names = _names(record)
            caption = record["caption"].strip()
        except (KeyError, TypeError, AttributeError):
            problems.add("record without reference, target_hard, caption or img_set", where)
            continue
        missing = [name for name in names if not isinstance(places.get(name), str)]
        if missing:
            problems.add("image without a path in image_splits", f"{where} ({missing[0]})")
            continue
        paths = [within(images, places[name]) for name in names]
        if None in paths:
            problems.add("path outside the image folder", where)
            continue
        query, answer, *negatives = (path for path in paths if path is not None)
        if not caption:
            problems.add("empty instruction", where)
            continue
        provenance = {"source": "CIRR", "split": split}
        yield Row(where, query, answer, record["caption"], tuple(negatives), provenance)


def _names(record: dict[str, Any]) -> list[str]:
    """The reference, the target, and the others of their set; a set may be absent.

    Raises KeyError, TypeError or AttributeError where the record is not of that kind.
    """
    reference, target = record["reference"], record["target_hard"]
    members = record.get("img_set", {}).get("members", [])
    names = [reference, target, *(name for name in members if name not in (reference, target))]
    if not all(isinstance(name, str) for name in names):
        raise TypeError("a name is not a text")
    return names
