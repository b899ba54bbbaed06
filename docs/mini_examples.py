"""Make docs/images/mini-examples.png: what `mini` finds, good and bad.

    python docs/mini_examples.py [FONT.ttf]

The gallery: the photos of scikit-image and of Debian's lomiri-wallpapers-16.04 that `mini` may
learn from (`SOURCES` of lensctl_training.mini.views: public domain, CC0 and CC BY), each as it is
and after the edits named below. The left picture is the query, then come the first four found.
"""

import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont, ImageOps

from lensctl.models.mini import open_mini
from lensctl.models.mini.sides import MiniSide
from lensctl.photos.decode import decode
from lensctl_training.mini.photo_edits import EDITS
from lensctl_training.mini.views import SOURCES

OUT = Path(__file__).with_name("images") / "mini-examples.png"
SHOWN_EDITS = ("grey", "darker", "upside_down", "closer", "mirrored", "night", "sketch")
QUERIES = (
    ("chelsea.png", "a monochrome picture of this"),
    ("coffee.png", "the wrong way up"),
    ("picosdeeuropa_by_Aitzol_Berasategi.jpg", "at night"),
    ("astronaut.png", "a rocket"),
    ("Wine_by_Jakkub_Mede.jpg", "another drink"),
    ("coffee.png", "two cups"),
    ("friends_by_Aitzol_Berasategi.jpg", "people laughing"),
    ("rocket.jpg", "after the landing"),
)
FOUND = 4
SIDE = 150
GAP = 10
LINE = 26
INK, PAPER, FRAME = "#222222", "#ffffff", "#c0392b"


def gallery() -> Iterator[tuple[str, Image.Image]]:
    """Photos by name, and their edited copies."""
    for folder, names in SOURCES.values():
        for name in names:
            image = decode(folder / name, at_least=520).image
            image.thumbnail((520, 520))
            yield name, image
            for edit in SHOWN_EDITS:
                yield f"{name}, {edit}", EDITS[edit].transform(image)


def embed(side: MiniSide, images: list[Image.Image]) -> np.ndarray:
    """(N, E), a few at a time."""
    groups = [images[start : start + 16] for start in range(0, len(images), 16)]
    return np.concatenate(
        [side.encode_images(np.stack([side.preprocess(one) for one in group])) for group in groups]
    )


def draw_row(
    sheet: Image.Image, top: int, words: str, tiles: list[Image.Image], font: ImageFont.FreeTypeFont
) -> None:
    """A query, framed, and what was found."""
    pen = ImageDraw.Draw(sheet)
    pen.text((GAP, top), f"“{words}”", INK, font)
    for place, tile in enumerate(tiles):
        left = GAP + place * (SIDE + GAP) + (GAP if place else 0)
        sheet.paste(ImageOps.pad(tile, (SIDE, SIDE), color=PAPER), (left, top + LINE))
        if place == 0:
            box = (left - 2, top + LINE - 2, left + SIDE + 1, top + LINE + SIDE + 1)
            pen.rectangle(box, outline=FRAME, width=2)


def main() -> None:
    """Search and draw."""
    font = ImageFont.truetype(sys.argv[1] if len(sys.argv) > 1 else "DejaVuSans.ttf", 16)
    names, images = map(list, zip(*gallery(), strict=True))
    side = open_mini().query_side()
    embeddings = embed(side, images)
    targets = side.make_targets(embeddings)
    height = LINE + SIDE + GAP
    sheet = Image.new("RGB", ((1 + FOUND) * (SIDE + GAP) + 2 * GAP, len(QUERIES) * height), PAPER)
    for number, (name, words) in enumerate(QUERIES):
        own = names.index(name)
        scores = targets @ side.make_queries(embeddings[[own]], [words])[0]
        scores[own] = -1
        best = np.argsort(-scores)[:FOUND].tolist()
        print(f"{name} + {words}: {'; '.join(names[row] for row in best)}")
        tiles = [images[row] for row in (own, *best)]
        draw_row(sheet, number * height + GAP // 2, words, tiles, font)
    sheet.quantize(128).save(OUT, optimize=True)


if __name__ == "__main__":
    main()
