"""CIRR (Liu et al., 2021): captions/cap.rc2.SPLIT.json, image_splits/split.rc2.SPLIT.json.

The paths in image_splits are relative to the folder `img_raw`, or to the data set's own.
"""

from collections.abc import Iterator
from pathlib import Path

from lensctl.errors import DataError
from lensctl_training.data.imports.files import load_json, within
from lensctl_training.data.jsonl import Row
from lensctl_training.data.triplet import Problems


def read(folder: Path, split: str, problems: Problems) -> Iterator[Row]:
    """(reference, caption) -> target_hard; the other members of its set are hard negatives."""
    images = folder / "img_raw" if (folder / "img_raw").is_dir() else folder
    places = load_json(folder / "image_splits" / f"split.rc2.{split}.json")
    for record in load_json(folder / "captions" / f"cap.rc2.{split}.json"):
        where = f"cap.rc2.{split}.json:{record.get('pairid', '?')}"
        if "target_hard" not in record:
            raise DataError(
                f"the {split} split of CIRR has no targets",
                next_step="import the train or val split",
            )
        reference, target = record["reference"], record["target_hard"]
        members = record.get("img_set", {}).get("members", [])
        others = [name for name in members if name not in (reference, target)]
        try:
            paths = [within(images, places[name]) for name in (reference, target, *others)]
        except KeyError as error:
            problems.add("image without a path in image_splits", f"{where} ({error.args[0]})")
            continue
        if None in paths:
            problems.add("path outside the image folder", where)
            continue
        query, answer, *negatives = (path for path in paths if path is not None)
        if not record["caption"].strip():
            problems.add("empty instruction", where)
            continue
        provenance = {"source": "CIRR", "split": split}
        yield Row(where, query, answer, record["caption"], tuple(negatives), provenance)
