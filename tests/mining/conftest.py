"""A small web site made on the spot, and the pipeline with a stub for its model."""

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw

from lensctl_training.mining import annotate
from mining.stub_model import StubModel

TOPICS = ("Cartoon", "Mosaic", "Emboss", "Ripple", "Twirl", "Solarize", "Whirlpool", "Oilify")


def picture(seed: int, size: tuple[int, int] = (200, 160)) -> Image.Image:
    """A picture of coloured shapes; every seed gives one that no other resembles."""
    random = np.random.default_rng(seed)
    image = Image.new("RGB", size, tuple(int(c) for c in random.integers(0, 255, 3)))
    draw = ImageDraw.Draw(image)
    for _ in range(14):
        corner = random.integers(0, min(size), 2)
        end = corner + random.integers(20, 90, 2)
        colour = tuple(int(c) for c in random.integers(0, 255, 3))
        draw.rectangle((*map(int, corner), *map(int, end)), fill=colour)
    return image


def as_bytes(image: Image.Image, kind: str = "PNG") -> bytes:
    stream = io.BytesIO()
    image.save(stream, kind)
    return stream.getvalue()


def page(topic: str, number: int) -> str:
    """A page as documentation has them: before and after, a dialog, two variants, an icon."""
    return f"""<!DOCTYPE html><html lang="en"><head><title>{topic} | Handbook</title></head><body>
<nav><img src="logo.png" alt="Handbook logo"></nav>
<h1>{number}. {topic}</h1><h2>Overview</h2>
<div class="figure"><p class="title">Figure {number}.1. Example for the “{topic}” filter</p>
<div class="mediaobject"><img src="img/{topic}-before.png" alt="Example">
<div class="caption"><p>Original image</p></div></div>
<div class="mediaobject"><img src="img/{topic}-after.png" alt="Example">
<div class="caption"><p>Filter “{topic}” applied</p></div></div></div>
<h2>Options</h2>
<figure><img src="img/{topic}-dialog.png"><figcaption>“{topic}” filter options</figcaption></figure>
<figure><img src="img/{topic}-low.png"><figcaption>Strength = 10 with a grid</figcaption></figure>
<figure><img src="img/{topic}-high.png"><figcaption>Strength = 90 with a grid</figcaption></figure>
<p>The strength can be set <img src="icons/note.png" alt="Note" width="16" height="16"> freely, and
the picture is then drawn anew with the settings that were made.</p>
</body></html>"""


def make_handbook(folder: Path, seed: int = 0, compress_level: int = 6) -> Path:
    """A folder of eight pages with forty pictures, a logo and an icon; other seeds have others."""
    (folder / "img").mkdir(parents=True)
    (folder / "icons").mkdir()
    for number, topic in enumerate(TOPICS, 1):
        (folder / f"{topic.lower()}.html").write_text(page(topic, number), encoding="utf-8")
        before = picture(seed + number)
        pictures = {"before": before, "after": before.rotate(25)}
        for place, name in enumerate(("dialog", "low", "high"), 1):
            pictures[name] = picture(seed + 100 * place + number)
        for name, each in pictures.items():
            each.save(folder / "img" / f"{topic}-{name}.png", compress_level=compress_level)
    picture(900, (180, 60)).save(folder / "logo.png")
    picture(901, (16, 16)).save(folder / "icons" / "note.png")
    return folder


@pytest.fixture
def handbook(tmp_path: Path) -> Path:
    """The handbook of seed 0."""
    return make_handbook(tmp_path / "handbook")


@pytest.fixture
def stub(monkeypatch: pytest.MonkeyPatch) -> None:
    """The stub instead of a model, for everything that runs in this process."""
    monkeypatch.setattr(annotate, "_open", lambda name: StubModel())
    for loader in (annotate._index_side, annotate._query_side, annotate._label_vectors):
        loader.cache_clear()
