"""The loaders on the authors' own annotation files, where a folder of them is given.

    LENSCTL_CIRCO=~/CIRCO LENSCTL_CIRR=~/CIRR pytest -s tests/benchmarks/test_authors_files.py

Each variable names a checkout of the authors' repository (for CIRR its branch cirr_dataset); no
images are needed. The counts are printed and compared with what the authors state.
"""

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest

from lensctl_training.benchmarks.benchmark import Benchmark
from lensctl_training.benchmarks.registry import load_benchmark


def authors(name: str) -> Path:
    variable = f"LENSCTL_{name.upper().replace('-', '_')}"
    place = os.environ.get(variable)
    if not place:
        pytest.skip(f"{variable} does not name the authors' files")
    return Path(place)


def show(benchmark: Benchmark) -> dict[str, tuple[int, int, int]]:
    """Task -> queries, gallery, right answers; printed as well."""
    found = {
        task.name: (
            len(task.queries),
            len(task.gallery),
            sum(len(query.positives) for query in task.queries),
        )
        for task in benchmark.tasks
    }
    for task, (queries, gallery, right) in found.items():
        print(f"\n{benchmark.name}, {task}: {queries} queries, {gallery} images, {right} right")
    return found


def test_fashioniq() -> None:
    found = show(load_benchmark("fashioniq", authors("fashioniq")))
    for order in ("captions 1-2", "captions 2-1"):
        for category, queries, original, val in (
            ("dress", 2017, 3817, 2628),
            ("shirt", 2038, 6346, 3089),
            ("toptee", 1961, 5373, 2902),
        ):
            name = f"{category}, original gallery, {order}"
            assert found[name] == (queries, original, queries)
            assert found[f"{category}, val gallery, {order}"] == (queries, val, queries)


def test_cirr() -> None:
    found = show(load_benchmark("cirr", authors("cirr")))
    assert found["val"] == (4181, 2297, 4181)
    assert found["val, subset"] == (4181, 0, 4181)
    assert found["test"] == (4148, 2315, 0)


def test_circo(tmp_path: Path) -> None:
    """COCO's list of images is not in the repository: one with the images named stands in."""
    shutil.copytree(authors("circo") / "annotations", tmp_path / "annotations")
    ids = set()
    for split in ("val", "test"):
        for row in json.loads((tmp_path / f"annotations/{split}.json").read_text()):
            ids |= {row["reference_img_id"], *row.get("gt_img_ids", ())}
    info = tmp_path / "COCO2017_unlabeled/annotations/image_info_unlabeled2017.json"
    info.parent.mkdir(parents=True)
    rows = [{"id": i, "file_name": f"{i:012d}.jpg"} for i in sorted(ids)]
    info.write_text(json.dumps({"images": rows}))
    benchmark = load_benchmark("circo", tmp_path)
    found = show(benchmark)
    assert found["val"] == (220, len(ids), 916)
    assert found["val, target image only"] == (220, len(ids), 220)
    assert found["test"] == (800, len(ids), 0)
    right = [len(query.positives) for query in benchmark.tasks[0].queries]
    assert (min(right), max(right)) == (1, 14)


def test_genecis() -> None:
    """Whichever of the four files are there; their numbers of templates are the paper's."""
    known = {
        "focus_attribute": 2000,
        "change_attribute": 2112,
        "focus_object": 1960,
        "change_object": 1960,
    }
    benchmark = load_benchmark("genecis", authors("genecis"))
    print(*benchmark.notes, sep="\n")
    for task, (queries, _, right) in show(benchmark).items():
        assert queries == right == known[task]


def test_dtin() -> None:
    """The ceilings of true recall, which only the right labels give."""
    benchmark = load_benchmark("dtin", authors("dtin"))
    found = show(benchmark)
    assert all(row[:2] == (10_000, 16_983) for row in found.values())
    ceilings = [
        [
            round(100 * float(np.mean([_ceiling(len(q.positives), k) for q in task.queries])), 1)
            for k in (10, 50)
        ]
        for task in benchmark.tasks
    ]
    assert ceilings == [[41.4, 75.5], [50.1, 53.0], [60.5, 72.0], [63.8, 71.0]]


def _ceiling(right: int, k: int) -> float:
    return min(right, k) / right if right else 0.0


def test_tu_berlin() -> None:
    found = show(load_benchmark("tu-berlin", authors("tu-berlin")))
    assert found["sketches"][:2] == (2400, 27_989)
