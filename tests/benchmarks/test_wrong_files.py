"""Benchmark files with wrong content: refused with the file and the record, never a traceback."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from lensctl.errors import DataError, PhotoError
from lensctl_training.benchmarks.benchmark import ImageRef
from lensctl_training.benchmarks.files import DataFolder
from lensctl_training.benchmarks.images import read_image
from lensctl_training.benchmarks.registry import load_benchmark
from support.benchmark_data import MAKERS

CIRR_SPLIT = "image_splits/split.rc2.val.json"
CIRR = "captions/cap.rc2.val.json"
INFO = "COCO2017_unlabeled/annotations/image_info_unlabeled2017.json"
CIRCO = "annotations/val.json"
FASHION_SPLIT = "image_splits/split.dress.val.json"
FASHION = "captions/cap.dress.val.json"
GENECIS = "genecis/focus_object.json"
ATTRIBUTE = "genecis/focus_attribute.json"
COCO = "coco_test_karpathy.json"
MISSING = object()

Change = Callable[[Any], Any]


def becomes(value: object) -> Change:
    """The whole file is another value."""
    return lambda content: value


def put(place: tuple[object, ...], value: object) -> Change:
    """The value at a place in the file is another one, or MISSING."""

    def change(content: Any) -> Any:
        inner = content
        for step in place[:-1]:
            inner = inner[step]
        if value is MISSING:
            del inner[place[-1]]
        else:
            inner[place[-1]] = value
        return content

    return change


@pytest.mark.parametrize(
    ("name", "file", "change", "record"),
    [
        ("cirr", CIRR_SPLIT, becomes([]), ""),
        ("cirr", CIRR_SPLIT, put(("dev-red",), 7), "dev-red"),
        ("cirr", CIRR, put((1, "img_set"), None), "annotation 1"),
        ("cirr", CIRR, put((1, "img_set", "members"), MISSING), "annotation 1"),
        ("cirr", CIRR, put((1, "img_set", "members"), [["dev-red"]]), "annotation 1"),
        ("cirr", CIRR, put((1, "img_set", "members"), ["dev-blue", "dev-green"]), "annotation 1"),
        ("cirr", CIRR, put((1, "caption"), None), "annotation 1"),
        ("cirr", CIRR, put((1, "caption"), 7), "annotation 1"),
        ("cirr", CIRR, put((1, "caption"), "half of \ud83d"), "annotation 1"),
        ("cirr", CIRR, put((1, "pairid"), [12]), "annotation 1"),
        ("cirr", CIRR, put((1, "reference"), {}), "annotation 1"),
        ("cirr", CIRR, put((1, "target_hard"), "dev-blue"), "annotation 1"),
        ("circo", INFO, becomes([]), "images"),
        ("circo", INFO, put(("images", 2, "file_name"), MISSING), "annotation 2"),
        ("circo", INFO, put(("images", 2, "id"), "three"), "annotation 2"),
        ("circo", CIRCO, put((1, "id"), {}), "annotation 1"),
        ("circo", CIRCO, put((1, "gt_img_ids"), None), "annotation 1"),
        ("circo", CIRCO, put((1, "gt_img_ids"), []), "annotation 1"),
        ("circo", CIRCO, put((1, "gt_img_ids"), [[7]]), "annotation 1"),
        ("circo", CIRCO, put((1, "semantic_aspects"), None), "annotation 1"),
        ("circo", CIRCO, put((1, "shared_concept"), None), "annotation 1"),
        ("circo", CIRCO, put((1, "relative_caption"), None), "annotation 1"),
        ("circo", CIRCO, put((1, "reference_img_id"), [3]), "annotation 1"),
        ("fashioniq", FASHION_SPLIT, becomes({"a": 1}), ""),
        ("fashioniq", FASHION_SPLIT, put((0,), None), ""),
        ("fashioniq", FASHION, put((1, "captions"), None), "annotation 1"),
        ("fashioniq", FASHION, put((1, "captions"), [None, "a"]), "annotation 1"),
        ("fashioniq", FASHION, put((1, "captions"), ["more green"]), "annotation 1"),
        ("fashioniq", FASHION, put((1, "target"), ["DRESSred"]), "annotation 1"),
        ("genecis", GENECIS, put((1, "condition"), None), "annotation 1"),
        ("genecis", GENECIS, put((1, "gallery"), None), "annotation 1"),
        ("genecis", GENECIS, put((1, "gallery"), []), "annotation 1"),
        ("genecis", GENECIS, put((1, "target"), "white"), "annotation 1"),
        (
            "genecis",
            ATTRIBUTE,
            put((0, "target", "instance_bbox"), [0, 0, float("inf"), 1]),
            "annotation 0",
        ),
        ("genecis", ATTRIBUTE, put((0, "target", "instance_bbox"), [0, 0, 1]), "annotation 0"),
        ("genecis", ATTRIBUTE, put((0, "target", "image_id"), float("inf")), "annotation 0"),
        ("coco", COCO, becomes([]), "images"),
        ("coco", COCO, put(("images", 1, "id"), []), "annotation 1"),
        ("coco", COCO, put(("images", 1, "file_name"), None), "annotation 1"),
        ("coco", COCO, put(("annotations", 1, "caption"), None), "annotation 1"),
        ("coco", COCO, put(("annotations", 1, "image_id"), 99), "annotation 1"),
    ],
)
def test_a_wrong_value_is_named(
    name: str, file: str, change: Change, record: str, tmp_path: Path
) -> None:
    root = MAKERS[name](tmp_path)
    (root / file).write_text(json.dumps(change(json.loads((root / file).read_text()))))
    with pytest.raises(DataError) as caught:
        load_benchmark(name, root)
    assert str(root / file) in caught.value.what
    assert record in caught.value.why
    assert caught.value.exit_code == 6


@pytest.mark.parametrize(
    ("name", "file"),
    [
        ("cirr", CIRR),
        ("dtin", "imgnet_targets.txt"),
        ("tu-berlin", "zeroshot/png_ready_filelist_zero.txt"),
        ("flickr30k", "flickr30k_test_karpathy.txt"),
    ],
)
def test_a_file_in_another_encoding(name: str, file: str, tmp_path: Path) -> None:
    root = MAKERS[name](tmp_path)
    (root / file).write_bytes((root / file).read_bytes() + b"caf\xe9.jpg,caf\xe9 1\n")
    with pytest.raises(DataError) as caught:
        load_benchmark(name, root)
    assert str(root / file) in caught.value.what


@pytest.mark.parametrize("label", ["\u00b2", "\u0663", "-1", "9" * 5000])
def test_a_label_is_a_plain_number(label: str, tmp_path: Path) -> None:
    (tmp_path / "list.txt").write_text(f"a.jpg 1\nb.jpg {label}\n", encoding="utf-8")
    with pytest.raises(DataError) as caught:
        DataFolder(tmp_path, "dtin").labelled_paths("list.txt")
    assert "line 2" in caught.value.why


def test_a_folder_in_the_place_of_a_file(tmp_path: Path) -> None:
    root = MAKERS["cirr"](tmp_path)
    (root / CIRR).unlink()
    (root / CIRR).mkdir()
    with pytest.raises(DataError, match="cannot be used"):
        load_benchmark("cirr", root)


def test_a_name_that_no_system_takes(tmp_path: Path) -> None:
    root = MAKERS["cirr"](tmp_path)
    paths = json.loads((root / CIRR_SPLIT).read_text()) | {"long": "n" * 5000}
    (root / CIRR_SPLIT).write_text(json.dumps(paths))
    with pytest.raises(DataError, match="cannot be used"):
        load_benchmark("cirr", root)


@pytest.mark.parametrize(
    "box",
    [
        (50.0, 50.0, 4.0, 4.0),
        (1.0, 1.0, 0.0, 0.0),
        (3.0, 3.0, -9.0, 2.0),
    ],
)
def test_a_box_without_a_pixel_is_an_unreadable_image(
    box: tuple[float, float, float, float], tmp_path: Path
) -> None:
    path = tmp_path / "a.png"
    Image.new("RGB", (8, 8)).save(path)
    with pytest.raises(PhotoError, match=r"a\.png"):
        read_image(ImageRef("a", path, box))
