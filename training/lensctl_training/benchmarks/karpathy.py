"""Flickr30k and COCO captions on Karpathy's test splits, both directions.

Any caption of an image counts for image-to-text; every caption is a query for text-to-image, all
of an image's captions included where COCO has more than five. MagicLens is scored with the towers
of its backbone here, not with its fusion: text vectors against text keys.
"""

from functools import partial
from pathlib import Path

from lensctl_training.benchmarks.benchmark import Benchmark, ImageTable, Measure, Query, Task
from lensctl_training.benchmarks.files import DataFolder, refuse_duplicates
from lensctl_training.benchmarks.metrics import hit_rate_at

MEASURES = tuple(Measure(f"R@{k}", partial(hit_rate_at, k=k)) for k in (1, 5, 10))
FLICKR_PLACES = ("flickr30k-images", "flickr30k_images", "Images", ".")
COCO_PLACES = ("val2014", "coco/val2014", ".")


def load_flickr30k(folder: DataFolder) -> Benchmark:
    """Read `flickr30k_test_karpathy.txt`: a heading, then lines `NAME.jpg,caption`."""
    file = "flickr30k_test_karpathy.txt"
    captions: dict[str, list[str]] = {}
    lines = folder.text(file).split("\n")
    for number, line in enumerate(lines[1:], start=2):
        stem, found, caption = line.strip().partition(".jpg,")
        if not found and line.strip():
            raise folder.wrong(folder.root / file, f"line {number} is not NAME.jpg,caption")
        if found:
            captions.setdefault(f"{stem}.jpg", []).append(caption)
    return _benchmark("flickr30k", folder, captions, FLICKR_PLACES)


def load_coco(folder: DataFolder) -> Benchmark:
    """Read `coco_test_karpathy.json`: COCO's caption format over images of val2014."""
    file = "coco_test_karpathy.json"
    rows = folder.records(("id", "file_name"), file, inside="images")
    ids = [row.whole("id") for row in rows]
    refuse_duplicates(folder, folder.root / file, "image ids", ids)
    files = [Path(row.text("file_name")).name for row in rows]
    refuse_duplicates(folder, folder.root / file, "image names", files)
    names = dict(zip(ids, files, strict=True))
    captions: dict[str, list[str]] = {name: [] for name in files}
    for row in folder.records(("image_id", "caption"), file, inside="annotations"):
        image = row.whole("image_id")
        if image not in names:
            raise row.wrong(f"it is a caption of image {image}, which is not in the file")
        captions[names[image]].append(row.text("caption"))
    return _benchmark("coco", folder, captions, COCO_PLACES)


def _benchmark(
    name: str, folder: DataFolder, captions: dict[str, list[str]], places: tuple[str, ...]
) -> Benchmark:
    if not captions or not all(captions.values()):
        raise folder.wrong(folder.root, "an image has no caption")
    images = ImageTable()
    root = _image_folder(folder, places, next(iter(captions)))
    by_image: list[Query] = []
    by_text: list[Query] = []
    texts: list[str] = []
    for file, own in captions.items():
        image = images.add(file, root / file)
        positions = tuple(range(len(texts), len(texts) + len(own)))
        texts.extend(own)
        by_image.append(Query(file, image, "", positions))
        by_text.extend(Query(str(p), None, texts[p], (image,)) for p in positions)
    tasks = [
        Task("image to text", by_image, range(len(texts)), MEASURES, "image-to-text"),
        Task("text to image", by_text, range(len(images.images)), MEASURES, "text-to-image"),
    ]
    return Benchmark(name, images.images, tasks, texts=texts, files=folder.hashes)


def _image_folder(folder: DataFolder, places: tuple[str, ...], example: str) -> Path:
    """The first of `places` that has the example; else the first, to be reported as missing."""
    roots = [folder.root / place for place in places]
    return next((root for root in roots if (root / example).exists()), roots[0])
