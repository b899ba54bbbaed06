"""MegaPairs (Zhou et al., 2024): 26 M open triplets; see its page for the licence of the images.

An annotation is {"q_img": path, "q_text": [instruction, ...] or str, "t_img": path,
"hns": [path, ...]}. With several instructions, each makes a triplet.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from lensctl_training.data.imports.files import iterate_records, within
from lensctl_training.data.jsonl import Row
from lensctl_training.data.triplet import Problems


def read(annotations: Path, images: Path, problems: Problems) -> Iterator[Row]:
    """The triplets of an annotation file; paths are under `images`."""
    for where, record in iterate_records(annotations, problems):
        try:
            texts = _texts(record["q_text"])
            names = [record["q_img"], record["t_img"], *(record.get("hns") or [])]
            paths = [within(images, name) for name in names]
        except (KeyError, TypeError, AttributeError):
            problems.add("record without q_img, q_text or t_img", where)
            continue
        if any(path is None for path in paths):
            problems.add("path outside the image folder", where)
            continue
        query, target, *negatives = (path for path in paths if path is not None)
        for text in texts:
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
