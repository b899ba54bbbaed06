"""FashionIQ (Wu et al., 2021): captions/cap.CATEGORY.SPLIT.json, images in the folder `images`."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from lensctl.errors import DataError
from lensctl_training.data.imports.files import load_list, within
from lensctl_training.data.jsonl import Row
from lensctl_training.data.triplet import Problems

CATEGORIES = ("dress", "shirt", "toptee")
ENDINGS = (".png", ".jpg", ".jpeg")


def read(folder: Path, split: str, problems: Problems) -> Iterator[Row]:
    """(candidate, "c1 and c2") -> target, as MagicLens joins the captions."""
    found = [c for c in CATEGORIES if (folder / "captions" / f"cap.{c}.{split}.json").is_file()]
    if not found:
        raise DataError(
            f"{folder} holds no captions of the {split} split",
            why=f"captions/cap.CATEGORY.{split}.json is expected, for {', '.join(CATEGORIES)}",
        )
    for category in found:
        name = f"cap.{category}.{split}.json"
        for number, record in enumerate(load_list(folder / "captions" / name), 1):
            row = _row(folder / "images", record, f"{name}:{number}", problems)
            if row is not None:
                yield row


def _row(images: Path, record: Any, where: str, problems: Problems) -> Row | None:
    try:
        texts = record["captions"]
        if not isinstance(texts, list):
            raise TypeError("captions is not a list")
        captions = [text.strip() for text in texts if text.strip()]
        names = record["candidate"], record["target"]
        query, target = (_image(images, name) for name in names)
    except (KeyError, TypeError, AttributeError):
        problems.add("record without captions, candidate or target", where)
        return None
    if not captions:
        problems.add("empty instruction", where)
        return None
    if query is None or target is None:
        problems.add("missing image", where)
        return None
    return Row(where, query, target, " and ".join(captions), (), {"source": "FashionIQ"})


def _image(images: Path, name: str) -> Path | None:
    paths = (within(images, name + ending) for ending in ENDINGS)
    return next((path for path in paths if path is not None and path.is_file()), None)
