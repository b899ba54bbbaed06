"""Tiny data sets in each benchmark's own format, and a model whose answers are worked out by hand.

Images are plain colours; the model's embedding of an image is its mean colour, and a text adds one
for each of the words red, green and blue. So (red image, "more green") is a query for yellow, and
every cosine below can be checked on paper:

    query for yellow      yellow 1    white 0.816    red = green 0.707    blue 0

Files are PNG inside whatever their ending says, so that colours survive exactly; Pillow goes by
the content.
"""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from lensctl.models.interface import Floats, ModelInfo

COLOURS = {
    "red": (255, 0, 0),
    "green": (0, 255, 0),
    "blue": (0, 0, 255),
    "yellow": (255, 255, 0),
    "magenta": (255, 0, 255),
    "cyan": (0, 255, 255),
    "white": (255, 255, 255),
}


class MeanColour:
    """Both sides of the model at once: it needs neither weights nor torch."""

    device = "cpu"
    precision = "fp32"

    def __init__(self, name: str = "mean-colour") -> None:
        self.info = ModelInfo(
            name=name,
            encoder_fingerprint=f"{name}-encoder",
            lens_fingerprint=f"{name}-lens",
            image_size=2,
            embedding_dim=3,
            target_dim=3,
            text_dim=3,
            licence="Apache-2.0",
            description="the mean colour",
        )
        self.encoded = 0

    def index_side(self, device: str = "auto", precision: str = "auto") -> "MeanColour":
        return self

    def query_side(self) -> "MeanColour":
        return self

    def preprocess(self, image: Image.Image) -> Floats:
        small = image.resize((2, 2), Image.Resampling.BOX)
        return (np.asarray(small, dtype=np.float32) / 255).transpose(2, 0, 1)

    def encode_images(self, pixels: Floats) -> Floats:
        self.encoded += len(pixels)
        return pixels.mean(axis=(2, 3))

    def make_targets(self, embeddings: Floats) -> Floats:
        return _unit(embeddings)

    def text_keys(self, embeddings: Floats) -> Floats:
        return _unit(embeddings)

    def make_queries(self, embeddings: Floats, instructions: Sequence[str]) -> Floats:
        return _unit(embeddings + np.array([_words(text) for text in instructions]))

    def encode_texts(self, texts: Sequence[str]) -> Floats:
        return _unit(np.array([_words(text) for text in texts]))

    def truncated(self, text: str) -> bool:
        return len(text) > 200


def _words(text: str) -> Floats:
    return np.array([text.count(word) for word in ("red", "green", "blue")], dtype=np.float32)


def _unit(vectors: Floats) -> Floats:
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    return (vectors / np.maximum(lengths, 1e-12)).astype(np.float32)


def paint(path: Path, colour: str) -> None:
    """A 4x4 picture of one colour."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (4, 4), COLOURS[colour]).save(path, format="PNG")


def write_json(path: Path, content: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))


def make_fashioniq(root: Path) -> Path:
    """Dresses of every colour, three queries; shirts and tops with one query each.

    Dress, query for yellow from red: yellow is first. Query for yellow, right answer green: behind
    yellow and white and, tied with it, red: rank 4 of 6; in the smaller gallery, without white,
    rank 3. Query for yellow, right answer blue: last, rank 6 of 6 and 4 of 4.
    """
    dresses = ["red", "yellow", "green", "blue", "white", "magenta"]
    _fashion(
        root,
        "dress",
        dresses,
        [
            ("red", "yellow", ["more green", "shorter"]),
            ("red", "green", ["more green", "longer"]),
            ("red", "blue", ["more green", "with sleeves"]),
        ],
    )
    _fashion(root, "shirt", ["red", "magenta"], [("red", "magenta", ["more blue", "plain"])])
    _fashion(root, "toptee", ["blue", "cyan"], [("blue", "cyan", ["more green", "plain"])])
    return root


def _fashion(
    root: Path, category: str, colours: list[str], queries: list[tuple[str, str, list[str]]]
) -> None:
    names = {colour: f"{category.upper()}{colour}" for colour in colours}
    for number, colour in enumerate(colours):
        paint(root / "images" / f"{names[colour]}{'.png' if number % 2 else '.jpg'}", colour)
    write_json(root / f"image_splits/split.{category}.val.json", list(names.values()))
    records = [
        {"target": names[target], "candidate": names[candidate], "captions": captions}
        for candidate, target, captions in queries
    ]
    write_json(root / f"captions/cap.{category}.val.json", records)


def make_cirr(root: Path) -> Path:
    """Seven dev images, two queries; the same seven as test1, one query.

    Pair 11, red and "green": without the reference, yellow, white, green: target white is at rank
    2. Its subset without yellow: white, green, ...: rank 1. Pair 12, blue and "red", target red:
    magenta 1, white 0.816, red 0.707 (blue is the reference, removed): rank 3; in its subset of
    red, green, yellow, cyan, white: white, then red = 0.707: rank 2.
    """
    for split, folder in (("val", "dev"), ("test1", "test1")):
        names = {colour: f"{folder}-{colour}" for colour in COLOURS}
        paths = {name: f"./{folder}/{name}.png" for name in names.values()}
        for colour, name in names.items():
            paint(root / "img_raw" / paths[name], colour)
        write_json(root / f"image_splits/split.rc2.{split}.json", paths)
    write_json(
        root / "captions/cap.rc2.val.json",
        [
            _pair(11, "dev", "red", "white", "green", "white green blue cyan magenta"),
            _pair(12, "dev", "blue", "red", "red", "red green yellow cyan white"),
        ],
    )
    hidden = _pair(21, "test1", "red", "", "green", "white green blue cyan magenta")
    write_json(root / "captions/cap.rc2.test1.json", [hidden])
    return root


def _pair(
    number: int, folder: str, reference: str, target: str, caption: str, others: str
) -> dict[str, object]:
    members = [f"{folder}-{colour}" for colour in [reference, *others.split()]]
    record: dict[str, object] = {
        "pairid": number,
        "reference": f"{folder}-{reference}",
        "caption": caption,
        "img_set": {"id": 1, "members": members},
    }
    if target:
        record["target_hard"] = f"{folder}-{target}"
    return record


def make_circo(root: Path) -> Path:
    """Seven images, ids 1 to 7 in the order of COLOURS; two val queries, one test query.

    Val 0, red and "green" (the shared concept "a thing" adds no colour): yellow 1, white 0.816,
    red = green 0.707, magenta = cyan 0.5, blue 0. Right: yellow, green, blue, and ties go against
    them: ranks 1, 4, 7. AP@5 = (1/1 + 2/4) / 3 = 0.5; AP@10 = (1 + 2/4 + 3/7) / 3.
    Val 1, blue and "red": magenta 1, white, blue = red, ... Right: white alone, rank 2: AP = 0.5.
    """
    ids = {colour: number for number, colour in enumerate(COLOURS, start=1)}
    base = root / "COCO2017_unlabeled"
    rows = [{"id": i, "file_name": f"{i:012d}.jpg"} for i in ids.values()]
    for colour, number in ids.items():
        paint(base / "unlabeled2017" / f"{number:012d}.jpg", colour)
    write_json(base / "annotations/image_info_unlabeled2017.json", {"images": rows})
    common = {"shared_concept": "a thing"}
    val = [
        common
        | {"id": 0, "reference_img_id": ids["red"], "relative_caption": "is green"}
        | {"target_img_id": ids["yellow"], "semantic_aspects": ["addition", "negation"]}
        | {"gt_img_ids": [ids["yellow"], ids["green"], ids["blue"]]},
        common
        | {"id": 1, "reference_img_id": ids["blue"], "relative_caption": "is red"}
        | {"target_img_id": ids["white"], "semantic_aspects": ["addition"]}
        | {"gt_img_ids": [ids["white"]]},
    ]
    test = [common | {"id": 0, "reference_img_id": ids["red"], "relative_caption": "is green"}]
    write_json(root / "annotations/val.json", val)
    write_json(root / "annotations/test.json", test)
    return root


def make_genecis(root: Path) -> Path:
    """One template in each attribute task, two in focus_object, one in change_object.

    Attributes: Visual Genome image 5 is 40 wide and 20 high, red but for a blue square of 10 at
    the left edge and a green one of 10 at the right edge. The box of the green square, dilated by
    0.7, is cut from 23 to 40: all 10 of green and 7 of red, 17 wide and 17 high.
    """
    picture = Image.new("RGB", (40, 20), COLOURS["red"])
    picture.paste(Image.new("RGB", (10, 10), COLOURS["blue"]), (0, 5))
    picture.paste(Image.new("RGB", (10, 10), COLOURS["green"]), (30, 5))
    (root / "VG_100K").mkdir(parents=True)
    picture.save(root / "VG_100K/5.jpg", format="PNG")
    green, blue = [30, 5, 10, 10], [0, 5, 10, 10]
    attribute = {
        "reference": {"image_id": 5, "instance_bbox": [12, 0, 4, 4]},
        "target": {"image_id": 5, "instance_bbox": green},
        "condition": "green",
        "gallery": [{"image_id": 5, "instance_bbox": blue}],
    }
    write_json(root / "genecis/focus_attribute.json", [attribute])
    write_json(root / "genecis/change_attribute.json", [attribute | {"condition": "blue"}])
    ids = {colour: number for number, colour in enumerate(COLOURS, start=1)}
    for colour, number in ids.items():
        paint(root / "val2017" / f"{number:012d}.jpg", colour)
    write_json(
        root / "genecis/focus_object.json",
        [
            _template(ids, "red", "green", "green", "yellow red blue"),
            _template(ids, "red", "green", "yellow", "white green yellow"),
        ],
    )
    write_json(
        root / "genecis/change_object.json",
        [_template(ids, "blue", "red", "white", "magenta cyan")],
    )
    return root


def _template(
    ids: dict[str, int], reference: str, condition: str, target: str, others: str
) -> dict[str, object]:
    return {
        "reference": {"val_image_id": ids[reference]},
        "target": {"val_image_id": ids[target]},
        "condition": condition,
        "gallery": [{"val_image_id": ids[other]} for other in others.split()],
    }


def make_dtin(root: Path) -> Path:
    """Two classes; the words of domains add no colour, so a query finds its own colour first.

    Class 0 is red, class 1 is green; ten real photos in blue fill the list.
    Cartoon, red: right are red, yellow and cyan. Four wrong reds tie with the first: rank 5; yellow
    0.707 is rank 6; cyan, 0, ties with 14 wrong ones: rank 21. Cartoon, green: right is one blue,
    0, behind three greens, two at 0.707 and tied with 15 wrong ones: rank 21. Origami: red has rank
    5, green has no right image. Toy and sculpture: ranks 5 and 3.
    """
    lines, queries = [], []

    def add(path: str, colour: str, label: int) -> None:
        paint(root / path, colour)
        lines.append(f"imgnet/{path} {label} ")

    for number, (colour, label) in enumerate([("red", 0), ("green", 1)]):
        path = f"real/n{number}/photo.JPEG"
        add(path, colour, 6000 + label)
        queries.append(f"imgnet/{path} {label} ")
    for number in range(10):
        add(f"real/filler/{number}.JPEG", "blue", 6002)
    add("imagenet-r/a/cartoon_1.jpg", "red", 0)
    add("imagenet-r/a/cartoon_2.jpg", "yellow", 0)
    add("imagenet-r/a/cartoon_3.jpg", "cyan", 0)
    add("imagenet-r/b/cartoon_4.jpg", "blue", 1)
    for domain, name in ((1000, "origami"), (2000, "toy"), (3000, "sculpture")):
        add(f"imagenet-r/a/{name}_1.jpg", "red", domain)
        if name != "origami":
            add(f"imagenet-r/b/{name}_2.jpg", "green", domain + 1)
    (root / "imgnet_targets.txt").write_text("\n".join(lines) + "\n")
    (root / "imgnet_real_query.txt").write_text("\n".join(queries) + "\n")
    return root


def make_tu_berlin(root: Path) -> Path:
    """Two classes, `bottle opener` with a space in its path; one sketch each.

    Photos of class 0: red, blue; of class 1: cyan, magenta. Sketch 0 is red: red 1, magenta 0.707,
    blue = cyan = 0 with the tie against it: ranks 1 and 4, AP = (1 + 2/4) / 2 = 0.75, which is also
    the interpolated AP. Sketch 1 is blue: blue 1, cyan = magenta = 0.707: ranks 2 and 3,
    AP = (1/2 + 2/3) / 2 = 7/12, interpolated 2/3.
    """
    photos = [("red", 0), ("blue", 0), ("cyan", 1), ("magenta", 1)]
    names = {0: "banana", 1: "bottle opener"}
    photo_lines, sketch_lines = [], []
    for colour, label in photos:
        path = f"ImageResized_ready/{names[label]}/{colour}.JPEG"
        paint(root / path, colour)
        photo_lines.append(f"{path} {label}")
    for colour, label in (("red", 0), ("blue", 1)):
        path = f"png_ready/{names[label]}/{colour}.png"
        paint(root / path, colour)
        sketch_lines.append(f"{path} {label}")
    lists = root / "zeroshot"
    lists.mkdir(parents=True)
    (lists / "png_ready_filelist_zero.txt").write_text("\n".join(sketch_lines) + "\n")
    (lists / "ImageResized_ready_filelist_zero.txt").write_text("\n".join(photo_lines) + "\n")
    return root


CAPTIONS = {
    "red": ["a red thing, alone", "red and green"],
    "yellow": ["red, and green and green", "green"],
    "blue": ["blue", "blue, blue"],
}
"""Image to text. Red: its first caption scores 1, rank 1. Yellow: "red and green" of another image
scores 1; its own "red, and green and green" 0.949, rank 2. Blue: rank 1, tied only with its own.
Text to image. "a red thing, alone": red first. "red and green": yellow first, red and blue behind:
rank 2. "red, and green and green": yellow first. "green": yellow first. Blue twice: first."""


def make_flickr30k(root: Path) -> Path:
    lines = ["image,caption"]
    for number, (colour, captions) in enumerate(CAPTIONS.items()):
        paint(root / "flickr30k-images" / f"{number}.jpg", colour)
        lines += [f"{number}.jpg,{caption}" for caption in captions]
    (root / "flickr30k_test_karpathy.txt").write_text("\n".join(lines) + "\n")
    return root


def make_coco(root: Path) -> Path:
    images, annotations = [], []
    for number, (colour, captions) in enumerate(CAPTIONS.items(), start=1):
        name = f"COCO_val2014_{number:012d}.jpg"
        paint(root / "val2014" / name, colour)
        images.append({"id": number, "file_name": f"val2014/{name}"})
        annotations += [{"image_id": number, "caption": caption} for caption in captions]
    write_json(root / "coco_test_karpathy.json", {"images": images, "annotations": annotations})
    return root


MAKERS = {
    "fashioniq": make_fashioniq,
    "cirr": make_cirr,
    "circo": make_circo,
    "genecis": make_genecis,
    "dtin": make_dtin,
    "tu-berlin": make_tu_berlin,
    "flickr30k": make_flickr30k,
    "coco": make_coco,
}
