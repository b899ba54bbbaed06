"""MegaPairs (Zhou et al., 2024): 26 M open triplets; see its page for the licence of the images.

An annotation is {"q_img": path, "q_text": [instruction, ...] or str, "t_img": path,
"hns": [path, ...]}. With several instructions, each makes a triplet.
"""

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from lensctl_training.data.imports.files import iterate_records, within
from lensctl_training.data.jsonl import Row
from lensctl_training.data.triplet import Problems


def read(annotations: Path, images: Path, problems: Problems) -> Iterator[Row]:
    """The triplets of an annotation file; paths are under `images`.

    First the first instruction of every pair, then the second ones. Side by side a third of the
    rows of a batch of 2048 would share their target with another, through a shuffle buffer of 5000.
    """
    yield from _pass(annotations, images, 0, problems)
    for place in range(1, _most_texts(annotations)):
        yield from _pass(annotations, images, place, problems)


def _most_texts(annotations: Path) -> int:
    most = 0
    for _, record in iterate_records(annotations, Problems()):
        with suppress(KeyError, TypeError, AttributeError):
            most = max(most, len(_texts(record["q_text"])))
    return most


def _pass(annotations: Path, images: Path, place: int, problems: Problems) -> Iterator[Row]:
    """The triplets of the instructions at one place of their lists."""
    of_records = problems if place == 0 else Problems()
    for where, record in iterate_records(annotations, of_records):
        try:
            texts = _texts(record["q_text"])
            names = [record["q_img"], record["t_img"], *(record.get("hns") or [])]
            paths = [within(images, name) for name in names]
        except (KeyError, TypeError, AttributeError):
            of_records.add("record without q_img, q_text or t_img", where)
            continue
        if any(path is None for path in paths):
            of_records.add("path outside the image folder", where)
            continue
        query, target, *negatives = (path for path in paths if path is not None)
        for text in texts[place : place + 1]:
            if not text.strip():
                problems.add("empty instruction", where)
                continue
            provenance = {"source": "MegaPairs"}
            yield Row(where, query, target, text.strip(), tuple(negatives), provenance)


def _texts(value: Any) -> list[str]:
    """One instruction or a list of them. Raises TypeError where it is neither."""
    texts = [value] if isinstance(value, str) else value
    if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
        raise TypeError("q_text is neither a text nor a list of texts")
    return texts
